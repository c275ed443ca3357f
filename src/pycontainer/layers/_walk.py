"""Directories as entries: whole trees, and the changes in the upper directory of an overlay."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from attrs import define

from pycontainer.errors import LayerError
from pycontainer.layers._directories import is_whiteout, show
from pycontainer.layers._entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FILE,
    HARD_LINK,
    KIND_OF_FORMAT,
    NO_XATTRS,
    SYMLINK,
    Entry,
    InFile,
    Kind,
    StoredContent,
)
from pycontainer.layers._link_owners import owner_of_link
from pycontainer.layers._ownership import LINKS, META, OVERLAY, STASH, Meta, Ownership, disk_mode
from pycontainer.layers._whiteouts import OPAQUE, PREFIX

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from pathlib import Path

__all__ = ["read_entry", "walk_diff", "walk_tree"]

# O_NONBLOCK: should a fifo have taken a file's place meanwhile, opening it must not wait.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_READ_DIRECTORY: Final = _READ | os.O_DIRECTORY
_SECOND: Final = 1_000_000_000
_NOTES: Final = (META, LINKS)
_OF_THE_HOST: Final = ("security.selinux", "security.ima", "security.evm")
_MODE_BITS: Final = 0o7777
_ENTERABLE: Final = 0o500


def walk_tree(
    root: Path,
    *,
    prefix: bytes = b"",
    ownership: Ownership | None = None,
    clamp: float | None = None,
    exclude: Container[bytes] = (),
) -> Iterator[Entry]:
    """Read a directory as entries: itself first, then what is below, in the order of the names' bytes.

    Files with several names become one file and hard links to it; sockets are left out; holes count
    as data. A file's content can be read until the next entry is asked for.

    Args:
        root: The directory.
        prefix: What the paths begin with.
        ownership: How owners are represented there; None for what this process can do.
        clamp: No time is later than this (seconds since the epoch).
        exclude: Paths, with the prefix, that are left out with all below them.

    Raises:
        LayerError: Something cannot be read, or has a name that would be a whiteout in a layer.
    """
    return _Walk(root, ownership, clamp, exclude).run(prefix)


def walk_diff(
    upper: Path,
    *,
    userxattr: bool | None = None,
    ownership: Ownership | None = None,
    clamp: float | None = None,
    exclude: Container[bytes] = (),
) -> Iterator[Entry]:
    """Read the upper directory of an overlay as a layer: its whiteouts become the image-spec's.

    The root itself is not an entry. Overlay's own attributes are dropped.

    Args:
        upper: The directory. The overlay must be unmounted, or nobody write to it.
        userxattr: Whether it was mounted with ``userxattr``; None for what goes with `ownership`.
        ownership: As for `walk_tree`.
        clamp: As for `walk_tree`.
        exclude: As for `walk_tree`.

    Raises:
        LayerError: As for `walk_tree`; or the overlay was mounted with ``redirect_dir`` or
            ``metacopy``, so that the directory does not hold all that was changed.
    """
    return _DiffWalk(upper, ownership, clamp, exclude, userxattr).run(b"")


def read_entry(file: Path, path: bytes, *, ownership: Ownership | None = None) -> Entry:
    """Read one file, directory, link or device as an entry, without what is below it.

    A file's content is read from `file` when it is asked for.

    Args:
        file: Where it is; not a socket.
        path: The path of the entry.
        ownership: As for `walk_tree`.

    Raises:
        LayerError: It cannot be read.
    """
    return _Walk(file, ownership, None, ()).one(path)


@define
class _Level:
    """A directory on the way down: what its paths begin with, what of it is still to come."""

    fd: int
    lead: bytes
    names: list[bytes]  # the last first, to be taken from the end
    shut: int | None  # its mode, if its owner had to open it up

    @classmethod
    def open(cls, name: bytes, lead: bytes, above: int | None, status: os.stat_result) -> _Level:
        mode = status.st_mode & _MODE_BITS
        shut = None
        if mode & _ENTERABLE != _ENTERABLE and status.st_uid == os.geteuid() != 0:
            _change_mode(name, mode | _ENTERABLE, above)
            shut = mode
        flags = _READ_DIRECTORY if above is not None else _READ_DIRECTORY & ~os.O_NOFOLLOW
        fd = os.open(name, flags, dir_fd=above)
        try:
            names = sorted(map(os.fsencode, os.listdir(fd)), reverse=True)
        except OSError:
            os.close(fd)
            raise
        return cls(fd, lead, names, shut)

    def close(self) -> None:
        if self.shut is not None:
            os.fchmod(self.fd, self.shut)
        os.close(self.fd)


class _Walk:
    """A walk over a tree, in the order of the names' bytes, without recursion."""

    def __init__(
        self,
        root: Path,
        ownership: Ownership | None,
        clamp: float | None,
        exclude: Container[bytes],
    ) -> None:
        self._root = root
        self._as_user = (ownership or Ownership.current()) is Ownership.USER
        self._clamp = None if clamp is None else round(clamp * _SECOND)
        self._exclude = frozenset(exclude) if isinstance(exclude, tuple | list) else exclude
        self._names: dict[tuple[int, int], bytes] = {}

    def run(self, prefix: bytes) -> Iterator[Entry]:
        path = prefix
        here: list[_Level] = []
        try:
            status = os.stat(self._root)
            lead = path + b"/" if path else b""
            here.append(_Level.open(os.fsencode(self._root), lead, None, status))
            yield from self._enter(here[0].fd, path, status, is_root=True)
            while here:
                level = here[-1]
                if not level.names:
                    here.pop().close()
                    continue
                name = level.names.pop()
                path = level.lead + name
                if path in self._exclude:
                    continue
                if name[:4] == PREFIX:
                    raise LayerError(
                        f"{show(path)} cannot be in a layer: its name would make it a whiteout"
                    )
                status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
                mode = status.st_mode
                if stat.S_ISREG(mode):
                    yield from self._file(level.fd, name, path, status)
                elif stat.S_ISDIR(mode):
                    here.append(_Level.open(name, path + b"/", level.fd, status))
                    yield from self._enter(here[-1].fd, path, status)
                elif not stat.S_ISSOCK(mode):
                    yield self._other(level.fd, name, level.lead, status)
        except OSError as error:
            raise LayerError(f"cannot read {show(path)}: {error.strerror}") from error
        finally:
            while here:
                here.pop().close()

    def one(self, path: bytes) -> Entry:
        """The root alone, whatever it is."""
        name = os.fsencode(self._root)
        try:
            status = self._root.lstat()
            if stat.S_ISSOCK(status.st_mode):
                raise LayerError(f"{show(name)} is a socket, which layers cannot hold")
            if not stat.S_ISREG(status.st_mode):
                return self._unopened(name, path, status)
            file = InFile(_open(name, _READ, None), status.st_size)
            try:
                entry = self._opened(file, path, status)
            finally:
                file.close()
        except OSError as error:
            raise LayerError(f"cannot read {show(name)}: {error.strerror}") from error
        if entry.content is not None:
            entry.content = _AtPath(name, status.st_size)
        return entry

    def _enter(
        self,
        fd: int,
        path: bytes,
        status: os.stat_result,
        *,
        is_root: bool = False,  # noqa: ARG002
    ) -> Iterator[Entry]:
        yield self._entry(path, DIRECTORY, status, self._kept(_xattrs(fd), path))

    def _file(
        self, above: int, name: bytes, path: bytes, status: os.stat_result
    ) -> Iterator[Entry]:
        if status.st_nlink > 1:
            first = self._names.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                entry = self._entry(path, HARD_LINK, status, NO_XATTRS)
                entry.link = first
                yield entry
                return
        file = InFile(_open(name, _READ, above), status.st_size)
        try:
            yield self._opened(file, path, status)
        finally:
            file.close()

    def _opened(self, file: InFile, path: bytes, status: os.stat_result) -> Entry:
        entry = self._entry(path, FILE, status, self._kept(_xattrs(file.fd), path))
        if entry.kind is FILE:
            entry.size = status.st_size
            entry.content = file
        return entry

    def _other(self, above: int, name: bytes, lead: bytes, status: os.stat_result) -> Entry:
        return self._unopened(b"/proc/self/fd/%d/%s" % (above, name), lead + name, status)

    def _unopened(self, file: bytes, path: bytes, status: os.stat_result) -> Entry:
        kind = KIND_OF_FORMAT[stat.S_IFMT(status.st_mode)]
        entry = self._entry(path, kind, status, self._kept(_xattrs(file), path))
        if self._as_user and (meta := owner_of_link(file, status)) is not None:
            entry.uid, entry.gid = meta.uid, meta.gid
        if kind is SYMLINK:
            entry.link = os.readlink(file)
        elif kind is CHARACTER_DEVICE or kind is BLOCK_DEVICE:
            entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return entry

    def _kept(self, xattrs: dict[str, bytes], path: bytes) -> Mapping[str, bytes]:  # noqa: ARG002
        """The attributes without overlay's own and those that mean something to this host alone."""
        if not xattrs:
            return NO_XATTRS
        return {
            key: value
            for key, value in xattrs.items()
            if not key.startswith(OVERLAY) and key not in _OF_THE_HOST
        }

    def _entry(
        self, path: bytes, kind: Kind, status: os.stat_result, xattrs: Mapping[str, bytes]
    ) -> Entry:
        mtime = status.st_mtime_ns
        if self._clamp is not None and mtime > self._clamp:
            mtime = self._clamp
        mode = status.st_mode & _MODE_BITS
        if not self._as_user:
            return Entry(path, kind, mode, status.st_uid, status.st_gid, mtime, xattrs=xattrs)
        entry = Entry(path, kind, mode, 0, 0, mtime)
        if xattrs:
            self._restore(entry, xattrs)
        return entry

    @staticmethod
    def _restore(entry: Entry, xattrs: Mapping[str, bytes]) -> None:
        """Undo what unpacking as an ordinary user had to write down elsewhere."""
        meta = Meta.decode(xattrs[META]) if META in xattrs else None
        if meta is not None:
            entry.uid, entry.gid = meta.uid, meta.gid
            kept_mode = disk_mode(meta.mode, directory=entry.kind is DIRECTORY)
            if meta.device is not None and entry.kind is FILE:
                entry.kind, entry.major, entry.minor = meta.device, meta.major, meta.minor
                entry.mode = meta.mode
            elif entry.mode == kept_mode:  # else somebody has changed it since
                entry.mode = meta.mode
        entry.xattrs = {
            key.removeprefix(STASH): value for key, value in xattrs.items() if key not in _NOTES
        }


