"""The hot path: one pass from the wire to a directory, and one from a directory to a blob.

Three threads over C code that releases the interpreter's lock: one reads and decompresses, one hashes
what came and what it became, the caller's parses and writes files. Queues between them are bounded,
so memory is, whatever the layer's size.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Final, Literal, Self

from attrs import frozen

from pycontainer.errors import DigestMismatch, Error, LayerError, SizeMismatch
from pycontainer.layers._compression import CHUNK, compressor, decompress
from pycontainer.layers._extractor import Extractor
from pycontainer.layers._ownership import Ownership
from pycontainer.layers._reader import TarReader
from pycontainer.layers._writer import write_tar
from pycontainer.oci import Compression, Descriptor, Digest, media_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pycontainer.content import BlobWriter, Readable
    from pycontainer.layers._entry import Entry

__all__ = ["LayerEvent", "Packed", "Unpacked", "pack", "tar_digest", "unpack"]

_DEPTH: Final = 48  # chunks in a queue: 12 MiB
_END: Final = b""


@frozen
class LayerEvent:
    """How far a layer has come.

    Attributes:
        received: Compressed bytes so far.
        unpacked: Uncompressed bytes so far.
        entries: Entries written so far.
        seconds: Since the beginning.
        done: Whether this is the last event of the layer.
    """

    received: int
    unpacked: int
    entries: int
    seconds: float
    done: bool = False


@frozen
class Unpacked:
    """What a layer turned out to be.

    Attributes:
        digest: Of the bytes as they came.
        size: Their number.
        diff_id: Of the uncompressed tar.
        tar_size: Its size.
        entries: How many it holds.
    """

    digest: Digest
    size: int
    diff_id: Digest
    tar_size: int
    entries: int


@frozen
class Packed:
    """A layer that was made: its descriptor, the digest of its tar and the tar's size."""

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
    expected: Descriptor | None = None,
    diff_id: Digest | None = None,
    blob: BlobWriter | None = None,
    events: Callable[[LayerEvent], None] | None = None,
) -> Unpacked:
    """Verify, decompress and write a layer in one pass.

    Args:
        source: The layer's bytes as stored.
        root: An empty directory. After any exception its content is worthless.
        compression: None to see by the first bytes.
        ownership: How owners are represented; None for what this process can do.
        whiteouts: They become overlay's; or `root` is the tree that the layer changes and they delete
            from it.
        expected: Digest and size that the bytes must have.
        diff_id: Digest that the tar must have.
        blob: Gets every byte that comes; the caller commits it.
        events: Called now and then from this thread.

    Raises:
        DigestMismatch: The bytes, or the tar, are others.
        SizeMismatch: There are more or fewer.
        TarError: The tar is damaged.
        UnsafePath: An entry leads out of the root; nothing was written there.
        LayerError: The file system refuses something.
    """
    feed = _Feed(source, compression, expected, blob)
    begun = time.monotonic()
    ownership = ownership or Ownership.current()
    with Extractor(root, ownership, apply=whiteouts == "apply") as extractor, feed:
        failure: Error | None = None
        try:
            told = begun
            for entry in TarReader(feed.chunks()):
                extractor.put(entry)
                if events is not None and (now := time.monotonic()) - told > 0.1:
                    told = now
                    events(LayerEvent(feed.received, feed.unpacked, extractor.entries, now - begun))
            extractor.finish()
        except LayerError as error:
            failure = error
        result = feed.finish(diff_id, failure, extractor.entries)
        if events is not None:
            seconds = time.monotonic() - begun
            events(LayerEvent(result.size, result.tar_size, result.entries, seconds, done=True))
        return result


def tar_digest(source: Readable, compression: Compression | None = None) -> tuple[Digest, int]:
    """The diff_id of a layer and its uncompressed size, without unpacking it."""
    with _Feed(source, compression, None, None) as feed:
        for _ in feed.chunks():
            pass
        result = feed.finish(None, None, 0)
    return result.diff_id, result.tar_size


