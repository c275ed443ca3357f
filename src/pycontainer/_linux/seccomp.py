"""Installing system call filters (seccomp(2))."""

from __future__ import annotations

import ctypes

from pycontainer._linux._syscall import NUMBERS, syscall

__all__ = ["install_filter"]

_SECCOMP_SET_MODE_FILTER = 1
_INSTRUCTION = 8


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install_filter(program: bytes) -> None:
    """Put this thread under a classic BPF program; needs CAP_SYS_ADMIN or no_new_privs."""
    buffer = ctypes.create_string_buffer(program, len(program))
    argument = _Program(len(program) // _INSTRUCTION, ctypes.addressof(buffer))
    syscall(
        NUMBERS["seccomp"],
        _SECCOMP_SET_MODE_FILTER,
        0,
        ctypes.addressof(argument),
        what="seccomp",
    )
