"""Who uses a store at the moment: a locked file for each handle that leased or made something.

What belongs to a session (leases, temporaries) lasts as long as its lock, so no kill -9 can leave it
behind for good: the next collection sees that the lock is gone.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from pycontainer.content._locked import create_locked, is_abandoned, remove_abandoned

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Session", "living_sessions", "sweep_sessions"]


class Session:
    """A session of this process.

    Args:
        directory: Where the sessions of the store have their files.

    Attributes:
        name: Names the session among all, of all times.
    """

    def __init__(self, directory: Path) -> None:
        self.name = secrets.token_hex(12)
        self._path = directory / self.name
        self._fd = create_locked(self._path)

    def close(self) -> None:
        """End the session."""
        self._path.unlink(missing_ok=True)
        self.leave_to_parent()

    def leave_to_parent(self) -> None:
        """In a forked child: keep neither the session nor its lock."""
        # Closed, not unlocked: the lock is the open file's, which the parent still has.
        os.close(self._fd)


def living_sessions(directory: Path) -> frozenset[str]:
    """The names of the sessions whose processes live."""
    return frozenset(path.name for path in directory.iterdir() if not is_abandoned(path))


def sweep_sessions(directory: Path) -> None:
    """Remove the files of sessions whose processes are gone."""
    for path in directory.iterdir():
        remove_abandoned(path)
