"""Directories that outlive builds: what ``RUN --mount=type=cache`` shows to commands."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from pycontainer.content import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pycontainer.content import Store

__all__ = ["Sharing", "cache_directory"]

Sharing = Literal["shared", "private", "locked"]

_PAUSE: Final = 0.02
_READY: Final = "ready"
"""Marks a directory whose first content is complete; a build killed before begins it anew."""


@contextmanager
def cache_directory(
    store: Store,
    name: str,
    sharing: Sharing,
    *,
    fill: Callable[[Path], None],
    waiting: Callable[[], None],
) -> Iterator[Path]:
    """The directory of a cache, as long as the block runs.

    Who uses it holds a lock of flock(2), so a killed build's is free at once.

    Args:
        store: Where caches are kept.
        name: What the cache is called.
        sharing: ``shared``: with all who want it; ``locked``: one after the other; ``private``: each
            at the same time has one of its own.
        fill: Makes what a new one begins with, in an empty directory.
        waiting: Called again and again while another holds the lock; may raise to give up.
    """
    digits = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    place = store.directory("build") / "mounts"
    place.mkdir(mode=0o700, exist_ok=True)
    number = 0
    while True:
        home = place / (f"{digits}-{number}" if number else digits)
        home.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if sharing == "private":
                if not _try(fd, fcntl.LOCK_EX):
                    number += 1
                    continue
            else:
                _begin(fd, home, fill, waiting)
                _wait(fd, fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX, waiting)
            _prepare(home, name, fill)
            yield home / "content"
            return
        finally:
            os.close(fd)


def _begin(fd: int, home: Path, fill: Callable[[Path], None], waiting: Callable[[], None]) -> None:
    """Fill a new directory while nobody else has it."""
    if not (home / _READY).exists():
        _wait(fd, fcntl.LOCK_EX, waiting)
        _prepare(home, "", fill)
        fcntl.flock(fd, fcntl.LOCK_UN)


def _prepare(home: Path, name: str, fill: Callable[[Path], None]) -> None:
    ready = home / _READY
    if not ready.exists():
        content = home / "content"
        remove_tree(content)
        content.mkdir()
        fill(content)
        ready.touch()
    if name:
        (home / "id").write_text(name, errors="surrogateescape")


def _wait(fd: int, kind: int, waiting: Callable[[], None]) -> None:
    while not _try(fd, kind):
        waiting()
        time.sleep(_PAUSE)


def _try(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
