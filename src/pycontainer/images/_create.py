"""Images made here: of layers that are at hand, of a root file system."""

from __future__ import annotations

import bz2
import lzma
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, Final

from pycontainer.errors import ImageError, TarError
from pycontainer.images import _names
from pycontainer.images._intake import link_image
from pycontainer.images._parallel import for_each
from pycontainer.images._remembered import recall, remember
from pycontainer.layers import decompress, pack, read_entries, walk_tree
from pycontainer.oci import (
    Compression,
    ContainerConfig,
    Descriptor,
    Digest,
    History,
    ImageConfig,
    Manifest,
    Platform,
)
from pycontainer.snapshots import ensure_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pycontainer.content import Store
    from pycontainer.layers import Entry
    from pycontainer.oci import Reference

__all__ = [
    "EPOCH",
    "assemble",
    "from_interpreter",
    "image_of_entries",
    "import_rootfs",
    "read_chunks",
]

EPOCH: Final = "1970-01-01T00:00:00Z"
_CHUNK: Final = 1 << 18
_BZIP2_MAGIC: Final = b"BZh"
_XZ_MAGIC: Final = b"\xfd7zXZ\0"


def assemble(
    store: Store,
    layers: Sequence[tuple[Descriptor, Digest]],
    config: ImageConfig,
    names: Iterable[Reference] | None = (),
) -> Manifest:
    """Make an image of stored layers, unpack those that are not yet, and name it.

    With None for names, only the current lease keeps it.

    Raises:
        BlobNotFound: A layer's blob is not in the store.
        ContentError: A layer is not what its descriptor says.
    """
    diff_ids = tuple(diff_id for _, diff_id in layers)
    if config.diff_ids != diff_ids:
        config = config.evolve(diff_ids=diff_ids)
    with store.lease():
        for descriptor, _ in layers:
            store.blobs.size(descriptor.digest)
        for_each(dict.fromkeys(layers), lambda pair: ensure_layer(store, *pair))
        _write(store, config.encode())
        manifest = Manifest(
            config=config.descriptor(), layers=tuple(descriptor for descriptor, _ in layers)
        )
        _write(store, manifest.encode())
        link_image(store, manifest, config)
        if names is not None:
            _names.assign(store, manifest.descriptor(), manifest.config.digest, names)
    return manifest


def image_of_entries(
    store: Store,
    entries: Iterable[Entry],
    *,
    created_by: str,
    config: ContainerConfig | None = None,
    platform: Platform | None = None,
    compression: Compression = Compression.GZIP,
    names: Iterable[Reference] = (),
) -> Manifest:
    """Make an image of one layer from a whole tree's entries."""
    platform = platform or Platform.current()
    with store.lease():
        with store.blobs.writer() as blob:
            packed = pack(entries, blob, compression=compression)
        document = ImageConfig(
            os=platform.os,
            architecture=platform.architecture,
            variant=platform.variant,
            created=EPOCH,
            config=config or ContainerConfig(),
            history=(History(created=EPOCH, created_by=created_by, comment="pycontainer"),),
        )
        return assemble(store, [(packed.descriptor, packed.diff_id)], document, names)


def import_rootfs(
    store: Store,
    path: Path,
    *,
    config: ContainerConfig | None = None,
    platform: Platform | None = None,
    names: Iterable[Reference] = (),
) -> Manifest:
    """Make an image of a root file system, a directory or a tar.

    Raises:
        ImageError: There is nothing such at `path`.
        TarError: The tar is damaged.
        UnsafePath: An entry leads out of the root.
    """
    try:
        with ExitStack() as stack:
            if path.is_dir():
                entries = walk_tree(path)
            else:
                entries = read_entries(read_chunks(stack.enter_context(path.open("rb"))))
            return image_of_entries(
                store,
                entries,
                created_by=f"import {path.name}",
                config=config,
                platform=platform,
                names=names,
            )
    except OSError as error:
        raise ImageError(f"cannot import {path}: {error.strerror or error}") from error


def from_interpreter(
    store: Store,
    packages: Sequence[str],
    programs: Sequence[str],
    names: Iterable[Reference] = (),
) -> Manifest:
    """Make an image of the running Python.

    Raises:
        ImageError: There is none to copy, or something it needs is missing.
    """
    # Only here: what reads installed distributions would double the time of importing this room.
    from pycontainer.images._interpreter import Interpreter, container_config, gather

    interpreter = Interpreter.current()
    try:
        copy = gather(interpreter, packages, programs)
        fingerprint = copy.fingerprint()
        with store.lease():
            known = recall(store, fingerprint)
            if known is not None:
                layers = zip(known[0].layers, known[1].diff_ids, strict=True)
                return assemble(store, list(layers), known[1], names)
            manifest = image_of_entries(
                store,
                copy.entries(),
                created_by=f"copy of {interpreter.executable}",
                config=container_config(interpreter),
                names=names,
            )
            remember(store, fingerprint, manifest)
            return manifest
    except OSError as error:
        raise ImageError(
            f"cannot copy the interpreter {interpreter.executable}: {error}",
            remedy="all of it must be readable for this user",
        ) from error


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """The uncompressed content of a file that may be compressed by gzip, zstd, xz or bzip2.

    Raises:
        TarError: It is damaged.
    """
    beginning = file.read(len(_XZ_MAGIC))
    file.seek(0)
    if beginning.startswith(_XZ_MAGIC):
        return _read_file(lzma.LZMAFile(file))
    if beginning.startswith(_BZIP2_MAGIC):
        return _read_file(bz2.BZ2File(file))
    return decompress(iter(lambda: file.read(_CHUNK), b""))


def _read_file(file: lzma.LZMAFile | bz2.BZ2File) -> Iterator[bytes]:
    try:
        while chunk := file.read(_CHUNK):
            yield chunk
    except (lzma.LZMAError, EOFError, OSError) as error:
        raise TarError(f"the compressed stream is damaged: {error}") from error


def _write(store: Store, data: bytes) -> None:
    if store.blobs.exists(Digest.of(data)):  # spares a wait for the disk
        return
    with store.blobs.writer() as blob:
        blob.write(data)
        blob.commit()
