"""Digests and descriptors (OCI image-spec, descriptor.md)."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.errors import SpecError
from pycontainer.oci._platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainer.oci._json import Json, Reader

__all__ = ["Descriptor", "Digest"]

_GRAMMAR: Final = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_HEX_LENGTH: Final = {"sha256": 64, "sha512": 128}


@frozen(order=True)
class Digest:
    """An algorithm and what it made of some bytes, in hexadecimal.

    Attributes:
        algorithm: ``sha256`` or ``sha512``.
        hex: Lower-case hexadecimal, 64 or 128 characters.
    """

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str, *, path: str = "") -> Digest:
        """Read ``sha256:…``.

        Args:
            text: The digest.
            path: Where in a document it stands, for the error.

        Raises:
            SpecError: It is no digest, or of an algorithm that is not supported.
        """
        if not _GRAMMAR.fullmatch(text):
            raise SpecError(f"not a digest: {text[:160]!r}", path=path)
        algorithm, _, encoded = text.partition(":")
        length = _HEX_LENGTH.get(algorithm)
        if length is None:
            known = ", ".join(_HEX_LENGTH)
            raise SpecError(f"unknown digest algorithm {algorithm!r} (known: {known})", path=path)
        if not re.fullmatch(f"[a-f0-9]{{{length}}}", encoded):
            raise SpecError(
                f"a {algorithm} digest has {length} lower-case hexadecimal digits: {text[:160]!r}",
                path=path,
            )
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of some bytes."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @property
    def short(self) -> str:
        """The first twelve digits, for people."""
        return self.hex[:12]

    def hasher(self) -> hashlib._Hash:
        """A fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


@frozen
class Descriptor:
    """What a document says of another piece of content: its type, digest and size in bytes."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(factory=dict, hash=False)
    urls: tuple[str, ...] = ()
    artifact_type: str | None = None
    extra: Mapping[str, object] = field(factory=dict, hash=False)

    @classmethod
    def read(cls, reader: Reader) -> Descriptor:
        """Read a descriptor member.

        Raises:
            SpecError: Something of it is missing or wrong.
        """
        if not reader.has("digest"):
            raise SpecError("a descriptor needs a digest", path=reader.at("digest"))
        if not reader.has("size"):
            raise SpecError("a descriptor needs a size", path=reader.at("size"))
        size = reader.number("size")
        if not 0 <= size < 1 << 63:
            raise SpecError(f"impossible size {size}", path=reader.at("size"))
        return cls(
            media_type=reader.text("mediaType"),
            digest=Digest.parse(reader.text("digest"), path=reader.at("digest")),
            size=size,
            platform=Platform.read(reader.object("platform")) if reader.has("platform") else None,
            annotations=reader.texts("annotations"),
            urls=reader.items("urls", str),
            artifact_type=reader.maybe_text("artifactType"),
            extra=reader.rest(),
        )

    def to_json(self) -> Json:
        """The descriptor as plain values."""
        document: Json = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.urls:
            document["urls"] = list(self.urls)
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.platform is not None:
            document["platform"] = self.platform.to_json()
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        document.update(self.extra)
        return document
