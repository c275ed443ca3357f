"""Proof that unpacking stays beneath its root: what it asks the kernel for, and what became of it."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pycontainer._linux.tree import remove_tree

__all__ = ["Escape", "Sandbox"]

_PATHS = {
    "open": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.link": (0, 1),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.removexattr": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.setxattr": (0,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.utime": (0,),
}
"""Audit events of calls that may change a file, and which of their arguments are its paths."""

_DESCRIPTORS = b"/proc/self/fd/"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Escape(AssertionError):
    """A path was used that could lead out of the root, or something outside it changed."""


class Sandbox:
    """A directory ``root`` among files that nothing may touch.

    While it is watched, each path given to a call that changes files must be a descriptor, or one name
    below one: such a call cannot leave the directory that the descriptor stands for. What audit events do
    not tell is seen by comparing everything around the root before and after.
    """

    def __init__(self) -> None:
        self._base = Path(tempfile.mkdtemp())
        self.root = self._base / "in" / "root"
        self._watched = False
        self._make_outside()
        sys.addaudithook(self._audit)

    def _make_outside(self) -> None:
        (self._base / "in").mkdir()
        (self._base / "outside").write_bytes(b"untouched")
        (self._base / "in" / "outside").write_bytes(b"untouched")
        directory = self._base / "directory"
        directory.mkdir(0o700)
        (directory / "outside").write_bytes(b"untouched")

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._base, ignore_errors=True)

    @contextmanager
    def watched(self, *, filled: bool) -> Iterator[Path]:
        """An empty root, or one with files and symlinks out of it.

        Raises:
            Escape: The block left the root.
        """
        self.root.mkdir(0o755)
        try:
            if filled:
                self._fill()
            before = self._picture()
            self._watched = True
            try:
                yield self.root
            finally:
                self._watched = False
            if (after := self._picture()) != before:
                raise Escape(f"changed outside: {before} became {after}")
        finally:
            remove_tree(self.root)

    def _fill(self) -> None:
        root = self.root
        (root / "d" / "e").mkdir(parents=True)
        (root / "d" / "f").write_bytes(b"lower")
        (root / "x").write_bytes(b"lower")
        (root / "up").symlink_to("..")
        (root / "far").symlink_to("../../directory")
        (root / "abs").symlink_to(self._base)
        (root / "file").symlink_to("../outside")
        (root / "d" / "loop").symlink_to("../d/loop")

    def _picture(self) -> dict[str, tuple[object, ...]]:
        """Everything but what is below the root, and the root's own name."""
        found: dict[str, tuple[object, ...]] = {}
        for above, directories, files in os.walk(self._base):
            if Path(above) == self._base / "in":
                directories[:] = []
            for path in (above, *(f"{above}/{name}" for name in files)):
                status = os.lstat(path)
                content = Path(path).read_bytes() if stat.S_ISREG(status.st_mode) else b""
                facts = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink)
                found[path] = (*facts, status.st_ctime_ns, status.st_mtime_ns, content)
        return found

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._watched or event not in _PATHS:
            return
        for at in _PATHS[event]:
            path = arguments[at]
            if isinstance(path, str | bytes | os.PathLike) and not self._stays(
                event, os.fsencode(path), arguments
            ):
                raise Escape(f"{event}{arguments!r}")

    def _stays(self, event: str, path: bytes, arguments: tuple[object, ...]) -> bool:
        if path.startswith(_DESCRIPTORS):
            path = path[len(_DESCRIPTORS) :].partition(b"/")[2] or b"."
        if path.startswith(b"/"):
            flags = arguments[2] if event == "open" else _WRITES
            assert isinstance(flags, int)
            # Opening the root itself, and what Python and the library read of the machine.
            return not flags & _WRITES and (
                path == os.fsencode(self.root) or not path.startswith(os.fsencode(self._base))
            )
        return b"/" not in path and path != b".."
