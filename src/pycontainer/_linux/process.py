"""Making and steering processes: clone3(2), namespaces, pidfds, prctl(2)."""

from __future__ import annotations

import ctypes
import os

from pycontainer._linux._syscall import NUMBERS, syscall

__all__ = [
    "CLONE_PIDFD",
    "NAMESPACE_FLAGS",
    "clone3",
    "close_on_exec_from",
    "kill_by_pidfd",
    "set_child_subreaper",
    "set_dumpable",
    "set_filesystem_ids",
    "set_groups",
    "set_hostname",
    "set_ids",
    "set_keep_capabilities",
    "set_name",
    "set_no_new_privileges",
    "set_parent_death_signal",
    "setns",
    "start_time",
    "unshare",
]

CLONE_PIDFD = 0x1000
_CLONE_PARENT = 0x8000
_CLONE_INTO_CGROUP = 0x2_0000_0000
NAMESPACE_FLAGS = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
"""CLONE_NEW* by the runtime specification's names of the namespaces."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CLOSE_RANGE_CLOEXEC = 4
_SIGCHLD = 17
_STAT_START_TIME = 19  # field 22 of proc_pid_stat(5), counted from behind the command's name


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


# PyDLL keeps the interpreter's lock over the call: the child then owns it and may go on in Python.
_clone3 = ctypes.PyDLL(None, use_errno=True).syscall
_clone3.restype = ctypes.c_long
_clone3.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def clone3(flags: int, *, cgroup: int = -1, sibling: bool = False) -> tuple[int, int]:
    """Make a child; returns in both, like fork.

    Only for single-threaded processes: another thread's locks would stay held in the child.

    Args:
        flags: CLONE_NEW* flags.
        cgroup: Descriptor of a v2 cgroup directory the child is born into, or -1.
        sibling: Whether it is to be the child of this process's parent, who is told of its end as of
            this process's.

    Returns:
        In the parent the child's pid and a pidfd of it (close-on-exec); in the child (0, -1).
    """
    pidfd = ctypes.c_int(-1)
    args = _CloneArgs(
        flags=flags | CLONE_PIDFD | (_CLONE_PARENT if sibling else 0),
        pidfd=ctypes.addressof(pidfd),
        exit_signal=0 if sibling else _SIGCHLD,
    )
    if cgroup >= 0:
        args.flags |= _CLONE_INTO_CGROUP
        args.cgroup = cgroup
    pid: int = _clone3(NUMBERS["clone3"], ctypes.addressof(args), ctypes.sizeof(args))
    if pid < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"clone3 {flags:#x}")
    return pid, pidfd.value if pid else -1


def unshare(flags: int) -> None:
    """Leave namespaces for new ones (unshare(2))."""
    syscall(NUMBERS["unshare"], flags, what=f"unshare {flags:#x}")


def setns(fd: int, flags: int) -> None:
    """Join namespaces (setns(2)); with a pidfd all that `flags` name at once."""
    syscall(NUMBERS["setns"], fd, flags, what=f"setns {flags:#x}")


def kill_by_pidfd(pidfd: int, signal: int) -> None:
    """pidfd_send_signal(2): hits the process that the descriptor was opened for and no other."""
    syscall(NUMBERS["pidfd_send_signal"], pidfd, signal, None, 0, what=f"signal {signal}")


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from `first` on close-on-exec; they stay usable until then."""
    syscall(NUMBERS["close_range"], first, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC, what="close_range")


def _prctl(option: int, value: int, what: str) -> None:
    syscall(NUMBERS["prctl"], option, value, 0, 0, 0, what=what)


def set_child_subreaper(*, enabled: bool = True) -> None:
    """Become the parent of orphaned descendants, or of no more of them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(enabled), "PR_SET_CHILD_SUBREAPER")


def set_parent_death_signal(number: int) -> None:
    """Get a signal when the parent's thread that made this process ends."""
    _prctl(_PR_SET_PDEATHSIG, number, "PR_SET_PDEATHSIG")


def set_dumpable(dumpable: bool) -> None:
    """Allow or forbid other processes to trace this one and open its /proc entries."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable), "PR_SET_DUMPABLE")


def set_name(name: str) -> None:
    """Name this process for ps(1) and top(1); at most 15 bytes are kept."""
    syscall(NUMBERS["prctl"], _PR_SET_NAME, name.encode(), 0, 0, 0, what="PR_SET_NAME")


def set_keep_capabilities() -> None:
    """Keep the permitted capabilities over the change from user id 0 to another."""
    _prctl(_PR_SET_KEEPCAPS, 1, "PR_SET_KEEPCAPS")


def set_no_new_privileges() -> None:
    """No execve(2) of this process or its descendants grants privileges any more."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")


def set_hostname(name: str, domain: str = "") -> None:
    """Name this UTS namespace's host and, if given, its domain."""
    data = name.encode()
    syscall(NUMBERS["sethostname"], data, len(data), what=f"sethostname {name}")
    if domain:
        data = domain.encode()
        syscall(NUMBERS["setdomainname"], data, len(data), what=f"setdomainname {domain}")


def set_groups(groups: list[int]) -> None:
    """setgroups(2) for this thread, without glibc's signalling of the others."""
    array = (ctypes.c_uint32 * max(1, len(groups)))(*groups)
    syscall(NUMBERS["setgroups"], len(groups), ctypes.addressof(array), what="setgroups")


def set_ids(uid: int, gid: int) -> None:
    """Set real, effective and saved ids, the group first while that is still allowed."""
    syscall(NUMBERS["setresgid"], gid, gid, gid, what=f"setresgid {gid}")
    syscall(NUMBERS["setresuid"], uid, uid, uid, what=f"setresuid {uid}")


def set_filesystem_ids(uid: int, gid: int) -> None:
    """Set the ids that count for files, of this thread alone (setfsuid(2)); root may set any.

    Going away from 0 takes the capabilities that are about files out of the effective set, coming
    back puts the permitted ones in again (capabilities(7)).
    """
    syscall(NUMBERS["setfsgid"], gid, what=f"setfsgid {gid}")
    syscall(NUMBERS["setfsuid"], uid, what=f"setfsuid {uid}")


def start_time(pid: int, *, proc: int | None = None) -> int:
    """When a process started, in clock ticks since boot: with the pid it names a process for good.

    Args:
        pid: The process.
        proc: A descriptor of the /proc to look in, where that is not this process's own.

    Raises:
        FileNotFoundError: There is no such process.
    """
    path = f"/proc/{pid}/stat" if proc is None else f"{pid}/stat"
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        stat = os.read(fd, 4096)
    finally:
        os.close(fd)
    return int(stat[stat.rindex(b")") + 2 :].split()[_STAT_START_TIME])
