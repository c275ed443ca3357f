"""A stack of layers seen as one tree, without mounting it as one.

The rules are those of the kernel's overlay (Documentation/filesystems/overlayfs.rst): a character
device 0:0 hides a name, an opaque directory hides what lower layers hold in it, directories of one
name merge, everything else of the topmost layer wins. Symlinks resolve inside the tree. A layer is
entered by descriptors, component by component, and never through a symlink of its own.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from attrs import field, frozen

from pycontainer._linux.erofs import SUFFIX
from pycontainer.snapshots._erofs import LayerRoot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Node", "TreeView", "uncovered"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_SYMLINKS: Final = 40  # as the kernel's path_resolution(7)
_OPAQUE: Final = ("trusted.overlay.opaque", "user.overlay.opaque")
_CHUNK: Final = 1 << 20

_Parts = tuple[str, ...]


@frozen
class Node:
    """A file, directory or other thing of the tree.

    Attributes:
        path: Where it is, seen from the tree's root, with no symlink in it but perhaps the last part.
        host_path: Where it is on this machine, as long as the view is there; for a directory its
            topmost layer's.
        status: As lstat(2) finds it there.
        link: Target of a symlink.
    """

    path: str
    host_path: Path
    status: os.stat_result = field(repr=False)
    link: str = ""

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symlink."""
        return stat.S_ISLNK(self.status.st_mode)


