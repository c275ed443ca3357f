"""Namespaces of others that a container joins in place of new ones (setns(2))."""

from __future__ import annotations

import _signal
import errno
import os

from pycontainer._linux import mount, process
from pycontainer.runtime._inside import files

__all__ = [
    "borrow_mount",
    "close_id_maps",
    "join",
    "join_for_children",
    "make_id_maps",
    "make_user_namespace",
    "open_namespaces",
]

# The first gives the rights to join the others; that of processes counts for children only.
_ORDER = ("user", "network", "ipc", "uts", "cgroup")


def open_namespaces(joined: object) -> dict[str, int]:
    """Open the namespaces to join, and make sure that they are still those that were meant.

    Args:
        joined: Of a plan: kind, path, pid and start time of whose it is; pid 0 for any.

    Raises:
        OSError: There is none (any more).
    """
    assert isinstance(joined, list)
    found: dict[str, int] = {}
    try:
        for kind, path, pid, begun in joined:
            found[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            _make_sure(pid, begun)
    except BaseException:
        for fd in found.values():
            os.close(fd)
        raise
    return found


def join_for_children(namespaces: dict[str, int]) -> None:
    """Have the next children of this process be born in the process namespace among them."""
    if "pid" in namespaces:
        process.setns(namespaces["pid"], process.NAMESPACE_FLAGS["pid"])


def join(namespaces: dict[str, int]) -> None:
    """Enter the others, and close all."""
    for kind in _ORDER:
        if kind in namespaces:
            process.setns(namespaces[kind], process.NAMESPACE_FLAGS[kind])
    for fd in namespaces.values():
        os.close(fd)


def make_id_maps(maps: object, user: object = None) -> None:
    """Make a user namespace for each, which idmapped mounts take their mapping from.

    Args:
        maps: Of a plan: each has ``uid_map`` and ``gid_map``, and gets ``fd``.
        user: The container's own, likewise, which serves those with the same maps.
    """
    assert isinstance(maps, list)
    made: dict[tuple[str, str], int] = {}
    if isinstance(user, dict):
        made[user["uid_map"], user["gid_map"]] = user["fd"]
    for entry in maps:
        key = entry["uid_map"], entry["gid_map"]
        if key not in made:
            made[key] = make_user_namespace(*key)
        entry["fd"] = made[key]


def close_id_maps(maps: object, user: object = None) -> None:
    """Close what `make_id_maps` was given and made: the mounts keep what they need."""
    assert isinstance(maps, list)
    fds = {entry["fd"] for entry in maps}
    if isinstance(user, dict):
        fds.add(user["fd"])
    for fd in fds:
        os.close(fd)


def make_user_namespace(uid_map: str, gid_map: str) -> int:
    """A user namespace with these maps (user_namespaces(7)); no process stays in it."""
    pid, pidfd = process.clone3(process.NAMESPACE_FLAGS["user"])
    if pid == 0:
        try:
            while True:
                _signal.pause()
        finally:
            os._exit(0)
    try:
        files.write_to(f"/proc/{pid}/uid_map", uid_map)
        files.write_to(f"/proc/{pid}/gid_map", gid_map)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        process.kill_by_pidfd(pidfd, _signal.SIGKILL)
        os.close(pidfd)
        os.waitpid(pid, 0)


def borrow_mount(path: str, owner: object) -> int:
    """Clone what is mounted at a path of another container; give the detached mount.

    Args:
        path: Where, in that container.
        owner: Its first process: pid and start time.

    Raises:
        OSError: It has ended, or nothing is there.
    """
    assert isinstance(owner, list)
    pid, begun = owner
    own = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    other = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _make_sure(pid, begun)
        process.setns(other, process.NAMESPACE_FLAGS["mount"])
        try:
            return mount.bind(path)
        finally:
            process.setns(own, process.NAMESPACE_FLAGS["mount"])
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(here)
    finally:
        for fd in (own, here, root, other):
            os.close(fd)


def _make_sure(pid: int, begun: int) -> None:
    """The number may be another process's by now; its start time would be another too."""
    if pid and process.start_time(pid) != begun:
        raise OSError(errno.ESRCH, "the container whose namespace was to be joined has ended")
