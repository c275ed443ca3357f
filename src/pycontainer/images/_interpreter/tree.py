"""A tree of files to be: what an image's layer shall hold, gathered in any order."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.errors import ImageError
from pycontainer.layers import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FileTree"]

_CHUNK: Final = 1 << 18
_MOST_SYMLINKS: Final = 40

_Parts = tuple[str, ...]


@frozen
class _Directory:
    mode: int = 0o755


@frozen
class _Link:
    target: str


@frozen
class _File:
    source: Path | bytes
    mode: int = 0o644


class FileTree:
    """Files by their absolute paths; everything belongs to root, of one time.

    A path may go through symlinks of the tree. What is put in twice is there as it came last.
    """

    def __init__(self) -> None:
        self._nodes: dict[_Parts, _Directory | _Link | _File] = {(): _Directory()}
        self._plain: set[_Parts] = set()  # directories of this machine known to be no symlinks

    def __contains__(self, path: str) -> bool:
        return self._place(path) in self._nodes

    def add_directory(self, path: str, mode: int = 0o755) -> None:
        """Put in a directory."""
        self._put(path, _Directory(mode))

    def add_link(self, path: str, target: str) -> None:
        """Put in a symlink."""
        self._put(path, _Link(target))

    def add_file(self, path: str, source: Path | bytes, mode: int = 0o644) -> None:
        """Put in a file: some bytes, or what a file of this machine holds later on."""
        self._put(path, _File(source, mode))

    def add_host_file(self, path: Path) -> str:
        """Put in a file of this machine at its own place, with all symlinks that lead to it.

        Returns:
            The path without symlinks.

        Raises:
            ImageError: There is no file.
        """
        todo = list(reversed(path.parts[1:]))
        done: _Parts = ()
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                done = done[:-1]
                continue
            here = (*done, name)
            target = None if here in self._plain else _link_target("/" + "/".join(here))
            if target is None:
                if todo:
                    self._plain.add(here)
                done = here
                continue
            links += 1
            if links > _MOST_SYMLINKS:
                raise ImageError(f"{path} leads round in circles")
            self._put_at(here, _Link(target))
            done = () if target.startswith("/") else done
            todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        real = Path("/", *done)
        try:
            status = real.stat()
        except OSError as error:
            raise ImageError(f"cannot copy {path} into an image: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"cannot copy {path} into an image: not a regular file")
        self._put_at(done, _File(real, 0o755 if status.st_mode & 0o111 else 0o644))
        return str(real)

    def fingerprint(self) -> str:
        """A text that is another whenever an entry or the content of a file may be another.

        This machine's files are not read for it: a change of their content changes their status.
        """
        found = hashlib.sha256()
        for parts in sorted(self._nodes):
            node = self._nodes[parts]
            facts: tuple[object, ...] = ()
            if isinstance(node, _File):
                facts = (node.mode, *_identity(node.source))
            found.update(repr((parts, node if not facts else "file", facts)).encode())
        return found.hexdigest()

    def entries(self, *, mtime: int = 0) -> Iterator[Entry]:
        """All as entries of a layer, each directory before what is in it, by the names' bytes."""
        nodes = {tuple(map(os.fsencode, path)): node for path, node in self._nodes.items()}
        for parts in sorted(nodes):
            node = nodes[parts]
            path, mtime_ns = b"/".join(parts), mtime * 1_000_000_000
            if isinstance(node, _Directory):
                yield Entry(path, Kind.DIRECTORY, node.mode, mtime_ns=mtime_ns)
            elif isinstance(node, _Link):
                link = os.fsencode(node.target)
                yield Entry(path, Kind.SYMLINK, 0o777, mtime_ns=mtime_ns, link=link)
            else:
                yield _file_entry(path, node, mtime_ns)

    def _put(self, path: str, node: _Directory | _Link | _File) -> None:
        self._put_at(self._place(path), node)

    def _put_at(self, parts: _Parts, node: _Directory | _Link | _File) -> None:
        for depth in range(len(parts)):
            above = parts[:depth]
            if not isinstance(self._nodes.setdefault(above, _Directory()), _Directory):
                raise ImageError(
                    f"/{'/'.join(parts)} cannot be in the image: /{'/'.join(above)} is no directory"
                )
        self._nodes[parts] = node

    def _place(self, path: str) -> _Parts:
        """A path's parts, with the tree's symlinks above the last part resolved."""
        *above, name = [part for part in path.split("/") if part not in ("", ".")]
        done: _Parts = ()
        todo = above[::-1]
        for _ in range(len(todo) + 100 * _MOST_SYMLINKS):
            if not todo:
                return (*done, name)
            part = todo.pop()
            if part == "..":
                done = done[:-1]
                continue
            node = self._nodes.get((*done, part))
            if isinstance(node, _Link):
                done = () if node.target.startswith("/") else done
                todo += [p for p in reversed(node.target.split("/")) if p not in ("", ".")]
            else:
                done = (*done, part)
        raise ImageError(f"{path} leads round in circles")


def _link_target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:  # no symlink, or nothing at all
        return None


def _identity(source: Path | bytes) -> tuple[object, ...]:
    if isinstance(source, bytes):
        return (hashlib.sha256(source).hexdigest(),)
    status = source.stat()
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (str(source), status.st_dev, status.st_ino, status.st_size, *times)


def _file_entry(path: bytes, node: _File, mtime_ns: int) -> Entry:
    source = node.source
    entry = Entry(path, Kind.FILE, node.mode, mtime_ns=mtime_ns)
    if isinstance(source, bytes):
        entry.size = len(source)
        entry.content = lambda: iter((source,))
    else:
        entry.size = source.stat().st_size
        entry.content = lambda: _read(source)
    return entry


def _read(source: Path) -> Iterator[bytes]:
    with source.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            yield chunk
