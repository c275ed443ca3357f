"""Runtime-spec documents: the ``config.json`` of a bundle (OCI runtime-spec 1.2).

Only what a Linux container needs is typed; other members survive in `extra`, unread.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.errors import SpecError
from pycontainer.oci._json import Json, Reader, load_object

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Capabilities",
    "Device",
    "DeviceRule",
    "Mount",
    "Namespace",
    "Process",
    "Resources",
    "Rlimit",
    "RuntimeSpec",
    "User",
]

_VERSION: Final = "1.0.2"


@frozen
class User:
    """``process.user``."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()


@frozen
class Capabilities:
    """``process.capabilities``: five sets of names such as ``CAP_KILL``."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


@frozen
class Rlimit:
    """One of ``process.rlimits``: type such as ``RLIMIT_NOFILE``, and both limits."""

    type: str
    soft: int
    hard: int


@frozen
class Process:
    """``process``: what is executed, and as whom."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = field(factory=User)
    terminal: bool = False
    capabilities: Capabilities = field(factory=Capabilities)
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    extra: Mapping[str, object] = field(factory=dict)


@frozen
class Mount:
    """One of ``mounts``; options as mount(8) writes them."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()


@frozen
class Namespace:
    """One of ``linux.namespaces``: a new one, or with `path` an existing one."""

    type: str
    path: str = ""


@frozen
class Device:
    """One of ``linux.devices``: a node to make. `type` is ``c``, ``b`` or ``p``."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