class _DiffWalk(_Walk):
    def __init__(
        self,
        root: Path,
        ownership: Ownership | None,
        clamp: float | None,
        exclude: Container[bytes],
        userxattr: bool | None,
    ) -> None:
        super().__init__(root, ownership, clamp, exclude)
        user = self._as_user if userxattr is None else userxattr
        self._overlay = OVERLAY[1] if user else OVERLAY[0]

    def _enter(
        self, fd: int, path: bytes, status: os.stat_result, *, is_root: bool = False
    ) -> Iterator[Entry]:
        xattrs = _xattrs(fd)
        if not is_root:
            yield self._entry(path, DIRECTORY, status, self._kept(xattrs, path))
        if xattrs.get(self._overlay + "opaque") == b"y":
            yield _whiteout(path + b"/" + OPAQUE if path else OPAQUE)

    def _opened(self, file: InFile, path: bytes, status: os.stat_result) -> Entry:
        entry = super()._opened(file, path, status)
        if status.st_size or self._overlay + "whiteout" not in _xattrs(file.fd):
            return entry
        # Other tools make whiteouts of this kind, the kernel reads both.
        lead, slash, name = path.rpartition(b"/")
        return _whiteout(lead + slash + PREFIX + name)

    def _other(self, above: int, name: bytes, lead: bytes, status: os.stat_result) -> Entry:
        if is_whiteout(status):
            return _whiteout(lead + PREFIX + name)
        return super()._other(above, name, lead, status)

    def _kept(self, xattrs: dict[str, bytes], path: bytes) -> Mapping[str, bytes]:
        for feature in ("redirect", "metacopy"):
            if self._overlay + feature in xattrs:
                raise LayerError(
                    f"{show(path)} is changed in a way that only the mounted overlay shows",
                    remedy="mount it with redirect_dir=off,metacopy=off",
                )
        return super()._kept(xattrs, path)


