"""Planning a container's control groups: what to create, write, join and remove, as data.

One code path serves v1, v2 and both together (hybrid): each controller has its directory, wherever
it is mounted; kill, freeze and the device filter use the v2 directory where there is one. Nothing is
written here; `pycontainer.runtime._inside.cgroup` executes the plan in the monitor.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from pycontainer.errors import UnsupportedFeature
from pycontainer.runtime._cgroup_limits import Limit, Write, limits
from pycontainer.runtime._device_filter import DEFAULT_DEVICE_RULES, device_program, v1_writes
from pycontainer.runtime._hierarchies import Hierarchies, Hierarchy, discover

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pycontainer.oci.runtime import DeviceRule, Resources

__all__ = [
    "DEFAULT_DEVICE_RULES",
    "CgroupPlan",
    "Hierarchies",
    "Hierarchy",
    "Write",
    "discover",
    "plan",
]

_SYSTEMD = "name=systemd"


@frozen
class CgroupPlan:
    """What to do for one container; without directories where nothing is needed or permitted.

    Attributes:
        parents: Directories that all containers share, from above; made on demand, removed when
            empty.
        directories: The container's own directories.
        writes: Files to write, in order, once the directories exist.
        v2: The directory in the v2 hierarchy to clone init into, or empty.
        join: Directories in v1 hierarchies that init joins.
        freezer: The directory by which the container is killed and frozen: `v2`, or one of v1's.
        oom: The file that counts the processes killed for lack of memory, or empty.
        device_program: The eBPF program to attach to `v2`, or empty.
        mounts: What to mount in the container's ``/sys/fs/cgroup``: name there, type, flags.
        delegated: Names of those that the container may write to.
    """

    parents: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    writes: tuple[Write, ...] = ()
    v2: str = ""
    join: tuple[str, ...] = ()
    freezer: str = ""
    oom: str = ""
    device_program: bytes = b""
    mounts: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    delegated: tuple[str, ...] = ()

    def to_wire(self) -> dict[str, object]:
        """The plan as plain values for the monitor; empty when there is nothing to do."""
        if not self.directories:
            return {}
        return {
            "parents": list(self.parents),
            "directories": list(self.directories),
            "writes": [[write.path, write.data, write.required] for write in self.writes],
            "v2": self.v2,
            "join": list(self.join),
            "freezer": self.freezer,
            "oom": self.oom,
            "device_program": self.device_program,
        }


def plan(
    container_id: str,
    resources: Resources,
    *,
    hierarchies: Hierarchies | None = None,
    parent: str = "pycontainer",
    delegate: bool = False,
    lift: bool = False,
) -> CgroupPlan:
    """Plan a container's control groups; looks at what exists and is permitted, changes nothing.

    Only what is needed is planned: the v2 directory where there is one, and v1 controllers where a
    limit asks for them.

    Args:
        container_id: Names the container's directories.
        resources: Limits and device rules. Without rules there is no device filter. An ordinary
            user's rules are left out: such containers can open no device that is not given to them,
            nor make nodes.
        hierarchies: The machine's hierarchies; found out when left out.
        parent: Where the directories are made, beneath the topmost group that the caller may use.
        delegate: Whether the container gets groups that it may divide itself, as systemd does: in the
            v2 hierarchy and in that of v1 that is named after it.
        lift: Whether limits of -1 are written as well: the container has others now.

    Raises:
        UnsupportedFeature: A limit was asked for that this machine or user cannot set.
        SpecError: The limits contradict each other, or a device rule is none.
    """
    if not container_id or "/" in container_id or container_id in (".", ".."):
        raise ValueError(f"{container_id!r} cannot name a control group")
    found = discover() if hierarchies is None else hierarchies
    draft = _Draft(parent.strip("/"), container_id)
    wanted = limits(resources, lift=lift)
    _place_v2(draft, found, [limit for limit in wanted if limit.controller not in found.v1])
    for limit in wanted:
        if limit.controller in found.v1:
            _place_v1(draft, found.v1[limit.controller], limit)
    if not draft.v2:
        _place_freezer(draft, found)
    if delegate:
        _delegate(draft, found)
    if resources.devices and found.privileged:
        _filter_devices(draft, found, resources.devices)
    return draft.finish(found)


@define
class _Draft:
    """A plan in the making."""

    parent: str
    name: str
    v2: str = ""
    freezer: str = ""
    oom: str = ""
    device_program: bytes = b""
    # Dictionaries for their order without repetition.
    parents: dict[str, None] = field(factory=dict)
    directories: dict[str, None] = field(factory=dict)
    joined: dict[str, Hierarchy] = field(factory=dict)
    delegated: list[str] = field(factory=list)
    writes: list[Write] = field(factory=list)

    def shared(self, base: str) -> list[str]:
        """The directories of all containers beneath a base, from above."""
        names = self.parent.split("/")
        return [f"{base}/{'/'.join(names[: i + 1])}" for i in range(len(names))]

    def add(self, base: str) -> str:
        """Plan the container's directory beneath a base."""
        directory = f"{base}/{self.parent}/{self.name}"
        self.parents |= dict.fromkeys(self.shared(base))
        self.directories[directory] = None
        return directory

    def write(self, directory: str, writes: Iterable[Write]) -> None:
        """Plan to write files of a directory."""
        self.writes += [
            Write(f"{directory}/{write.path}", write.data, write.required) for write in writes
        ]

    def finish(self, found: Hierarchies) -> CgroupPlan:
        """The plan, with what the container gets to see of it."""
        mounts = list[tuple[str, str, tuple[str, ...]]]()
        if found.v2 is not None and not found.v1:
            mounts = [("", "cgroup2", ())]
        elif found.v2 is not None and self.v2:
            mounts = [(os.path.basename(found.v2.mount_point), "cgroup2", ())]
        for hierarchy in dict.fromkeys(self.joined.values()):
            name = os.path.basename(hierarchy.mount_point)
            mounts.append((name, "cgroup", hierarchy.controllers))
        return CgroupPlan(
            parents=tuple(self.parents),
            directories=tuple(self.directories),
            writes=tuple(self.writes),
            v2=self.v2,
            join=tuple(self.joined),
            freezer=self.freezer,
            oom=self.oom,
            device_program=self.device_program,
            mounts=tuple(mounts),
            delegated=tuple(self.delegated),
        )


