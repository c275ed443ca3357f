"""How the cost of layers grows: with files, with bytes, with layers, with pulls at the same time."""

from __future__ import annotations

import contextlib
import gzip
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pycontainer as pc
from benchmarks import peers
from benchmarks.growth import Rate, curve
from benchmarks.measure import Side
from benchmarks.peers import images
from pycontainer.content import BlobDir, Store, remove_tree
from pycontainer.layers import Entry, Kind, LayerEvent, pack, unpack, walk_tree, write_tar

__all__: list[str] = []

Sides = Sequence[Side]
_FILES = (1_000, 3_000, 10_000, 30_000, 100_000, 200_000)
_FILES_A_DIRECTORY = 100
_SMALL = b"a small file, as most are in an image\n"
_MIB = 1 << 20
_PER_FILE = Rate("{:.0f} µs a file", 1e6)
_PER_MIB = Rate("{:.0f} MB/s", _MIB / 1e6, inverse=True)
_FILES_A_LAYER = 200
_BLOCK = 512


def _files(count: int, label: str = "") -> Iterator[Entry]:
    """Give so many small files, and the directories that they are in."""
    for number in range(count):
        directory = b"%s%06d" % (label.encode(), number // _FILES_A_DIRECTORY)
        if number % _FILES_A_DIRECTORY == 0:
            yield Entry(directory, Kind.DIRECTORY, mode=0o755)
        content = b"%d %s" % (number, _SMALL)
        yield Entry(
            b"%s/%06d" % (directory, number),
            Kind.FILE,
            mtime_ns=number * 1_000_000_000,
            size=len(content),
            content=lambda content=content: iter((content,)),  # type: ignore[misc]
        )


def _write_tar(entries: Iterator[Entry], path: Path) -> Path:
    with path.open("wb") as file:
        file.writelines(write_tar(entries))
    return path


def _extract(layer: Path, root: Path) -> Sides:
    """Ours and GNU tar."""
    events: list[LayerEvent] = []

    def ours() -> None:
        with layer.open("rb") as source:
            unpack(source, root, events=events.append)

    def stages() -> dict[str, float]:
        return {stage.name: stage.seconds for stage in events[-1].stages}

    def clear() -> None:
        remove_tree(root)

    def tar() -> None:
        peers.call("tar", "-xzf", layer, "-C", root)

    return (
        Side("pycontainer", ours, before=root.mkdir, after=clear, stages=stages),
        Side("GNU tar", tar, before=root.mkdir, after=clear),
    )


@curve("Files in a layer", axis="files", points=_FILES, rate=_PER_FILE)
@contextlib.contextmanager
def grow_files(directory: Path, size: int) -> Iterator[Sides]:
    """A gzip layer of so many files of some forty bytes, a hundred in a directory, is extracted.

    What bounds it is the kernel's making of files, on one thread; the stage that writes is busy all the
    time, the others wait for it.
    """
    tar = _write_tar(_files(size), directory / "layer.tar")
    yield _extract(peers.compressed(tar, "gzip"), directory / "root")


@curve("Bytes in a file", axis="MiB", points=(0, 1, 4, 16, 64, 256, 1024), rate=_PER_MIB)
@contextlib.contextmanager
def grow_bytes(directory: Path, size: int) -> Iterator[Sides]:
    """A gzip layer of one file with so much of what a Debian system has in its files is extracted.

    What bounds it is inflation, which a single stream allows on one thread only.
    """
    source = peers.archive("large")
    whole = source.stat().st_size // _MIB

    def content() -> Iterator[bytes]:
        with source.open("rb", buffering=0) as file:
            for number in range(size):
                file.seek(number % whole * _MIB)
                yield file.read(_MIB)

    entry = Entry(b"file", Kind.FILE, size=size * _MIB, content=content)
    tar = _write_tar(iter((entry,)), directory / "layer.tar")
    yield _extract(peers.compressed(tar, "gzip"), directory / "root")


@curve("Files in a tree", axis="files", points=_FILES, rate=_PER_FILE)
@contextlib.contextmanager
def grow_tree(directory: Path, size: int) -> Iterator[Sides]:
    """A tree of so many files of some forty bytes becomes a gzip layer.

    What bounds it is one thread that looks at each file, opens, reads and closes it, and makes its header.
    """
    tree = peers.extract_tar(_write_tar(_files(size), directory / "layer.tar"), directory / "tree")
    blobs = directory / "blobs"
    target = directory / "peer.tar.gz"

    def ours() -> None:
        with BlobDir(blobs).writer(hashing=False) as blob:
            pack(walk_tree(tree), blob)

    def tar() -> None:
        peers.call("tar", "--sort=name", "-czf", target, "-C", tree, ".")

    yield (
        Side("pycontainer", ours, after=lambda: remove_tree(blobs)),
        Side("GNU tar, gzip", tar, after=target.unlink),
    )


@contextlib.contextmanager
def _registry(directory: Path, layouts: Sequence[Path]) -> Iterator[list[str]]:
    """Serve the images of some layouts; gives their names."""
    with peers.registry(directory) as registry:
        names = [f"{layout.name}:1" for layout in layouts]
        for layout, name in zip(layouts, names, strict=True):
            registry.take(layout, name)
        yield [f"{registry.host}/{name}" for name in names]


def _pulls(names: Sequence[str], place: Path, docker: peers.Docker) -> Sides:
    """Ours and Docker's, all of the images at the same time."""

    def at_once(pull_one: object) -> None:
        assert callable(pull_one)
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(pull_one, names))

    def ours() -> None:
        with Store.open(place) as store:
            at_once(lambda name: pc.Image.pull(name, store=store))

    return (
        Side("pycontainer", ours, after=lambda: remove_tree(place)),
        Side(
            "docker pull",
            lambda: at_once(lambda name: docker("pull", "--quiet", name)),
            after=lambda: docker("image", "rm", *names),
            daemons=docker.processor_seconds,
        ),
    )


