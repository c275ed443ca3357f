"""gzip and zstd, both ways, over C codecs that release the interpreter's lock."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections import deque
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, cast

import zstandard

from pycontainer.errors import TarError
from pycontainer.layers._zstd_frames import ZstdFrames
from pycontainer.oci import Compression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from pycontainer.content import Readable

__all__ = ["CHUNK", "HELD", "adler32", "compress", "decompress", "decompressed", "regroup", "sniff"]

# Smaller ones cost more hand-overs between threads, larger ones leave the caches.
CHUNK: Final = 1 << 20
_SEGMENT: Final = 1 << 19  # compressed on its own for gzip; another size makes other bytes
_HISTORY: Final = 1 << 15  # deflate's window
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_MAGIC: Final = b"\x2a\x4d\x18"
_MAGIC_LENGTH: Final = 4
_ZSTD_WINDOW: Final = 1 << 27  # what `zstd --long` makes; more would be an attack on memory
_GZIP_WINDOW: Final = 31  # zlib's window bits plus its sign for a gzip header
_FLAGS_AT = 3  # in a member's header (RFC 1952, 2.3)
_RESERVED_FLAGS = 0xE0
_RAW_WINDOW: Final = -15
# No name, no time, no operating system: RFC 1952, section 2.3.
_GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_EMPTY_LAST_BLOCK: Final = b"\x03\x00"
_MOST_THREADS: Final = 4
HELD: Final = _MOST_THREADS + 1
"""How many pieces `compress` may still be reading when it asks for another."""

_Answer: TypeAlias = "SimpleQueue[bytes | BaseException]"
_Task: TypeAlias = "tuple[bytes, bytes | memoryview, _Answer]"

_igzip: ModuleType | None
_deflate: Any = zlib
try:
    from isal import igzip_lib as _igzip
    from isal import isal_zlib as _deflate
except ImportError:  # no wheel for this machine: the standard library's is several times slower
    _igzip = None

adler32: Final[Callable[[bytes], int]] = _deflate.adler32


def sniff(beginning: bytes) -> Compression:
    """The compression that the first four bytes, or more, show."""
    if beginning.startswith(_GZIP_MAGIC):
        return Compression.GZIP
    if beginning.startswith(_ZSTD_MAGIC) or (
        beginning[1:4] == _SKIPPABLE_MAGIC and 0x50 <= beginning[0] <= 0x5F
    ):
        return Compression.ZSTD
    return Compression.NONE


def decompress(
    source: Readable | Iterable[bytes], compression: Compression | None = None
) -> Iterator[bytes]:
    """Decompress a stream, in pieces of at most 1 MiB.

    Args:
        source: The stream: something to read from, or its pieces of any size.
        compression: None to see by the first bytes.

    Raises:
        TarError: It is damaged or ends early.
    """
    read = getattr(source, "read", None)
    if read is not None:
        return decompressed(iter(lambda: cast("bytes", read(CHUNK)), b""), compression)
    return decompressed(cast("Iterable[bytes]", source), compression)


def decompressed(
    chunks: Iterable[bytes], compression: Compression | None = None
) -> Iterator[bytes]:
    """`decompress` of a stream in pieces."""
    source = iter(chunks)
    if compression is None:
        first = b""
        for chunk in source:
            first += chunk
            if len(first) >= _MAGIC_LENGTH:
                break
        compression = sniff(first)
        source = _with_first(first, source)
    if compression is Compression.NONE:
        return source
    if compression is Compression.ZSTD:
        return _zstd(source)
    return _zlib(source) if _igzip is None else _isal(source, _igzip)


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _isal(chunks: Iterator[bytes], igzip: ModuleType) -> Iterator[bytes]:
    member = igzip.IgzipDecompressor(flag=igzip.DECOMP_GZIP)
    failure = cast("type[Exception]", igzip.IsalError)
    header: bytes | None = b""  # what has come of the member's, until that is known to be sound
    try:
        for chunk in chunks:
            data = chunk
            while True:
                if member.eof:
                    # Members may follow each other; zeros behind the last are padding.
                    data = (member.unused_data + data).lstrip(b"\0")
                    if not data:
                        break
                    member = igzip.IgzipDecompressor(flag=igzip.DECOMP_GZIP)
                    header = b""
                if header is not None:
                    header += data
                    if len(header) <= _FLAGS_AT:
                        break
                    _check_flags(header)
                    data, header = header, None
                out = member.decompress(data, CHUNK)
                data = b""
                if out:
                    yield out
                if member.needs_input or (member.eof and not member.unused_data):
                    break
    except failure as error:
        raise TarError(f"the gzip stream is damaged: {error}") from error
    if not member.eof:
        raise TarError("the gzip stream ends early")


def _check_flags(header: bytes) -> None:
    """Refuse what RFC 1952 reserves, and `isal` takes now for this and now for that."""
    if header[_FLAGS_AT] & _RESERVED_FLAGS:
        raise TarError("the gzip stream is damaged: reserved flags are set in a header")


def _zlib(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP_WINDOW)
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if member.eof:
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    member = zlib.decompressobj(_GZIP_WINDOW)
                out = member.decompress(data, CHUNK)
                data = member.unused_data if member.eof else member.unconsumed_tail
                if out:
                    yield out
        while not member.eof and (out := member.decompress(b"", CHUNK)):
            yield out
    except zlib.error as error:
        raise TarError(f"the gzip stream is damaged: {error}") from error
    if not member.eof:
        raise TarError("the gzip stream ends early")


class _Source:
    """The pieces as the file that `zstandard` reads; its frames are followed on the way."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.frames = ZstdFrames()

    def read(self, _size: int = -1) -> bytes:
        data = next(self._chunks, b"")
        self.frames.feed(data)
        return data

    def let_go(self) -> None:
        """Forget the pieces: the garbage collector does not look into zstandard's objects."""
        self._chunks = iter(())


