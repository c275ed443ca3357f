"""Whiteouts of the image specification (layer.md, "Whiteouts"), and what becomes of them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, Protocol

from pycontainer._linux.tree import remove_tree
from pycontainer.errors import UnsafePath
from pycontainer.layers._directories import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.layers._directories import Directories, Place

__all__ = ["OPAQUE", "PREFIX", "Applied", "Overlaid", "Whiteouts", "hidden_name"]

PREFIX: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
_RESERVED: Final = b".wh..wh."  # bookkeeping of AUFS that old images still carry


def hidden_name(name: bytes) -> bytes | None:
    """What a whiteout of that name hides; None if it is bookkeeping that means nothing here.

    Raises:
        UnsafePath: It would hide the directory itself, or the one above.
    """
    if name.startswith(_RESERVED):
        return None
    hidden = name[len(PREFIX) :]
    if hidden in (b"", b".", b".."):
        raise UnsafePath(f"the whiteout {show(name)} names nothing that can be deleted")
    return hidden


class Whiteouts(Protocol):
    """What whiteouts do to the tree. They never touch what their own layer holds."""

    def added(self, path: bytes) -> None:
        """The layer holds this path, free of symlinks."""

    def hide(self, place: Place, name: bytes) -> None:
        """Delete something in a directory from lower layers."""

    def hide_all(self, place: Place) -> None:
        """Delete everything in a directory from lower layers."""


class Overlaid:
    """Whiteouts become what overlayfs takes for them; the layer stands alone in its directory."""

    def __init__(self, directories: Directories, *, userxattr: bool) -> None:
        self._directories = directories
        self._opaque = ("user" if userxattr else "trusted") + ".overlay.opaque"

    def added(self, path: bytes) -> None:
        """Nothing to do: all that is in the directory is of this layer."""

    def hide(self, place: Place, name: bytes) -> None:
        """Put a character device 0:0 there."""
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=place.fd)
        except FileExistsError:
            status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):  # the layer's own, but not what lower ones have in it
                self.hide_all(self._directories.get(place.child(name)))

    def hide_all(self, place: Place) -> None:
        """Mark the directory opaque."""
        os.setxattr(place.fd, self._opaque, b"y")


class Applied:
    """Whiteouts delete from the tree that the layer is applied to."""

    def __init__(self, directories: Directories, removed: Callable[[bytes], None]) -> None:
        self._directories = directories
        self._removed = removed
        self._own: set[bytes] = set()

    def added(self, path: bytes) -> None:
        """Remember the path and those above it."""
        while path and path not in self._own:
            self._own.add(path)
            path = path.rpartition(b"/")[0]

    def hide(self, place: Place, name: bytes) -> None:
        """Remove it, or what in it is not of this layer."""
        path = place.child(name)
        if not self._remove(place, name, path):
            self.hide_all(self._directories.get(path))

    def hide_all(self, place: Place) -> None:
        """Remove all in it that is not of this layer."""
        own = [place.path]
        while own:
            above = own.pop()
            with os.scandir(self._directories.get(above).fd) as found:
                names = [os.fsencode(item.name) for item in found]
            for name in names:
                place = self._directories.get(above)
                path = place.child(name)
                if not self._remove(place, name, path):
                    own.append(path)

    def _remove(self, place: Place, name: bytes, path: bytes) -> bool:
        """Remove what is not of this layer; False for a directory that is."""
        try:
            status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        except FileNotFoundError:
            return True
        if path in self._own:
            return not stat.S_ISDIR(status.st_mode)
        remove_tree(os.fsdecode(name), dir_fd=place.fd)
        self._removed(path)
        return True
