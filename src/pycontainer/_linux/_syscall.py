"""One handle on libc and one funnel for system calls that Python does not wrap.

Imported by the zygote, so it stays within `ctypes` and `os`.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["NUMBERS", "encode", "libc", "syscall"]

# The generic table (asm-generic/unistd.h) numbers everything since 2019 alike on all machines.
_SINCE_5_1 = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}
_BY_MACHINE = {
    "x86_64": {
        "capget": 125,
        "capset": 126,
        "pivot_root": 155,
        "prctl": 157,
        "umount2": 166,
        "mount": 165,
        "sethostname": 170,
        "setdomainname": 171,
        "setgroups": 116,
        "setresuid": 117,
        "setresgid": 119,
        "setfsuid": 122,
        "setfsgid": 123,
        "keyctl": 250,
        "unshare": 272,
        "setns": 308,
        "seccomp": 317,
        "bpf": 321,
        "execveat": 322,
    },
    "aarch64": {
        "umount2": 39,
        "mount": 40,
        "pivot_root": 41,
        "capget": 90,
        "capset": 91,
        "unshare": 97,
        "setresuid": 147,
        "setresgid": 149,
        "setfsuid": 151,
        "setfsgid": 152,
        "setgroups": 159,
        "sethostname": 161,
        "setdomainname": 162,
        "prctl": 167,
        "keyctl": 219,
        "setns": 268,
        "seccomp": 277,
        "bpf": 280,
        "execveat": 281,
    },
}
NUMBERS: dict[str, int] = {**_BY_MACHINE.get(os.uname().machine, {}), **_SINCE_5_1}
"""System call numbers of this machine, by name."""

libc = ctypes.CDLL(None, use_errno=True)
_syscall = libc.syscall
_syscall.restype = ctypes.c_long
# c_void_p takes int, bytes, None and arrays alike, and passes each as one register.
_syscall.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * 6

Argument = int | bytes | None


def encode(path: str | bytes) -> bytes:
    """A path as the kernel takes it."""
    return path if isinstance(path, bytes) else os.fsencode(path)


def syscall(
    number: int,
    a: Argument = 0,
    b: Argument = 0,
    c: Argument = 0,
    d: Argument = 0,
    e: Argument = 0,
    f: Argument = 0,
    *,
    what: str = "",
) -> int:
    """Make one system call.

    Args:
        number: Its number on this machine, from `NUMBERS`.
        a: First argument; the others follow.
        b: Second argument.
        c: Third argument.
        d: Fourth argument.
        e: Fifth argument.
        f: Sixth argument.
        what: What it was for; becomes the `filename` of the error.

    Raises:
        OSError: The kernel refused.
    """
    result: int = _syscall(number, a, b, c, d, e, f)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what or f"system call {number}")
    return result
