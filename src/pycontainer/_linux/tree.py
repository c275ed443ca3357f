"""Removing directory trees by descriptors."""

from __future__ import annotations

import os
import stat

__all__ = ["remove_tree"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> None:
    """Remove `path`, be it a file or a directory with all below it; what is not there is removed.

    Symlinks are removed, never followed. Directories that their owner may not read or write (as
    overlay's work directory) are opened up first.

    Raises:
        OSError: Something could not be removed; the rest above it stays.
    """
    try:
        os.unlink(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        # unlink(2) of a directory is EISDIR on Linux and EPERM by POSIX.
        if not stat.S_ISDIR(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            raise
    else:
        return
    fd = _open_directory(path, dir_fd)
    try:
        with os.scandir(fd) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            remove_tree(name, dir_fd=fd)
    finally:
        os.close(fd)
    try:
        os.rmdir(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return


def _open_directory(path: str | os.PathLike[str], dir_fd: int | None) -> int:
    try:
        fd = os.open(path, _DIRECTORY, dir_fd=dir_fd)
    except PermissionError:
        os.chmod(path, 0o700, dir_fd=dir_fd)
        return os.open(path, _DIRECTORY, dir_fd=dir_fd)
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    return fd
