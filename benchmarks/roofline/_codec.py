"""What codecs and digests take for a stream, alone and on one thread."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard
from isal import isal_zlib

from benchmarks.peers.images import Codec

__all__ = ["compress", "decompress", "fastest", "sha256"]

_CHUNK = 1 << 18
_TIMES = 3
_GZIP_WINDOW = 31
_GZIP_LEVEL, _ZSTD_LEVEL = 1, 3


def fastest(work: Callable[[], object], clock: Callable[[], float] = time.thread_time) -> float:
    """Return the least seconds that some work took, of three times.

    Args:
        work: What is done.
        clock: What says how late it is; by itself, for work that never waits, this thread's processor time,
            so that it does not matter what else the machine does.
    """
    seconds = []
    for _ in range(_TIMES):
        begun = clock()
        work()
        seconds.append(clock() - begun)
    return min(seconds)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


@functools.cache
def sha256(path: Path) -> float:
    """Seconds to read a file from the page cache and compute its digest."""

    def work() -> None:
        digest = hashlib.sha256()
        for chunk in _chunks(path):
            digest.update(chunk)

    return fastest(work)


@functools.cache
def decompress(path: Path, codec: Codec) -> float:
    """Seconds to decompress a file, the result going nowhere."""

    def gzip() -> None:
        inflate = isal_zlib.decompressobj(wbits=_GZIP_WINDOW)
        for chunk in _chunks(path):
            inflate.decompress(chunk)

    def zstd() -> None:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            while reader.read(_CHUNK):
                pass

    return fastest(gzip if codec == "gzip" else zstd)


@functools.cache
def compress(path: Path, codec: Codec) -> float:
    """Seconds to compress a file as fast as layers are by default, the result going nowhere."""

    def work() -> None:
        stream = (
            isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
            if codec == "gzip"
            else zstandard.ZstdCompressor(_ZSTD_LEVEL).compressobj()
        )
        for chunk in _chunks(path):
            stream.compress(chunk)
        stream.flush()

    return fastest(work)
