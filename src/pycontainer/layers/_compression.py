"""gzip and zstd, both ways, over C codecs that release the interpreter's lock."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import zstandard

from pycontainer.errors import TarError
from pycontainer.oci import Compression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Compressor", "compressor", "decompress", "sniff"]

CHUNK: Final = 1 << 18
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_WINDOW: Final = 1 << 27  # what `zstd --long` makes; more would be an attack on memory
_GZIP_WINDOW: Final = 31  # zlib's window bits plus its sign for a gzip header

try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # no wheel for this machine: the standard library's is several times slower
    igzip_lib = None
    isal_zlib = None


def sniff(beginning: bytes) -> Compression:
    """The compression that some first bytes show."""
    if beginning.startswith(_GZIP_MAGIC):
        return Compression.GZIP
    if beginning.startswith(_ZSTD_MAGIC) or (
        len(beginning) > 4 and beginning[1:4] == b"\x2a\x4d\x18" and 0x50 <= beginning[0] <= 0x5F
    ):
        return Compression.ZSTD
    return Compression.NONE


def decompress(chunks: Iterable[bytes], compression: Compression | None = None) -> Iterator[bytes]:
    """Decompress a stream.

    Args:
        chunks: The stream, in pieces of any size.
        compression: None to see by the first bytes.

    Raises:
        TarError: It is damaged or ends early.
    """
    source = iter(chunks)
    if compression is None:
        first = next(source, b"")
        compression = sniff(first)
        source = _with_first(first, source)
    if compression is Compression.NONE:
        return source
    return _GZIP(source) if compression is Compression.GZIP else _zstd(source)


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _isal(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    begun = False
    try:
        for chunk in chunks:
            data = chunk
            while True:
                if member.eof:
                    # Members may follow each other; zeros behind the last are padding.
                    data = (member.unused_data + data).lstrip(b"\0")
                    if not data:
                        break
                    member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
                begun = True
                out = member.decompress(data, CHUNK)
                data = b""
                if out:
                    yield out
                if member.needs_input or (member.eof and not member.unused_data):
                    break
    except igzip_lib.IsalError as error:
        raise TarError(f"the gzip stream is damaged: {error}") from error
    if begun and not member.eof:
        raise TarError("the gzip stream ends early")


def _zlib(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP_WINDOW)
    begun = False
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if member.eof:
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    member = zlib.decompressobj(_GZIP_WINDOW)
                begun = True
                out = member.decompress(data, CHUNK)
                data = member.unused_data if member.eof else member.unconsumed_tail
                if out:
                    yield out
    except zlib.error as error:
        raise TarError(f"the gzip stream is damaged: {error}") from error
    if begun and not member.eof:
        raise TarError("the gzip stream ends early")


_GZIP: Callable[[Iterator[bytes]], Iterator[bytes]] = _zlib if igzip_lib is None else _isal


class _Source:
    """The pieces as the file that `zstandard` reads."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, _size: int = -1) -> bytes:
        return next(self._chunks, b"")


def _zstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    # An end in the middle of a frame reads as the end: the tar inside, and its digest, find that out.
    reader = decompressor.stream_reader(_Source(chunks), read_size=CHUNK, read_across_frames=True)
    try:
        while data := reader.read(CHUNK):
            yield data
    except zstandard.ZstdError as error:
        raise TarError(f"the zstd stream is damaged: {error}") from error


class Compressor(Protocol):
    """What compresses a stream piece by piece."""

    def compress(self, data: bytes, /) -> bytes:
        """Take some bytes, return some compressed."""

    def flush(self) -> bytes:
        """Return the rest."""


class _Nothing:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def compressor(compression: Compression, level: int | None = None) -> Compressor:
    """Begin a compressed stream whose bytes depend on the input, the level and the codec alone.

    Args:
        compression: What is made.
        level: For gzip 0 to 3 where `isal` is there, else 1 to 9; for zstd 1 to 19.
    """
    if compression is Compression.NONE:
        return _Nothing()
    result: Any
    if compression is Compression.ZSTD:
        # The output of several threads is the same whatever their number, but not that of none.
        result = zstandard.ZstdCompressor(
            level=3 if level is None else level, threads=2, write_checksum=True
        ).compressobj()
    elif isal_zlib is not None:
        result = isal_zlib.compressobj(2 if level is None else min(level, 3), 8, _GZIP_WINDOW)
    else:
        result = zlib.compressobj(6 if level is None else level, zlib.DEFLATED, _GZIP_WINDOW)
    return result  # type: ignore[no-any-return]
