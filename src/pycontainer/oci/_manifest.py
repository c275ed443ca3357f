"""Manifests and indexes (OCI image-spec, manifest.md and image-index.md; Docker's schema 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.errors import PlatformNotFound, SpecError
from pycontainer.oci import media_types
from pycontainer.oci._descriptor import Descriptor
from pycontainer.oci._document import Document
from pycontainer.oci._frozen import frozen_texts
from pycontainer.oci._json import Fields, Json, decode, merge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainer.oci._platform import Platform

__all__ = ["Index", "Manifest", "parse_manifest"]

_SCHEMA_VERSION: Final = 2
_NO_PLATFORM: Final = "unknown"
"""Both parts of the platform that BuildKit gives to attestations in an index."""


@frozen(kw_only=True)
class Manifest(Document):
    """One image for one platform: its config and its layers.

    Attributes:
        config: The image config, or whatever an artifact has in its place.
        layers: The layers, bottom first.
        media_type: OCI's or Docker's type of a manifest.
        artifact_type: What kind of artifact it is, if it is no image.
        subject: The manifest that this one is about, as a signature is.
        annotations: Free remarks.
        extra: Members that this library does not know.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...] = ()
    media_type: str = media_types.OCI_MANIFEST
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(factory=dict, converter=frozen_texts, hash=False)

    @classmethod
    def parse(cls, data: bytes, *, media_type: str | None = None) -> Manifest:
        """Read a manifest.

        Args:
            data: The document; it is kept.
            media_type: What it was announced as, for a document that does not say itself.

        Raises:
            SpecError: It breaks the specification, or is an index.
        """
        parsed = parse_manifest(data, media_type)
        if not isinstance(parsed, Manifest):
            raise SpecError(f"expected an image manifest, found an index ({parsed.media_type})")
        return parsed

    def to_json(self) -> Json:
        """The manifest as plain values."""
        own = {
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        return _to_json(self, own)


@frozen(kw_only=True)
class Index(Document):
    """Several manifests under one name, usually one for each platform.

    Attributes:
        manifests: The manifests, which may be indexes in turn.
        media_type: OCI's or Docker's type of an index.
        artifact_type: What kind of artifact it is, if it is no image.
        subject: The manifest that this one is about.
        annotations: Free remarks.
        extra: Members that this library does not know.
    """

    manifests: tuple[Descriptor, ...] = ()
    media_type: str = media_types.OCI_INDEX
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(factory=dict, converter=frozen_texts, hash=False)

    @classmethod
    def parse(cls, data: bytes, *, media_type: str | None = None) -> Index:
        """Read an index; arguments as for `Manifest.parse`.

        Raises:
            SpecError: It breaks the specification, or is an image manifest.
        """
        parsed = parse_manifest(data, media_type)
        if not isinstance(parsed, Index):
            raise SpecError(f"expected an index, found an image manifest ({parsed.media_type})")
        return parsed

    def select(self, wanted: Platform) -> Descriptor:
        """The best manifest for a platform: the very variant or else the next older, the first of equals.

        A single manifest that says no platform is taken at its word.

        Raises:
            PlatformNotFound: There is none; the message names what there is.
        """
        near = [
            (distance, position)
            for position, entry in enumerate(self.manifests)
            if entry.platform and (distance := entry.platform.distance(wanted)) is not None
        ]
        if near:
            return self.manifests[min(near)[1]]
        if len(self.manifests) == 1 and self.manifests[0].platform is None:
            return self.manifests[0]
        there = [
            str(entry.platform)
            for entry in self.manifests
            if entry.platform and entry.platform.os != _NO_PLATFORM
        ]
        raise PlatformNotFound(
            f"the index has no image for {wanted}, only for {', '.join(there) or 'no platform at all'}",
            remedy="ask for one of those platforms" if there else None,
        )

    def to_json(self) -> Json:
        """The index as plain values."""
        return _to_json(self, {"manifests": [entry.to_json() for entry in self.manifests]})


def parse_manifest(data: bytes, media_type: str | None = None) -> Manifest | Index:
    """Read what registries and layouts call a manifest, which may be an index.

    Its own ``mediaType`` decides, else how it was announced, else its members. All of them must agree
    on whether it is an index: what can be read as either is refused (CVE-2021-41190).

    Args:
        data: The document; it is kept.
        media_type: What it was announced as. A type that says nothing, such as
            ``application/json``, counts as none.

    Raises:
        SpecError: It is neither, both, or of Docker's retired schema 1.
    """
    fields = Fields(decode(data))
    announced = (media_type or "").partition(";")[0].strip()
    said = fields.text("mediaType")
    _check_schema(fields, said or announced)
    opinions = {_is_index(said), _is_index(announced), _has_index(fields)} - {None}
    if len(opinions) == 2:
        raise SpecError(
            f"an index and an image manifest at once: announced as {announced or 'nothing'!r}, "
            f"says it is {said or 'nothing'!r}, has {_telling_members(fields)}"
        )
    if not opinions or (said and _is_index(said) is None):
        kind = said or announced or "nothing"
        raise SpecError(f"neither an image manifest nor an index: says it is {kind!r}")
    kind = said or (announced if _is_index(announced) is not None else "")
    return (
        _read_index(fields, kind, data) if True in opinions else _read_manifest(fields, kind, data)
    )


def _check_schema(fields: Fields, kind: str) -> None:
    version = fields.integer("schemaVersion", _SCHEMA_VERSION)
    if version == 1 or kind in media_types.DOCKER_SCHEMA_1:
        raise SpecError(
            "a Docker manifest of schema 1, which is retired, is not supported",
            path="schemaVersion",
            remedy="push the image again with a current tool",
        )
    if version != _SCHEMA_VERSION:
        raise SpecError(f"unknown version {version}, not 2", path="schemaVersion")


def _is_index(media_type: str) -> bool | None:
    if media_type in media_types.INDEXES:
        return True
    return False if media_type in media_types.MANIFESTS else None


def _has_index(fields: Fields) -> bool | None:
    has_image = fields.has("config") or fields.has("layers")
    if fields.has("manifests"):
        if has_image:
            raise SpecError(
                f"an index and an image manifest at once: has {_telling_members(fields)}"
            )
        return True
    return False if has_image else None


def _telling_members(fields: Fields) -> str:
    names = [name for name in ("manifests", "config", "layers") if fields.has(name)]
    return " and ".join(names) or "neither manifests nor layers"


def _read_manifest(fields: Fields, media_type: str, data: bytes) -> Manifest:
    fields.require("config")
    config = fields.optional("config", Descriptor.from_json)
    assert config is not None
    return Manifest(
        config=config,
        layers=fields.each("layers", Descriptor.from_json),
        media_type=media_type or media_types.OCI_MANIFEST,
        artifact_type=fields.optional_text("artifactType"),
        subject=fields.optional("subject", Descriptor.from_json),
        annotations=fields.texts_by_name("annotations"),
        extra=fields.rest(),
        raw=data,
    )


def _read_index(fields: Fields, media_type: str, data: bytes) -> Index:
    return Index(
        manifests=fields.each("manifests", Descriptor.from_json),
        media_type=media_type or media_types.OCI_INDEX,
        artifact_type=fields.optional_text("artifactType"),
        subject=fields.optional("subject", Descriptor.from_json),
        annotations=fields.texts_by_name("annotations"),
        extra=fields.rest(),
        raw=data,
    )


def _to_json(document: Manifest | Index, own: Json) -> Json:
    known = {
        "schemaVersion": _SCHEMA_VERSION,
        "mediaType": document.media_type,
        "artifactType": document.artifact_type,
        **own,
        "subject": None if document.subject is None else document.subject.to_json(),
        "annotations": dict(sorted(document.annotations.items())) or None,
    }
    return merge(known, document.extra)
