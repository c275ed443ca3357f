"""Namespaces made ahead: a new network namespace alone takes the kernel a third of a millisecond.

The zygote keeps one set for the next container that wants all of them for itself. Those of the other
kinds depend on the container, or on init's place in the tree of processes.
"""

from __future__ import annotations

import os

from pycontainer._linux import process

__all__ = ["FLAGS", "clone3", "let_go", "make"]

_KINDS = {"network": "net", "ipc": "ipc", "uts": "uts"}

FLAGS = sum(process.NAMESPACE_FLAGS[kind] for kind in _KINDS)
"""What is made ahead, as CLONE_NEW* flags."""


def make() -> list[int]:
    """Make new namespaces, and give descriptors of them; this process stays in its own.

    Returns:
        None where that is not possible: who lives in a user namespace may not come back to the host's.
    """
    own = _open()
    try:
        try:
            _enter(own)
            process.unshare(FLAGS)
        except OSError:
            return []
        made = _open()
        _enter(own)
        return made
    finally:
        let_go(own)


def clone3(flags: int, made: list[int], *, cgroup: int) -> tuple[int, int]:
    """As `process.clone3`, but the child is born in namespaces made ahead, where there are some."""
    if not made:
        return process.clone3(flags, cgroup=cgroup)
    own = _open()
    _enter(made)
    try:
        pid, pidfd = process.clone3(flags & ~FLAGS, cgroup=cgroup)
    except OSError:
        _enter(own)
        raise
    if pid:
        _enter(own)
        let_go(own)
        let_go(made)
    return pid, pidfd


def let_go(namespaces: list[int]) -> None:
    """Close the descriptors; the namespaces live as long as processes are in them."""
    for fd in namespaces:
        os.close(fd)


def _enter(namespaces: list[int]) -> None:
    for fd in namespaces:
        process.setns(fd, 0)


def _open() -> list[int]:
    return [
        os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in _KINDS.values()
    ]