class TreeView:
    """The merged, read-only view of layers that do not change meanwhile.

    Paths are text relative to the tree's root; a leading slash makes no difference.

    Args:
        layers: Their directories or indexes in the order of an image: the bottom first.

    Raises:
        OSError: The kernel does not mount an index.
    """

    def __init__(self, layers: Sequence[Path]) -> None:
        self._roots = [LayerRoot(layer) for layer in reversed(uncovered(layers))]
        self._layers = tuple(root.path for root in self._roots)
        self._merged: dict[_Parts, tuple[int, ...]] = {(): tuple(range(len(self._roots)))}

    def lookup(self, path: str, *, follow: bool = True) -> Node | None:
        """Find what is at a path.

        Args:
            path: Where; symlinks in it are followed.
            follow: Whether a symlink at its end is followed too.

        Returns:
            The node; None if there is none, or a symlink leads nowhere or round in circles.
        """
        node: Node | None = self._node(())
        done: _Parts = ()
        todo = list(_parts(path)[::-1])
        links = 0
        while todo and node is not None:
            name = todo.pop()
            if not node.is_dir:
                return None
            if name == "..":
                done = done[:-1]
                node = self._node(done)
                continue
            node = self._node((*done, name))
            if node is not None and node.is_symlink and (todo or follow):
                links += 1
                if links > _MOST_SYMLINKS:
                    return None
                todo += _parts(node.link)[::-1]
                done = () if node.link.startswith("/") else done
                node = self._node(done)
            else:
                done = (*done, name)
        return node

    def iterdir(self, path: str = "/") -> Iterator[Node]:
        """The nodes in a directory, in the order of their names.

        Raises:
            NotADirectoryError: There is no directory at `path`.
        """
        where = self._directory(path)
        names: set[str] = set()
        for layer in self._merged_layers(where):
            with self._opened(layer, where) as fd:
                names.update(os.listdir(fd))
        for name in sorted(names):
            node = self._node((*where, name))
            if node is not None:
                yield node

    def walk(self, path: str = "/") -> Iterator[Node]:
        """The node at a path and all below it, directories before what is in them."""
        node = self.lookup(path)
        todo = [] if node is None else [node]
        while todo:
            node = todo.pop()
            yield node
            if node.is_dir:
                todo += reversed(list(self.iterdir(node.path)))

    def open(self, path: str) -> BinaryIO:
        """Open a regular file for reading.

        Raises:
            FileNotFoundError: There is nothing at `path`.
            OSError: It is no regular file.
        """
        node = self.lookup(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if node.is_dir:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not node.is_file:
            raise OSError(errno.EINVAL, "not a regular file", path)
        *above, name = _parts(node.path)
        for layer in self._merged_layers(tuple(above)):
            with self._opened(layer, tuple(above)) as fd:
                try:
                    return os.fdopen(os.open(name, _FILE, dir_fd=fd), "rb")
                except FileNotFoundError:
                    continue
        raise FileNotFoundError(errno.ENOENT, "the layers changed meanwhile", path)

    def read_bytes(self, path: str, *, limit: int | None = None) -> bytes:
        """The content of a regular file.

        Args:
            path: Where it is.
            limit: Refuse to read more bytes than that.

        Raises:
            FileNotFoundError: There is nothing at `path`.
            OSError: It is no regular file, or (EFBIG) longer than `limit`.
        """
        with self.open(path) as file:
            data = file.read(-1 if limit is None else limit + 1)
        if limit is not None and len(data) > limit:
            raise OSError(errno.EFBIG, f"more than {limit} bytes", path)
        return data

    # --- merging -----------------------------------------------------------------------------

    def _directory(self, path: str) -> _Parts:
        node = self.lookup(path)
        if node is None or not node.is_dir:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return _parts(node.path)

    def _node(self, where: _Parts) -> Node | None:
        """What is at a path whose parents are merged directories."""
        if not where:
            return self._root()
        above, name = where[:-1], where[-1]
        for layer in self._merged_layers(above):
            with self._opened(layer, above) as fd:
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if _is_whiteout(status):
                    return None
                link = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(status.st_mode) else ""
            host_path = self._layers[layer].joinpath(*where)
            return Node("/" + "/".join(where), host_path, status, link)
        return None

    def _root(self) -> Node | None:
        if not self._layers:
            return None
        top = self._layers[0]
        return Node("/", top, top.stat())

    def _merged_layers(self, where: _Parts) -> tuple[int, ...]:
        """Which layers hold a part of a directory, the topmost first."""
        known = self._merged.get(where)
        if known is None:
            known = tuple(self._merge(where))
            self._merged[where] = known
        return known

    def _merge(self, where: _Parts) -> Iterator[int]:
        above, name = where[:-1], where[-1]
        for layer in self._merged_layers(above):
            with self._opened(layer, above) as fd:
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    return
                yield layer
                if _is_opaque(fd, name):
                    return

    @contextmanager
    def _opened(self, layer: int, where: _Parts) -> Iterator[int]:
        """A descriptor of a layer's own directory."""
        fd = os.open(self._layers[layer], _DIRECTORY & ~os.O_NOFOLLOW)
        try:
            for name in where:
                deeper = os.open(name, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)


def uncovered(layers: Sequence[Path]) -> Sequence[Path]:
    """The topmost layer whose root is opaque, and those above it; all if none is.

    The kernel always merges roots, whatever their attributes say: what an opaque one hides has to be
    left out of the stack. Indexes are never of such layers.
    """
    for i in reversed(range(1, len(layers))):
        if layers[i].suffix != SUFFIX and _has_opaque_mark(layers[i]):
            return layers[i:]
    return layers


def _parts(path: str) -> _Parts:
    return tuple(part for part in path.split("/") if part not in ("", "."))


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(above: int, name: str) -> bool:
    fd = os.open(name, _DIRECTORY, dir_fd=above)
    try:
        return any(_attribute(fd, key) == b"y" for key in _OPAQUE)
    finally:
        os.close(fd)


def _has_opaque_mark(directory: Path) -> bool:
    try:
        keys = os.listxattr(directory)  # nearly always there are none
    except OSError:
        return False
    return any(key in _OPAQUE and _attribute(directory, key) == b"y" for key in keys)


def _attribute(directory: int | Path, key: str) -> bytes:
    try:
        return os.getxattr(directory, key)
    except OSError:  # it has none, the file system knows none, or only root may see it
        return b""
