"""Creation: a directory becomes a layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pycontainer as pc
from benchmarks import peers
from benchmarks.measure import Bounds, Side, case
from benchmarks.roofline import creation as floor
from pycontainer.content import BlobDir, Store, remove_tree
from pycontainer.layers import pack, walk_tree
from pycontainer.oci import Compression

__all__: list[str] = []

Pair = tuple[Side, Side]
_NAME = "copied:1"
_PIPELINE = """
set -e
mkfifo tar.fifo blob.fifo
sha256sum <tar.fifo >tar.sum &
sha256sum <blob.fifo >blob.sum &
tar --create --sort=name --xattrs --directory tree . | tee tar.fifo |
    zstd -3 -T2 --quiet --stdout | tee blob.fifo >blob
wait
"""


def _ours(tree: Path, blobs: Path, compression: Compression) -> Side:
    entries: list[int] = []

    def call() -> None:
        with BlobDir(blobs).writer(hashing=False) as blob:
            packed = pack(walk_tree(tree), blob, compression=compression)
        entries.append(packed.entries - 1)  # the root is one

    return Side("pycontainer", call, after=lambda: remove_tree(blobs), count=lambda: entries[-1])


@contextlib.contextmanager
def _docker_build(directory: Path) -> Iterator[Side]:
    (directory / "Dockerfile").write_text("FROM scratch\nCOPY tree /\n")
    with peers.dockerd(directory.with_name("docker")) as docker:
        yield Side(
            "docker build",
            lambda: docker("build", "--quiet", "--no-cache", "--tag", _NAME, directory),
            after=lambda: docker("image", "rm", _NAME),
            daemons=docker.processor_seconds,
            count=docker.entries,
        )


@case(
    "Create a layer, gzip, large tree",
    rounds=7,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.07, cpu=0.09),
    floor=floor("large", "gzip"),
)
@contextlib.contextmanager
def create_gzip(directory: Path) -> Iterator[Pair]:
    """A tree of 1 GB and 40,000 files becomes a compressed layer with its digests.

    `pycontainer.layers.pack` in this process, gzip at its default level; the blob is synced. The peer is
    `docker build` of `COPY` from that tree by the classic builder of a daemon that runs already; a
    client is started each time. It does not compress before a push, and keeps the files unsynced.
    """
    context = directory / "context"
    context.mkdir()
    tree = peers.extract_tar(peers.archive("large"), context / "tree")
    with _docker_build(context) as peer:
        yield _ours(tree, directory / "blobs", Compression.GZIP), peer


@case("Build an image by COPY, large tree", rounds=3, warm_up=1, group="layers")
@contextlib.contextmanager
def build_copy(directory: Path) -> Iterator[Pair]:
    """The same tree by `Builder.copy` and `build` without cache, against the same `docker build`.

    Ours runs in this process, and gives an image: the layer is compressed, stored, synced and unpacked, ready
    to run from.
    """
    context = directory / "context"
    context.mkdir()
    peers.extract_tar(peers.archive("large"), context / "tree")
    place = directory / "place"

    def ours() -> None:
        with Store.open(place) as store:
            builder = pc.Builder.scratch().copy("tree", "/")
            builder.build(_NAME, context=context, store=store, use_cache=False)

    with _docker_build(context) as peer:
        yield (
            Side(
                "pycontainer",
                ours,
                after=lambda: remove_tree(place),
                count=lambda: sum(map(peers.count, place.glob("layers/*/*/"))),
            ),
            peer,
        )


@case(
    "Create a layer, zstd level 3, large tree",
    rounds=7,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.50, cpu=0.75),
    floor=floor("large", "zstd"),
)
@contextlib.contextmanager
def create_zstd(directory: Path) -> Iterator[Pair]:
    """The same tree becomes a zstd layer, by `pycontainer.layers.pack` in this process.

    The peer is a pipeline of fresh processes: `tar`, `zstd -3 -T2`, and a `sha256sum` of each stream. Ours
    syncs the blob, the pipeline does not.
    """
    tree = peers.extract_tar(peers.archive("large"), directory / "tree")

    def remove() -> None:
        for name in ("tar.fifo", "blob.fifo", "tar.sum", "blob.sum", "blob"):
            (directory / name).unlink()

    def pipeline() -> None:
        peers.call("bash", "-o", "pipefail", "-c", f"cd {directory}\n{_PIPELINE}")

    def count() -> int:
        listing = peers.call("tar", "--list", "--zstd", "--file", directory / "blob")
        return listing.count("\n") - 1  # the root is one

    yield (
        _ours(tree, directory / "blobs", Compression.ZSTD),
        Side("tar, zstd, sha256sum", pipeline, after=remove, count=count),
    )
