"""Device nodes and links of a container's ``/dev`` (mknod(2))."""

from __future__ import annotations

import os

__all__ = ["make_node"]


def make_node(place: int, name: str, device: dict[str, int]) -> None:
    """Make a device node in the directory `place`, with the mode and owner that it is to have."""
    number = os.makedev(device["major"], device["minor"])
    os.mknod(name, device["type"] | device["mode"], number, dir_fd=place)
    os.chmod(name, device["mode"], dir_fd=place)
    if device["uid"] or device["gid"]:
        os.chown(name, device["uid"], device["gid"], dir_fd=place)
