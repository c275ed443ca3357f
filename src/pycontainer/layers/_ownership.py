"""Who owns what a layer is unpacked to, and where else that is written down."""

from __future__ import annotations

import os
from enum import Enum
from typing import Final

from attrs import frozen

from pycontainer.layers._entry import Kind

__all__ = ["LINKS", "META", "OVERLAY", "STASH", "Meta", "Ownership", "disk_mode"]

META: Final = "user.pycontainer.meta"
LINKS: Final = "user.pycontainer.links"
STASH: Final = "user.pycontainer.xattr."
OVERLAY: Final = ("trusted.overlay.", "user.overlay.")
"""Where overlay keeps its own attributes: the second for who may not write the first."""

_DEVICES: Final = {Kind.CHARACTER_DEVICE: "c", Kind.BLOCK_DEVICE: "b"}
_KINDS: Final = {letter: kind for kind, letter in _DEVICES.items()}
_PERMISSIONS_AND_STICKY: Final = 0o1777
_CAP_CHOWN: Final = 1 << 0


class Ownership(Enum):
    """How owners, devices and privileged attributes are represented on disk.

    `ROOT`: as they are; needs root. One who may not make devices (no CAP_MKNOD, a user namespace) gets
    empty files in their place, where Docker leaves them out. `USER`: everything belongs to the user
    who unpacks, who can always read it. What the kernel refuses them (owner, set-id bits, devices,
    attributes other than ``user.*``) is kept in ``user.pycontainer.*`` attributes, which `walk_tree` and
    `walk_diff` read back. Symlinks and fifos cannot have such attributes: the directory that they are in
    keeps theirs.
    """

    ROOT = "root"
    USER = "user"

    @classmethod
    def current(cls) -> Ownership:
        """What this process can do: root of the machine, not only of a user namespace, is `ROOT`."""
        if os.geteuid() != 0:
            return cls.USER
        try:
            with open("/proc/self/uid_map", "rb") as file:
                everyone = file.read().split() == [b"0", b"0", b"4294967295"]
            with open("/proc/thread-self/status", "rb") as file:
                effective = next(line for line in file if line.startswith(b"CapEff:"))
        except (OSError, StopIteration):  # no Linux, or no /proc
            return cls.ROOT
        return cls.ROOT if everyone and int(effective.split()[1], 16) & _CAP_CHOWN else cls.USER

    @property
    def userxattr(self) -> bool:
        """Whether overlay's attributes are those of ordinary users."""
        return self is Ownership.USER


@frozen
class Meta:
    """What `META` holds: owner, mode and, for a device that stands as an empty file, its numbers."""

    uid: int
    gid: int
    mode: int
    device: Kind | None = None
    major: int = 0
    minor: int = 0

    def encode(self) -> bytes:
        """As the attribute's value."""
        text = f"{self.uid}:{self.gid}:{self.mode:o}"
        if self.device is not None:
            text += f":{_DEVICES[self.device]}:{self.major}:{self.minor}"
        return text.encode()

    @classmethod
    def decode(cls, value: bytes) -> Meta | None:
        """Read the attribute; None if it is not ours after all."""
        parts = value.decode("ascii", "replace").split(":")
        if not all(part.isalnum() for part in parts):
            return None
        try:
            if len(parts) == 3:
                return cls(int(parts[0]), int(parts[1]), int(parts[2], 8))
            uid, gid, mode, device, major, minor = parts
            return cls(int(uid), int(gid), int(mode, 8), _KINDS[device], int(major), int(minor))
        except (ValueError, KeyError):
            return None


def disk_mode(mode: int, *, directory: bool) -> int:
    """The mode under which something of that mode is kept for an ordinary user.

    They can read it, whatever it says, and no file of theirs is set-uid for others on the machine.
    """
    return mode & _PERMISSIONS_AND_STICKY | (0o500 if directory else 0o400)
