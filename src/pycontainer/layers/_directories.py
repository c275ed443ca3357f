"""Directories beneath a root, each reached by descriptors and held open while it is likely needed."""

from __future__ import annotations

import errno
import os
import resource
import stat
from typing import TYPE_CHECKING, Final, Protocol

from attrs import define

from pycontainer.errors import LayerError, UnsafePath

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Directories", "Place", "is_whiteout", "show"]

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FEWEST_HELD: Final = 32
_MOST_HELD: Final = 1024
_MOST_SYMLINKS: Final = 40  # as the kernel
_LONGEST_PATH: Final = 4096
_WHITEOUT: Final = b".wh."


@define(slots=True, eq=False)
class Place:
    """A directory: its path from the root, free of symlinks, and a descriptor."""

    path: bytes
    fd: int

    def child(self, name: bytes) -> bytes:
        """The path of something in it."""
        return self.path + b"/" + name if self.path else name


class Maker(Protocol):
    """Who is told of directories that come into being because something is put below them."""

    def replaces_whiteout(self, fd: int) -> None:
        """A directory was made where a whiteout stood: what is below it in lower layers is hidden."""

    def was_opened(self, path: bytes, fd: int) -> None:
        """A directory that was there is about to be changed."""


class Directories:
    """Finds directories as a process would whose root directory is the given one.

    Symlinks among the parts of a path are followed inside the root, as Docker and containerd do; one
    that begins with a slash begins at the root. ``..`` is refused in a path. In a symlink it is refused
    where it would lead out of a layer. In a tree that was there before, which may have such links,
    it then stays at the root, as it does for a process. What is missing is made.

    Args:
        root: The directory.
        maker: Who is told of what is made.
        overlay: Whether this is a layer of its own: character devices 0:0 are whiteouts.
    """

    def __init__(self, root: Path, maker: Maker, *, overlay: bool) -> None:
        self.root = Place(b"", os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        self._maker = maker
        self._overlay = overlay
        self._known: dict[bytes, Place] = {b"": self.root}
        # Several layers at once, and the program around them, must do with what the limit allows.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = max(_FEWEST_HELD, min(_MOST_HELD, limit // 8))

    def close(self) -> None:
        """Close all descriptors; can be done twice."""
        self.forget()
        if self.root.fd >= 0:
            os.close(self.root.fd)
            self.root.fd = -1

    def get(self, path: bytes) -> Place:
        """Find or make a directory. It stays open until the next one is got.

        Raises:
            UnsafePath: The path leads upwards, or through too many symlinks.
            LayerError: Something on the way is no directory.
            OSError: The file system refuses.
        """
        return self._known.get(path) or self._find(path)

    def enter(self, place: Place, name: bytes) -> Place:
        """A directory in another, which is there and no symlink."""
        path = place.child(name)
        child = self._known.get(path)
        if child is None:
            self._make_room(place)
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=place.fd)
            child = self._known[path] = Place(path, fd)
        return child

    def forget(self) -> None:
        """Close all but the root: paths may have come to mean something else."""
        self._keep({b"": self.root})

    def _make_room(self, here: Place) -> None:
        """Close the older half, but not where we stand, if too much is open."""
        if len(self._known) >= self._most:
            younger = dict(list(self._known.items())[self._most // 2 :])
            self._keep({b"": self.root, here.path: here, **younger})

    def _keep(self, kept: dict[bytes, Place]) -> None:
        for fd in {p.fd for p in self._known.values()} - {p.fd for p in kept.values()}:
            os.close(fd)
        self._known = kept

    # --- resolving ---------------------------------------------------------------------------

    def _find(self, path: bytes) -> Place:
        parts = path.split(b"/")
        if b".." in parts:
            raise UnsafePath(f"the path {show(path)} leads upwards with ..")
        if len(path) > _LONGEST_PATH:
            raise LayerError(f"a path of {len(path)} bytes: no program could open it")
        todo = parts[::-1]
        here = self.root
        symlinks = 0
        link = ""
        while todo:
            part = todo.pop()
            if part == b"..":  # of a symlink; the path of a place is free of symlinks
                if here is self.root and self._overlay:
                    raise UnsafePath(f"the path {show(path)} leads through {link} out of the root")
                above = here.path.rpartition(b"/")[0]
                todo += above.split(b"/")[::-1] if above else ()
                here = self.root
                continue
            found = self._step(here, part)
            if isinstance(found, Place):
                here = found
                continue
            link = f"the symlink {show(here.child(part))} to {show(found)}"
            symlinks += 1
            if symlinks > _MOST_SYMLINKS:
                raise UnsafePath(f"the path {show(path)} leads through too many symlinks")
            if found.startswith(b"/"):
                here = self.root
            todo += [part for part in found.split(b"/")[::-1] if part not in (b"", b".")]
        self._known[path] = here
        return here

    def _step(self, here: Place, name: bytes) -> Place | bytes:
        """Go down into a directory; a symlink gives its target."""
        path = here.child(name)
        place = self._known.pop(path, None)
        if place is None:
            self._make_room(here)
            found = self._enter(here, name, path)
            if isinstance(found, bytes):
                return found
            place = Place(path, found)
        self._known[path] = place  # now the youngest
        return place

    def _enter(self, here: Place, name: bytes, path: bytes) -> int | bytes:
        """Open or make a directory in another; a symlink gives its target."""
        if name.startswith(_WHITEOUT):
            raise UnsafePath(f"{show(path)} is a whiteout and no directory")
        try:
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=here.fd)
        except FileNotFoundError:
            return self._make(here, name)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            status = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                return os.readlink(name, dir_fd=here.fd)
            if not (self._overlay and is_whiteout(status)):
                raise LayerError(
                    f"{show(path)} is no directory, but an entry stands below it"
                ) from error
            os.unlink(name, dir_fd=here.fd)
            fd = self._make(here, name)
            self._maker.replaces_whiteout(fd)
        else:
            self._maker.was_opened(path, fd)
        return fd

    @staticmethod
    def _make(here: Place, name: bytes) -> int:
        os.mkdir(name, 0o755, dir_fd=here.fd)
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=here.fd)
        if os.fstat(fd).st_mode & 0o7777 != 0o755:  # the umask, or a set-gid directory above
            os.fchmod(fd, 0o755)
        return fd


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is overlay's whiteout: a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def show(path: bytes) -> str:
    """A path for people."""
    return repr(os.fsdecode(path))
