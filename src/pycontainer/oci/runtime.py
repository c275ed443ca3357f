"""Runtime-spec documents: the ``config.json`` of a bundle (OCI runtime-spec 1.2).

What a Linux container needs is typed; all other members survive, unread, in the `extra` of their object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import attrs
from attrs import field, frozen

from pycontainer.errors import SpecError
from pycontainer.oci._frozen import frozen_members, frozen_texts
from pycontainer.oci._json import UINT32_MAX, Fields, Json, decode, encode, merge, refuse_twice
from pycontainer.oci._process import Capabilities, Process, Rlimit, User
from pycontainer.oci._resources import DeviceRule, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Capabilities",
    "Device",
    "DeviceRule",
    "IDMapping",
    "Mount",
    "Namespace",
    "Process",
    "Resources",
    "Rlimit",
    "RuntimeSpec",
    "User",
]

_VERSION: Final = "1.0.2"
_NAMESPACES: Final = frozenset({"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"})


@frozen
class IDMapping:
    """One range of user or group ids, seen from inside a user namespace and from outside."""

    container_id: int
    host_id: int
    size: int

    @classmethod
    def from_json(cls, value: object, path: str = "") -> IDMapping:
        """Read one, or raise `SpecError`."""
        fields = Fields(value, path)
        fields.require("containerID", "hostID", "size")
        names = ("containerID", "hostID", "size")
        return cls(*(fields.integer(name, least=0, most=UINT32_MAX) for name in names))

    def to_json(self) -> Json:
        """The range as plain values."""
        return {"containerID": self.container_id, "hostID": self.host_id, "size": self.size}


@frozen
class Mount:
    """One of ``mounts``; options as mount(8) writes them."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)

    @classmethod
    def from_json(cls, value: object, path: str = "") -> Mount:
        """Read one, or raise `SpecError`."""
        fields = Fields(value, path)
        fields.require("destination")
        return cls(
            destination=fields.text("destination"),
            type=fields.text("type"),
            source=fields.text("source"),
            options=fields.texts("options"),
            uid_mappings=fields.each("uidMappings", IDMapping.from_json),
            gid_mappings=fields.each("gidMappings", IDMapping.from_json),
            extra=fields.rest(),
        )

    def to_json(self) -> Json:
        """The mount as plain values."""
        known = {
            "destination": self.destination,
            "type": self.type or None,
            "source": self.source or None,
            "options": list(self.options) or None,
            "uidMappings": [mapping.to_json() for mapping in self.uid_mappings] or None,
            "gidMappings": [mapping.to_json() for mapping in self.gid_mappings] or None,
        }
        return merge(known, self.extra)


@frozen
class Namespace:
    """One of ``linux.namespaces``: a new one, or with `path` an existing one."""

    type: str
    path: str = ""

    @classmethod
    def from_json(cls, value: object, path: str = "") -> Namespace:
        """Read one, or raise `SpecError`."""
        fields = Fields(value, path)
        kind = fields.text("type")
        if kind not in _NAMESPACES:
            raise SpecError(f"{kind[:40]!r} is no kind of namespace", path=fields.at("type"))
        return cls(kind, fields.text("path"))

    def to_json(self) -> Json:
        """The namespace as plain values."""
        return merge({"type": self.type, "path": self.path or None}, {})


