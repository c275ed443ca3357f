"""Changes without the traces of what a runtime does to a root file system."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontainer.layers import Kind, Ownership, read_entry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pycontainer.layers import Entry
    from pycontainer.snapshots._tree import TreeView

__all__ = ["without_noise"]


def without_noise(
    entries: Iterable[Entry], base: TreeView, mount_points: Collection[bytes]
) -> Iterator[Entry]:
    """Pass on what is new: directories that are as they were only if something in them is new.

    Overlay copies each directory up in which something changes, be it only that the runtime made a
    mount point and that is left out here.

    Args:
        entries: Sorted so that directories come before what is in them.
        base: The files before.
        mount_points: Paths that the runtime made.
    """
    waiting: list[Entry] = []
    for entry in entries:
        while waiting and not entry.path.startswith(waiting[-1].path + b"/"):
            waiting.pop()
        if entry.kind is Kind.DIRECTORY and _is_noise(entry, base, mount_points):
            waiting.append(entry)
            continue
        yield from waiting
        waiting.clear()
        yield entry


def _is_noise(entry: Entry, base: TreeView, mount_points: Collection[bytes]) -> bool:
    node = base.lookup("/" + os.fsdecode(entry.path), follow=False)
    if node is None:
        return any(point.startswith(entry.path + b"/") for point in mount_points)
    if not node.is_dir:
        return False
    before = read_entry(node.host_path, entry.path, ownership=Ownership.current())
    return _facts(before) == _facts(entry)


def _facts(entry: Entry) -> tuple[object, ...]:
    return (entry.mode, entry.uid, entry.gid, dict(entry.xattrs))
