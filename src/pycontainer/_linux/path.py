"""Paths resolved beneath a root by the kernel (openat2(2))."""

from __future__ import annotations

import ctypes
import os

from pycontainer._linux._syscall import NUMBERS, encode, syscall

__all__ = ["RESOLVE_IN_ROOT", "make_target", "open_in_root"]

RESOLVE_IN_ROOT = 0x10
_RESOLVE_NO_MAGICLINKS = 0x02


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as a process would whose root directory is `root`; symlinks cannot lead out."""
    how = (ctypes.c_uint64 * 3)(
        flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS
    )
    return syscall(
        NUMBERS["openat2"],
        root,
        encode(path.lstrip("/") or "."),
        ctypes.addressof(how),
        ctypes.sizeof(how),
        what=path,
    )


def make_target(root: int, path: str, *, directory: bool) -> int:
    """Open (O_PATH) a mount point beneath `root`, making what is missing of it.

    Args:
        root: Descriptor of the root directory.
        path: Where, seen from that root; its existing part may go through symlinks.
        directory: Whether the last part is made as a directory or as an empty file.
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
                if last and not directory:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.close(os.open(name, flags, 0o644, dir_fd=parent))
                else:
                    os.mkdir(name, 0o755, dir_fd=parent)
                fd = open_in_root(root, so_far, os.O_PATH)
            os.close(parent)
            parent = fd
        return os.dup(parent)
    finally:
        os.close(parent)