# --- v2 --------------------------------------------------------------------------------------


def _place_v2(draft: _Draft, found: Hierarchies, wanted: Sequence[Limit]) -> None:
    """Plan the directory in the v2 hierarchy, with the limits that are set there."""
    if found.v2 is None:
        if wanted:
            raise _missing(wanted[0], found)
        return
    base = _base(found.v2)
    if base is None:
        if wanted:
            raise _undelegated(wanted[0], found.v2)
        return
    for limit in wanted:
        if not limit.v2:
            raise UnsupportedFeature(
                limit.feature,
                f"only control groups v1 have it, and the controller {limit.controller} is in v2 here",
                remedy="leave it out",
            )
    enabled = _enable(draft, found, base, wanted)
    draft.v2 = draft.freezer = draft.add(base)
    draft.writes += enabled
    for limit in wanted:
        draft.write(draft.v2, limit.v2)
        if limit.controller == "memory":
            draft.oom = f"{draft.v2}/memory.events"


def _enable(draft: _Draft, found: Hierarchies, base: str, wanted: Sequence[Limit]) -> list[Write]:
    """The writes that hand controllers down from the base to the container's directory."""
    if not wanted:
        return []
    available = _words(f"{base}/cgroup.controllers")
    for limit in wanted:
        if limit.in_v2 not in available:
            raise _not_handed_down(limit, found, base)
    names = list(dict.fromkeys(limit.in_v2 for limit in wanted))
    missing = [name for name in names if name not in _words(f"{base}/cgroup.subtree_control")]
    if missing and _is_occupied(base):
        raise UnsupportedFeature(
            wanted[0].feature,
            f"the control group {base} has processes of its own, and so cannot hand the controllers "
            f"{', '.join(missing)} down (cgroups(7), no internal processes)",
            remedy="start the program in a group beneath a delegated one, such as with systemd's "
            "DelegateSubgroup=, or move its processes into one before",
        )
    writes = [_enabling(base, missing)] if missing else []
    return writes + [_enabling(directory, names) for directory in draft.shared(base)]


def _enabling(directory: str, controllers: Sequence[str]) -> Write:
    return Write(
        f"{directory}/cgroup.subtree_control", " ".join(f"+{name}" for name in controllers)
    )


def _is_occupied(base: str) -> bool:
    # Only the real root, which has no type, may have processes beside groups with controllers.
    return os.path.exists(f"{base}/cgroup.type") and bool(_words(f"{base}/cgroup.procs"))


# --- v1 --------------------------------------------------------------------------------------


