"""Manifests, indexes and image configs: frozen values that keep the bytes they were read from.

A digest names bytes, not meaning: a document that was parsed encodes to exactly what was parsed. A
changed copy (`evolve`) has no bytes yet and encodes anew, deterministically.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Self

import attrs
from attrs import field, frozen

from pycontainer.errors import PlatformNotFound, SpecError
from pycontainer.oci import media_types
from pycontainer.oci._digest import Descriptor, Digest
from pycontainer.oci._json import Json, Reader, load_object
from pycontainer.oci._platform import Platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "ContainerConfig",
    "Healthcheck",
    "History",
    "ImageConfig",
    "Index",
    "Manifest",
    "parse_manifest",
]


@frozen(kw_only=True)
class _Document:
    """What manifests, indexes and configs share."""

    extra: Mapping[str, object] = field(factory=dict, hash=False)
    _raw: bytes | None = field(default=None, eq=False, repr=False)

    def _to_json(self) -> Json:
        raise AssertionError  # each document has its own

    def encode(self) -> bytes:
        """The document's bytes: those it was parsed from, else compact JSON."""
        if self._raw is not None:
            return self._raw
        text = json.dumps(self._to_json(), separators=(",", ":"), ensure_ascii=False)
        return text.encode()

    def evolve(self, **changes: Any) -> Self:
        """A changed copy, which forgets the bytes that this one was parsed from."""
        return attrs.evolve(self, **changes, raw=None)

    @property
    def digest(self) -> Digest:
        """The SHA-256 digest of the bytes."""
        return Digest("sha256", hashlib.sha256(self.encode()).hexdigest())


@frozen(kw_only=True)
class Manifest(_Document):
    """One image for one platform: its config and its layers, bottom first."""

    config: Descriptor
    layers: tuple[Descriptor, ...] = ()
    media_type: str = media_types.OCI_MANIFEST
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(factory=dict, hash=False)

    @classmethod
    def parse(cls, data: bytes, *, media_type: str | None = None) -> Manifest:
        """Read a manifest.

        Args:
            data: The document; kept.
            media_type: What it was announced as, for one that does not say itself.

        Raises:
            SpecError: It breaks the specification.
        """
        parsed = parse_manifest(data, media_type)
        if not isinstance(parsed, Manifest):
            raise SpecError(f"expected an image manifest, found an index ({parsed.media_type})")
        return parsed

    @classmethod
    def _read(cls, reader: Reader, media_type: str, data: bytes) -> Manifest:
        if not reader.has("config"):
            raise SpecError("a manifest needs a config", path="config")
        return cls(
            config=Descriptor.read(reader.object("config")),
            layers=tuple(Descriptor.read(layer) for layer in reader.objects("layers")),
            media_type=media_type,
            artifact_type=reader.maybe_text("artifactType"),
            subject=_subject(reader),
            annotations=reader.texts("annotations"),
            extra=reader.rest(),
            raw=data,
        )

    def descriptor(self) -> Descriptor:
        """What an index or a client says of this manifest."""
        return Descriptor(self.media_type, self.digest, len(self.encode()))

    def _to_json(self) -> Json:
        document: Json = {"schemaVersion": 2, "mediaType": self.media_type}
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        document["config"] = self.config.to_json()
        document["layers"] = [layer.to_json() for layer in self.layers]
        return _finish(document, self.subject, self.annotations, self.extra)


@frozen(kw_only=True)
class Index(_Document):
    """Several manifests under one name, usually one for each platform."""

    manifests: tuple[Descriptor, ...] = ()
    media_type: str = media_types.OCI_INDEX
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(factory=dict, hash=False)

    @classmethod
    def parse(cls, data: bytes, *, media_type: str | None = None) -> Index:
        """Read an index; arguments and errors as for `Manifest.parse`."""
        parsed = parse_manifest(data, media_type)
        if not isinstance(parsed, Index):
            raise SpecError(f"expected an index, found an image manifest ({parsed.media_type})")
        return parsed

    @classmethod
    def _read(cls, reader: Reader, media_type: str, data: bytes) -> Index:
        return cls(
            manifests=tuple(Descriptor.read(entry) for entry in reader.objects("manifests")),
            media_type=media_type,
            artifact_type=reader.maybe_text("artifactType"),
            subject=_subject(reader),
            annotations=reader.texts("annotations"),
            extra=reader.rest(),
            raw=data,
        )

    def select(self, wanted: Platform) -> Descriptor:
        """The first manifest for a platform.

        Raises:
            PlatformNotFound: There is none; the message lists what there is.
        """
        for entry in self.manifests:
            if entry.platform is not None and entry.platform.matches(wanted):
                return entry
        if len(self.manifests) == 1 and self.manifests[0].platform is None:
            return self.manifests[0]
        there = ", ".join(str(e.platform) for e in self.manifests if e.platform) or "nothing"
        raise PlatformNotFound(f"no image for {wanted} in the index, only for {there}")

    def descriptor(self) -> Descriptor:
        """What another index or a client says of this one."""
        return Descriptor(self.media_type, self.digest, len(self.encode()))

    def _to_json(self) -> Json:
        document: Json = {"schemaVersion": 2, "mediaType": self.media_type}
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        document["manifests"] = [entry.to_json() for entry in self.manifests]
        return _finish(document, self.subject, self.annotations, self.extra)


