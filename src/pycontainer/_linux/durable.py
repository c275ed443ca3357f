"""What survives when the power goes: which boot this is, and writing out files and file systems."""

from __future__ import annotations

import os
from functools import cache
from typing import Final

__all__ = ["begin_writing_out", "boot_id", "sync_file_system"]

_SYNC_FILE_RANGE_WRITE: Final = 2


@cache
def boot_id() -> str:
    """Names the time since the machine was started (random(4)); empty where no kernel tells."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def begin_writing_out(fd: int, offset: int = 0, size: int = 0) -> None:
    """Have the kernel begin to write out what of a file is dirty (sync_file_range(2)), and not wait for it.

    A sync is needed nevertheless, and takes less time then. Where it does not work nothing happens.

    Args:
        fd: The file.
        offset: Where the range begins.
        size: Its bytes; 0 for all that follow.
    """
    # Only here: importing ctypes takes longer than most programs' use of a store.
    from ctypes import c_int, c_int64, c_uint

    from pycontainer._linux._syscall import libc

    if hasattr(libc, "sync_file_range"):
        libc.sync_file_range(
            c_int(fd), c_int64(offset), c_int64(size), c_uint(_SYNC_FILE_RANGE_WRITE)
        )


def sync_file_system(path: str | os.PathLike[str]) -> None:
    """Write out all that was written before to the file system of a directory (syncfs(2)).

    Raises:
        OSError: The disk failed, or there is no such directory.
    """
    # Only here: importing ctypes takes longer than most programs' use of a store.
    from ctypes import get_errno

    from pycontainer._linux._syscall import libc

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not hasattr(libc, "syncfs"):
            os.sync()
        elif libc.syncfs(fd):
            code = get_errno()
            raise OSError(code, os.strerror(code), os.fspath(path))
    finally:
        os.close(fd)
