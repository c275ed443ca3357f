"""Installing system call filters (seccomp(2))."""

from __future__ import annotations

import ctypes

from pycontainer._linux._syscall import NUMBERS, syscall

__all__ = ["install_filter"]

_SECCOMP_SET_MODE_FILTER = 1
_INSTRUCTION = 8


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install_filter(program: bytes, flags: int = 0) -> None:
    """Put this thread under a classic BPF program; needs CAP_SYS_ADMIN or no_new_privs.

    Args:
        program: The instructions.
        flags: ``SECCOMP_FILTER_FLAG_*`` bits.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    argument = _Program(len(program) // _INSTRUCTION, ctypes.addressof(buffer))
    syscall(
        NUMBERS["seccomp"],
        _SECCOMP_SET_MODE_FILTER,
        flags,
        ctypes.addressof(argument),
        what="seccomp",
    )
