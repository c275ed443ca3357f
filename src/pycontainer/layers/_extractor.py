"""Writing entries into a directory, every path resolved beneath it by descriptors.

The way of a file: one open relative to a held directory, its writes, then owner, mode and time, each
only where creation did not give the right one already. Directories get their times last.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final, Self

from pycontainer._linux.path import make_target
from pycontainer._linux.tree import remove_tree
from pycontainer.errors import LayerError, UnsafePath
from pycontainer.layers._entry import Entry, Kind
from pycontainer.layers._ownership import META, STASH, Meta, Ownership

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Extractor"]

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HELD_DIRECTORIES: Final = 256
_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_RESERVED: Final = b".wh..wh."  # AUFS bookkeeping that old images still carry
_SPECIAL: Final = {
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}
_SPECIAL_MODE: Final = 0o7000


class Extractor:
    """Puts the entries of one layer below a directory.

    Args:
        root: The directory; empty unless `apply` is set.
        ownership: How owners and devices are represented.
        apply: Whiteouts delete from the tree that is there, instead of becoming overlay's.

    Raises:
        UnsafePath: An entry leads out of the root, or a whiteout names nothing.
        LayerError: The file system refuses an entry.
    """

    def __init__(self, root: Path, ownership: Ownership, *, apply: bool = False) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._directories: dict[bytes, int] = {b"": self._root}
        self._times: list[tuple[bytes, int, int | None]] = []
        self._ownership = ownership
        self._as_user = ownership is Ownership.USER
        self._apply = apply
        self._own: set[bytes] = set()  # what this layer itself has put, when whiteouts delete
        self._ids = (os.geteuid(), os.getegid())
        self._umask = _umask()
        self.entries = 0

    # --- life --------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close_directories()
        os.close(self._root)

    def finish(self) -> None:
        """Give directories their modes and times, deepest last made first."""
        for path, mtime, mode in reversed(self._times):
            fd = self._directory(path)
            if mode is not None:
                os.chmod(".", mode, dir_fd=fd)
            os.utime(".", ns=(mtime, mtime), dir_fd=fd)

    def put(self, entry: Entry) -> None:
        """Write one entry.

        Raises:
            UnsafePath: It leads out of the root.
            LayerError: It cannot be written.
        """
        parent, name = _split(entry.path)
        self.entries += 1
        try:
            if name.startswith(_WHITEOUT):
                self._whiteout(parent, name)
            elif entry.kind is Kind.FILE:
                self._file(entry, self._directory(parent), name)
            elif entry.kind is Kind.DIRECTORY:
                self._make_directory(entry, parent, name)
            elif entry.kind is Kind.SYMLINK:
                self._symlink(entry, self._directory(parent), name)
            elif entry.kind is Kind.HARD_LINK:
                self._hard_link(entry, self._directory(parent), name)
            else:
                self._special(entry, self._directory(parent), name)
        except OSError as error:
            raise LayerError(
                f"cannot write {_show(entry.path)}: {error.strerror}",
                remedy=_remedy(error),
            ) from error
        if self._apply:
            self._own.add(entry.path)

    # --- directories -------------------------------------------------------------------------

    def _directory(self, path: bytes) -> int:
        """A descriptor of a directory, made with what leads to it if it is not there."""
        fd = self._directories.get(path)
        if fd is None:
            if b".." in path.split(b"/"):
                raise UnsafePath(f"the path {_show(path)} leads upwards")
            target = make_target(self._root, os.fsdecode(path), directory=True)
            try:
                fd = os.open(".", _OPEN_DIRECTORY, dir_fd=target)
            finally:
                os.close(target)
            self._hold(path, fd)
        return fd

    def _hold(self, path: bytes, fd: int) -> None:
        if len(self._directories) > _HELD_DIRECTORIES:
            self._close_directories()
        self._directories[path] = fd

    def _close_directories(self) -> None:
        for path, fd in self._directories.items():
            if path:
                os.close(fd)
        self._directories = {b"": self._root}

    def _make_directory(self, entry: Entry, parent: bytes, name: bytes) -> None:
        if not name:
            self._describe_directory(entry, self._root)
            return
        above = self._directory(parent)
        replaced_whiteout = False
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            there = os.stat(name, dir_fd=above, follow_symlinks=False)
            if not stat.S_ISDIR(there.st_mode):
                replaced_whiteout = stat.S_ISCHR(there.st_mode) and there.st_rdev == 0
                self._remove(name, above)
                os.mkdir(name, 0o700, dir_fd=above)
        fd = self._directories.get(entry.path)
        if fd is None:
            fd = os.open(name, _OPEN_DIRECTORY, dir_fd=above)
            self._hold(entry.path, fd)
        if replaced_whiteout and not self._apply:
            self._mark_opaque(fd)
        self._describe_directory(entry, fd)

    def _describe_directory(self, entry: Entry, fd: int) -> None:
        # Until the end its owner must be able to fill it, whatever mode it is to have.
        late_mode = entry.mode
        if self._as_user and late_mode & 0o700 != 0o700:
            late_mode |= 0o700
        self._own_and_annotate(entry, fd, late_mode)
        if late_mode & 0o300 == 0o300:
            os.fchmod(fd, late_mode)
            self._times.append((entry.path, entry.mtime_ns, None))
        else:
            self._times.append((entry.path, entry.mtime_ns, late_mode))

    # --- files -------------------------------------------------------------------------------

    def _file(self, entry: Entry, above: int, name: bytes) -> None:
        mode = entry.mode
        if self._as_user:
            mode |= 0o600  # its owner reads it back without root's privilege
        fd = self._create(name, mode, above)
        try:
            if entry.content is not None and entry.size:
                if entry.sparse is None:
                    for piece in entry.content():
                        _write(fd, piece)
                else:
                    _write_sparse(fd, entry)
            self._own_and_annotate(entry, fd, mode)
            if mode & (_SPECIAL_MODE | self._umask):
                os.fchmod(fd, mode)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _create(self, name: bytes, mode: int, above: int) -> int:
        try:
            return os.open(name, _CREATE, mode & ~_SPECIAL_MODE, dir_fd=above)
        except FileExistsError:
            self._remove(name, above)
            return os.open(name, _CREATE, mode & ~_SPECIAL_MODE, dir_fd=above)

    def _own_and_annotate(self, entry: Entry, fd: int, mode: int) -> None:
        if not self._as_user:
            if (entry.uid, entry.gid) != self._ids:
                os.fchown(fd, entry.uid, entry.gid)
            for key, value in entry.xattrs.items():
                os.setxattr(fd, key, value)
            return
        if entry.uid or entry.gid or mode != entry.mode:
            os.setxattr(fd, META, Meta(entry.uid, entry.gid, entry.mode).encode())
        for key, value in entry.xattrs.items():
            os.setxattr(fd, key if key.startswith("user.") else STASH + key, value)

    def _symlink(self, entry: Entry, above: int, name: bytes) -> None:
        self._make(name, above, lambda: os.symlink(entry.link, name, dir_fd=above))
        self._describe_unopened(entry, above, name)

    def _special(self, entry: Entry, above: int, name: bytes) -> None:
        if self._as_user and entry.kind is not Kind.FIFO:
            fd = self._create(name, 0o600, above)
            letter = Meta.letter(entry.kind)
            meta = Meta(entry.uid, entry.gid, entry.mode, letter, entry.major, entry.minor)
            os.setxattr(fd, META, meta.encode())
            os.close(fd)
        else:
            kind = _SPECIAL[entry.kind]
            device = 0 if entry.kind is Kind.FIFO else os.makedev(entry.major, entry.minor)
            mode = entry.mode
            self._make(name, above, lambda: os.mknod(name, kind | mode, device, dir_fd=above))
            if mode & (_SPECIAL_MODE | self._umask):
                os.chmod(name, mode, dir_fd=above)
        self._describe_unopened(entry, above, name)

    def _describe_unopened(self, entry: Entry, above: int, name: bytes) -> None:
        if not self._as_user:
            if (entry.uid, entry.gid) != self._ids:
                os.chown(name, entry.uid, entry.gid, dir_fd=above, follow_symlinks=False)
                if entry.kind is not Kind.SYMLINK and entry.mode & _SPECIAL_MODE:
                    os.chmod(name, entry.mode, dir_fd=above)
            for key, value in entry.xattrs.items():
                path = f"/proc/self/fd/{above}/{os.fsdecode(name)}"
                os.setxattr(path, key, value, follow_symlinks=False)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=above, follow_symlinks=False)

    def _hard_link(self, entry: Entry, above: int, name: bytes) -> None:
        parent, target = _split(entry.link)
        if not target:
            raise UnsafePath(f"{_show(entry.path)} is a hard link to the root")
        source = self._directory(parent)

        def link() -> None:
            os.link(target, name, src_dir_fd=source, dst_dir_fd=above, follow_symlinks=False)

        try:
            link()
        except FileExistsError:
            if os.path.samestat(
                os.stat(target, dir_fd=source, follow_symlinks=False),
                os.stat(name, dir_fd=above, follow_symlinks=False),
            ):
                return
            self._remove(name, above)
            link()
        except FileNotFoundError as error:
            raise LayerError(
                f"{_show(entry.path)} is a hard link to {_show(entry.link)}, "
                "which the layer does not hold before it"
            ) from error

    def _make(self, name: bytes, above: int, make: object) -> None:
        assert callable(make)
        try:
            make()
        except FileExistsError:
            self._remove(name, above)
            make()

    def _remove(self, name: bytes, above: int) -> None:
        if not name:
            raise UnsafePath("an entry would replace the root directory")
        self._close_but(above)
        remove_tree(os.fsdecode(name), dir_fd=above)

    def _close_but(self, above: int) -> None:
        """Forget held directories: one of them may be about to go."""
        for path, fd in list(self._directories.items()):
            if path and fd != above:
                os.close(fd)
                del self._directories[path]

    # --- whiteouts ---------------------------------------------------------------------------

    def _whiteout(self, parent: bytes, name: bytes) -> None:
        """Image-spec, layer.md: a whiteout hides what lower layers hold, never this layer's own."""
        if name == _OPAQUE:
            fd = self._directory(parent)
            if self._apply:
                self._empty(parent, fd)
            else:
                self._mark_opaque(fd)
            return
        if name.startswith(_RESERVED):
            return
        hidden = name[len(_WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise UnsafePath(f"the whiteout {_show(parent + b'/' + name)} names nothing")
        above = self._directory(parent)
        path = parent + b"/" + hidden if parent else hidden
        if self._apply:
            if not self._holds(path):
                self._remove(hidden, above)
            return
        try:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=above)
        except FileExistsError:
            there = os.stat(hidden, dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode):  # this layer's own: only what is below it is hidden
                self._mark_opaque(self._directory(path))

    def _holds(self, path: bytes) -> bool:
        return path in self._own or any(own.startswith(path + b"/") for own in self._own)

    def _empty(self, path: bytes, fd: int) -> None:
        with os.scandir(fd) as found:
            names = [os.fsencode(item.name) for item in found]
        for name in names:
            if not self._holds(path + b"/" + name if path else name):
                self._remove(name, self._directory(path))

    def _mark_opaque(self, fd: int) -> None:
        os.setxattr(fd, self._ownership.overlay_prefix + "opaque", b"y")


def _split(path: bytes) -> tuple[bytes, bytes]:
    parent, _, name = path.rpartition(b"/")
    if name == b"..":
        raise UnsafePath(f"the path {_show(path)} leads upwards")
    return parent, name


def _write(fd: int, piece: bytes | memoryview) -> None:
    done = os.write(fd, piece)
    while done < len(piece):
        done += os.write(fd, memoryview(piece)[done:])


def _write_sparse(fd: int, entry: Entry) -> None:
    assert entry.sparse is not None
    assert entry.content is not None
    pieces = iter(entry.sparse)
    offset, left = 0, 0
    for data in entry.content():
        view = memoryview(data)
        while view:
            while not left:
                offset, left = next(pieces)
            count = os.pwrite(fd, view[:left], offset)
            view, offset, left = view[count:], offset + count, left - count
    os.ftruncate(fd, entry.size)


def _umask() -> int:
    """This process's umask, read without changing it under other threads' feet."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o7777  # not known: set every mode


def _show(path: bytes) -> str:
    return repr(os.fsdecode(path))


def _remedy(error: OSError) -> str | None:
    if error.errno == errno.ENOSPC:
        return "free space on the store's file system, or move the store (PYCONTAINER_HOME)"
    if error.errno in (errno.ENOTSUP, errno.EPERM):
        return "the store's file system must support owners and extended attributes"
    return None