def _place_v1(draft: _Draft, hierarchy: Hierarchy, limit: Limit) -> None:
    """Plan the directory of a v1 controller, with the limit that is set there."""
    base = _base(hierarchy)
    if base is None:
        raise _undelegated(limit, hierarchy)
    directory = draft.add(base)
    draft.joined[directory] = hierarchy
    if limit.controller == "cpuset":
        _fill_cpusets(draft, base, directory)
    draft.write(directory, limit.v1)
    if limit.controller == "memory":
        draft.oom = f"{directory}/memory.oom_control"


def _fill_cpusets(draft: _Draft, base: str, directory: str) -> None:
    """Give new groups CPUs and memory nodes; a group without takes no processes (cpuset(7))."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        value = " ".join(_words(f"{base}/{name}"))
        for group in (*draft.shared(base), directory):
            draft.write(group, [Write(name, value)])


def _place_freezer(draft: _Draft, found: Hierarchies) -> None:
    """Plan the group by which the container is killed where there is no v2."""
    hierarchy = found.v1.get("freezer")
    base = _base(hierarchy) if hierarchy is not None else None
    if hierarchy is not None and base is not None:
        draft.freezer = draft.add(base)
        draft.joined[draft.freezer] = hierarchy
    elif draft.joined:
        draft.freezer = next(iter(draft.joined))


def _filter_devices(draft: _Draft, found: Hierarchies, rules: Sequence[DeviceRule]) -> None:
    if draft.v2:
        draft.device_program = device_program(rules)
        return
    hierarchy = found.v1.get("devices")
    base = _base(hierarchy) if hierarchy is not None else None
    if hierarchy is not None and base is not None:
        directory = draft.add(base)
        draft.joined[directory] = hierarchy
        draft.write(directory, [Write(name, text) for name, text in v1_writes(rules)])


def _delegate(draft: _Draft, found: Hierarchies) -> None:
    """Plan groups that the container may write to."""
    if draft.v2 and found.v2 is not None:
        draft.delegated.append(os.path.basename(found.v2.mount_point) if found.v1 else "")
    hierarchy = found.named.get(_SYSTEMD)
    base = _base(hierarchy) if hierarchy is not None else None
    if hierarchy is not None and base is not None:
        draft.joined[draft.add(base)] = hierarchy
        draft.delegated.append(os.path.basename(hierarchy.mount_point))
    if not draft.delegated:
        raise UnsupportedFeature(
            "a system container",
            "there is no control group here that systemd could divide: neither one of v2 nor the "
            f"hierarchy {_SYSTEMD}",
            remedy="mount cgroup2, or `mount -t cgroup -o none,name=systemd`, or run as root",
        )


# --- what is permitted -----------------------------------------------------------------------


def _base(hierarchy: Hierarchy) -> str | None:
    """The topmost group, on the way to the caller's own, in which the caller may make groups.

    To move a process takes write access to the nearest group above both ends, too (cgroups(7)), so
    groups elsewhere are of no use to an ordinary user.
    """
    for directory in hierarchy.ancestors():
        if os.access(directory, os.W_OK | os.X_OK, effective_ids=True) and os.access(
            f"{directory}/cgroup.procs", os.W_OK, effective_ids=True
        ):
            return directory
    return None


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def _missing(limit: Limit, found: Hierarchies) -> UnsupportedFeature:
    there = sorted({*found.v1, *found.v2_controllers})
    return UnsupportedFeature(
        limit.feature,
        f"no control group hierarchy with the controller {limit.controller} is mounted "
        f"(there is {', '.join(there) or 'none'})",
        remedy=f"boot the kernel with cgroup_enable={limit.controller}, or mount the hierarchy",
    )


def _not_handed_down(limit: Limit, found: Hierarchies, base: str) -> UnsupportedFeature:
    if limit.in_v2 not in found.v2_controllers:
        return _missing(limit, found)
    return UnsupportedFeature(
        limit.feature,
        f"the controller {limit.in_v2} is not delegated to the control group {base}",
        remedy=f"have root put `[Service]` and `Delegate={limit.in_v2}` with the others into a "
        "drop-in of user@.service, and log in again; or run the program as root",
    )


def _undelegated(limit: Limit, hierarchy: Hierarchy) -> UnsupportedFeature:
    return UnsupportedFeature(
        limit.feature,
        f"neither the control group {hierarchy.own} nor one above it may be written to by this user",
        remedy="start the program by `systemd-run --user --scope -p Delegate=yes`, or as root",
    )
