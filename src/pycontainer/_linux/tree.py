"""Removing directory trees, however deep, without permission bits, beside others who do the same."""

from __future__ import annotations

import errno
import os
import stat
import sys

__all__ = ["remove_tree"]

_DEEPEST = 64
_TRIES = 10
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)  # the latter is POSIX's other word for it
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> None:
    """Remove `path`, be it a file or a directory with all below it; what is not there is removed.

    Symlinks are removed, never followed. Directories that their owner may not read or write (as
    overlay's work directory) are opened up first. A tree may be of any depth: what lies deeper than
    descriptors and stack allow for is first moved up. Who still writes into its top is waited for.

    Args:
        path: What to remove.
        dir_fd: Descriptor of the directory that a relative path starts from.

    Raises:
        OSError: Something could not be removed; what holds it stays.
    """
    try:
        if not stat.S_ISDIR(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            os.unlink(path, dir_fd=dir_fd)
            return
        fd = _open_directory(os.fspath(path), dir_fd)
    except FileNotFoundError:
        return
    try:
        for left in range(_TRIES - 1, -1, -1):
            while _empty(fd, top=fd, depth=1):
                pass
            try:
                _remove_directory(os.fspath(path), dir_fd)
            except OSError as error:
                if error.errno not in _NOT_EMPTY or not left:
                    raise
            else:
                return
    finally:
        os.close(fd)


def _empty(directory: int, *, top: int, depth: int) -> bool:
    """Remove what a directory holds; return whether something of it was moved to `top` instead."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    moved = False
    for name, is_directory in found:
        try:
            if not is_directory:
                os.unlink(name, dir_fd=directory)
                continue
            if _remove_empty(name, directory):
                continue
            child = _open_directory(name, directory)
        except FileNotFoundError:
            continue
        try:
            if depth == _DEEPEST:
                os.rename(name, f".{os.urandom(8).hex()}", src_dir_fd=directory, dst_dir_fd=top)
                moved = True
                continue
            moved |= _empty(child, top=top, depth=depth + 1)
        finally:
            os.close(child)
        _remove_directory(name, directory)
    return moved


def _remove_empty(name: str, parent: int) -> bool:
    """Remove a directory if it is empty, as many are; that takes one call, to look into it seven."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return False
    return True


def _open_directory(name: str, parent: int | None) -> int:
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        _open_up(name, parent)
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_up(name: str, parent: int | None) -> None:
    """Give its owner all rights on a directory that cannot be opened."""
    if sys.platform != "linux":
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=False)
        return
    # There chmod(2) follows symlinks; the descriptor's name in /proc stands for the directory itself.
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
    finally:
        os.close(fd)


def _remove_directory(name: str, parent: int | None) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return
