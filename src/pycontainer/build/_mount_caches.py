"""The directories of ``RUN --mount=type=cache`` as things that are listed, pruned, and taken elsewhere."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.content import remove_tree
from pycontainer.errors import BuildError, LayerError
from pycontainer.layers import (
    Entry,
    Extractor,
    Kind,
    Ownership,
    decompress,
    read_entries,
    walk_tree,
    write_tar,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pycontainer.content import Store

__all__ = ["MountCache", "MountCaches"]

_HOME: Final = re.compile(r"[0-9a-f]{32}(?:-[0-9]{1,6})?")
_CONTENT: Final = "content"
_NAME: Final = "id"
_READY: Final = "ready"


@frozen
class MountCache:
    """A directory that outlives builds.

    Attributes:
        name: What steps call it: its ``id``, else the place that it is mounted at.
        home: Where it is kept.
        size: Bytes of its files.
        used: When a command had it last, seconds since 1970.
    """

    name: str
    home: Path
    size: int
    used: float


class MountCaches:
    """The caches that commands of builds have mounted, of one store.

    Args:
        store: The store that keeps them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def _place(self) -> Path:
        place = self._store.directory("build") / "mounts"
        place.mkdir(mode=0o700, exist_ok=True)
        return place

    def entries(self) -> tuple[MountCache, ...]:
        """All of them, the longest unused first."""
        found = []
        for home in self._place.iterdir():
            try:
                used = (home / _NAME).stat().st_mtime
                name = (home / _NAME).read_text(errors="surrogateescape")
            except OSError:  # just being made, or pruned
                continue
            if (home / _READY).exists():
                found.append(MountCache(name, home, _size(home / _CONTENT), used))
        return tuple(sorted(found, key=lambda each: (each.used, each.name)))

    def prune(
        self, *, unused_for: float = 0.0, keep_bytes: int | None = None
    ) -> tuple[MountCache, ...]:
        """Empty caches that no command has at the moment.

        Args:
            unused_for: Only those that none has had for so many seconds.
            keep_bytes: Of these only as many, the longest unused first, as it takes until the others
                are no larger than that; None for all.

        Returns:
            What was emptied.
        """
        before = time.time() - unused_for
        entries = self.entries()
        left = sum(each.size for each in entries)
        pruned = []
        for each in entries:
            if each.used > before or (keep_bytes is not None and left <= keep_bytes):
                continue
            with _locked(each.home, wait=False) as is_ours:
                if is_ours:
                    self._empty(each.home)
                    pruned.append(each)
                    left -= each.size
        return tuple(pruned)

    def save(self, path: str | os.PathLike[str]) -> tuple[MountCache, ...]:
        """Write all caches to a tar, for `load` on another machine; waits for commands that have one.

        Args:
            path: The file; replaced.

        Returns:
            What was written.

        Raises:
            BuildError: It cannot be written.
        """
        entries = self.entries()
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
        try:
            with temporary.open("wb") as file:
                for chunk in write_tar(_saved(entries)):
                    file.write(chunk)
            temporary.replace(target)
        except OSError as error:
            raise BuildError(f"cannot write {target}: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return entries

    def load(self, path: str | os.PathLike[str]) -> tuple[MountCache, ...]:
        """Take the caches of a tar that `save` has written, in the place of those of the same names.

        Args:
            path: The file; may be compressed by gzip or zstd.

        Returns:
            The store's caches of these names.

        Raises:
            BuildError: It cannot be read, or is no such tar.
        """
        with self._store.temporary("caches") as unpacked:
            try:
                with (
                    Path(path).open("rb") as file,
                    Extractor(unpacked, Ownership.current(), apply=True) as extractor,
                ):
                    for entry in read_entries(decompress(file)):
                        extractor.put(entry)
                    extractor.finish()
            except (OSError, LayerError) as error:
                raise BuildError(f"cannot take caches from {os.fspath(path)}: {error}") from error
            homes = list(unpacked.iterdir())
            if not all(map(_is_saved, homes)):
                raise BuildError(f"{os.fspath(path)} holds no caches of builds")
            for home in homes:
                self._install(home)
            names = {home.name for home in homes}
            return tuple(each for each in self.entries() if each.home.name in names)

    def _install(self, new: Path) -> None:
        home = self._place / new.name
        home.mkdir(mode=0o700, exist_ok=True)
        with _locked(home, wait=True):
            self._empty(home)
            (new / _CONTENT).rename(home / _CONTENT)
            (home / _READY).touch()
            (new / _NAME).rename(home / _NAME)
            os.utime(home / _NAME)

    def _empty(self, home: Path) -> None:
        """The lock's file stays: who waits for it has it open."""
        (home / _READY).unlink(missing_ok=True)
        (home / _NAME).unlink(missing_ok=True)
        remove_tree(home / _CONTENT)


@contextmanager
def _locked(home: Path, *, wait: bool) -> Iterator[bool]:
    """Whether a cache is ours alone as long as the block runs."""
    fd = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            is_ours = True
        except BlockingIOError:
            is_ours = False
        yield is_ours
    finally:
        os.close(fd)


def _saved(caches: Iterable[MountCache]) -> Iterator[Entry]:
    for cache in sorted(caches, key=lambda each: each.home.name):
        name = os.fsencode(cache.home.name)
        with _locked(cache.home, wait=True):
            if not (cache.home / _READY).exists():  # pruned meanwhile
                continue
            text = cache.name.encode(errors="surrogateescape")
            yield Entry(name, Kind.DIRECTORY, 0o700)
            yield from walk_tree(cache.home / _CONTENT, prefix=name + b"/content")
            yield Entry(
                name + b"/id", Kind.FILE, 0o600, size=len(text), content=partial(_pieces, text)
            )


def _is_saved(home: Path) -> bool:
    """Whether this is what `save` writes, and no symlink that would be followed."""
    if not _HOME.fullmatch(home.name) or home.is_symlink() or not home.is_dir():
        return False
    kinds = {each.name: stat.S_IFMT(each.lstat().st_mode) for each in home.iterdir()}
    return kinds == {_CONTENT: stat.S_IFDIR, _NAME: stat.S_IFREG}


def _pieces(data: bytes) -> Iterator[bytes]:
    yield data


def _size(directory: Path) -> int:
    size = 0
    for top, _, names in os.walk(directory):
        for name in names:
            try:
                size += os.lstat(os.path.join(top, name)).st_size
            except FileNotFoundError:  # a command works on it
                continue
    return size
