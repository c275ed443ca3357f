"""Device filters of v2 control groups (bpf(2))."""

from __future__ import annotations

import ctypes
import os

from pycontainer._linux._syscall import NUMBERS, syscall

__all__ = ["attach_device_program"]

_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_TYPE_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2
_INSTRUCTION = 8
_LOG_SIZE = 1 << 16
# No helper that is called for GPL programs only is called here.
_LICENSE = b"Apache-2.0"


class _Load(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("instruction_count", ctypes.c_uint32),
        ("instructions", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log", ctypes.c_uint64),
        ("kernel_version", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


class _Attach(ctypes.Structure):
    _fields_ = [
        ("target", ctypes.c_uint32),
        ("program", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


def attach_device_program(program: bytes, group: int) -> None:
    """Let an eBPF program decide on accesses to devices in a v2 control group and those below it.

    Programs of the groups above stay in force: an access must pass them all.

    Args:
        program: Its instructions.
        group: A descriptor of the group's directory.

    Raises:
        OSError: The kernel refused; where its verifier did, the message has what that said.
    """
    loaded = _load(program)
    try:
        attach = _Attach(group, loaded, _ATTACH_TYPE_CGROUP_DEVICE, _ALLOW_MULTI)
        _bpf(_PROG_ATTACH, attach, "attach a device filter")
    finally:
        os.close(loaded)  # the group keeps the program


def _load(program: bytes) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(_LICENSE)
    load = _Load(
        type=_PROG_TYPE_CGROUP_DEVICE,
        instruction_count=len(program) // _INSTRUCTION,
        instructions=ctypes.addressof(instructions),
        license=ctypes.addressof(licence),
    )
    try:
        return _bpf(_PROG_LOAD, load, "load a device filter")
    except OSError as error:
        # Only now, since writing a log takes longer than the verification.
        log = ctypes.create_string_buffer(_LOG_SIZE)
        load.log_level, load.log_size, load.log = 1, _LOG_SIZE, ctypes.addressof(log)
        try:
            return _bpf(_PROG_LOAD, load, "load a device filter")
        except OSError:
            said = "; ".join(log.value.decode("ascii", "replace").splitlines())
            if not said:
                raise
            text = f"{os.strerror(error.errno or 0)}; the verifier says: {said}"
            raise OSError(error.errno, text, error.filename) from error


def _bpf(command: int, argument: ctypes.Structure, what: str) -> int:
    return syscall(
        NUMBERS["bpf"], command, ctypes.addressof(argument), ctypes.sizeof(argument), what=what
    )
