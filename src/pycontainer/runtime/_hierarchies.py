"""Which control group hierarchies this machine has mounted, and where in them the caller is."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Hierarchies", "Hierarchy", "discover"]

# Mount options of a v1 hierarchy that name no controller.
_OTHER_OPTIONS = frozenset(
    "rw ro xattr noprefix clone_children cpuset_v2_mode favordynmods nofavordynmods".split()  # noqa: SIM905
)
_INITIAL_NAMESPACE = ["0", "0", "4294967295"]


@frozen
class Hierarchy:
    """A mounted hierarchy.

    Attributes:
        mount_point: Its root as far as it can be seen.
        own: The directory of the caller's group in it.
        controllers: The controllers of a v1 hierarchy, as it was mounted with them.
    """

    mount_point: str
    own: str
    controllers: tuple[str, ...] = ()

    def ancestors(self) -> Iterator[str]:
        """The directories from the mount point down to the caller's group."""
        yield self.mount_point
        path = self.mount_point
        for name in self.own.removeprefix(self.mount_point).split("/"):
            if name:
                path = f"{path}/{name}"
                yield path


@frozen
class Hierarchies:
    """All mounted hierarchies: only `v1` on an old machine, only `v2` on a new one, else hybrid.

    Attributes:
        v1: The v1 hierarchies, by controller.
        v2: The v2 hierarchy.
        v2_controllers: The controllers that v2 has at its mount point.
        privileged: Whether the caller may install device filters.
        named: The v1 hierarchies without a controller, such as ``name=systemd``.
    """

    v1: Mapping[str, Hierarchy] = field(factory=dict)
    v2: Hierarchy | None = None
    v2_controllers: frozenset[str] = frozenset()
    privileged: bool = False
    named: Mapping[str, Hierarchy] = field(factory=dict)

    @classmethod
    def parse(
        cls, mountinfo: str, cgroup: str, *, v2_controllers: str = "", privileged: bool = False
    ) -> Hierarchies:
        """Make it of the texts of the files that `discover` reads."""
        groups = dict[str, str]()
        for line in cgroup.splitlines():
            _, controllers, path = line.split(":", 2)
            groups |= dict.fromkeys(controllers.split(","), path)
        v1: dict[str, Hierarchy] = {}
        named: dict[str, Hierarchy] = {}
        v2 = None
        for root, point, kind, options in _mounts(mountinfo):
            if kind == "cgroup2" and v2 is None:
                v2 = Hierarchy(point, _directory(point, root, groups.get("", "/")))
            elif kind == "cgroup":
                names = tuple(o for o in options if o not in _OTHER_OPTIONS and "=" not in o)
                for name in names:
                    own = _directory(point, root, groups.get(name, "/"))
                    v1.setdefault(name, Hierarchy(point, own, names))
                for name in (o for o in options if o.startswith("name=")):
                    own = _directory(point, root, groups.get(name, "/"))
                    named.setdefault(name, Hierarchy(point, own, (name,)))
        in_v2 = frozenset(v2_controllers.split()) if v2 else frozenset[str]()
        return cls(v1, v2, in_v2, privileged, named)


def discover() -> Hierarchies:
    """Look at this machine."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mountinfo = file.read()
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            cgroup = file.read()
    except FileNotFoundError:  # a kernel without control groups
        cgroup = ""
    found = Hierarchies.parse(mountinfo, cgroup, privileged=_is_privileged())
    if found.v2 is None:
        return found
    return Hierarchies(
        found.v1,
        found.v2,
        frozenset(_read(f"{found.v2.mount_point}/cgroup.controllers").split()),
        found.privileged,
        found.named,
    )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _is_privileged() -> bool:
    """Whether the caller is root, and not only so in a user namespace."""
    return os.geteuid() == 0 and _read("/proc/self/uid_map").split() == _INITIAL_NAMESPACE


def _mounts(mountinfo: str) -> Iterator[tuple[str, str, str, list[str]]]:
    """Root, mount point, type and super block options of each control group mount."""
    for line in mountinfo.splitlines():
        # proc_pid_mountinfo(5): a varying number of fields ends with a lone hyphen.
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup"):
            fields, (kind, _, options) = before.split(" "), after.split(" ", 2)
            yield _unescape(fields[3]), _unescape(fields[4]), kind, options.split(",")


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _directory(point: str, root: str, group: str) -> str:
    """The directory of a group beneath a mount point that shows the hierarchy from `root` on."""
    if root != "/":
        if group != root and not group.startswith(f"{root}/"):
            return point  # out of sight
        group = group.removeprefix(root)
    # A group outside the control group namespace begins with /..
    return point if group.startswith("/..") else point + group.rstrip("/")
