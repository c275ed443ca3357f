"""What is made ahead of a container's start: namespaces, and file systems that depend on no more than those.

The zygote keeps one set for the next container. Namespaces are used by each that wants all of them
for itself: a new network namespace alone takes the kernel a third of a millisecond. Those of the other
kinds depend on the container, or on init's place in the tree of processes. File systems are made as
the last container wanted them, as detached mounts, and used by one that wants just the same: most
containers have the same ``/dev`` and ``/sys``.
"""

from __future__ import annotations

import os

from pycontainer._linux import loopback, mount, process
from pycontainer.runtime._inside.devices import make_node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "FLAGS",
    "NOTHING",
    "Made",
    "Recipe",
    "clone3",
    "let_go",
    "make",
    "recipe_of",
    "rehearse",
]

_KINDS = {"network": "net", "ipc": "ipc", "uts": "uts"}
_FILE_SYSTEMS = ("tmpfs", "devpts", "mqueue", "sysfs")  # proc shows the processes of who mounts it
_DEVICES = "/dev"

FLAGS = sum(process.NAMESPACE_FLAGS[kind] for kind in _KINDS)
"""What is made ahead, as CLONE_NEW* flags."""

Recipe = list[object]
"""Which file systems to make: mounts, devices and links, as a plan has them."""


class Made:
    """What is there for one container.

    Attributes:
        namespaces: Descriptors, in which the loopback interface is up; empty where there are none.
        recipe: What the file systems were made by.
        trees: Descriptors of detached mounts, by where they belong.
    """

    def __init__(self, namespaces: list[int], recipe: Recipe, trees: dict[str, int]) -> None:
        self.namespaces = namespaces
        self.recipe = recipe
        self.trees = trees

    def without_trees(self) -> Made:
        """The namespaces alone, where the container wants other file systems."""
        _close(self.trees.values())
        return Made(self.namespaces, [], {})


NOTHING = Made([], [], {})


def recipe_of(plan: dict[str, object]) -> Recipe:
    """What a container wants that could have been made before it."""
    mounts = plan["mounts"]
    assert isinstance(mounts, list)
    wanted = [entry for entry in mounts if entry["kind"] in _FILE_SYSTEMS]
    return [wanted, plan["devices"], plan["links"]]


def make(recipe: Recipe) -> Made:
    """Make new namespaces, and file systems in them; this process stays in its own.

    Args:
        recipe: Of the file systems; empty for none.

    Returns:
        Nothing where that is not possible: who lives in a user namespace may not come back to the host's.
    """
    own = _open()
    try:
        try:
            _enter(own)
            process.unshare(FLAGS)
        except OSError:
            return NOTHING
        made = Made(_open(), recipe if _is_plain(recipe) else [], {})
        try:
            loopback.up()
            if made.recipe:
                _make_trees(made)
        except OSError:  # the container's own attempt will say why
            made = made.without_trees()
        _enter(own)
        return made
    finally:
        _close(own)


def _is_plain(recipe: Recipe) -> bool:
    """Whether all devices and links are right in ``/dev``, as nearly always."""
    if not recipe:
        return False
    _, devices, links = recipe
    assert isinstance(devices, list)
    assert isinstance(links, list)
    paths = [device["path"] for device in devices] + [path for _, path in links]
    return {os.path.dirname(path) for path in paths} == {_DEVICES}


def _make_trees(made: Made) -> None:
    mounts, devices, links = made.recipe
    assert isinstance(mounts, list)
    for entry in mounts:
        tree = mount.filesystem(entry["kind"], entry["attributes"], tuple(entry["options"]))
        made.trees[entry["target"]] = tree
    if (place := made.trees.get(_DEVICES)) is None:
        return
    for path in made.trees:
        above, name = os.path.split(path)
        if above == _DEVICES:
            os.mkdir(name, 0o755, dir_fd=place)
    assert isinstance(devices, list)
    assert isinstance(links, list)
    for device in devices:
        make_node(place, device["path"].removeprefix(f"{_DEVICES}/"), device)
    for target, path in links:
        os.symlink(target, path.removeprefix(f"{_DEVICES}/"), dir_fd=place)


def clone3(flags: int, made: Made, *, cgroup: int) -> tuple[int, int]:
    """As `process.clone3`, but the child is born in namespaces made ahead, where there are some."""
    if not made.namespaces:
        return process.clone3(flags, cgroup=cgroup)
    own = _open()
    _enter(made.namespaces)
    try:
        pid, pidfd = process.clone3(flags & ~FLAGS, cgroup=cgroup)
    except OSError:
        _enter(own)
        raise
    if pid:
        _enter(own)
        _close(own)
        let_go(made)
    return pid, pidfd


def rehearse() -> None:
    """Do what `clone3` does around the clone, in the namespaces that this process is in."""
    own = _open()
    try:
        _enter(own)
    except OSError:  # who lives in a user namespace may not
        pass
    _close(own)


def let_go(made: Made) -> None:
    """Close the descriptors; the namespaces live as long as processes are in them."""
    _close(made.namespaces)
    _close(made.trees.values())
    made.namespaces, made.trees = [], {}


def _close(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _enter(namespaces: list[int]) -> None:
    for fd in namespaces:
        process.setns(fd, 0)


def _open() -> list[int]:
    return [
        os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in _KINDS.values()
    ]