@frozen
class DeviceRule:
    """One of ``linux.resources.devices``; None stands for any number, ``a`` for all types."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


@frozen
class Resources:
    """``linux.resources``: limits. Memory in bytes, CPU times in microseconds."""

    memory: int | None = None
    memory_swap: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_shares: int | None = None
    cpuset: str = ""
    pids: int | None = None
    devices: tuple[DeviceRule, ...] = ()


@frozen
class RuntimeSpec:
    """A container as the runtime specification describes it."""

    process: Process
    root_path: str = "rootfs"
    root_readonly: bool = False
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    resources: Resources = field(factory=Resources)
    seccomp: Mapping[str, object] | None = None
    sysctl: Mapping[str, str] = field(factory=dict)
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    cgroups_path: str = ""
    annotations: Mapping[str, str] = field(factory=dict)
    extra: Mapping[str, object] = field(factory=dict)
    linux_extra: Mapping[str, object] = field(factory=dict)

    def namespace_types(self) -> frozenset[str]:
        """The kinds of namespace that the container gets new."""
        return frozenset(n.type for n in self.namespaces if not n.path)

    def encode(self) -> bytes:
        """The document as JSON."""
        return json.dumps(self.to_json(), separators=(",", ":")).encode()

    def to_json(self) -> Json:
        """The document as plain values."""
        linux: Json = {
            **self.linux_extra,
            "namespaces": [_without_empty(type=n.type, path=n.path) for n in self.namespaces],
            "resources": _resources_to_json(self.resources),
            "devices": [
                {
                    "path": d.path,
                    "type": d.type,
                    "major": d.major,
                    "minor": d.minor,
                    "fileMode": d.mode,
                    "uid": d.uid,
                    "gid": d.gid,
                }
                for d in self.devices
            ],
            "maskedPaths": list(self.masked_paths),
            "readonlyPaths": list(self.readonly_paths),
        }
        if self.sysctl:
            linux["sysctl"] = dict(self.sysctl)
        if self.seccomp is not None:
            linux["seccomp"] = dict(self.seccomp)
        if self.cgroups_path:
            linux["cgroupsPath"] = self.cgroups_path
        return {
            **self.extra,
            "ociVersion": _VERSION,
            "process": _process_to_json(self.process),
            "root": {"path": self.root_path, "readonly": self.root_readonly},
            **_without_empty(hostname=self.hostname, domainname=self.domainname),
            "mounts": [
                _without_empty(
                    destination=m.destination,
                    type=m.type,
                    source=m.source,
                    options=list(m.options),
                )
                for m in self.mounts
            ],
            **_without_empty(annotations=dict(self.annotations)),
            "linux": linux,
        }

    @classmethod
    def parse(cls, data: bytes) -> RuntimeSpec:
        """Read a ``config.json``.

        Raises:
            SpecError: It is no such document; `path` leads to the offending member.
        """
        return _parse(load_object(data))


def _without_empty(**members: object) -> Json:
    return {name: value for name, value in members.items() if value}


def _process_to_json(process: Process) -> Json:
    document: Json = {
        **process.extra,
        "terminal": process.terminal,
        "user": {
            "uid": process.user.uid,
            "gid": process.user.gid,
            **_without_empty(additionalGids=list(process.user.additional_gids)),
        },
        "args": list(process.args),
        "env": list(process.env),
        "cwd": process.cwd,
        "capabilities": {
            name: list(getattr(process.capabilities, name))
            for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        },
        "rlimits": [{"type": r.type, "soft": r.soft, "hard": r.hard} for r in process.rlimits],
        "noNewPrivileges": process.no_new_privileges,
    }
    if process.oom_score_adj is not None:
        document["oomScoreAdj"] = process.oom_score_adj
    return document


def _resources_to_json(resources: Resources) -> Json:
    def some(**members: object) -> Json:
        return {name: value for name, value in members.items() if value not in (None, "")}

    devices = [
        some(allow=r.allow, type=r.type, major=r.major, minor=r.minor, access=r.access)
        for r in resources.devices
    ]
    return _without_empty(
        devices=devices,
        memory=some(limit=resources.memory, swap=resources.memory_swap),
        cpu=some(
            quota=resources.cpu_quota,
            period=resources.cpu_period,
            shares=resources.cpu_shares,
            cpus=resources.cpuset,
        ),
        pids=some(limit=resources.pids),
    )


def _parse(top: Reader) -> RuntimeSpec:
    top.text("ociVersion")
    root, linux = top.object("root"), top.object("linux")
    return RuntimeSpec(
        process=_parse_process(top.object("process")),
        root_path=root.text("path", "rootfs"),
        root_readonly=root.flag("readonly"),
        hostname=top.text("hostname"),
        domainname=top.text("domainname"),
        mounts=tuple(
            Mount(m.text("destination"), m.text("type"), m.text("source"), m.items("options", str))
            for m in top.objects("mounts")
        ),
        namespaces=tuple(
            Namespace(n.text("type"), n.text("path")) for n in linux.objects("namespaces")
        ),
        devices=tuple(
            Device(
                d.text("path"),
                d.text("type"),
                d.number("major"),
                d.number("minor"),
                d.number("fileMode", 0o666),
                d.number("uid"),
                d.number("gid"),
            )
            for d in linux.objects("devices")
        ),
        resources=_parse_resources(linux.object("resources")),
        seccomp=linux.mapping("seccomp") if linux.has("seccomp") else None,
        sysctl=linux.mapping("sysctl"),
        masked_paths=linux.items("maskedPaths", str),
        readonly_paths=linux.items("readonlyPaths", str),
        cgroups_path=linux.text("cgroupsPath"),
        annotations=top.mapping("annotations"),
        linux_extra=linux.rest(),
        extra=top.rest(),
    )


def _parse_process(process: Reader) -> Process:
    args = process.items("args", str)
    if not args:
        raise SpecError("a container needs a command", path="process.args")
    user, capabilities = process.object("user"), process.object("capabilities")
    return Process(
        args=args,
        env=process.items("env", str),
        cwd=process.text("cwd", "/"),
        user=User(user.number("uid"), user.number("gid"), user.items("additionalGids", int)),
        terminal=process.flag("terminal"),
        capabilities=Capabilities(
            *(
                capabilities.items(name, str)
                for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
            )
        ),
        rlimits=tuple(
            Rlimit(r.text("type"), r.number("soft"), r.number("hard"))
            for r in process.objects("rlimits")
        ),
        no_new_privileges=process.flag("noNewPrivileges"),
        oom_score_adj=process.maybe_number("oomScoreAdj"),
        extra=process.rest(),
    )


def _parse_resources(resources: Reader) -> Resources:
    memory, cpu, pids = (resources.object(name) for name in ("memory", "cpu", "pids"))
    return Resources(
        memory=memory.maybe_number("limit"),
        memory_swap=memory.maybe_number("swap"),
        cpu_quota=cpu.maybe_number("quota"),
        cpu_period=cpu.maybe_number("period"),
        cpu_shares=cpu.maybe_number("shares"),
        cpuset=cpu.text("cpus"),
        pids=pids.maybe_number("limit"),
        devices=tuple(
            DeviceRule(
                r.flag("allow"),
                r.text("type", "a"),
                r.maybe_number("major"),
                r.maybe_number("minor"),
                r.text("access", "rwm"),
            )
            for r in resources.objects("devices")
        ),
    )