def parse_manifest(data: bytes, media_type: str | None = None) -> Manifest | Index:
    """Read what a registry or a layout calls a manifest.

    What the document says of itself wins over how it was announced, and both must agree on whether
    it is an index: a document that can be read as either is refused (CVE-2021-41190).

    Raises:
        SpecError: It is neither a manifest nor an index, or of Docker's retired schema 1.
    """
    reader = load_object(data)
    said = reader.text("mediaType")
    if (
        reader.number("schemaVersion", 2) == 1
        or (said or media_type) in media_types.DOCKER_SCHEMA_1
    ):
        raise SpecError(
            "a Docker schema 1 manifest, a format retired in 2019, is not supported",
            path="schemaVersion",
            remedy="push the image again with a current tool",
        )
    if reader.number("schemaVersion", 2) != 2:
        raise SpecError("unknown schema version", path="schemaVersion")
    has_index, has_image = reader.has("manifests"), reader.has("config") or reader.has("layers")
    if has_index and has_image:
        raise SpecError("both an index and a manifest at once")
    kind = said or (media_type or "").partition(";")[0].strip()
    if kind in media_types.INDEXES or (kind not in media_types.MANIFESTS and has_index):
        if has_image:
            raise SpecError(f"says it is an index ({kind}) but has a config or layers")
        return Index._read(reader, kind or media_types.OCI_INDEX, data)  # noqa: SLF001
    if kind in media_types.MANIFESTS or has_image:
        if has_index:
            raise SpecError(f"says it is a manifest ({kind}) but has manifests")
        return Manifest._read(reader, kind or media_types.OCI_MANIFEST, data)  # noqa: SLF001
    raise SpecError(f"neither a manifest nor an index: media type {kind or 'unknown'!r}")


def _subject(reader: Reader) -> Descriptor | None:
    return Descriptor.read(reader.object("subject")) if reader.has("subject") else None


def _finish(
    document: Json,
    subject: Descriptor | None,
    annotations: Mapping[str, str],
    extra: Mapping[str, object],
) -> Json:
    if subject is not None:
        document["subject"] = subject.to_json()
    if annotations:
        document["annotations"] = dict(sorted(annotations.items()))
    document.update(extra)
    return document


# --- the config ------------------------------------------------------------------------------


