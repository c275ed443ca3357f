"""What a command has changed, without the traces of its having been run in a container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pycontainer.build._destination import resolve
from pycontainer.snapshots import without_noise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontainer.layers import Entry
    from pycontainer.snapshots import Snapshot, TreeView

__all__ = ["changes_of_run"]

_MOUNT_POINTS: Final = ("/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys")
"""What a command writes there goes to what is mounted; what the layer has there, the runtime made to
mount on."""


def changes_of_run(
    snapshot: Snapshot, base: TreeView, epoch: int, mounted: Sequence[str] = ()
) -> Iterator[Entry]:
    """The entries of the layer that a command has made; none if it has changed nothing.

    Args:
        snapshot: What it ran on.
        base: The files before.
        epoch: No time is later, seconds since 1970.
        mounted: Where something else was mounted for the command.
    """
    # A mount follows the image's symlinks, as resolv.conf often is one.
    points = {os.fsencode(resolve(base, point).lstrip("/")) for point in (*_MOUNT_POINTS, *mounted)}
    entries = snapshot.changes(clamp=epoch, exclude=points)
    return without_noise(entries, base, points)
