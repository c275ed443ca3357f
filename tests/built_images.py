"""What is in an image that a test has built."""

from __future__ import annotations

import os
from functools import partial

from attrs import frozen

from pycontainer.images import Image
from pycontainer.layers import Kind, decompress, read_entries


@frozen
class File:
    """One entry of a layer."""

    kind: Kind
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    content: bytes = b""
    link: str = ""


def layers_of(image: Image) -> list[dict[str, File]]:
    """The entries of each layer by path, the bottom layer first."""
    layers = []
    for descriptor in image.layers:
        files: dict[str, File] = {}
        with image.store.blobs.open(descriptor.digest) as blob:
            chunks = iter(partial(blob.read, 1 << 18), b"")
            for entry in read_entries(decompress(chunks)):
                content = b"".join(map(bytes, entry.content())) if entry.content else b""
                files[os.fsdecode(entry.path)] = File(
                    entry.kind,
                    entry.mode,
                    (entry.uid, entry.gid),
                    entry.mtime_ns,
                    content,
                    os.fsdecode(entry.link),
                )
        layers.append(files)
    return layers


def files_of(image: Image) -> dict[str, File]:
    """All entries by path, those of upper layers in the place of lower ones; whiteouts are entries."""
    merged: dict[str, File] = {}
    for layer in layers_of(image):
        merged |= layer
    return merged


def contents_of(image: Image) -> dict[str, bytes]:
    """The contents of all regular files by path."""
    files = files_of(image).items()
    return {path: file.content for path, file in files if file.kind is Kind.FILE}
