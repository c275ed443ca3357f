"""One worker at a time for each thing to be made, across threads and processes."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["exclusive", "sweep_locks"]

_SHORTEST_WAIT: Final = 0.002
_LONGEST_WAIT: Final = 0.1


@contextmanager
def exclusive(path: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock that the file `path` stands for; it is made and removed again.

    flock(2) belongs to the open file description, so threads exclude each other as processes do,
    and a killed holder's lock is gone with it.

    Args:
        path: The file.
        waiting: Called again and again while somebody else holds the lock; may raise to give up.
    """
    fd = _acquire(path, waiting)
    try:
        yield
    finally:
        # Removed while held: who waits on this file sees that it lost its name, and tries anew.
        path.unlink(missing_ok=True)
        os.close(fd)


def _acquire(path: Path, waiting: Callable[[], None] | None) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(fd, waiting)
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _lock(fd: int, waiting: Callable[[], None] | None) -> None:
    seconds = _SHORTEST_WAIT
    while waiting is not None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            time.sleep(seconds)
            seconds = min(2 * seconds, _LONGEST_WAIT)
        else:
            return
    fcntl.flock(fd, fcntl.LOCK_EX)


def sweep_locks(directory: Path) -> None:
    """Remove the files ``.*.lock`` of holders that were killed."""
    for path in directory.glob(".*.lock"):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been removed and made anew before we had its lock: that one is another's.
            if os.path.samestat(os.fstat(fd), path.stat()):
                path.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue
        finally:
            os.close(fd)
