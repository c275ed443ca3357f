"""Descriptors (OCI image-spec, descriptor.md)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from attrs import field, frozen

from pycontainer.errors import SpecError
from pycontainer.oci._digest import Digest
from pycontainer.oci._frozen import frozen_members, frozen_texts
from pycontainer.oci._json import INT64_MAX, Fields, Json, merge
from pycontainer.oci._platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Descriptor"]


@frozen
class Descriptor:
    """What a document says of another piece of content.

    Attributes:
        media_type: What kind of content it is.
        digest: Digest of its bytes.
        size: How many there are.
        platform: What it runs on; in an index.
        annotations: Free remarks.
        urls: Other places to get it from.
        artifact_type: What kind of artifact it is, where it is a manifest of one.
        data: The content itself, where it is small enough to be embedded.
        extra: Members that this library does not know.
    """

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(factory=dict, converter=frozen_texts, hash=False)
    urls: tuple[str, ...] = ()
    artifact_type: str | None = None
    data: bytes | None = field(default=None, repr=False)
    extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)

    def __attrs_post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"content cannot have {self.size} bytes")

    @classmethod
    def from_json(cls, value: object, path: str = "") -> Descriptor:
        """Read a descriptor.

        Args:
            value: The decoded JSON value.
            path: Where in a document it stands, for errors.

        Raises:
            SpecError: Something of it is missing or wrong.
        """
        fields = Fields(value, path)
        fields.require("mediaType", "digest", "size")
        digest = Digest.parse(fields.text("digest"), path=fields.at("digest"))
        size = fields.integer("size", least=0, most=INT64_MAX)
        return cls(
            media_type=fields.text("mediaType"),
            digest=digest,
            size=size,
            platform=fields.optional("platform", Platform.from_json),
            annotations=fields.texts_by_name("annotations"),
            urls=fields.texts("urls"),
            artifact_type=fields.optional_text("artifactType"),
            data=_embedded(fields, digest, size),
            extra=fields.rest(),
        )

    def to_json(self) -> Json:
        """The descriptor as plain values."""
        known = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
            "urls": list(self.urls) or None,
            "annotations": dict(sorted(self.annotations.items())) or None,
            "data": None if self.data is None else base64.b64encode(self.data).decode(),
            "platform": None if self.platform is None else self.platform.to_json(),
            "artifactType": self.artifact_type,
        }
        return merge(known, self.extra)


def _embedded(fields: Fields, digest: Digest, size: int) -> bytes | None:
    text, path = fields.optional_text("data"), fields.at("data")
    if text is None:
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SpecError(f"not base64: {error}", path=path) from error
    if len(data) != size:
        raise SpecError(f"holds {len(data)} bytes, the size says {size}", path=path)
    if Digest.of(data, digest.algorithm) != digest:
        raise SpecError(f"does not have the digest {digest}", path=path)
    return data
