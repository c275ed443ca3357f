"""Where a store is, and whether it is one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from pycontainer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Snapshotter", "default_home", "preferred_snapshotter", "prepare_home"]

Snapshotter = Literal["overlay", "erofs", "auto"]
"""What becomes of layers: a directory each, an index each that the kernel mounts, whatever is faster."""

_VERSION: Final = "1"


def default_home() -> Path:
    """Where the store is of a user who says nothing else."""
    if home := os.environ.get("PYCONTAINER_HOME"):
        return Path(home)
    if os.geteuid() == 0:
        return Path("/var/lib/pycontainer")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local/share") / "pycontainer"


def preferred_snapshotter(given: str | None) -> Snapshotter:
    """What a user says becomes of layers: as given, else ``$PYCONTAINER_SNAPSHOTTER``, else overlay.

    Raises:
        StoreError: It is none that there is.
    """
    said = given or os.environ.get("PYCONTAINER_SNAPSHOTTER") or "overlay"
    for name in get_args(Snapshotter):
        if said == name:
            chosen: Snapshotter = name
            return chosen
    raise StoreError(
        f"there is no snapshotter {said!r}",
        remedy=f"use one of {', '.join(get_args(Snapshotter))}",
    )


def prepare_home(home: Path, fill: Callable[[], None]) -> None:
    """Make a store's directory; refuse one that is something else.

    Args:
        home: The directory.
        fill: Makes what is in it; called once in a store's life, while other processes wait.

    Raises:
        StoreError: It cannot be used.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = home.stat().st_uid
        if owner != os.geteuid():
            raise StoreError(
                f"the store at {home} belongs to user {owner}, not to user {os.geteuid()}",
                remedy="each user has a store of their own: set PYCONTAINER_HOME to another directory",
            )
        fd = os.open(home / "version", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"cannot open a store at {home}: {error.strerror}",
            remedy="name a directory that this user may write, or set PYCONTAINER_HOME to one",
        ) from error
    with os.fdopen(fd, "r+") as file:
        fcntl.flock(fd, fcntl.LOCK_EX)
        version = file.read().strip()
        if not version:
            fill()
            file.write(f"{_VERSION}\n")
            file.flush()
        elif version != _VERSION:
            raise StoreError(
                f"the store at {home} is of version {version[:40]!r}, "
                f"this program knows version {_VERSION}",
                remedy="use the pycontainer that made it, or another directory",
            )
