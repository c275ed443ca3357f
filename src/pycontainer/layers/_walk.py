"""Directories as entries: whole trees, and the changes in the upper directory of an overlay."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from pycontainer.layers._entry import KIND_OF_FORMAT, NO_XATTRS, Entry, Kind
from pycontainer.layers._ownership import META, STASH, Meta, Ownership

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

__all__ = ["read_entry", "walk_diff", "walk_tree"]

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 1 << 18
_OVERLAY: Final = ("trusted.overlay.", "user.overlay.")
_SECOND: Final = 1_000_000_000


def walk_tree(
    root: Path,
    *,
    prefix: bytes = b"",
    ownership: Ownership = Ownership.ROOT,
    clamp: float | None = None,
    exclude: Collection[bytes] = (),
) -> Iterator[Entry]:
    """Read a directory as entries: itself first, then what is below, in the order of the names' bytes.

    Files with several names become one file and hard links to it; sockets are left out. A file's
    content can be read until the next entry is asked for.

    Args:
        root: The directory.
        prefix: What the paths begin with.
        ownership: How owners are represented there.
        clamp: No time is later than this (seconds since the epoch).
        exclude: Paths, with the prefix, that are left out with all below them.
    """
    return _Walk(root, ownership, clamp, exclude, diff=False).run(prefix)


def walk_diff(
    upper: Path,
    *,
    ownership: Ownership = Ownership.ROOT,
    clamp: float | None = None,
    exclude: Collection[bytes] = (),
) -> Iterator[Entry]:
    """Read the upper directory of an overlay as a layer: its whiteouts become the image-spec's.

    Arguments as for `walk_tree`. The root itself is not an entry.
    """
    return _Walk(upper, ownership, clamp, exclude, diff=True).run(b"")


def read_entry(file: Path, path: bytes, *, ownership: Ownership = Ownership.ROOT) -> Entry:
    """Read one file, directory, link or device as an entry, without what is below it.

    A file's content is read from `file` when it is asked for.

    Args:
        file: Where it is; not a socket.
        path: The path of the entry.
        ownership: How owners are represented there.
    """
    return _Walk(file, ownership, None, (), diff=False).one(path)


class _Walk:
    def __init__(
        self,
        root: Path,
        ownership: Ownership,
        clamp: float | None,
        exclude: Collection[bytes],
        *,
        diff: bool,
    ) -> None:
        self._root = root
        self._as_user = ownership is Ownership.USER
        self._clamp = None if clamp is None else int(clamp * _SECOND)
        self._exclude = frozenset(exclude)
        self._diff = diff
        self._names: dict[tuple[int, int], bytes] = {}

    def run(self, prefix: bytes) -> Iterator[Entry]:
        fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            entry, opaque = self._directory(prefix, os.fstat(fd), fd)
            if not self._diff:
                yield entry
            elif opaque:
                yield _whiteout(b".wh..wh..opq")
            yield from self._below(fd, prefix)
        finally:
            os.close(fd)

    def one(self, path: bytes) -> Entry:
        """The root alone, whatever it is."""
        status = self._root.lstat()
        kind = KIND_OF_FORMAT[stat.S_IFMT(status.st_mode)]
        if kind not in (Kind.FILE, Kind.DIRECTORY):
            above = os.open(self._root.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return self._other(above, os.fsencode(self._root.name), path, status)
            finally:
                os.close(above)
        xattrs, _ = _xattrs(str(self._root))
        entry = self._entry(path, kind, status, xattrs)
        if entry.kind is Kind.FILE:
            entry.size = status.st_size
            entry.content = lambda: _read_at(self._root, status.st_size)
        return entry

    def _below(self, fd: int, path: bytes) -> Iterator[Entry]:
        with os.scandir(fd) as found:
            names = sorted(os.fsencode(item.name) for item in found)
        lead = path + b"/" if path else b""
        for name in names:
            child = lead + name
            if child in self._exclude:
                continue
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                yield from self._subdirectory(fd, name, child, status)
            elif stat.S_ISREG(status.st_mode):
                yield from self._file(fd, name, child, status)
            elif self._diff and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                yield _whiteout(lead + b".wh." + name)
            elif not stat.S_ISSOCK(status.st_mode):
                yield self._other(fd, name, child, status)

    def _subdirectory(
        self, above: int, name: bytes, path: bytes, status: os.stat_result
    ) -> Iterator[Entry]:
        fd = os.open(name, _READ | os.O_DIRECTORY, dir_fd=above)
        try:
            entry, opaque = self._directory(path, status, fd)
            yield entry
            if opaque and self._diff:
                yield _whiteout(path + b"/.wh..wh..opq")
            yield from self._below(fd, path)
        finally:
            os.close(fd)

    def _directory(self, path: bytes, status: os.stat_result, fd: int) -> tuple[Entry, bool]:
        xattrs, opaque = _xattrs(fd)
        return self._entry(path, Kind.DIRECTORY, status, xattrs), opaque

    def _file(
        self, above: int, name: bytes, path: bytes, status: os.stat_result
    ) -> Iterator[Entry]:
        if status.st_nlink > 1:
            key = (status.st_dev, status.st_ino)
            first = self._names.setdefault(key, path)
            if first != path:
                entry = self._entry(path, Kind.HARD_LINK, status, NO_XATTRS)
                entry.link = first
                yield entry
                return
        fd = os.open(name, _READ, dir_fd=above)
        try:
            xattrs, _ = _xattrs(fd)
            entry = self._entry(path, Kind.FILE, status, xattrs)
            if entry.kind is Kind.FILE:
                entry.size = status.st_size
                entry.content = lambda: _read(fd, status.st_size)
            yield entry
        finally:
            os.close(fd)

    def _other(self, above: int, name: bytes, path: bytes, status: os.stat_result) -> Entry:
        kind = KIND_OF_FORMAT[stat.S_IFMT(status.st_mode)]
        entry = self._entry(path, kind, status, _xattrs_of_unopened(above, name))
        if kind is Kind.SYMLINK:
            entry.link = os.readlink(name, dir_fd=above)
            entry.mode = 0o777
        elif kind is not Kind.FIFO:
            entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return entry

    def _entry(
        self, path: bytes, kind: Kind, status: os.stat_result, xattrs: Mapping[str, bytes]
    ) -> Entry:
        uid, gid = (0, 0) if self._as_user else (status.st_uid, status.st_gid)
        mtime = status.st_mtime_ns
        if self._clamp is not None and mtime > self._clamp:
            mtime = self._clamp
        entry = Entry(path, kind, stat.S_IMODE(status.st_mode), uid, gid, mtime)
        if xattrs:
            entry.xattrs = self._restore(entry, xattrs) if self._as_user else xattrs
        return entry

    @staticmethod
    def _restore(entry: Entry, xattrs: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Undo what unpacking as an ordinary user had to write down elsewhere."""
        meta = Meta.decode(xattrs[META]) if META in xattrs else None
        if meta is not None:
            entry.uid, entry.gid, entry.mode = meta.uid, meta.gid, meta.mode
            if meta.kind is not None:
                entry.kind, entry.major, entry.minor = meta.kind, meta.major, meta.minor
        return {
            key.removeprefix(STASH): value for key, value in xattrs.items() if key != META
        } or NO_XATTRS


