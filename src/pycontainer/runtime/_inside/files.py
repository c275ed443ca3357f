"""Small files written so that readers see the old or the new content, never a part."""

from __future__ import annotations

import os

__all__ = ["write_atomically", "write_to"]


def write_atomically(name: str, data: bytes, *, dir_fd: int | None = None) -> None:
    """Replace the file `name` by rename."""
    temporary = f".{name}.new"
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=dir_fd)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)


def write_to(path: str, data: str) -> None:
    """Write to an existing file, such as one of /proc."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data.encode())
    finally:
        os.close(fd)
