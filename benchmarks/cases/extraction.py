"""Extraction: a layer's file becomes a directory."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import peers
from benchmarks.measure import Bounds, Side, case
from benchmarks.peers.images import Codec, Name
from benchmarks.roofline import extraction as floor
from pycontainer.content import remove_tree
from pycontainer.layers import LayerEvent, index, unpack

__all__: list[str] = []

Pair = tuple[Side, Side]


def _ours(layer: Path, root: Path) -> Side:
    events: list[LayerEvent] = []

    def call() -> None:
        with layer.open("rb") as source:
            unpack(source, root, events=events.append)

    def stages() -> dict[str, float]:
        root.mkdir()
        call()
        remove_tree(root)
        return {stage.name: stage.seconds for stage in events[-1].stages}

    return Side(
        "pycontainer",
        call,
        before=root.mkdir,
        after=lambda: remove_tree(root),
        count=lambda: peers.count(root),
        stages=stages,
    )


@contextlib.contextmanager
def _against_tar(directory: Path, name: Name, codec: Codec) -> Iterator[Pair]:
    layer = Path(shutil.copy(peers.blob(name, codec), directory))
    root = directory / "root"
    peer = Side(
        "GNU tar",
        lambda: peers.call("tar", "-x", f"--{codec}", "-f", layer, "-C", root),
        before=root.mkdir,
        after=lambda: remove_tree(root),
        count=lambda: peers.count(root),
    )
    yield _ours(layer, root), peer


@case("Unpack a layer", rounds=10)
@contextlib.contextmanager
def extract(directory: Path) -> Iterator[Pair]:
    """A gzip layer of 170 MB and 9,000 files becomes a directory.

    Here pycontainer also computes the digests of the blob and of the tar, which GNU tar does not.
    """
    with _against_tar(directory, "small", "gzip") as pair:
        yield pair


@case(
    "Extract a layer from a file, gzip, large",
    rounds=7,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.42, cpu=0.50),
    floor=floor("large", "gzip"),
)
@contextlib.contextmanager
def extract_gzip(directory: Path) -> Iterator[Pair]:
    """A layer of 1 GB and 40,000 files, compressed by `gzip -6`, becomes a directory.

    `pycontainer.layers.unpack` in this process against `tar --gzip`, a fresh process with another
    that decompresses. Ours computes the digests of blob and tar besides, which tar does not. Neither
    side syncs.
    """
    with _against_tar(directory, "large", "gzip") as pair:
        yield pair


@case(
    "Extract a layer from a file, zstd, large",
    rounds=7,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.80, cpu=0.85),
    floor=floor("large", "zstd"),
)
@contextlib.contextmanager
def extract_zstd(directory: Path) -> Iterator[Pair]:
    """The same, compressed by `zstd -3`, against `tar --zstd`."""
    with _against_tar(directory, "large", "zstd") as pair:
        yield pair


@contextlib.contextmanager
def _against_umoci(directory: Path, command: Sequence[str], files: str) -> Iterator[Pair]:
    layer = Path(shutil.copy(peers.blob("large", "gzip"), directory))
    image = f"{peers.layout('large', 'gzip')}:1"
    root = directory / "peer"
    peer = Side(
        f"umoci {' '.join(command)}",
        lambda: peers.call("umoci", *command, "--image", image, root),
        after=lambda: remove_tree(root),
        count=lambda: peers.count(root / files),
    )
    yield _ours(layer, directory / "root"), peer


@case(
    "Extract a layer from a file, gzip, large, against umoci",
    rounds=7,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.16, cpu=0.19),
    floor=floor("large", "gzip"),
)
@contextlib.contextmanager
def extract_umoci(directory: Path) -> Iterator[Pair]:
    """As before; `umoci unpack` takes the layer from an OCI layout, and also verifies both digests.

    It is a fresh process. It makes a bundle: it also reads all files once more, to describe them in a
    manifest by which it would find changes. Neither side syncs.
    """
    with _against_umoci(directory, ["unpack"], "rootfs") as pair:
        yield pair


@case(
    "Extract a layer from a file, gzip, large, against umoci without its manifest",
    rounds=3,
    warm_up=1,
    group="layers",
)
@contextlib.contextmanager
def extract_umoci_raw(directory: Path) -> Iterator[Pair]:
    """The same with `umoci raw unpack`, which makes the files and nothing else."""
    with _against_umoci(directory, ["raw", "unpack"], "") as pair:
        yield pair


@case(
    "Make a layer ready to mount without extracting it (EROFS index), gzip, large",
    rounds=7,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.60, cpu=0.68),
)
@contextlib.contextmanager
def index_gzip(directory: Path) -> Iterator[Pair]:
    """A layer of 1 GB and 40,000 files is decompressed into a file with an index that the kernel mounts.

    `pycontainer.layers.index` against our own `unpack` of the same file, both in this process; both compute
    the digests of blob and tar. Neither side syncs.
    """
    layer = Path(shutil.copy(peers.blob("large", "gzip"), directory))
    place = directory / "place"
    entries = {"index": 0, "unpack": 0}

    def ours() -> None:
        with layer.open("rb") as source:
            entries["index"] = index(source, place / "layer.erofs").unpacked.entries

    def extraction() -> None:
        with layer.open("rb") as source:
            entries["unpack"] = unpack(source, place).entries

    def side(name: str, call: Callable[[], None], key: str) -> Side:
        clear = functools.partial(remove_tree, place)
        return Side(name, call, before=place.mkdir, after=clear, count=lambda: entries[key])

    yield side("index", ours, "index"), side("extraction", extraction, "unpack")
