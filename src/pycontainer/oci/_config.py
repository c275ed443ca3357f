"""Image configs (OCI image-spec, config.md; Docker's additions to it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.errors import SpecError
from pycontainer.oci import media_types
from pycontainer.oci._digest import Digest
from pycontainer.oci._document import Document
from pycontainer.oci._frozen import frozen_members, frozen_texts
from pycontainer.oci._json import Fields, Json, decode, merge
from pycontainer.oci._platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ContainerConfig", "Healthcheck", "History", "ImageConfig"]

_UNTYPED: Final = frozenset({"application/json", "application/octet-stream"})
"""What registries of the first years called a config."""


@frozen
class Healthcheck:
    """How a container is asked for its health. Times are nanoseconds, as in the document; 0 inherits.

    Attributes:
        test: ``NONE``, or ``CMD`` or ``CMD-SHELL`` and a command.
        interval: From the end of one test to the next.
        timeout: How long a test may take.
        start_period: How long after the start failures do not count.
        start_interval: As `interval`, during that time.
        retries: How many failures in a row make it unhealthy.
        extra: Members that this library does not know.
    """

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    retries: int = 0
    start_interval: int = 0
    extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)

    @classmethod
    def from_json(cls, value: object, path: str = "") -> Healthcheck:
        """Read the ``Healthcheck`` of a config.

        Raises:
            SpecError: Something of it has the wrong type.
        """
        fields = Fields(value, path)
        return cls(
            test=fields.texts("Test"),
            interval=fields.integer("Interval"),
            timeout=fields.integer("Timeout"),
            start_period=fields.integer("StartPeriod"),
            retries=fields.integer("Retries"),
            start_interval=fields.integer("StartInterval"),
            extra=fields.rest(),
        )

    def to_json(self) -> Json:
        """The check as plain values."""
        known = {
            "Test": list(self.test) or None,
            "Interval": self.interval or None,
            "Timeout": self.timeout or None,
            "StartPeriod": self.start_period or None,
            "StartInterval": self.start_interval or None,
            "Retries": self.retries or None,
        }
        return merge(known, self.extra)


@frozen
class ContainerConfig:
    """What a container of an image does unless told otherwise.

    Attributes:
        user: ``user[:group]``, by name or number; empty for root.
        env: ``NAME=value``.
        entrypoint: The command's beginning; None if the image says nothing.
        cmd: Its default arguments, or the command if there is no entrypoint.
        working_dir: Where it runs; empty for ``/``.
        labels: Remarks.
        exposed_ports: ``port/protocol``, sorted.
        volumes: Directories whose content outlives the container, sorted.
        stop_signal: The signal that asks it to end.
        shell: What runs commands that are given as one text.
        healthcheck: How it is asked for its health.
        on_build: Instructions for images that are built on this one.
        extra: Members that this library does not know.
    """

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str = ""
    labels: Mapping[str, str] = field(factory=dict, converter=frozen_texts, hash=False)
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    shell: tuple[str, ...] | None = None
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)

    @classmethod
    def from_json(cls, value: object, path: str = "") -> ContainerConfig:
        """Read the ``config`` of an image config.

        Raises:
            SpecError: Something of it has the wrong type.
        """
        fields = Fields(value, path)
        return cls(
            user=fields.text("User"),
            env=fields.texts("Env"),
            entrypoint=fields.optional_texts("Entrypoint"),
            cmd=fields.optional_texts("Cmd"),
            working_dir=fields.text("WorkingDir"),
            labels=fields.texts_by_name("Labels"),
            exposed_ports=tuple(sorted(fields.members("ExposedPorts"))),
            volumes=tuple(sorted(fields.members("Volumes"))),
            stop_signal=fields.text("StopSignal"),
            shell=fields.optional_texts("Shell"),
            healthcheck=fields.optional("Healthcheck", Healthcheck.from_json),
            on_build=fields.texts("OnBuild"),
            extra=fields.rest(),
        )

    def to_json(self) -> Json:
        """The config as plain values; what says nothing is left out."""
        known: Json = {
            "User": self.user or None,
            "ExposedPorts": {port: {} for port in sorted(self.exposed_ports)} or None,
            "Env": list(self.env) or None,
            "Entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            "Cmd": None if self.cmd is None else list(self.cmd),
            "Healthcheck": None if self.healthcheck is None else self.healthcheck.to_json(),
            "Volumes": {path: {} for path in sorted(self.volumes)} or None,
            "WorkingDir": self.working_dir or None,
            "OnBuild": list(self.on_build) or None,
            "Labels": dict(sorted(self.labels.items())) or None,
            "StopSignal": self.stop_signal or None,
            "Shell": None if self.shell is None else list(self.shell),
        }
        return merge(known, self.extra)


@frozen
class History:
    """How one layer, or one change of the config, came about.

    Attributes:
        created: When, as the document writes it (RFC 3339).
        created_by: By what command.
        author: By whom.
        comment: A remark.
        empty_layer: Whether only the config changed.
        extra: Members that this library does not know.
    """

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)

    @classmethod
    def from_json(cls, value: object, path: str = "") -> History:
        """Read one entry of ``history``.

        Raises:
            SpecError: Something of it has the wrong type.
        """
        fields = Fields(value, path)
        return cls(
            created=fields.optional_text("created"),
            created_by=fields.text("created_by"),
            author=fields.text("author"),
            comment=fields.text("comment"),
            empty_layer=fields.flag("empty_layer"),
            extra=fields.rest(),
        )

    def to_json(self) -> Json:
        """The entry as plain values."""
        known = {
            "created": self.created,
            "created_by": self.created_by or None,
            "author": self.author or None,
            "comment": self.comment or None,
            "empty_layer": self.empty_layer or None,
        }
        return merge(known, self.extra)


@frozen(kw_only=True)
class ImageConfig(Document):
    """The config blob of an image, whose digest is the image id.

    Attributes:
        os: The operating system it is for, in Go's words.
        architecture: The processor.
        variant: The processor's variant.
        os_version: Version of the operating system.
        os_features: Features the operating system must have.
        created: When it was made, as the document writes it (RFC 3339).
        author: Who made it.
        config: What its containers do unless told otherwise.
        diff_ids: Digests of the layers' tars, bottom first.
        history: How it came about, oldest first.
        media_type: OCI's or Docker's type of a config.
        extra: Members that this library does not know.
    """

    os: str = "linux"
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    created: str | None = None
    author: str = ""
    config: ContainerConfig = field(factory=ContainerConfig)
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()
    media_type: str = media_types.OCI_CONFIG

    @classmethod
    def parse(cls, data: bytes, *, media_type: str | None = None) -> ImageConfig:
        """Read an image config.

        Args:
            data: The document; it is kept.
            media_type: What the manifest says it is.

        Raises:
            SpecError: It breaks the specification, or is the config of some other artifact.
        """
        if media_type is None or media_type in _UNTYPED:
            media_type = media_types.OCI_CONFIG
        elif media_type not in media_types.CONFIGS:
            raise SpecError(f"expected an image config, found an artifact of type {media_type}")
        fields = Fields(decode(data))
        return cls(
            os=fields.text("os") or "linux",
            architecture=fields.text("architecture"),
            variant=fields.text("variant"),
            os_version=fields.text("os.version"),
            os_features=fields.texts("os.features"),
            created=fields.optional_text("created"),
            author=fields.text("author"),
            config=fields.optional("config", ContainerConfig.from_json) or ContainerConfig(),
            diff_ids=_diff_ids(fields),
            history=fields.each("history", History.from_json),
            media_type=media_type,
            extra=fields.rest(),
            raw=data,
        )

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        return Platform(self.os, self.architecture, self.variant, self.os_version, self.os_features)

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        """For each layer the digest of the stack that it tops (config.md, *Layer ChainID*)."""
        chain: list[Digest] = []
        for diff_id in self.diff_ids:
            chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
        return tuple(chain)

    def to_json(self) -> Json:
        """The config as plain values."""
        known = {
            "created": self.created,
            "author": self.author or None,
            "architecture": self.architecture,
            "variant": self.variant or None,
            "os": self.os,
            "os.version": self.os_version or None,
            "os.features": list(self.os_features) or None,
            "config": self.config.to_json(),
            "rootfs": {"type": "layers", "diff_ids": [str(d) for d in self.diff_ids]},
            "history": [entry.to_json() for entry in self.history] or None,
        }
        return merge(known, self.extra)


def _diff_ids(fields: Fields) -> tuple[Digest, ...]:
    fields.require("rootfs")
    rootfs = fields.child("rootfs")
    if (kind := rootfs.text("type", "layers")) != "layers":
        raise SpecError(f"expected 'layers', found {kind[:40]!r}", path=rootfs.at("type"))
    return tuple(
        Digest.parse(text, path=f"{rootfs.at('diff_ids')}[{i}]")
        for i, text in enumerate(rootfs.texts("diff_ids"))
    )
