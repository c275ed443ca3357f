"""The files of a container, read and written from outside as `pathlib` does it on the host.

Each call opens the container's root directory and resolves its path beneath that by openat2(2), as a
process inside would: no symlink that the container plants leads out of it. What is read or written is
looked at first without being opened: no device or FIFO of the container's is ever opened here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from pycontainer._linux.path import open_in_root
from pycontainer._linux.tree import remove_tree
from pycontainer.containers._copying import copy_in, copy_out
from pycontainer.containers._view import opened_root
from pycontainer.errors import ContainerFileError, ContainerFileNotFound, Error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pycontainer.containers._view import Root
    from pycontainer.snapshots import RootfsPlan

__all__ = ["ContainerFiles"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class ContainerFiles:
    """The files of a container: `Container.fs`.

    They are what the container sees, with its volumes and what else is mounted; of one that does not
    run, with its volumes and binds. Paths are POSIX paths seen from its root directory, where a
    relative one begins too. New files and directories belong to its root user.

    Every method raises `ContainerFileNotFound` if there is nothing at the path, `ContainerFileError` if
    the system refuses something else, and `ContainerStateError` if the container is gone.
    """

    def __init__(self, name: str, home: Path, plan: RootfsPlan) -> None:
        self._name = name
        self._home = home
        self._plan = plan

    def __repr__(self) -> str:
        return f"<files of container {self._name}>"

    # --- reading -----------------------------------------------------------------------------

    def read_bytes(self, path: str | PurePosixPath) -> bytes:
        """The content of a regular file."""
        with (
            self._root("read", path) as root,
            _regular(root, path, os.O_RDONLY) as fd,
            open(fd, "rb", closefd=False) as file,
        ):
            return file.read()

    def read_text(
        self, path: str | PurePosixPath, *, encoding: str = "utf-8", errors: str = "strict"
    ) -> str:
        """The content of a regular file as text."""
        return self.read_bytes(path).decode(encoding, errors)

    def iterdir(self, path: str | PurePosixPath = "/") -> Iterator[PurePosixPath]:
        """The paths of what is in a directory, in the order of their names."""
        with self._root("list", path) as root:
            fd = open_in_root(root, os.fspath(path), _DIRECTORY)
            try:
                names = sorted(os.listdir(fd))
            finally:
                os.close(fd)
        return (PurePosixPath(path) / name for name in names)

    def exists(self, path: str | PurePosixPath) -> bool:
        """Whether there is something at a path; a symlink that leads nowhere is nothing."""
        try:
            self.stat(path)
        except ContainerFileError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise
        return True

    def is_dir(self, path: str | PurePosixPath) -> bool:
        """Whether there is a directory, or a symlink to one."""
        return self.exists(path) and stat.S_ISDIR(self.stat(path).st_mode)

    def is_file(self, path: str | PurePosixPath) -> bool:
        """Whether there is a regular file, or a symlink to one."""
        return self.exists(path) and stat.S_ISREG(self.stat(path).st_mode)

    def stat(self, path: str | PurePosixPath, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size, mode, owner and times of what is at a path."""
        flags = os.O_PATH | (0 if follow_symlinks else os.O_NOFOLLOW)
        with self._opened("look at", path) as root:
            fd = open_in_root(root.fd, os.fspath(path), flags)
            try:
                return root.owners.seen(os.stat(fd))
            finally:
                os.close(fd)

    def readlink(self, path: str | PurePosixPath) -> str:
        """Where a symlink leads, as it is written in it."""
        with self._root("read the link", path) as root, _parent(root, path) as (above, name):
            return os.readlink(name, dir_fd=above)

    # --- writing -----------------------------------------------------------------------------

    def write_bytes(self, path: str | PurePosixPath, data: bytes, *, mode: int = 0o644) -> None:
        """Write a regular file, in place of what it holds; `mode` is for a new one."""
        with self._root("write", path, making=True) as root, _writable(root, path, mode) as fd:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]

    def write_text(
        self,
        path: str | PurePosixPath,
        text: str,
        *,
        encoding: str = "utf-8",
        mode: int = 0o644,
    ) -> None:
        """Write a regular file as text, in place of what it holds; `mode` is for a new one."""
        self.write_bytes(path, text.encode(encoding), mode=mode)

    def mkdir(
        self,
        path: str | PurePosixPath,
        *,
        mode: int = 0o755,
        parents: bool = False,
        exist_ok: bool = False,
    ) -> None:
        """Make a directory.

        Args:
            path: Where.
            mode: Its permission bits.
            parents: Whether to make those above it that are missing, with 0755.
            exist_ok: Whether one that is there already is no error.
        """
        with self._root("make the directory", path, making=True) as root:
            if parents:
                for above in reversed(PurePosixPath(path).parents):
                    _make_directory(root, above, 0o755, exist_ok=True)
            _make_directory(root, path, mode, exist_ok=exist_ok)

    def remove(self, path: str | PurePosixPath, *, recursive: bool = False) -> None:
        """Remove a file, a symlink itself, or a directory.

        Args:
            path: What.
            recursive: Whether a directory goes with all below it; else it must be empty.
        """
        with self._root("remove", path) as root, _parent(root, path) as (above, name):
            if not stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=above)
            elif recursive:
                remove_tree(name, dir_fd=above)
            else:
                os.rmdir(name, dir_fd=above)

    # --- copying -----------------------------------------------------------------------------

    def copy_in(
        self,
        source: str | os.PathLike[str],
        target: str | PurePosixPath,
        *,
        archive: bool = False,
    ) -> None:
        """Copy a file or a tree of the host into the container, as ``docker cp`` does.

        It goes into `target` if that is a directory, and else becomes it, whose parent must exist. Of
        a source that ends with ``/.`` the content goes into the directory. Symlinks are copied
        themselves; what is in the way of a file is replaced.

        Args:
            source: On the host.
            target: In the container, without ``..``.
            archive: Whether owners, and all else that belongs to them, are kept. Otherwise all will
                belong to the container's root user, without set-user-id bits, devices and
                attributes that grant rights.
        """
        with self._opened("copy to", target) as root, root.owners.root():
            copy_in(root, os.fspath(source), os.fspath(target), archive=archive)

    def copy_out(
        self,
        source: str | PurePosixPath,
        target: str | os.PathLike[str],
        *,
        archive: bool = False,
    ) -> None:
        """Copy a file or a tree of the container to the host, as ``docker cp`` does.

        The container's processes stand still meanwhile, where its user may have that.

        Args:
            source: In the container; as for `copy_in`.
            target: On the host; as for `copy_in`.
            archive: Whether owners, and all else that belongs to them, are kept. Otherwise all will
                belong to this user; set-user-id bits, devices and attributes that grant rights are
                left out, as whoever made them in the container must not get them outside.
        """
        with self._opened("copy", source, still=True) as root:
            copy_out(root, os.fspath(source), os.fspath(target), archive=archive)

    # --- the root ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _root(self, what: str, path: str | PurePosixPath, *, making: bool = False) -> Iterator[int]:
        with (
            self._opened(what, path) as root,
            root.owners.root() if making else contextlib.nullcontext(),
        ):
            yield root.fd

    @contextlib.contextmanager
    def _opened(
        self, what: str, path: str | PurePosixPath, *, still: bool = False
    ) -> Iterator[Root]:
        try:
            with opened_root(self._home, self._plan, still=still) as root:
                yield root
        except Error:
            raise
        except OSError as error:
            kind = ContainerFileError
            if isinstance(error, FileNotFoundError):
                kind = ContainerFileNotFound
            raise kind(
                f"cannot {what} {os.fspath(path)} of container {self._name}: "
                f"{error.strerror or error}",
                code=error.errno or 0,
            ) from error


