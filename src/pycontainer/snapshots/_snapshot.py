"""Writable stacks of layers: prepared as directories, mounted by whoever runs on them."""

from __future__ import annotations

import functools
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer._linux import overlay
from pycontainer.content import remove_tree
from pycontainer.errors import SnapshotError, UnsupportedFeature
from pycontainer.layers import Ownership, Packed, pack, walk_diff
from pycontainer.oci import Compression
from pycontainer.snapshots._copy import copy_changes, copy_layers
from pycontainer.snapshots._erofs import LayerRoot
from pycontainer.snapshots._layers import is_described, layer_path
from pycontainer.snapshots._plan import RootfsPlan
from pycontainer.snapshots._probe import overlay_refusal
from pycontainer.snapshots._tree import TreeView, uncovered

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from pycontainer.content import BlobWriter, Store
    from pycontainer.layers import Entry
    from pycontainer.oci import Digest

__all__ = ["Driver", "Snapshot", "Usage", "prepare"]

_BLOCK: Final = 512  # the unit of st_blocks
_PARTS: Final = ("upper", "work", "empty0", "empty1", "root", "baseline")
"""All that is ever made in a snapshot's directory."""


class Driver(Enum):
    """How a stack of layers becomes one tree."""

    OVERLAY = "overlay"
    COPY = "copy"


@frozen
class Usage:
    """What a snapshot takes: bytes on disk and number of files and directories."""

    size: int
    entries: int


