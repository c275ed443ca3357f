"""From a runtime-spec document to a plan: plain data that the processes inside only carry out.

A plan can be printed. Nothing in it needs parsing, looking up or deciding any more, so that between
clone(2) and execve(2) there is as little Python as possible.
"""

from __future__ import annotations

import functools
import resource
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycontainer._linux import capability, mount
from pycontainer._linux.process import NAMESPACE_FLAGS
from pycontainer.errors import SpecError, UnsupportedFeature
from pycontainer.runtime import _defaults as docker
from pycontainer.runtime._spec import is_rootless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.oci.runtime import Device, IDMapping, Mount, Process, RuntimeSpec
    from pycontainer.runtime.cgroups import CgroupPlan
    from pycontainer.runtime.seccomp import Filter
    from pycontainer.snapshots import RootfsPlan

__all__ = [
    "OWNER",
    "REAPER",
    "RUNTIME",
    "SUBPATH",
    "SYSTEM",
    "boot_id",
    "compile_plan",
    "compile_process",
    "compile_user",
    "compile_view",
    "host_id",
]

REAPER = "org.pycontainer.init"
"""Annotation of a container whose first process is ours, and its command a child of that."""
SYSTEM = "org.pycontainer.system"
"""Annotation of a container whose command is an init system, with control groups of its own."""
RUNTIME = "org.pycontainer.runtime"
"""Annotation that names the runtime by which a container is started, where it is not this library."""
SUBPATH = "org.pycontainer.subpath"
"""Member of a bind: what of the source is mounted, resolved beneath it when it is mounted."""
OWNER = "org.pycontainer.owner"
"""Member of a bind: the directory of another container, in whose mounts the source is."""

Plan = dict[str, Any]
CgroupMounts = tuple[tuple[str, str, tuple[str, ...]], ...]

_UMASK = 0o022  # where the document asks for none, as Docker has it
_ATTRIBUTES = {
    "ro": mount.RDONLY,
    "nosuid": mount.NOSUID,
    "nodev": mount.NODEV,
    "noexec": mount.NOEXEC,
    "strictatime": mount.STRICTATIME,
    "noatime": mount.NOATIME,
    "nodiratime": mount.NODIRATIME,
    "nosymfollow": mount.NOSYMFOLLOW,
}
_RECURSIVE = {f"r{name}": value for name, value in _ATTRIBUTES.items()}
_PROPAGATION = {
    "private": mount.MS_PRIVATE,
    "shared": mount.MS_SHARED,
    "slave": mount.MS_SLAVE,
    "unbindable": mount.MS_UNBINDABLE,
}
_DEFAULTS = frozenset(
    ("rw", "suid", "dev", "exec", "atime", "diratime", "relatime", "symfollow", "bind", "rbind")
)
_FORMATS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def compile_plan(
    spec: RuntimeSpec,
    rootfs: RootfsPlan,
    directory: Path,
    *,
    cgroup: CgroupPlan,
    seccomp: Filter | None,
) -> Plan:
    """Make a container's plan.

    Args:
        spec: What the container is.
        rootfs: How its root file system is mounted.
        directory: The container's own directory.
        cgroup: What `pycontainer.runtime.cgroups.plan` made.
        seccomp: The compiled system call filter, or None for none.

    Raises:
        SpecError: The document asks for what does not exist.
        UnsupportedFeature: It asks for what an ordinary user cannot have.
    """
    kinds = spec.namespace_types()
    unknown = kinds - set(NAMESPACE_FLAGS)
    if unknown:
        raise SpecError(f"unknown namespaces: {sorted(unknown)}", path="linux.namespaces")
    _check_namespaces(spec, cgroup)
    user = compile_user(spec)
    if user is not None:
        user["groups"] = _given_groups(cgroup)
    # Entered by init once it is in its control group, which then is what it sees as the top.
    joined = {space.type: space.path for space in spec.namespaces if space.path}
    joined.pop("user", None)
    flags = sum(NAMESPACE_FLAGS[kind] for kind in kinds - {"cgroup", "user"} - joined.keys())
    rootless = is_rootless()
    compiled = (_compile_mount(m, cgroup.mounts, rootless=rootless) for m in spec.mounts)
    mounts = [entry for entry in compiled if entry is not None]
    for entry in mounts:
        if entry["kind"] == "cgroup":
            entry["delegated"] = list(cgroup.delegated)
    return {
        "operation": "start",
        "namespaces": flags,
        "cgroup_namespace": "cgroup" in kinds,
        "join": [[NAMESPACE_FLAGS[kind], path] for kind, path in joined.items()],
        "rootfs": rootfs.to_wire(),
        "directory": str(directory),
        "mountpoint": str(directory / "rootfs"),
        "mounts": mounts,
        "id_maps": [entry["id_map"] for entry in mounts if entry.get("id_map")],
        "joined": [],
        "user": user,
        "own_pids": "pid" in kinds,
        "reaper": spec.annotations.get(REAPER) == "true",
        "devices": _compile_devices(spec.devices, spec if user else None),
        "bind_devices": rootless,
        "links": [list(link) for link in docker.DEVICE_LINKS],
        "loopback": "network" in kinds - joined.keys(),
        "hostname": spec.hostname if "uts" in kinds else "",
        "domainname": spec.domainname if "uts" in kinds else "",
        "readonly": spec.root_readonly,
        "readonly_paths": list(spec.readonly_paths),
        "masked_paths": list(spec.masked_paths),
        "sysctl": dict(spec.sysctl),
        "process": compile_process(spec.process, seccomp),
        "tty": spec.process.terminal,
        "cgroup": cgroup.to_wire(),
        "boot_id": boot_id(),
    }


