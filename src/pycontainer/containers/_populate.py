"""What an empty volume gets of the image at its target, as Docker has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pycontainer._linux.path import open_in_root
from pycontainer.containers._mount import Mount
from pycontainer.containers._view import opened_layers
from pycontainer.content import remove_tree
from pycontainer.layers import Extractor, Ownership, walk_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontainer.content import Store
    from pycontainer.oci import ContainerConfig
    from pycontainer.snapshots import RootfsPlan

__all__ = ["populate", "with_volumes_of"]


def with_volumes_of(config: ContainerConfig, mounts: Sequence[Mount]) -> list[Mount]:
    """The mounts, and a volume of its own for each of the image's at whose place nothing is mounted."""
    there = {os.path.normpath(mount.target) for mount in mounts}
    missing = [path for path in config.volumes if os.path.normpath(path) not in there]
    made = [*(Mount.volume(None, os.path.normpath(path)) for path in missing), *mounts]
    # As Docker does: what is mounted deeper comes later, or nobody would see it.
    return sorted(made, key=lambda mount: len(Path(mount.target).parts)) if missing else made


def populate(mounts: Sequence[Mount], *, store: Store, home: Path, plan: RootfsPlan) -> None:
    """Fill the empty volumes among the mounts from the container's layers.

    Args:
        mounts: The container's.
        store: Where volumes are.
        home: The container's directory.
        plan: Its root file system, which nobody has mounted yet.

    Raises:
        LayerError: A file cannot be copied.
    """
    wanted = [m for m in mounts if m.kind == "volume" and m.copy and not m.subpath]
    empty = [(m, path) for m in wanted if _is_empty(path := m.volume_path(store, home))]
    if not empty:
        return
    with opened_layers(home, plan) as root:
        for mount, volume in empty:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                place = open_in_root(root, mount.target, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    _fill(volume, place)
                finally:
                    os.close(place)


def _is_empty(volume: Path) -> bool:
    with os.scandir(volume) as entries:
        return next(entries, None) is None or _whole(volume).exists()


def _fill(volume: Path, source: int) -> None:
    """Copy a directory into a volume that is empty.

    All is copied beside it first, and moved when it is whole: who is killed meanwhile leaves either an
    empty volume or one whose filling the next one ends.
    """
    with _locked(volume):
        if not _is_empty(volume):
            return
        whole, part = _whole(volume), volume.parent / f".part-{volume.name}"
        if not whole.exists():
            remove_tree(part)
            part.mkdir(0o700)
            _copy(source, part)
            part.rename(whole)
        for entry in list(whole.iterdir()):
            entry.rename(volume / entry.name)
        status = whole.stat()
        with contextlib.suppress(PermissionError):  # an ordinary user's files are all the user's
            os.chown(volume, status.st_uid, status.st_gid)
        volume.chmod(status.st_mode & 0o7777)
        whole.rmdir()


def _copy(source: int, target: Path) -> None:
    status = os.fstat(source)
    entries = walk_tree(Path(f"/proc/self/fd/{source}"))
    with Extractor(target, Ownership.current(), apply=True) as extractor:
        for entry in entries:
            extractor.put(entry)
        extractor.finish()
    with contextlib.suppress(PermissionError):
        os.chown(target, status.st_uid, status.st_gid)
    target.chmod(status.st_mode & 0o7777)


def _whole(volume: Path) -> Path:
    return volume.parent / f".full-{volume.name}"


@contextlib.contextmanager
def _locked(volume: Path) -> Iterator[None]:
    fd = os.open(volume, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
