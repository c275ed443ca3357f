"""Paths resolved beneath a root by the kernel (openat2(2))."""

from __future__ import annotations

import ctypes
import errno
import os

from pycontainer._linux._syscall import NUMBERS, encode, syscall

__all__ = ["RESOLVE_IN_ROOT", "make_target", "open_in_root"]

RESOLVE_IN_ROOT = 0x10
_MOST_LINKS = 40  # as the kernel follows in one path
_MOST_TRIES = 1000
_RESOLVE_NO_MAGICLINKS = 0x02


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as a process would whose root directory is `root`; symlinks cannot lead out."""
    how = (ctypes.c_uint64 * 3)(
        flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS
    )
    name = encode(path.lstrip("/") or ".")
    tries = 0
    while True:
        try:
            return syscall(
                NUMBERS["openat2"],
                root,
                name,
                ctypes.addressof(how),
                ctypes.sizeof(how),
                what=path,
            )
        except BlockingIOError:  # something, anywhere, was renamed or mounted while it passed `..`
            tries += 1
            if tries == _MOST_TRIES:
                raise


def make_target(root: int, path: str, *, directory: bool, links: int = 0) -> int:
    """Open (O_PATH) a mount point beneath `root`, making what is missing of it.

    Args:
        root: Descriptor of the root directory.
        path: Where, seen from that root; its existing part may go through symlinks.
        directory: Whether the last part is made as a directory or as an empty file.
        links: How many dangling symlinks led here.
    """
    try:
        return open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        pass
    parts = [part for part in path.split("/") if part not in ("", ".")]
    parent = os.dup(root)
    try:
        for depth, name in enumerate(parts, 1):
            last = depth == len(parts)
            so_far = "/".join(parts[:depth])
            try:
                fd = open_in_root(root, so_far, os.O_PATH)
            except FileNotFoundError:
                try:
                    _make(name, parent, directory=directory or not last)
                except FileExistsError:  # a symlink to what is not there: make that
                    return _make_behind_link(root, parts, depth, parent, directory, links)
                fd = open_in_root(root, so_far, os.O_PATH)
            os.close(parent)
            parent = fd
        return os.dup(parent)
    finally:
        os.close(parent)


def _make(name: str, parent: int, *, directory: bool) -> None:
    if directory:
        os.mkdir(name, 0o755, dir_fd=parent)
        return
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(name, flags, 0o644, dir_fd=parent))


def _make_behind_link(
    root: int, parts: list[str], depth: int, parent: int, directory: bool, links: int
) -> int:
    if links == _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), "/".join(parts))
    target = os.readlink(parts[depth - 1], dir_fd=parent)
    before = [] if target.startswith("/") else parts[: depth - 1]
    path = "/".join([*before, target, *parts[depth:]])
    return make_target(root, path, directory=directory, links=links + 1)