def _check_namespaces(spec: RuntimeSpec, cgroup: CgroupPlan) -> None:
    """Refuse what cannot be had.

    Raises:
        UnsupportedFeature: This user or this library cannot.
    """
    kinds, rootless = spec.namespace_types(), is_rootless()
    for namespace in spec.namespaces:
        if namespace.path and (
            namespace.type == "mount" or (namespace.type == "user" and rootless)
        ):
            raise UnsupportedFeature(
                f"joining a {namespace.type} namespace", "each container gets one of its own"
            )
    if "mount" not in kinds:
        raise SpecError("a container needs a mount namespace of its own", path="linux.namespaces")
    if "pid" in kinds:
        return
    if rootless:
        raise UnsupportedFeature(
            "the process namespace of others for an ordinary user's container",
            "the kernel mounts no /proc of a process namespace that is not the user's own",
            remedy="run the program as root",
        )
    if not cgroup.freezer:
        raise UnsupportedFeature(
            "the process namespace of others",
            "without a control group nothing would end all processes of the container",
            remedy="mount the control groups",
        )


def compile_user(spec: RuntimeSpec) -> Plan | None:
    """Make the part of a plan that is the user namespace; None where users are those of this process.

    Raises:
        SpecError: It has no users, not even root.
    """
    if is_rootless() or not any(space.type == "user" for space in spec.namespaces):
        return None
    root = [host_id(spec.uid_mappings, 0), host_id(spec.gid_mappings, 0)]
    if None in root:
        raise SpecError(
            "a user namespace without root", path="linux.uidMappings", remedy="map the id 0, too"
        )
    user = spec.process.user
    for maps, ids in (
        (spec.uid_mappings, [user.uid]),
        (spec.gid_mappings, [user.gid, *user.additional_gids]),
    ):
        for number in ids:
            if host_id(maps, number) is None:
                raise SpecError(
                    f"the id {number} is none of the container's user namespace",
                    path="process.user",
                    remedy="map more ids, or run as another user",
                )
    return {
        **_map_texts(spec.uid_mappings, spec.gid_mappings),
        "fd": -1,
        "root": root,
        "joined": [],
    }