@contextlib.contextmanager
def _regular(root: int, path: str | PurePosixPath, flags: int) -> Iterator[int]:
    """Open what must be a regular file, having looked at it before."""
    place = open_in_root(root, os.fspath(path), os.O_PATH)
    try:
        mode = os.stat(place).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        fd = os.open(f"/proc/self/fd/{place}", flags | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _writable(root: int, path: str | PurePosixPath, mode: int) -> Iterator[int]:
    try:
        fd = open_in_root(root, os.fspath(path), _NEW, mode)
    except FileExistsError:
        with _regular(root, path, os.O_WRONLY | os.O_TRUNC) as existing:
            yield existing
        return
    try:
        os.fchmod(fd, mode)  # whatever the umask made of it
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _parent(root: int, path: str | PurePosixPath) -> Iterator[tuple[int, str]]:
    """The directory that something is in, and its name there."""
    above, _, name = os.fspath(path).rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "not a name in a directory", path)
    fd = open_in_root(root, above, _DIRECTORY)
    try:
        yield fd, name
    finally:
        os.close(fd)


def _make_directory(root: int, path: str | PurePosixPath, mode: int, *, exist_ok: bool) -> None:
    if exist_ok:
        with contextlib.suppress(FileNotFoundError):
            os.close(open_in_root(root, os.fspath(path), os.O_PATH | os.O_DIRECTORY))
            return
    with _parent(root, path) as (above, name):
        os.mkdir(name, mode, dir_fd=above)
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