@frozen
class Snapshot:
    """A stack of layers with a place for changes.

    Attributes:
        directory: Holds the changes, and for a copy all else too.
        plan: How it is mounted.
    """

    directory: Path
    plan: RootfsPlan

    @property
    def driver(self) -> Driver:
        """How it was made."""
        return Driver.OVERLAY if self.plan.kind == "overlay" else Driver.COPY

    def make(self) -> None:
        """Make what the plan names; of a snapshot that was prepared with ``make=False``, once.

        Raises:
            SnapshotError: The directory is in use.
            LayerError: A copy cannot be made, or the index of a layer is damaged.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        make = _make_overlay if self.driver is Driver.OVERLAY else _make_copy
        try:
            make(self.directory, self.plan)
        except FileExistsError as error:
            raise SnapshotError(
                f"{self.directory} holds another snapshot: {error.filename}"
            ) from error
        except BaseException:
            for name in _PARTS:
                remove_tree(self.directory / name)
            raise

    def tree(self) -> TreeView:
        """The whole as it is now, without mounting it."""
        if self.plan.path is not None:
            return TreeView([Path(self.plan.path)])
        lowers = [Path(lower) for lower in reversed(self.plan.lowers)]
        return TreeView(lowers if self.plan.upper is None else [*lowers, Path(self.plan.upper)])

    def changes(
        self, *, clamp: float | None = None, exclude: Collection[bytes] = ()
    ) -> Iterator[Entry]:
        """The changes as entries of a layer.

        Args:
            clamp: No time is later than this (seconds since the epoch).
            exclude: Paths without leading slash that are left out with all below them.
        """
        if self.plan.path is not None:
            layers = [Path(lower) for lower in reversed(self.plan.lowers)]
            since_ns = _baseline(self.directory).stat().st_ctime_ns
            return copy_changes(
                layers, Path(self.plan.path), since_ns=since_ns, clamp=clamp, exclude=exclude
            )
        if self.plan.upper is None:
            return iter(())
        return walk_diff(
            Path(self.plan.upper), userxattr=self.plan.userxattr, clamp=clamp, exclude=exclude
        )

    def diff(
        self,
        blob: BlobWriter,
        *,
        clamp: float | None = None,
        compression: Compression = Compression.GZIP,
        level: int | None = None,
        exclude: Collection[bytes] = (),
    ) -> Packed:
        """Write the changes as a layer and commit its blob; for whom nothing runs on meanwhile.

        Args:
            blob: A writer that hashes.
            clamp: As for `changes`.
            compression: Of the layer.
            level: Of the compression; None for the usual one.
            exclude: As for `changes`.

        Raises:
            LayerError: A file changed while it was read.
        """
        entries = self.changes(clamp=clamp, exclude=exclude)
        return pack(entries, blob, compression=compression, level=level)

    def usage(self) -> Usage:
        """What the directory takes on disk; files with several names count once."""
        size, seen = 0, set()
        for top, directories, files in os.walk(self.directory):
            for name in [*directories, *files]:
                try:
                    status = os.lstat(os.path.join(top, name))
                except FileNotFoundError:  # something runs on it
                    continue
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    size += status.st_blocks * _BLOCK
        return Usage(size, len(seen))

    def delete(self) -> None:
        """Remove the directory with all changes; nothing may be mounted of it any more."""
        remove_tree(self.directory)


def prepare(
    store: Store,
    diff_ids: Sequence[Digest],
    directory: Path,
    *,
    driver: Driver | None = None,
    writable: bool = True,
    volatile: bool = False,
    find: Callable[[Digest], Path] | None = None,
    make: bool = True,
) -> Snapshot:
    """Make what is needed to run on a stack of layers. Nothing is mounted.

    Args:
        store: Where the layers are, unpacked or indexed.
        diff_ids: The layers, the bottom first; none for an empty root.
        directory: Made if it is not there; on the store's file system.
        driver: None for overlay where the kernel allows it, else a copy.
        writable: Whether there is a place for changes.
        volatile: Changes need not survive a crash of the machine; spares syncs.
        find: Gives a layer's directory or index; None to take what the store has.
        make: Whether all is made now; else `Snapshot.make` is to follow.

    Raises:
        SnapshotError: A layer is not unpacked, there are too many, or the directory is in use.
        UnsupportedFeature: Overlay was asked for and is refused.
        LayerError: A copy cannot be made, or the index of a layer is damaged.
    """
    find = find or functools.partial(_unpacked, store)
    layers = uncovered([find(diff_id) for diff_id in _each_once(diff_ids)])
    if driver is None:
        driver = Driver.COPY if overlay_refusal(store) else Driver.OVERLAY
    elif driver is Driver.OVERLAY and (reason := overlay_refusal(store)):
        raise UnsupportedFeature(
            f"overlay on {store.path}", reason, remedy="leave driver= out: layers are then copied"
        )
    if driver is Driver.OVERLAY and len(layers) > overlay.MAX_LOWERS:
        raise SnapshotError(
            f"an overlay takes {overlay.MAX_LOWERS} layers, the image has {len(layers)}",
            remedy="use driver=Driver.COPY, or build the image with fewer layers",
        )
    plan = _plan_overlay if driver is Driver.OVERLAY else _plan_copy
    snapshot = Snapshot(directory, plan(layers, directory, writable, volatile))
    if make:
        snapshot.make()
    return snapshot


def _each_once(diff_ids: Sequence[Digest]) -> list[Digest]:
    """The same layers without repetitions, which overlay refuses (ELOOP) and images may have.

    A layer that comes again puts back all it has and hides all it hides: only its last place counts.
    """
    return list(dict.fromkeys(reversed(diff_ids)))[::-1]


def _unpacked(store: Store, diff_id: Digest) -> Path:
    path = layer_path(store, diff_id)
    if path is None:
        raise SnapshotError(
            f"layer {diff_id} is not unpacked in {store.path}",
            remedy="keep the image's name, or a lease, while you use it",
        )
    return path


def _plan_overlay(
    layers: Sequence[Path], directory: Path, writable: bool, volatile: bool
) -> RootfsPlan:
    lowers = [str(layer) for layer in reversed(layers)]
    # Overlay wants two directories at least.
    lowers += [str(directory / f"empty{i}") for i in range(len(lowers), 1 if writable else 2)]
    return RootfsPlan(
        kind="overlay",
        lowers=tuple(lowers),
        upper=str(directory / "upper") if writable else None,
        work=str(directory / "work") if writable else None,
        userxattr=Ownership.current().userxattr,
        volatile=volatile and writable,
        readonly=not writable,
    )


def _make_overlay(directory: Path, plan: RootfsPlan) -> None:
    lowers = [Path(lower) for lower in reversed(plan.lowers)]
    for lower in lowers:
        if lower.parent == directory:
            _make_root(lower, ())
    if plan.upper is not None and plan.work is not None:
        _make_root(Path(plan.upper), [lower for lower in lowers if lower.parent != directory])
        os.mkdir(plan.work, 0o700)


def _plan_copy(
    layers: Sequence[Path], directory: Path, writable: bool, volatile: bool
) -> RootfsPlan:
    return RootfsPlan(
        kind="directory",
        lowers=tuple(str(layer) for layer in reversed(layers)),
        path=str(directory / "root"),
        volatile=volatile,
        readonly=not writable,
    )


def _make_copy(directory: Path, plan: RootfsPlan) -> None:
    layers = [Path(lower) for lower in reversed(plan.lowers)]
    root = directory / "root"
    root.mkdir(mode=0o755)
    copy_layers(layers, root)
    _describe_root(root, layers)
    _baseline(directory).touch(exist_ok=False)


def _baseline(directory: Path) -> Path:
    """A file made when a copy was finished: what changed since is newer."""
    return directory / "baseline"


def _make_root(path: Path, layers: Sequence[Path]) -> None:
    path.mkdir(mode=0o755)
    _describe_root(path, layers)


def _describe_root(path: Path, layers: Sequence[Path]) -> None:
    """Give a root directory what the topmost layer with an entry for the root says of it.

    The merged root shows the attributes of the upper directory, whatever the layers below say.
    """
    path.chmod(0o755)
    for layer in reversed(layers):
        root = LayerRoot(layer)
        status = root.path.stat()
        if not is_described(status):
            continue
        made = path.stat()
        owned = (made.st_uid, made.st_gid) == (status.st_uid, status.st_gid)
        if not owned and Ownership.current() is Ownership.ROOT:
            os.chown(path, status.st_uid, status.st_gid)
        path.chmod(status.st_mode & 0o7777)
        for key in os.listxattr(root.path):
            if not key.startswith(("trusted.overlay.", "user.overlay.")):
                os.setxattr(path, key, os.getxattr(root.path, key))
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
        return
    os.utime(path, ns=(0, 0))
