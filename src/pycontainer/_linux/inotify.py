"""Waiting for changes of files (inotify(7))."""

from __future__ import annotations

import ctypes
import os

from pycontainer._linux._syscall import encode, libc

__all__ = ["CREATED", "MODIFIED", "MOVED_TO", "watch"]

MODIFIED = 0x2
MOVED_TO = 0x80
CREATED = 0x100

_add = libc.inotify_add_watch
_add.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]


def watch(path: str | bytes, events: int) -> int:
    """Return a non-blocking descriptor that becomes readable when one of `events` happens to `path`."""
    fd: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "inotify")
    if _add(fd, encode(path), events) < 0:
        code = ctypes.get_errno()
        os.close(fd)
        raise OSError(code, os.strerror(code), str(path))
    return fd
