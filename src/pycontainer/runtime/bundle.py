"""Containers that are started by another runtime, such as runc: what that is to find and to do.

From the container's document comes another one, that of the bundle: it asks for the same in words that
runtimes know. What only this library can do is done by the monitor, before or beside the runtime
(`pycontainer.runtime._inside.bundle`).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from pycontainer._linux import capability, mount
from pycontainer.errors import UnsupportedFeature
from pycontainer.oci.runtime import DeviceRule, Mount, Namespace, Resources
from pycontainer.runtime._inside.bundle import DIRECTORY
from pycontainer.runtime._seccomp_document import seccomp_document
from pycontainer.runtime._spec import is_rootless
from pycontainer.runtime.plan import OWNER, REAPER, RUNTIME, SUBPATH, SYSTEM

if TYPE_CHECKING:
    from pycontainer.oci.runtime import Process, Rlimit, RuntimeSpec
    from pycontainer.runtime.cgroups import Hierarchies

__all__ = ["RUNTIMES", "find_runtime", "have_runtime_start"]

RUNTIMES: Final = ("runc", "crun")
"""The runtimes that are known to work."""

_PLACES: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OPTIONS: Final = {"crun": ("--cgroup-manager", "cgroupfs")}
# Where the user may make no control groups: there are none to be made then.
_GROUPLESS_OPTIONS: Final = {
    "runc": ("--rootless", "true"),
    "crun": ("--cgroup-manager", "disabled"),
}
# Programs that Docker and podman put first into containers: static, so that they run in any image.
_REAPERS: Final = ("docker-init", "tini-static", "catatonit")
_REAPER_PLACE: Final = "/dev/init"
_UMASK: Final = 0o022


def find_runtime(name: str) -> str:
    """The path of a runtime's program.

    Raises:
        UnsupportedFeature: It is not installed.
    """
    program = _find(name)
    if program is None:
        raise UnsupportedFeature(
            f"runtime={name!r}",
            f"there is no program {name} in PATH",
            remedy=f"install it, on Debian by `apt-get install {name}`, or leave runtime out",
        )
    return program


def have_runtime_start(
    plan: dict[str, Any],
    spec: RuntimeSpec,
    directory: Path,
    *,
    group: str,
    found: Hierarchies,
) -> None:
    """Have a container's first process started by the runtime that its document names.

    Args:
        plan: What `compile_plan` made of the document; is changed.
        spec: The document.
        directory: The container's own.
        group: The path of its control group in each hierarchy.
        found: The machine's control groups.

    Raises:
        UnsupportedFeature: The runtime is not installed, or has no word for what is asked.
    """
    name = spec.annotations[RUNTIME]
    program = find_runtime(name)
    _refuse(spec, name)
    home = Path(os.path.realpath(directory))
    staged = [number for number, entry in enumerate(plan["mounts"]) if _is_staged(entry)]
    if plan["cgroup"]:
        _add_groups(plan["cgroup"], group, found)
    else:
        group = ""
    plan["namespaces"] = 0  # the runtime makes them
    plan["bundle"] = {
        "name": name,
        "program": program,
        "options": list((_OPTIONS if plan["cgroup"] else _GROUPLESS_OPTIONS).get(name, ())),
        "id": directory.name,
        "document": json.dumps(_document(spec, home, group, staged)).encode(),
        "staged": staged,
        # Both look for the v2 group of who starts them where v1 has the controllers.
        "born_in_group": bool(found.v1),
        "hidden": _hidden(name, found),
    }


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PLACES}")


def _refuse(spec: RuntimeSpec, name: str) -> None:
    """Raise `UnsupportedFeature` for what a runtime cannot be told."""
    if spec.annotations.get(SYSTEM) == "true":
        raise UnsupportedFeature(
            f"a system container with runtime={name!r}",
            "the runtime specification has no word for control groups that a container may divide",
            remedy="leave runtime out",
        )
    if not is_rootless() and any(space.type == "user" for space in spec.namespaces):
        raise UnsupportedFeature(
            f"users of its own for a container with runtime={name!r}",
            "only this library mounts the files of such containers",
            remedy="leave runtime or user out",
        )
    if spec.annotations.get(REAPER) == "true" and _reaper() is None:
        raise UnsupportedFeature(
            f"init=True with runtime={name!r}",
            f"there is none of the programs {', '.join(_REAPERS)} to be the first process",
            remedy="install one, on Debian by `apt-get install tini`, or leave init or runtime out",
        )


def _reaper() -> str | None:
    return next((path for path in map(_find, _REAPERS) if path is not None), None)


def _hidden(name: str, found: Hierarchies) -> list[str]:
    """What a runtime is not to see: crun refuses machines where v2 has controllers beside v1's."""
    return [found.v2.mount_point] if name == "crun" and found.v1 and found.v2 is not None else []


def _add_groups(group: dict[str, Any], own: str, found: Hierarchies) -> None:
    """Plan the directories that the runtime makes in the other hierarchies of v1, to be removed with ours."""
    for hierarchy in dict.fromkeys((*found.v1.values(), *found.named.values())):
        directory = f"{hierarchy.mount_point}/{own}"
        if directory not in group["directories"]:
            group["directories"].append(directory)
        if directory not in group["join"]:
            group["join"].append(directory)
        above = own.split("/")[:-1]
        for depth in range(1, len(above) + 1):
            shared = f"{hierarchy.mount_point}/{'/'.join(above[:depth])}"
            if shared not in group["parents"]:
                group["parents"].append(shared)


