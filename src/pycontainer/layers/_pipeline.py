"""The hot path: one pass from the wire to a directory, and one from a directory to a blob.

Threads over C code that releases the interpreter's lock: one reads and decompresses, one hashes what
came and what it became, the caller's parses and writes files. The pipes between them are bounded, so
memory is, whatever the layer's size.
"""

from __future__ import annotations

import hashlib
import threading
import time
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Final, Literal, Self

from attrs import frozen

from pycontainer.errors import DigestMismatch, LayerError, SizeMismatch
from pycontainer.layers._compression import CHUNK, HELD, compress, decompressed
from pycontainer.layers._events import LayerEvent, StageCost
from pycontainer.layers._extractor import Extractor
from pycontainer.layers._ownership import Ownership
from pycontainer.layers._pipe import Abandoned, Pipe
from pycontainer.layers._reader import TarReader
from pycontainer.layers._writer import PIECE, fill_tar
from pycontainer.oci import Compression, Descriptor, Digest, media_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pycontainer.content import BlobWriter, Readable
    from pycontainer.layers._entry import Entry

__all__ = ["Feed", "Packed", "Teller", "Unpacked", "pack", "tar_digest", "unpack"]

_DEPTH: Final = 8  # chunks in a pipe: 8 MiB
_DEPTH_RECEIVED: Final = 4
# In the pipe to the codec, then in the next one or held by the codec, and being filled.
_BUFFERS: Final = _DEPTH + max(_DEPTH, HELD) + 1
_EVENT_SECONDS: Final = 0.1
_ENTRIES_BETWEEN_LOOKS: Final = 64  # at the clock


@frozen
class Unpacked:
    """What a layer turned out to be.

    Attributes:
        diff_id: Digest of the uncompressed tar.
        digest: Of the bytes as they came.
        size: Their number.
        tar_size: Size of the tar.
        entries: How many it holds.
    """

    diff_id: Digest
    digest: Digest
    size: int
    tar_size: int
    entries: int


@frozen
class Packed:
    """A layer that was made: its descriptor, the digest of its tar, the tar's size and entries."""

    descriptor: Descriptor
    diff_id: Digest
    tar_size: int
    entries: int


def unpack(
    source: Readable,
    root: Path,
    *,
    compression: Compression | None = None,
    ownership: Ownership | None = None,
    whiteouts: Literal["overlay", "apply"] = "overlay",
    userxattr: bool | None = None,
    expected: Descriptor | None = None,
    diff_id: Digest | None = None,
    blob: BlobWriter | None = None,
    events: Callable[[LayerEvent], None] | None = None,
) -> Unpacked:
    """Verify, decompress and write a layer in one pass.

    Args:
        source: The layer's bytes as stored.
        root: An empty directory, or with ``whiteouts="apply"`` the tree that the layer changes.
            After any exception its content is worthless.
        compression: None to see by the first bytes.
        ownership: How owners are represented; None for what this process can do.
        whiteouts: ``"overlay"``: they become overlay's, for a layer in a directory of its own.
            ``"apply"``: they delete from `root` what this layer has not put there.
        userxattr: Whether overlay's attributes are those of ordinary users, as root of a user
            namespace needs them; None for what goes with `ownership`.
        expected: Digest and size that the bytes must have.
        diff_id: Digest that the tar must have.
        blob: Gets every byte that comes; the caller commits it. Best is one that does not hash.
        events: Called now and then from this thread, and at the end.

    Raises:
        DigestMismatch: The bytes, or the tar, are others.
        SizeMismatch: There are more or fewer.
        TarError: The tar is damaged.
        UnsafePath: An entry leads out of the root; nothing was written there.
        LayerError: The file system refuses something.
    """
    ownership = ownership or Ownership.current()
    apply = whiteouts == "apply"
    with (
        Extractor(root, ownership, apply=apply, userxattr=userxattr) as extractor,
        Feed(source, compression, expected, blob) as feed,
    ):
        failure: LayerError | None = None
        try:
            _extract(feed, extractor, events)
        except LayerError as error:
            failure = error
        result = feed.finish(diff_id, failure, extractor.entries)
        if events is not None:
            events(feed.event(result.entries, done=True))
        return result


def _extract(feed: Feed, extractor: Extractor, events: Callable[[LayerEvent], None] | None) -> None:
    put = extractor.put
    teller = None if events is None else Teller(feed, lambda: extractor.entries, events)
    chunks = feed.chunks()
    for entry in TarReader(chunks if teller is None else teller.between(chunks)):
        put(entry)
        if teller is not None and extractor.entries % _ENTRIES_BETWEEN_LOOKS == 0:
            teller.look()
    extractor.finish()


