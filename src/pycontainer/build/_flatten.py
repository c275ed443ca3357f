"""Stacks of layers as one: the whole tree as entries, and what one stack changes in another."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pycontainer.build._cache import BuildCache, cache_key
from pycontainer.build._entries import store_layer, tree_of
from pycontainer.layers import Entry, Kind, Ownership, read_entry

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from pycontainer.build._graph import State
    from pycontainer.build._work import Work
    from pycontainer.snapshots import Node, TreeView

__all__ = ["changed_entries", "entries_below", "squash"]

_WHITEOUT = b".wh."


class _Reader:
    """Reads nodes as entries; files with several names become one file and hard links to it."""

    def __init__(self) -> None:
        self._ownership = Ownership.current()
        self._names: dict[tuple[int, int], bytes] = {}

    def entry(self, node: Node, path: bytes) -> Entry:
        entry = read_entry(node.host_path, path, ownership=self._ownership)
        if node.is_file and node.status.st_nlink > 1:
            first = self._names.setdefault((node.status.st_dev, node.status.st_ino), path)
            if first != path:
                entry.kind, entry.link = Kind.HARD_LINK, first
                entry.size, entry.content, entry.xattrs = 0, None, {}
        return entry


def entries_below(tree: TreeView, top: str, *, leave: Container[bytes] = ()) -> Iterator[Entry]:
    """What is at a path and below it, as entries seen from there; sockets are left out.

    Args:
        tree: The files.
        top: The path.
        leave: Paths, seen from there, that are left out.
    """
    reader = _Reader()
    lead = top.rstrip("/") + "/"
    for node in tree.walk(top):
        path = os.fsencode(node.path[len(lead) :])
        if path not in leave and not stat.S_ISSOCK(node.status.st_mode):
            yield reader.entry(node, path)


def changed_entries(before: TreeView, after: TreeView) -> Iterator[Entry]:
    """The layer that makes one tree of the other, if `after` has the layers of `before` at its bottom.

    What both take from the same place is the same. A directory that holds a change is itself in the
    layer that made it.
    """
    reader = _Reader()
    todo: list[Node] = list(after.iterdir("/"))[::-1]
    yield from _deletions(before, after, "/")
    while todo:
        node = todo.pop()
        old = before.lookup(node.path, follow=False)
        if (old is not None and old.host_path == node.host_path) or stat.S_ISSOCK(
            node.status.st_mode
        ):
            continue
        yield reader.entry(node, os.fsencode(node.path.lstrip("/")))
        if node.is_dir:
            if old is not None and old.is_dir:
                yield from _deletions(before, after, node.path)
            todo += list(after.iterdir(node.path))[::-1]


def _deletions(before: TreeView, after: TreeView, path: str) -> Iterator[Entry]:
    there = {node.path for node in after.iterdir(path)}
    for node in before.iterdir(path):
        if node.path not in there:
            above, _, name = os.fsencode(node.path.lstrip("/")).rpartition(b"/")
            yield Entry((above + b"/" if above else b"") + _WHITEOUT + name, Kind.FILE, 0o600)


def squash(base: State, state: State, work: Work, cache: BuildCache) -> State:
    """The same files with all that was added to a base in one layer; the history keeps each step."""
    if len(state.layers) - len(base.layers) < 2:
        return state
    form = [work.compression.value, work.level]
    key = cache_key("squash", work.epoch, form, [base.chain_id, state.chain_id])
    known = cache.lookup(key)
    if known is not None:
        layer = known.layer
    else:
        entries = changed_entries(tree_of(base, work), tree_of(state, work))
        layer = store_layer(_at(entries, work.epoch), work)
        cache.record([key], "squash", layer)
    kept = len(base.config.history)
    steps = state.config.history[kept:]
    squashed = base
    for step in steps:
        squashed = squashed.after(step)
    history = work.history(f"squash of {len(steps)} steps")
    return squashed.after(history, layer=layer, config=state.config.config)


def _at(entries: Iterator[Entry], epoch: int) -> Iterator[Entry]:
    """Whiteouts have no time of their own."""
    for entry in entries:
        if entry.path.rpartition(b"/")[2].startswith(_WHITEOUT):
            entry.mtime_ns = epoch * 1_000_000_000
        yield entry
