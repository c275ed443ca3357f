"""What survives when the power goes: which boot this is, and writing out a file system."""

from __future__ import annotations

import os
from functools import cache

__all__ = ["boot_id", "sync_file_system"]


@cache
def boot_id() -> str:
    """Names the time since the machine was started (random(4)); empty where no kernel tells."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


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
