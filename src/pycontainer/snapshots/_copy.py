"""The fall-back where overlay is refused: the layers copied into one directory, and its changes."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from pycontainer.layers import Entry, Extractor, Kind, Ownership, walk_diff, walk_tree
from pycontainer.snapshots._erofs import LayerRoot
from pycontainer.snapshots._tree import Node, TreeView

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

__all__ = ["copy_changes", "copy_layers"]

_CHUNK: Final = 1 << 20


def copy_layers(layers: Sequence[Path], target: Path) -> None:
    """Apply layers, the bottom one first, to an empty directory.

    Raises:
        LayerError: The file system refuses something.
    """
    ownership = Ownership.current()
    for layer in layers:
        root = LayerRoot(layer)
        with Extractor(target, ownership, apply=True) as extractor:
            for entry in walk_diff(root.path):
                extractor.put(entry)
            extractor.finish()


def copy_changes(
    layers: Sequence[Path],
    copy: Path,
    *,
    since_ns: int,
    clamp: float | None = None,
    exclude: Collection[bytes] = (),
) -> Iterator[Entry]:
    """What was changed in a copy, as the entries of a layer; deletions become whiteouts.

    Args:
        layers: What it was made from, the bottom first.
        copy: The directory.
        since_ns: When it was finished. What has an older change time, which no program can set, is
            as it was; all else is compared, contents too.
        clamp: No time is later than this.
        exclude: Paths that are left out with all below them.
    """
    changes = _Changes(TreeView(layers), copy, since_ns, frozenset(exclude))
    changes.compare()
    wanted, gone = changes.wanted(), changes.gone
    yield from gone.get(b"", ())
    for entry in walk_tree(copy, clamp=clamp, exclude=exclude):
        if entry.path and entry.path in wanted:
            yield entry
            if entry.kind is Kind.DIRECTORY:
                yield from gone.get(entry.path, ())


class _Changes:
    def __init__(
        self, lower: TreeView, copy: Path, since_ns: int, exclude: frozenset[bytes]
    ) -> None:
        self._lower = lower
        self._copy = copy
        self._since_ns = since_ns
        self._exclude = exclude
        self._changed: set[bytes] = set()
        self._names: dict[tuple[int, int], list[bytes]] = {}
        self.gone: dict[bytes, list[Entry]] = {}

    def compare(self) -> None:
        """Find the changed paths and the ones that are gone."""
        self._compare_directory(b"")

    def wanted(self) -> set[bytes]:
        """The changed paths, the directories above them, and all names of a changed file."""
        found = set(self._changed)
        for names in self._names.values():
            if not found.isdisjoint(names):
                found.update(names)
        for path in [*found, *self.gone]:
            above = path
            while above:
                found.add(above)
                above = above.rpartition(b"/")[0]
        return found

    def _compare_directory(self, path: bytes) -> None:
        before = self._children_before(path)
        lead = path + b"/" if path else b""
        for name in sorted(os.listdir(os.fsencode(self._copy) + b"/" + path)):
            child = lead + name
            if child in self._exclude:
                before.pop(name, None)
                continue
            status = os.lstat(os.fsencode(self._copy) + b"/" + child)
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                self._names.setdefault((status.st_dev, status.st_ino), []).append(child)
            if self._is_changed(child, status, before.pop(name, None)):
                self._changed.add(child)
            if stat.S_ISDIR(status.st_mode):
                self._compare_directory(child)
        hidden = [
            lead + b".wh." + name for name in sorted(before) if lead + name not in self._exclude
        ]
        if hidden:
            self.gone[path] = [_whiteout(name) for name in hidden]

    def _children_before(self, path: bytes) -> dict[bytes, Node]:
        node = self._lower.lookup(os.fsdecode(path), follow=False)
        if node is None or not node.is_dir:
            return {}
        return {
            os.fsencode(child.host_path.name): child for child in self._lower.iterdir(node.path)
        }

    def _is_changed(self, path: bytes, now: os.stat_result, before: Node | None) -> bool:
        if before is None:
            return True
        if now.st_ctime_ns < self._since_ns:
            return False
        then = before.status
        if _facts(now) != _facts(then):
            return True
        here = os.fsencode(self._copy) + b"/" + path
        there = os.fsencode(before.host_path)
        if _attributes(here) != _attributes(there):
            return True
        if stat.S_ISLNK(now.st_mode):
            return os.readlink(here) != os.readlink(there)
        return stat.S_ISREG(now.st_mode) and not _same_content(here, there)


def _facts(status: os.stat_result) -> tuple[int, ...]:
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    device = status.st_rdev if not stat.S_ISREG(status.st_mode) else 0
    return (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, size, device)


def _attributes(path: bytes) -> dict[str, bytes]:
    keys = os.listxattr(path, follow_symlinks=False)
    return {
        key: os.getxattr(path, key, follow_symlinks=False)
        for key in keys
        if not key.startswith(("trusted.overlay.", "user.overlay."))
    }


def _same_content(one: bytes, other: bytes) -> bool:
    with open(one, "rb", buffering=0) as a, open(other, "rb", buffering=0) as b:
        while True:
            piece = a.read(_CHUNK)
            if piece != b.read(len(piece) or 1):
                return False
            if not piece:
                return True


def _whiteout(path: bytes) -> Entry:
    return Entry(path, Kind.FILE, 0o600, content=lambda: iter(()))