class _Feed:
    """The two threads before the parser; a context manager that ends them whatever happens."""

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
        algorithm = expected.digest.algorithm if expected is not None else "sha256"
        self._blob_hash = hashlib.new(algorithm)
        self._tar_hash = hashlib.sha256()
        self._algorithm = algorithm
        self._to_parser: queue.Queue[bytes] = queue.Queue(_DEPTH)
        self._to_hash: queue.Queue[tuple[bool, bytes]] = queue.Queue(2 * _DEPTH)
        self._stopped = False
        self._error: BaseException | None = None
        self.received = 0
        self.unpacked = 0
        self._threads = [
            threading.Thread(target=self._decode, name="layer-decode", daemon=True),
            threading.Thread(target=self._digest, name="layer-digest", daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped = True
        while any(thread.is_alive() for thread in self._threads):
            with contextlib.suppress(queue.Empty):
                self._to_parser.get(timeout=0.01)
            for thread in self._threads:
                thread.join(0)

    def chunks(self) -> Iterator[bytes]:
        """The uncompressed stream."""
        while chunk := self._to_parser.get():
            yield chunk

    def finish(self, diff_id: Digest | None, failure: Error | None, entries: int) -> Unpacked:
        """Drain the stream, then say what it was or raise what was wrong with it.

        A digest that does not fit explains all that went wrong after it, so it is what is raised.
        """
        for _ in self.chunks():
            pass
        for thread in self._threads:
            thread.join()
        error = self._error or failure
        if error is not None and not isinstance(error, LayerError):
            raise error
        digest = Digest(self._algorithm, self._blob_hash.hexdigest())
        tar = Digest("sha256", self._tar_hash.hexdigest())
        expected = self._expected
        if expected is not None and self.received != expected.size:
            raise SizeMismatch(
                f"layer {expected.digest} should have {expected.size} bytes, "
                f"the source ended after {self.received}"
            ) from error
        if expected is not None and digest != expected.digest:
            message = f"layer should be {expected.digest}, its bytes are {digest}"
            raise DigestMismatch(message) from error
        if error is not None:
            raise error
        if diff_id is not None and tar != diff_id:
            raise DigestMismatch(f"the tar of layer {digest} should be {diff_id}, it is {tar}")
        return Unpacked(digest, self.received, tar, self.unpacked, entries)

    # --- the threads -------------------------------------------------------------------------

    def _decode(self) -> None:
        received = self._receive()
        try:
            for chunk in decompress(received, self._compression):
                self.unpacked += len(chunk)
                self._to_hash.put((False, chunk))
                self._to_parser.put(chunk)
        except BaseException as error:
            self._error = error
            if isinstance(error, LayerError):
                self._drain(received)
        self._to_hash.put((False, _END))
        self._to_parser.put(_END)

    def _drain(self, received: Iterator[bytes]) -> None:
        """Read on after damage: only the whole says whether it is what was announced."""
        try:
            for _ in received:
                pass
        except BaseException as error:
            self._error = error

    def _receive(self) -> Iterator[bytes]:
        most = None if self._expected is None else self._expected.size
        read = self._source.read
        while not self._stopped:
            # One byte past the end is asked for, so that a source that goes on is found out.
            want = CHUNK if most is None else min(CHUNK, most + 1 - self.received)
            data = read(want)
            if not data:
                return
            self.received += len(data)
            if most is not None and self.received > most:
                assert self._expected is not None
                raise SizeMismatch(
                    f"layer {self._expected.digest} should have {most} bytes, "
                    "the source goes on after them"
                )
            self._to_hash.put((True, data))
            if self._blob is not None:
                self._blob.write(data)
            yield data

    def _digest(self) -> None:
        blob, tar = self._blob_hash.update, self._tar_hash.update
        while True:
            is_blob, data = self._to_hash.get()
            if data is _END:
                return
            (blob if is_blob else tar)(data)


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
        blob: A writer that hashes.
        compression: How the tar is compressed.
        level: See `compressor`.

    Raises:
        LayerError: A file changed while it was read.
    """
    counted = _Counted(entries)
    codec = compressor(compression, level)
    tar_hash = hashlib.sha256()
    tar_size = 0
    with _Background(codec.compress, blob.write) as compress:
        for chunk in write_tar(counted):
            compress(chunk)
            tar_hash.update(chunk)
            tar_size += len(chunk)
    blob.write(codec.flush())
    digest = blob.commit()
    descriptor = Descriptor(media_types.oci_layer(compression), digest, blob.size)
    return Packed(descriptor, Digest("sha256", tar_hash.hexdigest()), tar_size, counted.count)


class _Counted:
    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = entries
        self.count = 0

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._entries:
            self.count += 1
            yield entry


class _Background:
    """Compresses and writes on a thread of its own, in order; errors come out at the end."""

    def __init__(self, work: Callable[[bytes], bytes], sink: Callable[[bytes], object]) -> None:
        self._work = work
        self._sink = sink
        self._queue: queue.Queue[bytes] = queue.Queue(_DEPTH)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="layer-compress", daemon=True)

    def __enter__(self) -> Callable[[bytes], None]:
        self._thread.start()
        return self._queue.put

    def __exit__(self, kind: object, *rest: object) -> None:
        self._queue.put(_END)
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def _run(self) -> None:
        while data := self._queue.get():
            if self._error is not None:
                continue
            try:
                if out := self._work(data):
                    self._sink(out)
            except BaseException as error:
                self._error = error
