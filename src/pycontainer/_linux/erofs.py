"""EROFS images that are regular files, mounted without a loop device (kernel 6.12 and later)."""

from __future__ import annotations

import os

from pycontainer._linux import mount

__all__ = ["SUFFIX", "detached", "forget", "keep", "kept"]

SUFFIX = ".erofs"
"""What the names of images end with."""

_MOST_KEPT = 256

_kept: dict[str, tuple[int, tuple[int, int]]] = {}  # descriptor, and which file was mounted


def detached(image: str) -> int:
    """Make a detached, read-only mount of an image and return its descriptor.

    Raises:
        OSError: ENODEV without EROFS, ENOTBLK where it takes only block devices or not the file
            system that the image is on; EPERM for who is not root of the machine; else what the
            kernel found wrong with the image.
    """
    file = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        context = mount.fsopen("erofs")
        try:
            # By descriptor: a parameter of fsconfig(2) takes no more than 255 bytes.
            mount.configure(context, "source", f"/proc/self/fd/{file}")
            return mount.create(context, mount.RDONLY)
        finally:
            os.close(context)
    finally:
        os.close(file)


def keep(images: list[str]) -> None:
    """Mount images, and keep the mounts for those that this process clones.

    Overlays of one mount share its pages, and are made and undone as fast as those of directories.
    What was kept of files that have gone is given up. An image that cannot be mounted is left to who
    needs it.
    """
    for image in list(_kept):
        if image not in images and _identity(image) is None:
            os.close(_kept.pop(image)[0])
    for image in images:
        identity = _identity(image)
        known = _kept.pop(image, None)
        if known is not None and known[1] != identity:
            os.close(known[0])
            known = None
        try:
            if known is None and identity is not None:
                known = detached(image), identity
        except OSError:
            continue
        if known is not None:
            _kept[image] = known  # now the youngest
    while len(_kept) > max(_MOST_KEPT, len(images)):
        os.close(_kept.pop(next(iter(_kept)))[0])


def kept(image: str) -> int | None:
    """The descriptor of a mount that is kept."""
    known = _kept.get(image)
    return None if known is None else known[0]


def forget() -> None:
    """Give up all that is kept; in a cloned process, for that one."""
    for fd, _ in _kept.values():
        os.close(fd)
    _kept.clear()


def _identity(image: str) -> tuple[int, int] | None:
    try:
        status = os.stat(image)
    except OSError:
        return None
    return status.st_dev, status.st_ino