def _zstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    source = _Source(chunks)
    reader = decompressor.stream_reader(
        cast("Any", source), read_size=CHUNK, read_across_frames=True
    )
    try:
        while data := reader.read(CHUNK):
            yield data
    except zstandard.ZstdError as error:
        raise TarError(f"the zstd stream is damaged: {error}") from error
    finally:
        source.let_go()
    if not source.frames.complete:
        raise TarError("the zstd stream ends early")


def compress(
    chunks: Iterable[bytes | memoryview], compression: Compression, level: int | None = None
) -> Iterator[bytes | memoryview]:
    """Compress a stream into bytes that depend on it, the level and the codec's version alone.

    Neither the sizes of the pieces nor the number of processors change them.

    Args:
        chunks: The stream in pieces of any size.
        compression: What is made.
        level: For gzip 1 to 3 where `isal` is there (higher is taken as 3), else 1 to 9; for zstd 1
            to 22.
    """
    if compression is Compression.GZIP:
        return _gzip(regroup(chunks, _SEGMENT), level)
    if compression is Compression.ZSTD:
        return _to_zstd(chunks, 3 if level is None else level)
    return iter(chunks)


def regroup(chunks: Iterable[bytes | memoryview], size: int) -> Iterator[bytes | memoryview]:
    """The same bytes in pieces of `size`, the last one shorter; those that are so already are passed on."""
    pending: list[bytes | memoryview] = []
    room = size
    for chunk in chunks:
        if len(chunk) == room == size:
            yield chunk
            continue
        view = memoryview(chunk)
        while len(view) >= room:
            pending.append(view[:room])
            view = view[room:]
            yield b"".join(pending)
            pending, room = [], size
        if view:
            pending.append(view)
            room -= len(view)
    if pending:
        yield b"".join(pending)


def _threads() -> int:
    return min(_MOST_THREADS, os.cpu_count() or 1)


def _gzip(segments: Iterator[bytes | memoryview], level: int | None) -> Iterator[bytes]:
    """One gzip member of segments that are compressed side by side.

    Each knows what stands before it, and ends with an empty block on a byte boundary (RFC 1951,
    section 3.2.4), so that they can be put together.
    """
    if level is None:
        level = 6 if _igzip is None else 1
    elif _igzip is not None:
        level = min(level, 3)
    checksum, size, history = 0, 0, b""
    yield _GZIP_HEADER
    with _SideBySide(partial(_deflate_segment, level)) as workers:
        under_way: deque[_Answer] = deque()
        for segment in segments:
            under_way.append(workers.begin(history, segment))
            history = bytes(segment[-_HISTORY:])
            checksum = _deflate.crc32(segment, checksum)
            size += len(segment)
            if len(under_way) > _threads() + 1:
                yield _result(under_way.popleft())
        while under_way:
            yield _result(under_way.popleft())
    yield _EMPTY_LAST_BLOCK + struct.pack("<II", checksum, size & 0xFFFFFFFF)


class _SideBySide:
    """Threads that compress. Queues in C hand over with less ado than the locks of an executor."""

    def __init__(self, work: Callable[[bytes, bytes | memoryview], bytes]) -> None:
        self._work = work
        self._todo: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name="layer-gzip", daemon=True)
            for _ in range(_threads())
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()

    def begin(self, history: bytes, segment: bytes | memoryview) -> _Answer:
        """Have a segment compressed; gives where to wait for that."""
        answer: _Answer = SimpleQueue()
        self._todo.put((history, segment, answer))
        return answer

    def _run(self) -> None:
        while (task := self._todo.get()) is not None:
            history, segment, answer = task
            try:
                answer.put(self._work(history, segment))
            except BaseException as error:
                answer.put(error)


def _result(answer: _Answer) -> bytes:
    found = answer.get()
    if isinstance(found, BaseException):
        raise found
    return found


def _deflate_segment(level: int, history: bytes, segment: bytes | memoryview) -> bytes:
    codec = (
        _deflate.compressobj(level, zlib.DEFLATED, _RAW_WINDOW, 8, 0, history)
        if history
        else _deflate.compressobj(level, zlib.DEFLATED, _RAW_WINDOW)
    )
    return cast("bytes", codec.compress(segment) + codec.flush(zlib.Z_SYNC_FLUSH))


def _to_zstd(chunks: Iterable[bytes | memoryview], level: int) -> Iterator[bytes]:
    # The output of several threads is the same whatever their number, but not that of none.
    codec = zstandard.ZstdCompressor(
        level=level, threads=_threads(), write_checksum=True
    ).compressobj()
    for chunk in chunks:
        if out := codec.compress(chunk):
            yield out
    yield codec.flush()
