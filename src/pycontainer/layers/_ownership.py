"""Who owns what a layer is unpacked to, and where else that is written down."""

from __future__ import annotations

import os
from enum import Enum
from typing import Final

from attrs import frozen

from pycontainer.layers._entry import Kind

__all__ = ["META", "STASH", "Meta", "Ownership"]

META: Final = "user.pycontainer.meta"
STASH: Final = "user.pycontainer.xattr."
_DEVICES: Final = {Kind.CHARACTER_DEVICE: "c", Kind.BLOCK_DEVICE: "b"}


class Ownership(Enum):
    """How owners, devices and privileged attributes are represented on disk.

    ROOT: as they are; needs root. USER: everything belongs to the user who unpacks, and what the
    kernel refuses them is kept in ``user.pycontainer.*`` attributes, which `walk_tree` and
    `walk_diff` read back. Symlinks cannot have such: theirs come back as 0:0.
    """

    ROOT = "root"
    USER = "user"

    @classmethod
    def current(cls) -> Ownership:
        """What this process can do."""
        return cls.ROOT if os.geteuid() == 0 else cls.USER

    @property
    def overlay_prefix(self) -> str:
        """Where overlay keeps its own attributes for such a user."""
        return "trusted.overlay." if self is Ownership.ROOT else "user.overlay."


@frozen
class Meta:
    """What `META` holds: owner, mode and, for a device that stands as an empty file, its numbers."""

    uid: int
    gid: int
    mode: int
    device: str = ""
    major: int = 0
    minor: int = 0

    def encode(self) -> bytes:
        """As the attribute's value."""
        text = f"{self.uid}:{self.gid}:{self.mode:o}"
        if self.device:
            text += f":{self.device}:{self.major}:{self.minor}"
        return text.encode()

    @classmethod
    def decode(cls, value: bytes) -> Meta | None:
        """Read the attribute; None if it is not ours after all."""
        parts = value.decode("ascii", "replace").split(":")
        try:
            if len(parts) == 3:
                return cls(int(parts[0]), int(parts[1]), int(parts[2], 8))
            uid, gid, mode, device, major, minor = parts
            return cls(int(uid), int(gid), int(mode, 8), device, int(major), int(minor))
        except ValueError:
            return None

    @property
    def kind(self) -> Kind | None:
        """The device's kind, or None for what is no device."""
        return next((kind for kind, letter in _DEVICES.items() if letter == self.device), None)

    @staticmethod
    def letter(kind: Kind) -> str:
        """How a kind is written here; empty for what is no device."""
        return _DEVICES.get(kind, "")