@frozen
class Device:
    """One of ``linux.devices``: a node to make. `type` is ``c``, ``u``, ``b`` or ``p``."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    mode: int = 0o666
    uid: int = 0
    gid: int = 0

    @classmethod
    def from_json(cls, value: object, path: str = "") -> Device:
        """Read one, or raise `SpecError`."""
        fields = Fields(value, path)
        fields.require("type", "path")
        kind = fields.text("type")
        if kind not in ("c", "u", "b", "p"):
            raise SpecError(f"{kind[:40]!r} is none of c, u, b, p", path=fields.at("type"))
        if kind != "p":
            fields.require("major", "minor")
        return cls(
            path=fields.text("path"),
            type=kind,
            major=fields.integer("major", least=0),
            minor=fields.integer("minor", least=0),
            mode=fields.integer("fileMode", 0o666, least=0, most=0o7777),
            uid=fields.integer("uid", least=0, most=UINT32_MAX),
            gid=fields.integer("gid", least=0, most=UINT32_MAX),
        )

    def to_json(self) -> Json:
        """The device as plain values."""
        return {
            "path": self.path,
            "type": self.type,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }


@frozen
class RuntimeSpec:
    """A container as the runtime specification describes it, ``root`` and ``linux`` unfolded.

    Attributes:
        seccomp: ``linux.seccomp`` as it stands in the document.
        extra: Members of the top that this library does not know.
        linux_extra: Members of ``linux`` that it does not know.
        version: Version of the specification that the document follows.
    """

    process: Process
    root_path: str = "rootfs"
    root_readonly: bool = False
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    resources: Resources = field(factory=Resources)
    seccomp: Mapping[str, object] | None = field(
        default=None, converter=attrs.converters.optional(frozen_members), hash=False
    )
    sysctl: Mapping[str, str] = field(factory=dict, converter=frozen_texts, hash=False)
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    cgroups_path: str = ""
    annotations: Mapping[str, str] = field(factory=dict, converter=frozen_texts, hash=False)
    extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)
    linux_extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    version: str = _VERSION

    def namespace_types(self) -> frozenset[str]:
        """The kinds of namespace that the container gets new."""
        return frozenset(n.type for n in self.namespaces if not n.path)

    def evolve(self, **changes: Any) -> Self:
        """A changed copy; members that this library does not know stay."""
        return attrs.evolve(self, **changes)

    @classmethod
    def parse(cls, data: bytes) -> RuntimeSpec:
        """Read a ``config.json``.

        Raises:
            SpecError: It is no such document; `path` leads to the offending member.
        """
        fields = Fields(decode(data))
        fields.require("ociVersion", "process")
        version = fields.text("ociVersion")
        if not version.startswith("1."):
            raise SpecError(f"unknown version {version[:40]!r}, not 1.x", path="ociVersion")
        process = fields.optional("process", Process.from_json)
        assert process is not None
        root, linux = fields.child("root"), fields.child("linux")
        namespaces = linux.each("namespaces", Namespace.from_json)
        refuse_twice([namespace.type for namespace in namespaces], linux.at("namespaces"))
        return cls(
            process=process,
            root_path=root.text("path", "rootfs"),
            root_readonly=root.flag("readonly"),
            hostname=fields.text("hostname"),
            domainname=fields.text("domainname"),
            mounts=fields.each("mounts", Mount.from_json),
            namespaces=namespaces,
            devices=linux.each("devices", Device.from_json),
            resources=linux.optional("resources", Resources.from_json) or Resources(),
            seccomp=linux.optional_members("seccomp"),
            sysctl=linux.texts_by_name("sysctl"),
            masked_paths=linux.texts("maskedPaths"),
            readonly_paths=linux.texts("readonlyPaths"),
            cgroups_path=linux.text("cgroupsPath"),
            annotations=fields.texts_by_name("annotations"),
            uid_mappings=linux.each("uidMappings", IDMapping.from_json),
            gid_mappings=linux.each("gidMappings", IDMapping.from_json),
            version=version,
            linux_extra=linux.rest(),
            extra=fields.rest(),
        )

    def encode(self) -> bytes:
        """The document as compact JSON."""
        return encode(self.to_json())

    def to_json(self) -> Json:
        """The document as plain values."""
        known = {
            "ociVersion": self.version,
            "process": self.process.to_json(),
            "root": merge({"path": self.root_path, "readonly": self.root_readonly or None}, {}),
            "hostname": self.hostname or None,
            "domainname": self.domainname or None,
            "mounts": [mount.to_json() for mount in self.mounts] or None,
            "annotations": dict(sorted(self.annotations.items())) or None,
            "linux": self._linux_to_json(),
        }
        return merge(known, self.extra)

    def _linux_to_json(self) -> Json:
        known = {
            "uidMappings": [mapping.to_json() for mapping in self.uid_mappings] or None,
            "gidMappings": [mapping.to_json() for mapping in self.gid_mappings] or None,
            "sysctl": dict(sorted(self.sysctl.items())) or None,
            "resources": self.resources.to_json() or None,
            "cgroupsPath": self.cgroups_path or None,
            "namespaces": [namespace.to_json() for namespace in self.namespaces] or None,
            "devices": [device.to_json() for device in self.devices] or None,
            "seccomp": None if self.seccomp is None else dict(self.seccomp),
            "maskedPaths": list(self.masked_paths) or None,
            "readonlyPaths": list(self.readonly_paths) or None,
        }
        return merge(known, self.linux_extra)