@curve(
    "Layers in an image",
    axis="layers",
    points=(1, 2, 4, 8, 16, 32, 64, 120),
    rate=Rate("{:.1f} ms a layer", 1000),
)
@contextlib.contextmanager
def grow_layers(directory: Path, size: int) -> Iterator[Sides]:
    """An image of so many layers, 200 small files in each, is pulled from a docker-registry.

    What bounds it are the processors, of which the making of files takes most; what a layer costs besides
    is a request, four threads and a few short transactions. The blobs are synced together at the end.
    """
    layers = []
    for number in range(size):
        entries = _files(_FILES_A_LAYER, f"{number}-")
        tar = _write_tar(entries, directory / f"{number}.tar")
        layers.append((tar, peers.compressed(tar, "gzip")))
    images.image(layers, directory / "layers")
    with (
        _registry(directory, [directory / "layers"]) as names,
        peers.dockerd(directory / "docker") as docker,
    ):
        yield _pulls(names, directory / "place", docker)


@curve(
    "Pulls at the same time",
    axis="images",
    points=(1, 2, 4, 8),
    rate=Rate("{:.2f} s an image", 1),
)
@contextlib.contextmanager
def grow_pulls(directory: Path, size: int) -> Iterator[Sides]:
    """So many images of 170 MB and 9,000 files, which share nothing, are pulled at the same time.

    Ours by as many threads of this process into one store, Docker's by as many clients of one daemon. What
    bounds it are the processors, and that the threads which make files take turns at the interpreter: what
    several of them do outside the kernel, one does at a time.
    """
    layouts = []
    for number in range(size):
        layouts.append(directory / f"image-{number}")
        images.image([_with_own_file(number, directory)], layouts[-1])
    with _registry(directory, layouts) as names, peers.dockerd(directory / "docker") as docker:
        yield _pulls(names, directory / "place", docker)


def _with_own_file(number: int, directory: Path) -> tuple[Path, Path]:
    """The small Debian with an empty file before it: the tar, and gzip members one after the other."""
    own = b"".join(write_tar(iter((Entry(b"number-%d" % number, Kind.FILE),)))).rstrip(b"\0")
    own = own.ljust(_BLOCK, b"\0")  # without the blocks that would end the archive
    tar = directory / f"{number}.tar"
    tar.write_bytes(own + peers.minbase().read_bytes())
    layer = tar.with_suffix(".tar.gz")
    layer.write_bytes(gzip.compress(own) + peers.blob("small", "gzip").read_bytes())
    return tar, layer


@curve(
    "Memory",
    axis="MiB in the layer",
    points=(64, 256, 1024, 2048, 5120),
    rate=Rate("{}", 1),
    rounds=1,
    value="MiB at the peak, above the interpreter",
    limit=64,
)
@contextlib.contextmanager
def grow_memory(directory: Path, size: int) -> Iterator[Sides]:
    """A fresh process extracts or makes a layer of so many MiB.

    Its resident set at the peak, less that of the interpreter before it imported anything. What bounds it
    are the buffers between the stages, which hold so many chunks whatever comes. What is extracted are
    files of 64 MiB, each in place of the one before; what a layer is made of is a file of zeros.
    """
    root = directory / "root"

    def probe(work: str) -> Side:
        def call() -> float:
            command: list[str | Path] = [
                sys.executable,
                "-m",
                "benchmarks.memory",
                work,
                str(size),
                root,
            ]
            return float(peers.call(*command).split()[-1])

        return Side(work, call, before=root.mkdir, after=lambda: remove_tree(root))

    yield tuple(map(probe, ("unpack gzip", "unpack zstd", "pack gzip", "pack zstd")))
