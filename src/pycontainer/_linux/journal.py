"""A journal: a directory with a file that many processes append lines to, without a lock.

A line is one write(2) to a file opened with O_APPEND, which the kernel does as a whole. A file that
is full is renamed by whoever finds it so; a writer that opened it just before still writes to it.
"""

from __future__ import annotations

import fcntl
import os

__all__ = ["CURRENT", "PREVIOUS", "append"]

CURRENT = "log"
PREVIOUS = "log.1"
_MOST = 1 << 22
_FLAGS = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC


def append(directory: str, line: bytes) -> None:
    """Append a line, which must end as one.

    Raises:
        OSError: It cannot be written.
    """
    path = f"{directory}/{CURRENT}"
    try:
        fd = os.open(path, _FLAGS, 0o600)
    except FileNotFoundError:
        os.makedirs(directory, 0o700, exist_ok=True)
        fd = os.open(path, _FLAGS, 0o600)
    try:
        os.write(fd, line)
        full = os.lseek(fd, 0, os.SEEK_CUR) > _MOST
    finally:
        os.close(fd)
    if full:
        _rotate(directory)


def _rotate(directory: str) -> None:
    """Rename the file if it is still full: two who find it so must not rename two files."""
    lock = os.open(f"{directory}/lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.stat(f"{directory}/{CURRENT}").st_size > _MOST:
            os.rename(f"{directory}/{CURRENT}", f"{directory}/{PREVIOUS}")
    except FileNotFoundError:  # somebody has done so
        pass
    finally:
        os.close(lock)
