"""Where to measure: disks, and file systems that have seen much, differ by more than programs do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.program import call

__all__ = ["scratch"]

_BYTES = 12 << 30
_TRIES = 20


@contextlib.contextmanager
def scratch(parent: Path | None) -> Iterator[Path]:
    """Give an empty directory to measure in.

    Args:
        parent: Where to make it; None for a new ext4 with a journal, in memory, where this user may
            mount one.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=parent) as place:
        if parent is not None or os.geteuid() != 0:
            yield Path(place)
            return
        with tempfile.NamedTemporaryFile(prefix="benchmark-", dir="/dev/shm") as image:
            image.truncate(_BYTES)
            call("mkfs.ext4", "-q", image.name)
            call("mount", "-o", "loop", image.name, place)
            try:
                yield Path(place)
            finally:
                _unmount(place)


def _unmount(place: str) -> None:
    """Unmount; a program that has just ended may hold the place for a moment yet."""
    for _ in range(_TRIES):
        if (
            subprocess.run(["umount", place], stderr=subprocess.DEVNULL, check=False).returncode
            == 0
        ):
            return
        time.sleep(0.1)
    call("umount", "--lazy", place)
