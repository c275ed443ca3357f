"""What manifests, indexes and image configs share: they keep the bytes they were read from.

A digest names bytes, not meaning. A document that was parsed encodes to exactly what was parsed; a
changed copy has no bytes yet and encodes anew, the same way each time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import attrs
from attrs import field, frozen

from pycontainer.oci._descriptor import Descriptor
from pycontainer.oci._digest import Digest
from pycontainer.oci._frozen import frozen_members
from pycontainer.oci._json import Json, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Document"]


@frozen(kw_only=True)
class Document(ABC):
    """A JSON document with a media type.

    Two documents are equal if they mean the same, even if their bytes and so their digests differ.

    Attributes:
        media_type: What kind of document it is.
        extra: Members that this library does not know.
    """

    media_type: str
    extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)
    _raw: bytes | None = field(default=None, eq=False, repr=False)

    @abstractmethod
    def to_json(self) -> Json:
        """The document as plain values, members in the order of Go's structures."""

    def encode(self) -> bytes:
        """The document's bytes: those it was parsed from, else compact JSON."""
        return encode(self.to_json()) if self._raw is None else self._raw

    def evolve(self, **changes: Any) -> Self:
        """A changed copy, which forgets the bytes that this one was parsed from.

        Args:
            changes: New values by attribute; the others stay, also members we do not know.
        """
        return attrs.evolve(self, **changes, raw=None)

    @property
    def digest(self) -> Digest:
        """The SHA-256 digest of the bytes."""
        return Digest.of(self.encode())

    def descriptor(self) -> Descriptor:
        """What another document says of this one: media type, digest and size."""
        data = self.encode()
        return Descriptor(self.media_type, Digest.of(data), len(data))
