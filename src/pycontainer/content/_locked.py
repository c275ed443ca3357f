"""Files that tell whether their maker still lives: it holds their lock (flock(2)) as long as it does.

Nothing else survives kill -9 as reliably: the kernel drops the lock when the last descriptor is closed.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["create_locked", "is_abandoned", "open_locked", "remove_abandoned"]


def create_locked(path: Path, mode: int = 0o600) -> int:
    """Make a file and lock it; it counts as abandoned once the descriptor is closed.

    Returns:
        The descriptor, open for reading and writing.
    """
    return _locked(path, os.O_EXCL, mode)


def open_locked(path: Path, mode: int = 0o600) -> int:
    """The same for a file that may be there already; whoever holds it is waited for."""
    return _locked(path, 0, mode)


def _locked(path: Path, flags: int, mode: int) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | flags | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Between open and lock someone may have taken it for abandoned, or given it its final
            # name; make it again then.
            if _is_named(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_named(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def is_abandoned(path: Path) -> bool:
    """Whether the maker of such a file is gone; a file that does not exist has none."""
    return _look(path, remove=False)


def remove_abandoned(path: Path) -> bool:
    """Remove such a file if its maker is gone, and return whether that is so."""
    return _look(path, remove=True)


def _look(path: Path, *, remove: bool) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        if remove:
            path.unlink(missing_ok=True)
        return True
    finally:
        os.close(fd)
