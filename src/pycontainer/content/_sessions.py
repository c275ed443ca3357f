"""Who uses a store at the moment: a locked file for each open handle.

What belongs to a session (leases, temporaries) lasts as long as somebody holds its lock, and no kill -9
can leave it behind for good: the kernel drops the lock, the next collection sees that.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Session", "is_alive"]


class Session:
    """A session of this process."""

    def __init__(self, directory: Path) -> None:
        self.name = secrets.token_hex(8)
        self._path = directory / self.name
        # Locked before it has its name: a collection in between must not take it for a dead one.
        temporary = directory / f".{self.name}"
        self._fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        temporary.rename(self._path)

    def close(self) -> None:
        """End the session."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def is_alive(directory: Path, name: str) -> bool:
    """Whether a session's process still holds it; the file of a dead one is removed."""
    path = directory / name
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(fd)
