"""Small files written so that readers see the old or the new content, never a part."""

from __future__ import annotations

import os

__all__ = ["prepare", "publish", "replace", "write_atomically", "write_new", "write_to"]


def write_atomically(name: str, data: bytes) -> None:
    """Replace the file `name` of the working directory by rename."""
    prepare(name, data)
    publish(name)


def replace(path: str, data: bytes) -> None:
    """Replace the file `path`, for whom the working directory is another."""
    above, name = os.path.split(path)
    new = f"{above}/.{name}.new"
    write_new(new, data)
    os.rename(new, path)


def prepare(name: str, data: bytes) -> None:
    """Write what `publish` will show under `name`."""
    write_new(f".{name}.new", data)


def write_new(path: str, data: bytes) -> None:
    """Write a file that is this user's alone."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    view = memoryview(data)
    try:
        while view:  # a disk that is nearly full takes a part first, and then none
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def publish(name: str) -> None:
    """Replace the file `name` by what `prepare` wrote."""
    os.rename(f".{name}.new", name)


def write_to(path: str, data: str) -> None:
    """Write to an existing file, such as one of /proc."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data.encode())
    finally:
        os.close(fd)