def _given_groups(cgroup: CgroupPlan) -> list[str]:
    """The control groups that the container may divide itself, and so is to own."""
    names = set(cgroup.delegated) - {""}
    given = [path for path in cgroup.join if names.intersection(path.split("/"))]
    return [*given, cgroup.v2] if cgroup.delegated and cgroup.v2 else given


def host_id(maps: Sequence[IDMapping], number: int) -> int | None:
    """What an id inside a user namespace is outside of it; None for none."""
    for entry in maps:
        if entry.container_id <= number < entry.container_id + entry.size:
            return entry.host_id + number - entry.container_id
    return None


def compile_view(rootfs: RootfsPlan, directory: Path, mounts: Sequence[Mount]) -> Plan:
    """Make the part of a plan that shows a container's files: its root, and binds in it.

    Args:
        rootfs: How the root file system is mounted.
        directory: The container's own directory.
        mounts: Binds.
    """
    compiled = [_compile_mount(mount, (), rootless=is_rootless()) for mount in mounts]
    return {
        "operation": "view",
        "rootfs": rootfs.to_wire(),
        "mountpoint": str(directory / "rootfs"),
        "mounts": compiled,
        "id_maps": [entry["id_map"] for entry in compiled if entry and entry.get("id_map")],
        "detach": False,
    }


def compile_process(process: Process, seccomp: Filter | None) -> Plan:
    """Make the part of a plan that is one process; also what an exec sends.

    Raises:
        SpecError: It names limits or capabilities that do not exist.
        UnsupportedFeature: It is to run as a user whom an ordinary user's containers do not have.
    """
    user, rootless = process.user, is_rootless()
    if rootless and (user.uid or user.gid):
        raise UnsupportedFeature(
            f"user {user.uid}:{user.gid} in an ordinary user's container",
            "its user namespace has only one user, root, who is you outside",
            remedy="run as user 0, or run the program as root",
        )
    try:
        capabilities = {
            name: capability.mask(getattr(process.capabilities, name))
            for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        }
    except ValueError as error:
        raise SpecError(f"unknown capability: {error}", path="process.capabilities") from error
    for entry in process.env:
        if "=" not in entry.lstrip("=") or "\0" in entry:
            raise SpecError(f"not a variable: {entry[:40]!r}", path="process.env")
    return {
        "args": list(process.args),
        "env": dict(entry.split("=", 1) for entry in process.env),
        "cwd": process.cwd,
        "umask": _UMASK if user.umask is None else user.umask,
        "uid": user.uid,
        "gid": user.gid,
        "groups": list(user.additional_gids),
        "may_set_groups": not rootless,
        "capabilities": capabilities,
        "rlimits": [[_limit(r.type), _value(r.soft), _value(r.hard)] for r in process.rlimits],
        "no_new_privileges": process.no_new_privileges,
        "oom_score_adj": process.oom_score_adj,
        "seccomp": seccomp.program if seccomp is not None else None,
        "seccomp_flags": seccomp.flags if seccomp is not None else 0,
        **_security_modules(process),
    }


def _limit(name: str) -> int:
    number = getattr(resource, name, None)
    if not name.startswith("RLIMIT_") or not isinstance(number, int):
        raise SpecError(f"unknown resource limit {name!r}", path="process.rlimits")
    return number


def _value(limit: int) -> int:
    """The document writes "no limit" as the largest unsigned number."""
    return resource.RLIM_INFINITY if limit >= 1 << 63 else limit


def _security_modules(process: Process) -> Plan:
    """What to ask of AppArmor and SELinux at execve(2): the file to write to, and the text.

    Raises:
        UnsupportedFeature: The kernel does not have the module.
    """
    profile, label = process.apparmor_profile, process.selinux_label
    if profile and _module_text("/sys/module/apparmor/parameters/enabled") != "Y":
        raise UnsupportedFeature(
            f"the AppArmor profile {profile!r}",
            "this kernel runs without AppArmor",
            remedy="leave the profile out, or boot with apparmor=1 security=apparmor",
        )
    if label and not Path("/sys/fs/selinux/enforce").exists():
        raise UnsupportedFeature(
            f"the SELinux label {label!r}",
            "this kernel runs without SELinux",
            remedy="leave the label out, or boot with SELinux",
        )
    return {"apparmor": f"exec {profile}" if profile else "", "selinux": label}