def _whiteout(path: bytes) -> Entry:
    return Entry(path, Kind.FILE, 0o600, content=lambda: iter(()))


def _read(fd: int, size: int) -> Iterator[bytes]:
    """The bytes of a file from its beginning; a file that shrinks or grows is noticed by the writer."""
    at = 0
    while at < size:
        piece = os.pread(fd, min(_CHUNK, size - at), at)
        if not piece:
            return
        at += len(piece)
        yield piece


def _read_at(file: Path, size: int) -> Iterator[bytes]:
    fd = os.open(file, _READ)
    try:
        yield from _read(fd, size)
    finally:
        os.close(fd)


def _xattrs(target: int | str) -> tuple[Mapping[str, bytes], bool]:
    """Extended attributes without overlay's own and the host's security labels; and opaqueness."""
    try:
        keys = os.listxattr(target, follow_symlinks=not isinstance(target, str))
    except OSError:  # the file system has none
        return NO_XATTRS, False
    if not keys:
        return NO_XATTRS, False
    found: dict[str, bytes] = {}
    opaque = False
    for key in sorted(keys):
        if key.startswith(_OVERLAY):
            opaque = opaque or key.endswith(".opaque")
        elif key not in ("security.selinux", "security.ima", "security.evm"):
            found[key] = os.getxattr(target, key, follow_symlinks=not isinstance(target, str))
    return found or NO_XATTRS, opaque


def _xattrs_of_unopened(above: int, name: bytes) -> Mapping[str, bytes]:
    found, _ = _xattrs(f"/proc/self/fd/{above}/{os.fsdecode(name)}")
    return found