def _whiteout(path: bytes) -> Entry:
    return Entry(path, FILE, 0o600)


def _open(name: bytes, flags: int, above: int | None) -> int:
    """Open for reading; an owner who may not gets leave for that moment."""
    try:
        return os.open(name, flags, dir_fd=above)
    except PermissionError:
        status = os.stat(name, dir_fd=above, follow_symlinks=False)
        if status.st_uid != os.geteuid():
            raise
        mode = status.st_mode & _MODE_BITS
        _change_mode(name, mode | stat.S_IRUSR, above)
        try:
            return os.open(name, flags, dir_fd=above)
        finally:
            _change_mode(name, mode, above)


def _change_mode(name: bytes, mode: int, above: int | None) -> None:
    """Change a mode without following a symlink, which chmod(2) always does."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


class _AtPath(StoredContent):
    """Content of a file that is opened when it is asked for."""

    __slots__ = ("path", "size")

    def __init__(self, path: bytes, size: int) -> None:
        self.path = path
        self.size = size

    def __call__(self) -> Iterator[bytes]:
        try:
            opened = InFile(_open(self.path, _READ, None), self.size)
            try:
                yield from opened()
            finally:
                opened.close()
        except OSError as error:
            raise LayerError(f"cannot read {show(self.path)}: {error.strerror}") from error

    def status(self) -> os.stat_result:
        return os.stat(self.path, follow_symlinks=False)


def _xattrs(target: int | bytes) -> dict[str, bytes]:
    """All extended attributes, in the order of their names."""
    follow = isinstance(target, int)
    try:
        keys = os.listxattr(target, follow_symlinks=follow)
    except OSError:  # the file system has none
        return {}
    if not keys:
        return {}
    return {key: os.getxattr(target, key, follow_symlinks=follow) for key in sorted(keys)}
