"""Blobs as files named by their digest."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol, Self

from pycontainer.errors import BlobNotFound, DigestMismatch, SizeMismatch
from pycontainer.oci import Digest

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from pycontainer.oci import Descriptor

__all__ = ["BlobDir", "BlobWriter", "Readable", "VerifiedReader", "is_abandoned"]

_CHUNK = 1 << 20
_UNLOCKED_SECONDS = 2.0


class Readable(Protocol):
    """Anything with ``read(n)`` that returns at most `n` bytes, and none at the end."""

    def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes."""


class BlobDir:
    """A directory ``blobs/<algorithm>/<hex>``, as stores, OCI layouts and registries have it.

    Safe for many threads and processes: a blob appears whole, by rename, or not at all.

    Args:
        root: The directory that holds ``blobs``; made when the first blob is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: Digest) -> Path:
        """Where a blob is, or would be."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    def exists(self, digest: Digest) -> bool:
        """Whether the blob is there."""
        return self.path(digest).is_file()

    def size(self, digest: Digest) -> int:
        """Size in bytes.

        Raises:
            BlobNotFound: It is not there.
        """
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as error:
            raise self._missing(digest) from error

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading, unverified and unbuffered.

        Raises:
            BlobNotFound: It is not there.
        """
        try:
            return self.path(digest).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise self._missing(digest) from error

    def reader(self, descriptor: Descriptor) -> VerifiedReader:
        """Open a blob so that wrong bytes raise instead of being the last ones read.

        Raises:
            BlobNotFound: It is not there.
        """
        return VerifiedReader(self.open(descriptor.digest), descriptor)

    def read_bytes(self, descriptor: Descriptor) -> bytes:
        """Read a small blob whole, verified.

        Raises:
            BlobNotFound: It is not there.
            DigestMismatch: Its bytes are others.
            SizeMismatch: There are more or fewer of them.
        """
        with self.reader(descriptor) as reader:
            parts = []
            while part := reader.read(_CHUNK):
                parts.append(part)
        return b"".join(parts)

    def writer(self, expected: Descriptor | None = None, *, hashing: bool = True) -> BlobWriter:
        """Begin a blob.

        Args:
            expected: What it has to become; checked by `BlobWriter.commit`.
            hashing: Whether the writer computes the digest; else `commit` must be told it.
        """
        return BlobWriter(self, expected, hashing=hashing)

    def delete(self, digest: Digest) -> None:
        """Remove a blob; one that is not there is removed."""
        self.path(digest).unlink(missing_ok=True)

    def _install(self, temporary: Path, digest: Digest, size: int) -> None:  # noqa: ARG002
        """Give a finished, synced file its name."""
        final = self.path(digest)
        temporary.rename(final)
        _sync_directory(final.parent)

    def _missing(self, digest: Digest) -> BlobNotFound:
        return BlobNotFound(f"no blob {digest} in {self.root}")


class BlobWriter:
    """A blob being written: nothing of it is seen until `commit`; without that it vanishes."""

    def __init__(self, home: BlobDir, expected: Descriptor | None, *, hashing: bool) -> None:
        self._home = home
        self._expected = expected
        algorithm = expected.digest.algorithm if expected is not None else "sha256"
        self._hash = hashlib.new(algorithm) if hashing else None
        self._algorithm = algorithm
        self.size = 0
        directory = home.root / "blobs" / algorithm
        directory.mkdir(parents=True, exist_ok=True)
        self._path: Path | None = directory / f".{secrets.token_hex(12)}.partial"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        # Held while this process lives: an unlocked partial file is garbage (`is_abandoned`).
        self._file: IO[bytes] = open(os.open(self._path, flags, 0o644), "wb", buffering=0)  # noqa: SIM115
        fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes.

        Raises:
            SizeMismatch: More than expected have come.
        """
        if self._hash is not None:
            self._hash.update(data)
        view = memoryview(data)
        total = len(view)
        while view:
            view = view[self._file.write(view) :]
        self.size += total
        if self._expected is not None and self.size > self._expected.size:
            raise SizeMismatch(
                f"blob {self._expected.digest} should have {self._expected.size} bytes, "
                f"{self.size} have come so far"
            )
        return total

    def fileno(self) -> int:
        """The file's descriptor, for whoever writes to it by other calls."""
        return self._file.fileno()

    def commit(self, digest: Digest | None = None, size: int | None = None) -> Digest:
        """Make the blob permanent: synced, then visible by rename.

        Args:
            digest: What it must be; needed where the writer does not hash.
            size: Its size, where bytes were written past this writer.

        Raises:
            DigestMismatch: The bytes are others than expected.
            SizeMismatch: There are fewer or more of them.
        """
        assert self._path is not None, "committed or discarded already"
        if size is not None:
            self.size = size
        found = digest
        if self._hash is not None:
            found = Digest(self._algorithm, self._hash.hexdigest())
        assert found is not None, "a writer that does not hash must be told the digest"
        expected = self._expected.digest if self._expected is not None else digest
        if self._expected is not None and self.size != self._expected.size:
            raise SizeMismatch(
                f"blob {expected} should have {self._expected.size} bytes, found {self.size}"
            )
        if expected is not None and found != expected:
            raise DigestMismatch(f"blob should be {expected}, its bytes are {found}")
        os.fsync(self._file.fileno())
        self._file.close()
        self._home._install(self._path, found, self.size)  # noqa: SLF001
        self._path = None
        return found

    def close(self) -> None:
        """Discard what is not committed."""
        self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class VerifiedReader:
    """Reads a source and checks its size and digest; the error comes with the last read.

    One byte past the expected size is asked for, so that a source that goes on is found out.

    Args:
        source: Read until its end or one byte past the expected size; closed with the reader.
        expected: Digest and size.
    """

    def __init__(self, source: Readable, expected: Descriptor) -> None:
        self._source = source
        self._expected = expected
        self._hash = expected.digest.hasher()
        self._count = 0
        self._done = False

    def read(self, n: int = -1, /) -> bytes:
        """Return up to `n` bytes; none only when all were right.

        Raises:
            DigestMismatch: All bytes came, and they are others.
            SizeMismatch: The source ended early or went on too long.
        """
        left = self._expected.size + 1 - self._count
        data = self._source.read(left if n < 0 else min(n, left))
        if data:
            self._hash.update(data)
            self._count += len(data)
            if self._count > self._expected.size:
                raise SizeMismatch(
                    f"blob {self._expected.digest} should have {self._expected.size} bytes, "
                    "the source goes on after them"
                )
            return data
        if n != 0:
            self._check()
        return b""

    def _check(self) -> None:
        if self._done:
            return
        expected = self._expected
        if self._count != expected.size:
            raise SizeMismatch(
                f"blob {expected.digest} should have {expected.size} bytes, "
                f"the source ended after {self._count}"
            )
        if self._hash.hexdigest() != expected.digest.hex:
            found = f"{expected.digest.algorithm}:{self._hash.hexdigest()}"
            raise DigestMismatch(f"blob should be {expected.digest}, its bytes are {found}")
        self._done = True

    def close(self) -> None:
        """Close the source."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def is_abandoned(partial: Path) -> bool:
    """Whether the writer of an unfinished blob is gone; a very young one may not have its lock yet."""
    try:
        with partial.open("rb") as file:
            if time.time() - partial.stat().st_mtime < _UNLOCKED_SECONDS:
                return False
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return False
    return True


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