# --- the document ----------------------------------------------------------------------------


def _document(spec: RuntimeSpec, home: Path, group: str, staged: list[int]) -> dict[str, Any]:
    kinds = spec.namespace_types()
    sysctl = dict(spec.sysctl)
    if spec.domainname and "uts" in kinds:
        sysctl["kernel.domainname"] = spec.domainname  # runc knows no other word for it
    seccomp = seccomp_document(spec.seccomp, spec.process.capabilities.bounding)
    rules = spec.resources.devices or (DeviceRule(allow=True),)
    bundle = spec.evolve(
        process=_process(spec.process, reaper=_wants_reaper(spec)),
        root_path=str(home / "rootfs"),
        hostname=spec.hostname if "uts" in kinds else "",
        domainname="",
        mounts=(*_mounts(spec, home, staged),),
        namespaces=tuple(
            Namespace(n.type, _source(home, f"ns-{n.type}") if n.path else "")
            for n in spec.namespaces
            if n.type != "user"
        ),
        seccomp=None,
        readonly_paths=(*spec.readonly_paths, *_left_writable(spec)),
        sysctl=sysctl,
        # The monitor sets the limits; only what devices there are is the runtime's, too.
        resources=Resources(devices=rules),
        cgroups_path=group and f"/{group}",
    ).to_json()
    if seccomp is not None:
        bundle["linux"]["seccomp"] = seccomp
    if propagation := _propagation(spec):
        bundle["linux"]["rootfsPropagation"] = propagation
    return bundle


def _left_writable(spec: RuntimeSpec) -> list[str]:
    """Of control groups that are mounted read-only runtimes leave the top writable, a tmpfs.

    crun has to be let: what it is told to make read-only twice it leaves writable altogether.
    """
    if spec.annotations[RUNTIME] != "runc":
        return []
    return [m.destination for m in spec.mounts if m.type == "cgroup" and "ro" in m.options]


def _propagation(spec: RuntimeSpec) -> str:
    """How all of the container's mounts hang together with the host's, for some of them to do so."""
    options = {option for entry in spec.mounts for option in entry.options}
    if {"shared", "rshared"} & options:
        return "shared"
    return "rslave" if {"slave", "rslave"} & options else ""


def _wants_reaper(spec: RuntimeSpec) -> bool:
    return spec.annotations.get(REAPER) == "true"


def _mounts(spec: RuntimeSpec, home: Path, staged: list[int]) -> list[Mount]:
    mounts = []
    numbers = iter(staged)
    for entry in spec.mounts:
        if _is_special(entry):
            source = _source(home, str(next(numbers)))
            mounts.append(Mount(entry.destination, "bind", source, entry.options))
        elif entry.type == "devpts" and is_rootless():  # whose group is none of the user's
            options = tuple(o for o in entry.options if not o.startswith("gid="))
            mounts.append(evolve(entry, options=options))
        else:
            mounts.append(entry)
    if _wants_reaper(spec):
        mounts.append(Mount(_REAPER_PLACE, "bind", _reaper() or "", ("bind", "ro")))
    return mounts


def _is_special(entry: Mount) -> bool:
    """Whether runtimes cannot be told, or do not understand alike, what a bind shows.

    That is mounted before, and they are told where.
    """
    options = set(entry.options)
    return (entry.type == "bind" or bool({"bind", "rbind"} & options)) and bool(
        entry.uid_mappings
        or entry.gid_mappings
        or {SUBPATH, OWNER} & entry.extra.keys()
        or {"shared", "rshared", "slave", "rslave"} & options
        or not _is_recursive(entry)
    )


def _is_recursive(entry: Mount) -> bool:
    """Whether what is mounted below comes along; crun has it come always."""
    return "bind" not in entry.options or "rbind" in entry.options


def _is_staged(entry: dict[str, Any]) -> bool:
    """`_is_special` of what a plan has of it."""
    return entry["kind"] == "bind" and bool(
        entry["id_map"]
        or entry["subpath"]
        or entry["owner"]
        or entry["propagation"] in (mount.MS_SHARED, mount.MS_SLAVE)
        or not entry["recursive"]
    )


def _source(home: Path, name: str) -> str:
    return str(home / DIRECTORY / "sources" / name)


def _process(process: Process, *, reaper: bool) -> Process:
    """The process, with what the kernel would refuse made less: runtimes give up there."""
    may_raise = _may_raise()
    score = process.oom_score_adj
    if score is not None and not may_raise:
        score = max(score, int(Path("/proc/self/oom_score_adj").read_text()))
    user = process.user if process.user.umask is not None else evolve(process.user, umask=_UMASK)
    return evolve(
        process,
        args=(_REAPER_PLACE, "--", *process.args) if reaper else process.args,
        user=user,
        oom_score_adj=score,
        rlimits=tuple(
            limit
            if may_raise
            else _lowered(limit, resource.getrlimit(getattr(resource, limit.type)))
            for limit in process.rlimits
        ),
    )


def _lowered(limit: Rlimit, present: tuple[int, int]) -> Rlimit:
    most = present[1]
    if most == resource.RLIM_INFINITY:
        return limit
    hard = min(limit.hard, most)
    return evolve(limit, soft=min(limit.soft, hard), hard=hard)


def _may_raise() -> bool:
    """Whether this program has CAP_SYS_RESOURCE, and not only in a user namespace to come."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(effective & capability.mask(("CAP_SYS_RESOURCE",)))