def _module_text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _compile_devices(devices: Sequence[Device], users: RuntimeSpec | None) -> list[Plan]:
    """Each path once: a later device stands in the place of an earlier one.

    Owners become those outside of the user namespace of `users`; of those that it has not, nobody.
    """
    found = {device.path: _compile_device(device) for device in devices}
    if users is not None:
        for plan in found.values():
            plan["uid"] = host_id(users.uid_mappings, plan["uid"]) or 0
            plan["gid"] = host_id(users.gid_mappings, plan["gid"]) or 0
    return list(found.values())


def _compile_device(device: Device) -> Plan:
    return {
        "path": device.path,
        "type": _FORMATS[device.type],
        "mode": device.mode,
        "major": device.major,
        "minor": device.minor,
        "uid": device.uid,
        "gid": device.gid,
    }


def _compile_mount(entry: Mount, groups: CgroupMounts, *, rootless: bool) -> Plan | None:
    attributes, recursive_attributes, propagation = 0, 0, 0
    options: list[tuple[str, str | None]] = []
    for option in entry.options:
        if option in _ATTRIBUTES:
            attributes |= _ATTRIBUTES[option]
        elif option in _RECURSIVE:
            recursive_attributes |= _RECURSIVE[option]
        elif option.removeprefix("r") in _PROPAGATION:
            propagation = _PROPAGATION[option.removeprefix("r")]
        elif option not in _DEFAULTS:
            key, equals, value = option.partition("=")
            options.append((key, value if equals else None))
    if entry.type == "bind" or "bind" in entry.options or "rbind" in entry.options:
        return {
            "kind": "bind",
            "source": entry.source,
            "target": entry.destination,
            "attributes": attributes,
            "recursive_attributes": recursive_attributes,
            "recursive": "bind" not in entry.options or "rbind" in entry.options,
            "propagation": 0 if propagation == mount.MS_PRIVATE else propagation,
            "subpath": entry.extra.get(SUBPATH, ""),
            "owner": entry.extra.get(OWNER, ""),
            "id_map": _compile_id_map(entry, rootless=rootless),
        }
    if entry.type == "cgroup":
        if not groups:
            return None
        wire = [[name, kind, list(flags)] for name, kind, flags in groups]
        return {
            "kind": "cgroup",
            "target": entry.destination,
            "groups": wire,
            "attributes": attributes & mount.RDONLY,
        }
    if entry.type == "devpts" and rootless:
        options = [(key, value) for key, value in options if key != "gid"]  # not a mapped group
    if entry.type == "tmpfs":
        options.append(("source", entry.source or "tmpfs"))
    return {
        "kind": entry.type,
        "target": entry.destination,
        "attributes": attributes,
        "options": options,
    }


def _compile_id_map(entry: Mount, *, rootless: bool) -> Plan | None:
    if not entry.uid_mappings and not entry.gid_mappings:
        return None
    if rootless:
        raise UnsupportedFeature(
            f"mapping the owners of {entry.source}",
            "only root may map the owners of a file system that root has mounted",
            remedy="run the program as root",
        )
    return {**_map_texts(entry.uid_mappings, entry.gid_mappings), "fd": -1}


def _map_texts(uids: Sequence[IDMapping], gids: Sequence[IDMapping]) -> dict[str, str]:
    """As the kernel reads them (user_namespaces(7))."""
    return {
        name: "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings)
        for name, mappings in (("uid_map", uids), ("gid_map", gids))
    }


@functools.cache
def boot_id() -> str:
    """Which boot of this machine this is: pids and start times mean nothing in another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