@frozen
class Healthcheck:
    """How a container is asked for its health; times in nanoseconds as in the document."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    retries: int = 0


@frozen
class ContainerConfig:
    """What a container of an image does unless told otherwise (image-spec, config.md)."""

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str = ""
    labels: Mapping[str, str] = field(factory=dict, hash=False)
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    shell: tuple[str, ...] | None = None
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(factory=dict, hash=False)

    @classmethod
    def read(cls, reader: Reader) -> ContainerConfig:
        """Read the ``config`` member."""
        return cls(
            user=reader.text("User"),
            env=reader.items("Env", str),
            entrypoint=_command(reader, "Entrypoint"),
            cmd=_command(reader, "Cmd"),
            working_dir=reader.text("WorkingDir"),
            labels=reader.texts("Labels"),
            exposed_ports=tuple(reader.mapping("ExposedPorts")),
            volumes=tuple(reader.mapping("Volumes")),
            stop_signal=reader.text("StopSignal"),
            shell=_command(reader, "Shell"),
            healthcheck=_healthcheck(reader),
            on_build=reader.items("OnBuild", str),
            extra=reader.rest(),
        )

    def to_json(self) -> Json:
        """The member as plain values; what is empty is left out."""
        document: Json = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in sorted(self.exposed_ports)},
            "Env": list(self.env),
            "Entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            "Cmd": None if self.cmd is None else list(self.cmd),
            "Volumes": {path: {} for path in sorted(self.volumes)},
            "WorkingDir": self.working_dir,
            "Labels": dict(sorted(self.labels.items())),
            "StopSignal": self.stop_signal,
            "OnBuild": list(self.on_build),
            "Shell": None if self.shell is None else list(self.shell),
        }
        if self.healthcheck is not None:
            check = self.healthcheck
            document["Healthcheck"] = {
                "Test": list(check.test),
                "Interval": check.interval,
                "Timeout": check.timeout,
                "StartPeriod": check.start_period,
                "Retries": check.retries,
            }
        return {**{k: v for k, v in document.items() if v}, **self.extra}


@frozen
class History:
    """How one layer, or one change of the config, came about."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    extra: Mapping[str, object] = field(factory=dict, hash=False)

    @classmethod
    def read(cls, reader: Reader) -> History:
        """Read one entry."""
        return cls(
            created=reader.maybe_text("created"),
            created_by=reader.text("created_by"),
            author=reader.text("author"),
            comment=reader.text("comment"),
            empty_layer=reader.flag("empty_layer"),
            extra=reader.rest(),
        )

    def to_json(self) -> Json:
        """The entry as plain values."""
        document: Json = {
            "created": self.created,
            "created_by": self.created_by,
            "author": self.author,
            "comment": self.comment,
            "empty_layer": self.empty_layer,
        }
        return {**{k: v for k, v in document.items() if v}, **self.extra}


@frozen(kw_only=True)
class ImageConfig(_Document):
    """The config blob: platform, defaults of its containers, layers by diff_id, history."""

    os: str = "linux"
    architecture: str = ""
    variant: str = ""
    created: str | None = None
    author: str = ""
    config: ContainerConfig = field(factory=ContainerConfig)
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()

    @classmethod
    def parse(cls, data: bytes, *, media_type: str | None = None) -> ImageConfig:
        """Read an image config.

        Raises:
            SpecError: It breaks the specification.
        """
        if media_type is not None and media_type not in (
            media_types.OCI_CONFIG,
            media_types.DOCKER_CONFIG,
        ):
            raise SpecError(f"an artifact of type {media_type}, not an image config")
        reader = load_object(data)
        rootfs = reader.object("rootfs")
        rootfs.text("type")
        diff_ids = tuple(
            Digest.parse(text, path=f"rootfs.diff_ids[{i}]")
            for i, text in enumerate(rootfs.items("diff_ids", str))
        )
        return cls(
            os=reader.text("os"),
            architecture=reader.text("architecture"),
            variant=reader.text("variant"),
            created=reader.maybe_text("created"),
            author=reader.text("author"),
            config=ContainerConfig.read(reader.object("config")),
            diff_ids=diff_ids,
            history=tuple(History.read(entry) for entry in reader.objects("history")),
            extra=reader.rest(),
            raw=data,
        )

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        return Platform(self.os, self.architecture, self.variant)

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        """For each layer the digest of the stack that ends with it (config.md, ChainID)."""
        return tuple(_chain(self.diff_ids))

    def descriptor(self, media_type: str = media_types.OCI_CONFIG) -> Descriptor:
        """What the manifest says of this config."""
        return Descriptor(media_type, self.digest, len(self.encode()))

    def _to_json(self) -> Json:
        document: Json = {
            "created": self.created,
            "author": self.author,
            "architecture": self.architecture,
            "os": self.os,
            "variant": self.variant,
            "config": self.config.to_json(),
        }
        document = {k: v for k, v in document.items() if v}
        document["rootfs"] = {"type": "layers", "diff_ids": [str(d) for d in self.diff_ids]}
        if self.history:
            document["history"] = [entry.to_json() for entry in self.history]
        document.update(self.extra)
        return document


def _chain(diff_ids: Iterable[Digest]) -> Iterable[Digest]:
    chain: Digest | None = None
    for diff_id in diff_ids:
        chain = diff_id if chain is None else Digest.of(f"{chain} {diff_id}".encode())
        yield chain


def _command(reader: Reader, name: str) -> tuple[str, ...] | None:
    return reader.items(name, str) if reader.has(name) else None


def _healthcheck(reader: Reader) -> Healthcheck | None:
    if not reader.has("Healthcheck"):
        return None
    check = reader.object("Healthcheck")
    return Healthcheck(
        test=check.items("Test", str),
        interval=check.number("Interval"),
        timeout=check.number("Timeout"),
        start_period=check.number("StartPeriod"),
        retries=check.number("Retries"),
    )
