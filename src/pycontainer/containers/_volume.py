"""Volumes: directories that containers share and that outlive them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from typing import TYPE_CHECKING, Final, Self

from attrs import frozen

from pycontainer.content import Store, record_event, remove_tree
from pycontainer.errors import ContainerError, NameInUse, VolumeNotFound
from pycontainer.oci.runtime import RuntimeSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Volume", "keep"]

_WANTED: Final = "volumes.txt"
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


@frozen
class Volume:
    """A named directory in a store. As a context manager it is deleted at the end.

    Attributes:
        name: Its name.
        path: Where its files are on the host.
    """

    name: str
    path: Path

    @classmethod
    def create(cls, name: str, *, store: Store | None = None, exist_ok: bool = False) -> Volume:
        """Make a volume.

        Raises:
            NameInUse: There is one of that name, and that is not `exist_ok`.
            ContainerError: The name is none.
        """
        if not _NAME.fullmatch(name):
            raise ContainerError(
                f"{name!r} cannot name a volume",
                remedy="use letters, digits, '_', '.' and '-', a letter or digit first",
            )
        path = (store or Store.default()).directory("volumes") / name
        try:
            path.mkdir(mode=0o755)
        except FileExistsError as error:
            if not exist_ok:
                raise NameInUse(f"there is a volume {name!r} already") from error
        else:
            record_event(path.parent.parent, "volume", "create", name)
        return cls(name, path)

    @classmethod
    def get(cls, name: str, *, store: Store | None = None) -> Volume:
        """The volume of that name.

        Raises:
            VolumeNotFound: There is none.
        """
        path = (store or Store.default()).directory("volumes") / name
        if not _NAME.fullmatch(name) or not path.is_dir():
            raise VolumeNotFound(f"no volume {name!r}")
        return cls(name, path)

    @classmethod
    def list(cls, *, store: Store | None = None) -> tuple[Volume, ...]:
        """All volumes, by name."""
        directory = (store or Store.default()).directory("volumes")
        found = sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))
        return tuple(cls(path.name, path) for path in found)

    @classmethod
    def prune(cls, *, store: Store | None = None) -> tuple[str, ...]:
        """Remove the volumes that no container mounts, stopped ones included; give their names."""
        store = store or Store.default()
        with _locked(store, fcntl.LOCK_EX):
            used = _mounted(store)
            unused = [volume for volume in cls.list(store=store) if not _is_used(volume, used)]
            for volume in unused:
                volume.delete()
        return tuple(volume.name for volume in unused)

    def delete(self) -> None:
        """Remove the volume with all that is in it; one that is gone is removed."""
        there = self.path.exists()
        for beside in (f".part-{self.name}", f".full-{self.name}"):  # of a filling that was cut off
            remove_tree(self.path.parent / beside)
        remove_tree(self.path)
        if there:
            record_event(self.path.parent.parent, "volume", "destroy", self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.delete()

    @property
    def size(self) -> int:
        """Bytes that its files take on disk; walks the directory."""
        return sum(p.lstat().st_blocks * 512 for p in self.path.rglob("*"))


def keep(names: Iterable[str], *, store: Store, home: Path) -> None:
    """Keep volumes from being pruned before the container's document, which comes last, names them.

    Args:
        names: Of the volumes, which may not be there yet.
        store: Where they are.
        home: The directory of the container that is being made; while it is there they are kept.
    """
    text = "\n".join(name for name in names if _NAME.fullmatch(name))
    if text:
        with _locked(store, fcntl.LOCK_SH):
            (home / _WANTED).write_text(text)


@contextlib.contextmanager
def _locked(store: Store, kind: int) -> Iterator[None]:
    """Hold a lock on the volumes: exclusive to remove the unused, shared to come to use some."""
    fd = os.open(store.directory("volumes"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, kind)
        yield
    finally:
        os.close(fd)


def _is_used(volume: Volume, sources: set[str]) -> bool:
    whole = str(volume.path.resolve())
    return any(source == whole or source.startswith(f"{whole}/") for source in sources)


def _mounted(store: Store) -> set[str]:
    """What the containers of a store mount, running or not."""
    sources = set[str]()
    for home in store.directory("containers").iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            names = (home / _WANTED).read_text().split()
            sources |= {str(store.directory("volumes").resolve() / name) for name in names}
        try:
            spec = RuntimeSpec.parse((home / "config.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):  # in the making, or going
            continue
        sources |= {mount.source for mount in spec.mounts}
    return sources
