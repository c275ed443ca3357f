"""A layer that is not unpacked: its tar as it is, and behind that an index which the kernel mounts.

The file is an EROFS image. Its first block, which EROFS leaves free, says where the parts are and has
a digest of all that the kernel reads as structure: what a disk has damaged is found before it does.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from attrs import asdict, frozen

from pycontainer.errors import LayerError
from pycontainer.layers._entry import AtHand
from pycontainer.layers._erofs import (
    BLOCK,
    SUPERBLOCK_OFFSET,
    NotIndexable,
    Tree,
    lay_out,
    superblock,
)
from pycontainer.layers._pipeline import Feed, Teller, Unpacked
from pycontainer.layers._reader import TarReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pycontainer.content import BlobWriter, Readable
    from pycontainer.layers._events import LayerEvent
    from pycontainer.oci import Compression, Descriptor, Digest

__all__ = ["Indexed", "index", "indexed_tar", "verify_index"]

_VERSION: Final = 1
_TAR_OFFSET: Final = 4096
_PAGE: Final = 4096
_CHUNK: Final = 1 << 20
_ENTRIES_BETWEEN_LOOKS: Final = 256  # at the clock


@frozen
class Indexed:
    """What became of a layer.

    Attributes:
        unpacked: What it turned out to be.
        obstacle: What no index can express; empty if there is one.
    """

    unpacked: Unpacked
    obstacle: str


@frozen
class _Parts:
    """What the first block of the file says.

    Attributes:
        version: Of this description.
        tar_size: Bytes of the tar, which begins at `_TAR_OFFSET`.
        metadata_offset: Where the index begins; 0 if there is none.
        metadata_size: Its bytes.
        digest: SHA-256 of the superblock and the index.
    """

    version: int
    tar_size: int
    metadata_offset: int = 0
    metadata_size: int = 0
    digest: str = ""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode().ljust(BLOCK, b"\n")

    @classmethod
    def decode(cls, block: bytes) -> Self:
        """Read the description; ValueError if it is none, or of another version."""
        fields = json.loads(block)
        if not isinstance(fields, dict) or fields.get("version") != _VERSION:
            raise ValueError("there is no description of this version")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError("the description is incomplete") from error


def index(
    source: Readable,
    file: Path,
    *,
    compression: Compression | None = None,
    expected: Descriptor | None = None,
    diff_id: Digest | None = None,
    blob: BlobWriter | None = None,
    events: Callable[[LayerEvent], None] | None = None,
) -> Indexed:
    """Verify, decompress and index a layer in one pass.

    Args:
        source: The layer's bytes as stored.
        file: Made; holds the tar, and the index unless there is an obstacle. After any exception it
            is worthless.
        compression: None to see by the first bytes.
        expected: Digest and size that the bytes must have.
        diff_id: Digest that the tar must have.
        blob: Gets every byte that comes; the caller commits it.
        events: Called now and then from this thread, and at the end.

    Raises:
        DigestMismatch: The bytes, or the tar, are others.
        SizeMismatch: There are more or fewer.
        TarError: The tar is damaged.
        LayerError: The file system refuses something.
    """
    with _written(file) as image, Feed(source, compression, expected, blob) as feed:
        tree = Tree()
        obstacle = ""
        failure: LayerError | None = None
        chunks = image.record(feed.chunks())
        try:
            try:
                _index(chunks, tree, feed, events)
            except NotIndexable as found:
                obstacle = str(found)
            for _ in chunks:  # what follows the archive's end is part of the tar
                pass
        except LayerError as error:
            failure = error
        unpacked = feed.finish(diff_id, failure, tree.entries)
        obstacle = image.complete(None if obstacle else tree, unpacked.diff_id) or obstacle
        if events is not None:
            events(feed.event(unpacked.entries, done=True))
        return Indexed(unpacked, obstacle)


def _index(
    chunks: Iterator[bytes], tree: Tree, feed: Feed, events: Callable[[LayerEvent], None] | None
) -> None:
    put = tree.put
    teller = None if events is None else Teller(feed, lambda: tree.entries, events)
    reader = TarReader(chunks if teller is None else teller.between(chunks))
    for entry in reader:
        at = reader.position
        put(entry, at - entry.size if type(entry.content) is AtHand else at)
        if teller is not None and tree.entries % _ENTRIES_BETWEEN_LOOKS == 0:
            teller.look()


@contextmanager
def _written(file: Path) -> Iterator[_Image]:
    fd = -1
    try:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        yield _Image(fd)
    except OSError as error:
        remedy = "free space on the store's file system" if error.errno == errno.ENOSPC else None
        raise LayerError(f"cannot write {file}: {error.strerror}", remedy=remedy) from error
    finally:
        if fd >= 0:
            os.close(fd)


class _Image:
    """The file while it is written."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._tar_size = 0
        os.lseek(fd, _TAR_OFFSET, os.SEEK_SET)

    def record(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass the tar on, after writing it."""
        fd = self._fd
        for chunk in chunks:
            done = os.write(fd, chunk)
            while done < len(chunk):
                done += os.write(fd, memoryview(chunk)[done:])
            self._tar_size += done
            yield chunk

    def complete(self, tree: Tree | None, diff_id: Digest) -> str:
        """Write index, superblock and description; gives the obstacle if there is one."""
        parts, head, obstacle = _Parts(_VERSION, self._tar_size), bytes(_TAR_OFFSET - BLOCK), ""
        offset = _TAR_OFFSET + self._tar_size
        offset += -offset % BLOCK
        try:
            if tree is not None:
                parts, head = self._write_index(tree, offset, bytes.fromhex(diff_id.hex)[:16])
        except NotIndexable as found:
            obstacle = str(found)
        os.pwrite(self._fd, parts.encode() + head, 0)
        return obstacle

    def _write_index(self, tree: Tree, offset: int, uuid: bytes) -> tuple[_Parts, bytes]:
        begin = offset // BLOCK
        metadata = lay_out(tree, tar_block=_TAR_OFFSET // BLOCK, metadata_block=begin)
        size = len(metadata.data)
        block = superblock(
            root=metadata.root,
            inodes=metadata.inodes,
            blocks=(offset + size) // BLOCK,
            metadata_block=begin,
            uuid=uuid,
        )
        head = (bytes(SUPERBLOCK_OFFSET - BLOCK) + block).ljust(_TAR_OFFSET - BLOCK, b"\0")
        at = offset
        rest = memoryview(metadata.data)
        while rest:
            done = os.pwrite(self._fd, rest, at)
            rest, at = rest[done:], at + done
        os.ftruncate(self._fd, at + -at % _PAGE)  # the kernel reads whole pages
        digest = hashlib.sha256(head)
        digest.update(metadata.data)
        return _Parts(_VERSION, self._tar_size, offset, size, digest.hexdigest()), head


def verify_index(file: Path) -> None:
    """Make sure that what the kernel will take for an image's structure is what was written.

    Raises:
        LayerError: It is not.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = _Parts.decode(os.pread(fd, BLOCK, 0))
            digest = hashlib.sha256(os.pread(fd, _TAR_OFFSET - BLOCK, BLOCK))
            _digest_range(fd, parts.metadata_offset, parts.metadata_size, digest)
        finally:
            os.close(fd)
        if digest.hexdigest() != parts.digest:
            raise ValueError("the digest is another")
    except (OSError, ValueError) as error:
        raise LayerError(f"the index {file} of a layer is damaged: {error}") from error


def _digest_range(fd: int, offset: int, size: int, digest: hashlib._Hash) -> None:
    end = offset + size
    while offset < end:
        piece = os.pread(fd, min(_CHUNK, end - offset), offset)
        if not piece:
            raise ValueError("the file ends early")
        digest.update(piece)
        offset += len(piece)


class _Tar:
    """The tar in an image, to be read once."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._at = _TAR_OFFSET
        self._end = _TAR_OFFSET + size

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; none at the end."""
        left = self._end - self._at
        piece = os.pread(self._fd, left if size < 0 else min(size, left), self._at)
        self._at += len(piece)
        return piece


@contextmanager
def indexed_tar(file: Path) -> Iterator[Readable]:
    """The uncompressed tar that `index` has put into a file.

    Raises:
        LayerError: The file is damaged.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LayerError(f"cannot read {file}: {error.strerror}") from error
    try:
        try:
            parts = _Parts.decode(os.pread(fd, BLOCK, 0))
        except ValueError as error:
            raise LayerError(f"the index {file} of a layer is damaged: {error}") from error
        yield _Tar(fd, parts.tar_size)
    finally:
        os.close(fd)