class Teller:
    """Tells now and then how far a layer has come: between entries, and between the pieces of a large one.

    Args:
        feed: Where the layer comes from.
        entries: How many entries there are so far.
        events: Who is told.
    """

    def __init__(
        self, feed: Feed, entries: Callable[[], int], events: Callable[[LayerEvent], None]
    ) -> None:
        self._feed = feed
        self._entries = entries
        self._events = events
        self._told = feed.begun

    def look(self) -> None:
        """Tell if it is time to."""
        now = time.perf_counter()
        if now - self._told >= _EVENT_SECONDS:
            self._told = now
            self._events(self._feed.event(self._entries()))

    def between(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces, with a look after each."""
        for chunk in chunks:
            yield chunk
            self.look()


def tar_digest(source: Readable, compression: Compression | None = None) -> tuple[Digest, int]:
    """The diff_id of a layer and its uncompressed size, without unpacking it.

    Raises:
        TarError: The compressed stream is damaged. The tar in it is not looked at.
    """
    with Feed(source, compression, None, None) as feed:
        result = feed.finish(None, None, 0)
    return result.diff_id, result.tar_size


class Feed:
    """The three threads before the parser; a context manager that ends them whatever happens."""

    def __init__(
        self,
        source: Readable,
        compression: Compression | None,
        expected: Descriptor | None,
        blob: BlobWriter | None,
    ) -> None:
        self._source = source
        self._compression = compression
        self._expected = expected
        self._blob = blob
        self._algorithm = "sha256" if expected is None else expected.digest.algorithm
        self._blob_hash = hashlib.new(self._algorithm)
        self._tar_hash = hashlib.sha256()
        self._to_decoder: Pipe[bytes] = Pipe(_DEPTH_RECEIVED)
        self._to_parser: Pipe[bytes] = Pipe(_DEPTH)
        self._to_digest: Pipe[tuple[bool, bytes]] = Pipe(2 * _DEPTH)
        self._chunks = iter(self._to_parser)
        self._receive_seconds = 0.0
        self._decode_end: float | None = None
        self._decode_waits = 0.0
        self._blob_seconds = 0.0
        self._tar_seconds = 0.0
        self.begun = time.perf_counter()
        self.received = 0
        self.unpacked = 0
        self._failed: BaseException | None = None
        self._receiver = threading.Thread(target=self._receive, name="layer-receive", daemon=True)
        self._threads = [
            self._receiver,
            threading.Thread(target=self._decode, name="layer-decode", daemon=True),
            threading.Thread(target=self._digest, name="layer-digest", daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._to_parser.abandon()
        for thread in self._threads:
            thread.join()

    def chunks(self) -> Iterator[bytes]:
        """The uncompressed stream, once."""
        return self._chunks

    def event(self, entries: int, *, done: bool = False) -> LayerEvent:
        """How far it has come."""
        now = time.perf_counter()
        received, unpacked, seconds = self.received, self.unpacked, now - self.begun
        parser = self._to_parser
        waits = self._to_decoder.get_wait + self._decode_waits
        decode = (self._decode_end or now) - self.begun - waits
        stages = (
            StageCost("receive", self._receive_seconds, received),
            StageCost("digest", self._blob_seconds, received),
            StageCost("decompress", decode, unpacked),
            StageCost("diff_id", self._tar_seconds, unpacked),
            StageCost("write", seconds - parser.get_wait, unpacked),
        )
        return LayerEvent(received, unpacked, entries, seconds, done, stages)

    def finish(self, diff_id: Digest | None, failure: LayerError | None, entries: int) -> Unpacked:
        """Read the rest of the stream, then say what it was or raise what was wrong with it.

        A digest that does not fit explains all that went wrong after it, so it is what is raised.
        """
        if failure is None or self._expected is not None:
            try:
                for _ in self._chunks:
                    pass
            except LayerError as error:
                failure = failure or error
        else:
            self._to_parser.abandon()
        for thread in self._threads:
            thread.join()
        if self._failed is not None:
            raise self._failed
        if self._expected is None and failure is not None:
            raise failure
        return self._judge(diff_id, failure, entries)

    def _judge(self, diff_id: Digest | None, failure: LayerError | None, entries: int) -> Unpacked:
        digest = Digest(self._algorithm, self._blob_hash.hexdigest())
        tar = Digest("sha256", self._tar_hash.hexdigest())
        expected = self._expected
        if expected is not None and self.received < expected.size:
            raise SizeMismatch(
                f"layer {expected.digest} should have {expected.size} bytes, "
                f"the source ended after {self.received}"
            ) from failure
        if expected is not None and digest != expected.digest:
            message = f"layer should be {expected.digest}, its bytes are {digest}"
            raise DigestMismatch(message) from failure
        if failure is not None:
            failure.within(f"layer {digest}")
            raise failure
        if diff_id is not None and tar != diff_id:
            raise DigestMismatch(f"the tar of layer {digest} should be {diff_id}, it is {tar}")
        return Unpacked(tar, digest, self.received, self.unpacked, entries)

    # --- the threads -------------------------------------------------------------------------

    def _receive(self) -> None:
        put = self._to_decoder.put
        error: BaseException | None = None
        try:
            for data in self._pieces():
                put(data)
        except BaseException as failure:
            error = failure
        self._to_decoder.close(error)

    def _decode(self) -> None:
        put, digest, now = self._to_parser.put, self._to_digest.put, time.perf_counter
        error: BaseException | None = None
        try:
            for chunk in decompressed(iter(self._to_decoder), self._compression):
                self.unpacked += len(chunk)
                begun = now()
                digest((False, chunk))
                put(chunk)
                self._decode_waits += now() - begun
        except Abandoned:
            pass
        except LayerError as damage:
            error = damage
            self._read_on()
        except BaseException as failure:
            error = self._failed = failure
        self._decode_end = time.perf_counter()
        self._to_decoder.abandon()
        self._receiver.join()  # it feeds the digest too
        self._to_digest.close()
        self._to_parser.close(error)

    def _read_on(self) -> None:
        """After damage: only the whole says whether it is what was announced."""
        if self._expected is None:
            return
        try:
            for _ in self._to_decoder:
                pass
        except Abandoned:
            pass
        except BaseException as error:
            self._failed = error

    def _pieces(self) -> Iterator[bytes]:
        most = None if self._expected is None else self._expected.size
        read = self._source.read
        while True:
            # One byte past the end is asked for, so that a source that goes on is found out.
            want = CHUNK if most is None else min(CHUNK, most + 1 - self.received)
            begun = time.perf_counter()
            data = read(want)
            self._receive_seconds += time.perf_counter() - begun
            if not data:
                return
            self.received += len(data)
            if most is not None and self.received > most:
                assert self._expected is not None
                raise SizeMismatch(
                    f"layer {self._expected.digest} should have {most} bytes, "
                    "the source goes on after them"
                )
            self._to_digest.put((True, data))
            yield data

    def _digest(self) -> None:
        blob_update, tar_update = self._blob_hash.update, self._tar_hash.update
        blob, now = self._blob, time.perf_counter
        try:
            for of_blob, data in self._to_digest:
                begun = now()
                if of_blob:
                    blob_update(data)
                    if blob is not None:
                        blob.write(data)
                    self._blob_seconds += now() - begun
                else:
                    tar_update(data)
                    self._tar_seconds += now() - begun
        except BaseException as error:
            self._failed = error
            self._to_digest.abandon()


def pack(
    entries: Iterable[Entry],
    blob: BlobWriter,
    *,
    compression: Compression = Compression.GZIP,
    level: int | None = None,
) -> Packed:
    """Write entries as a layer in one pass and commit the blob.

    The same entries give the same bytes, whatever the machine's number of processors.

    Args:
        entries: In the order in which they shall stand.
        blob: Where it goes; best is a writer that does not hash.
        compression: How the tar is compressed.
        level: For gzip 1 to 3 (1), for zstd 1 to 22 (3).

    Raises:
        LayerError: A file cannot be read, or changed while it was.
    """
    counted = _Counted(entries)
    tar_hash = hashlib.sha256()
    # Uncompressed, the tar is the blob.
    blob_hash = None if compression is Compression.NONE else hashlib.sha256()
    with (
        _Stage(partial(_write_blob, blob_hash, blob)) as to_blob,
        _Stage(lambda chunks: _forward(compress(chunks, compression, level), to_blob)) as to_codec,
        _Stage(partial(_hash, tar_hash)) as to_hash,
    ):
        tar_size = 0
        for chunk in fill_tar(counted, cycle(bytearray(PIECE) for _ in range(_BUFFERS))):
            tar_size += len(chunk)
            to_hash.put(chunk)
            to_codec.put(chunk)
    diff_id = Digest("sha256", tar_hash.hexdigest())
    digest = diff_id if blob_hash is None else Digest("sha256", blob_hash.hexdigest())
    blob.commit(digest)
    descriptor = Descriptor(media_types.oci_layer(compression), digest, blob.size)
    return Packed(descriptor, diff_id, tar_size, counted.count)


def _write_blob(
    blob_hash: hashlib._Hash | None, blob: BlobWriter, chunks: Iterable[bytes | memoryview]
) -> None:
    for chunk in chunks:
        if blob_hash is not None:
            blob_hash.update(chunk)
        blob.write(chunk)


def _forward(chunks: Iterable[bytes | memoryview], to: Pipe[bytes | memoryview]) -> None:
    for chunk in chunks:
        to.put(chunk)


def _hash(tar_hash: hashlib._Hash, chunks: Iterable[bytes | memoryview]) -> None:
    for chunk in chunks:
        tar_hash.update(chunk)


class _Counted:
    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = entries
        self.count = 0

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._entries:
            self.count += 1
            yield entry


class _Stage:
    """A thread that consumes a pipe. What it raises comes out where the pipe was filled."""

    def __init__(self, work: Callable[[Iterable[bytes | memoryview]], None]) -> None:
        self._work = work
        self._pipe: Pipe[bytes | memoryview] = Pipe(_DEPTH)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="layer-pack", daemon=True)

    def __enter__(self) -> Pipe[bytes | memoryview]:
        self._thread.start()
        return self._pipe

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._pipe.close(None if kind is None else Abandoned())
        self._thread.join()
        if self._error is not None and (kind is None or kind is Abandoned):
            raise self._error from None

    def _run(self) -> None:
        try:
            self._work(self._pipe)
        except BaseException as error:
            self._error = error
            self._pipe.abandon()
