"""The images that are measured: real Debian systems, made on first use and kept for the next run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal

from attrs import evolve

from benchmarks.peers.program import call
from pycontainer.content import remove_tree
from pycontainer.layers import Entry, Kind, read_entries, write_tar
from pycontainer.oci import (
    Compression,
    Descriptor,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    media_types,
)

__all__ = [
    "Codec",
    "Name",
    "archive",
    "blob",
    "compressed",
    "image",
    "layout",
    "minbase",
    "read_archive",
    "split",
]

Name = Literal["small", "large"]
Codec = Literal["gzip", "zstd"]

_CACHE = Path(__file__).parents[2] / ".cache"
_CHUNK = 1 << 20
_HEADER = 512
_LARGE = [
    "build-essential",
    "clang",
    "cmake",
    "gdb",
    "git",
    "linux-headers-amd64",
    "perl-doc",
    "python3-dev",
    "vim",
]
_COMPRESSORS = {"gzip": ["gzip", "-6", "-n", "-c"], "zstd": ["zstd", "-3", "-q", "-c"]}


def minbase() -> Path:
    """Return a tar of a small Debian system (170 MB, 9,000 files)."""
    return archive("small")


def archive(name: Name) -> Path:
    """Return a tar: small is the least Debian (170 MB, 9,000 files), large one to develop with (1 GB)."""
    include = [f"--include={','.join(_LARGE)}"] if name == "large" else []
    path = _CACHE / ("minbase.tar" if name == "small" else "develop.tar")
    with _made(path) as new:
        if new is not None:
            call("mmdebstrap", "--variant=minbase", "--quiet", *include, "bookworm", new)
    return path


def blob(name: Name, codec: Codec) -> Path:
    """Return the tar, compressed as is usual: ``gzip -6`` or ``zstd -3``."""
    return compressed(archive(name), codec)


def layout(name: Name, codec: Codec, layers: int = 1) -> Path:
    """Return an OCI layout that holds the tar as an image of so many layers of equal size."""
    path = _CACHE / f"{archive(name).stem}-{codec}-{layers}"
    if not path.exists():
        new = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            tars = [archive(name)] if layers == 1 else split(archive(name), layers)
            image([(tar, compressed(tar, codec)) for tar in tars], new)
            new.rename(path)
        finally:
            if new.exists():
                remove_tree(new)
    return path


def image(layers: Sequence[tuple[Path, Path]], directory: Path) -> None:
    """Write an OCI layout with one image, of the name 1.

    Args:
        layers: A tar and its compressed form for each layer.
        directory: The layout, which is made.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    stored = []
    for _, compressed in layers:
        codec = Compression.ZSTD if compressed.suffix == ".zst" else Compression.GZIP
        digest = _digest(compressed)
        os.link(compressed, blobs / digest.hex)
        size = compressed.stat().st_size
        stored.append(Descriptor(media_types.oci_layer(codec), digest, size))
    here = Platform.current()
    config = ImageConfig(
        os=here.os,
        architecture=here.architecture,
        diff_ids=tuple(_digest(tar) for tar, _ in layers),
    )
    manifest = Manifest(config=config.descriptor(), layers=tuple(stored))
    for document in (config, manifest):
        (blobs / document.descriptor().digest.hex).write_bytes(document.encode())
    named = evolve(manifest.descriptor(), annotations={"org.opencontainers.image.ref.name": "1"})
    index = Index(manifests=(named,))
    (directory / "index.json").write_bytes(index.encode())


def read_archive(path: Path) -> Iterator[Entry]:
    """Read a tar's entries."""
    return read_entries(_chunks(path))


@contextlib.contextmanager
def _made(path: Path) -> Iterator[Path | None]:
    """Give where to write a file that is not there yet, which gets its name when it is whole."""
    if path.exists():
        yield None
        return
    path.parent.mkdir(exist_ok=True)
    new = path.with_name(f"{path.stem}.{os.getpid()}{path.suffix}")  # its ending says its format
    try:
        yield new
        new.rename(path)
    finally:
        new.unlink(missing_ok=True)


def compressed(tar: Path, codec: Codec) -> Path:
    """Return a tar's compressed form, which is beside it, and made if it is not yet there."""
    path = tar.with_suffix(".tar.gz" if codec == "gzip" else ".tar.zst")
    with _made(path) as new:
        if new is not None:
            with new.open("wb") as file:
                subprocess.run([*_COMPRESSORS[codec], tar], stdout=file, check=True)
    return path


def split(tar: Path, layers: int) -> list[Path]:
    """Write a tar as several of about equal size, each with the directories that it needs."""
    members = _share_out(tar, layers)
    paths = []
    for layer, wanted in enumerate(members):
        path = tar.with_name(f"{tar.stem}-{layer + 1}of{layers}.tar")
        with _made(path) as new:
            if new is not None:
                entries = enumerate(read_archive(tar))
                chosen = (entry for position, entry in entries if position in wanted)
                with new.open("wb") as file:
                    file.writelines(write_tar(chosen))
        paths.append(path)
    return paths


def _share_out(tar: Path, layers: int) -> list[set[int]]:
    """Say which of a tar's entries go to which layer: a hard link to where its file is."""
    share = tar.stat().st_size // layers + 1
    members: list[set[int]] = [set() for _ in range(layers)]
    position_of: dict[bytes, int] = {}
    layer_of: dict[bytes, int] = {}
    written = 0
    for position, entry in enumerate(read_archive(tar)):
        middle = written + entry.size // 2
        layer = layer_of[entry.link] if entry.kind is Kind.HARD_LINK else middle // share
        members[layer].add(position)
        position_of[entry.path] = position
        layer_of[entry.path] = layer
        parents = accumulate(entry.path.split(b"/")[:-1], lambda up, name: up + b"/" + name)
        members[layer].update(position_of[path] for path in parents)
        written += _HEADER + entry.size
    return members


def _digest(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            yield chunk
