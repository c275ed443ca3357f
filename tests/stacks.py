"""Layers made for tests: trees written down as dictionaries, packed into a store or laid out on disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pycontainer.content import Store
from pycontainer.layers import Entry, Kind, Packed, pack
from pycontainer.oci import Compression, Descriptor, Digest
from pycontainer.snapshots import ensure_layer

WHITEOUT = object()
"""In a tree: the name is hidden."""

OPAQUE = "//opaque"
"""In a directory of a tree, with any value: what is below is hidden."""

Tree = Mapping[str, object]
"""Names and what they are: bytes, a tree, a symlink's target, or `WHITEOUT`."""


def entries_of(tree: Tree, above: str = "") -> Iterable[Entry]:
    """A tree as entries of a layer, with the image-spec's whiteouts."""
    for name, value in tree.items():
        path = f"{above}{name}".encode()
        if name == OPAQUE:
            yield Entry(f"{above}.wh..wh..opq".encode(), Kind.FILE, content=lambda: iter(()))
        elif value is WHITEOUT:
            yield Entry(f"{above}.wh.{name}".encode(), Kind.FILE, content=lambda: iter(()))
        elif isinstance(value, bytes):
            yield file_entry(path, value)
        elif isinstance(value, str):
            yield Entry(path, Kind.SYMLINK, 0o777, link=value.encode())
        elif isinstance(value, Mapping):
            yield Entry(path, Kind.DIRECTORY, 0o755)
            yield from entries_of(value, f"{above}{name}/")
        else:
            raise TypeError(value)


def file_entry(path: bytes, data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(path, Kind.FILE, mode, size=len(data), content=lambda: iter((data,)))


def packed(
    store: Store,
    tree: Tree | Iterable[Entry],
    compression: Compression = Compression.GZIP,
) -> Packed:
    """A tree as a layer's blob in a store."""
    entries = entries_of(tree) if isinstance(tree, Mapping) else tree
    with store.blobs.writer() as blob:
        return pack(entries, blob, compression=compression)


def pair(layer: Packed) -> tuple[Descriptor, Digest]:
    """What images are made of."""
    return layer.descriptor, layer.diff_id


def stacked(store: Store, *trees: Tree) -> list[Digest]:
    """Unpacked layers in a store, the bottom first."""
    layers = [packed(store, tree) for tree in trees]
    for layer in layers:
        ensure_layer(store, layer.descriptor, layer.diff_id)
    return [layer.diff_id for layer in layers]


def applied(lower: Tree, upper: Tree) -> Tree:
    """One tree changed by another (image-spec, layer.md, "Applying Changesets"); a plain model."""
    result: dict[str, object] = {} if OPAQUE in upper else dict(lower)
    for name, value in upper.items():
        if name == OPAQUE:
            continue
        if value is WHITEOUT:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            below = result.get(name)
            result[name] = applied(below if isinstance(below, Mapping) else {}, value)
        else:
            result[name] = value
    return result


def without_idle_whiteouts(lower: Tree, upper: Tree) -> Tree:
    """A tree without those of its whiteouts that hide nothing of another one.

    Nobody makes such, and the kernel lists their names where a directory is not merged.
    """
    result: dict[str, object] = {}
    for name, value in upper.items():
        below = {} if OPAQUE in upper else lower.get(name)
        if isinstance(value, Mapping):
            result[name] = without_idle_whiteouts(
                below if isinstance(below, Mapping) else {}, value
            )
        elif value is not WHITEOUT or (name in lower and OPAQUE not in upper):
            result[name] = value
    return result


def laid_out(directory: Path, trees: Sequence[Tree]) -> list[Path]:
    """Layer directories as overlay wants them, made without any of the rooms."""
    roots = []
    for i, tree in enumerate(trees):
        root = directory / f"layer{i}"
        root.mkdir(parents=True)
        _lay_out(root, tree)
        roots.append(root)
    return roots


def _lay_out(root: Path, tree: Tree) -> None:
    for name, value in tree.items():
        path = root / name
        if name == OPAQUE:
            prefix = "trusted" if os.geteuid() == 0 else "user"
            os.setxattr(root, f"{prefix}.overlay.opaque", b"y")
        elif value is WHITEOUT:
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        elif isinstance(value, bytes):
            path.write_bytes(value)
        elif isinstance(value, str):
            path.symlink_to(value)
        elif isinstance(value, Mapping):
            path.mkdir()
            _lay_out(path, value)
        else:
            raise TypeError(value)
