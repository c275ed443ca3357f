"""``python -m benchmarks.memory WORK MIB DIRECTORY``: do it, and print how much memory it took at the peak.

The work is ``unpack`` or ``pack`` and a compression; the layer has so many MiB. What is packed is one file
with no data on the disk. What is unpacked is the same file again and again, each time in place of the one
before, so that a layer of any size needs little room.
"""

from __future__ import annotations

import functools
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

__all__: list[str] = []

_MIB = 1 << 20
_KIB = 1024
_FILE = 64  # MiB


def _peak_kib() -> int:
    """The largest resident set so far; that of getrusage(2) begins with the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM")


class _Stream(io.RawIOBase):
    """A source that is made as it is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            self._rest = next(self._pieces, None) or b""
            if not self._rest:
                return b""
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _tar(mib: int) -> Iterator[bytes]:
    from pycontainer.layers import Entry, Kind, write_tar

    block = os.urandom(_MIB // 2) + bytes(_MIB // 2)
    sizes = [_FILE] * (mib // _FILE) + [mib % _FILE]
    return write_tar(
        Entry(
            b"file",
            Kind.FILE,
            size=size * _MIB,
            content=lambda size=size: repeat(block, size),  # type: ignore[misc]
        )
        for size in sizes
    )


def _compressed(mib: int, codec: str) -> Iterator[bytes]:
    """A compressed layer: a member or frame for each piece of its tar, most of which are equal."""
    import zstandard

    @functools.lru_cache(maxsize=8)
    def compress(piece: bytes) -> bytes:
        if codec == "zstd":
            return zstandard.compress(piece)
        stream = zlib.compressobj(1, wbits=31)
        return stream.compress(piece) + stream.flush()

    return map(compress, _tar(mib))


def _unpack(mib: int, codec: str, directory: Path) -> None:
    from pycontainer.layers import unpack

    unpack(_Stream(_compressed(mib, codec)), directory)


def _pack(mib: int, codec: str, directory: Path) -> None:
    from pycontainer.content import BlobDir
    from pycontainer.layers import pack, walk_tree
    from pycontainer.oci import Compression

    tree = directory / "tree"
    tree.mkdir()
    with (tree / "file").open("wb") as file:
        file.truncate(mib * _MIB)
    with BlobDir(directory).writer(hashing=False) as blob:
        pack(walk_tree(tree), blob, compression=Compression(codec))


def main(work: str, mib: str, directory: str) -> None:
    before = _peak_kib()
    verb, codec = work.split()
    does: Callable[[int, str, Path], None] = {"unpack": _unpack, "pack": _pack}[verb]
    does(int(mib), codec, Path(directory))
    print((_peak_kib() - before) / _KIB)


if __name__ == "__main__":
    main(*sys.argv[1:])
