"""Writing a blob so that it appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from pycontainer._linux.durable import begin_writing_out
from pycontainer.content._locked import create_locked, open_locked
from pycontainer.errors import ContentError, DigestMismatch, SizeMismatch
from pycontainer.oci import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from pycontainer.oci import Descriptor

__all__ = ["PARTIAL", "BlobWriter", "sync_directory"]

PARTIAL = ".partial"
"""Ending of the names of unfinished blobs; those begin with a dot."""

_NOT_BY_THE_KERNEL: Final = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
)
"""What copy_file_range(2) answers where it cannot be used between these files."""

_COPIED_TOGETHER: Final = 1 << 30
_READ_TOGETHER: Final = 1 << 20
_WRITTEN_OUT_TOGETHER: Final = 8 << 20
"""The kernel is told to begin with these, so that not all is left to do when the blob is synced."""


class BlobWriter:
    """A blob being written: nothing of it is seen until `commit`; without that it vanishes.

    Not for several threads at once. `BlobDir.writer` makes one.

    Args:
        directory: Where the bytes are collected: on the file system on which the blob will be.
        expected: What the blob has to become.
        hashing: Whether the digest is computed here; else `commit` must be told it.
        sync: Writes out the descriptor's file, or sees to it that this happens.
        install: Gives the temporary file its place, from the file, the digest and the size.
        resume: Whether to go on with what an earlier writer of the expected blob left. All bytes are
            written all the same, and those that are there already must be what `read_kept` gives.
            What is not committed stays for the next attempt, unless it is discarded.

    Attributes:
        size: How many bytes were written so far.
        kept: How many bytes an earlier writer left.
    """

    def __init__(
        self,
        directory: Path,
        expected: Descriptor | None,
        *,
        hashing: bool,
        sync: Callable[[int], None],
        install: Callable[[Path, Digest, int], None],
        resume: bool = False,
    ) -> None:
        self.size = 0
        self.kept = 0
        self._resume = resume
        self._expected = expected
        self._sync = sync
        self._install = install
        self._written_out = 0
        self._algorithm = "sha256" if expected is None else expected.digest.algorithm
        self._hash = hashlib.new(self._algorithm) if hashing else None
        name = expected.digest.hex if resume and expected is not None else secrets.token_hex(12)
        self._path = directory / f".{name}{PARTIAL}"
        with self._naming_failures():
            directory.mkdir(parents=True, exist_ok=True)
            # The lock tells sweepers that the file has a writer; it ends with the descriptor.
            make = open_locked if resume else create_locked
            self._file = open(make(self._path, 0o644), "wb", buffering=0)  # noqa: SIM115
            if resume and expected is not None:
                self._take_over(expected.size)

    def _take_over(self, most: int) -> None:
        self.kept = self._file.seek(0, os.SEEK_END)
        if self.kept > most:
            self._file.truncate(0)
            self.kept = self._file.seek(0)

    @property
    def digest(self) -> Digest:
        """The digest of what was written so far.

        Raises:
            ValueError: This writer does not compute it.
        """
        if self._hash is None:
            raise ValueError("this writer was told not to hash")
        return Digest(self._algorithm, self._hash.hexdigest())

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes.

        Raises:
            SizeMismatch: More than expected have come.
            ContentError: They cannot be written.
        """
        view = memoryview(data).cast("B")
        total = len(view)
        there = min(total, max(self.kept - self.size, 0))
        if self._expected is not None and self.size + total > self._expected.size:
            raise SizeMismatch(
                f"blob {self._expected.digest} should have {self._expected.size} bytes, "
                f"at least {self.size + total} have come"
            )
        if self._hash is not None:
            self._hash.update(view)
        with self._naming_failures():
            rest = view[there:]
            while rest:
                rest = rest[self._file.write(rest) :]
        self.size += total
        fresh = self.size - self._written_out
        if fresh >= _WRITTEN_OUT_TOGETHER:
            begin_writing_out(self._file.fileno(), self._written_out, fresh)
            self._written_out = self.size
        return total

    def write_file(self, source: int) -> None:
        """Append all of a file, from its beginning: by the kernel where it can, which may share the blocks.

        What is hashed is what stands in the blob afterwards.

        Args:
            source: Its descriptor.

        Raises:
            SizeMismatch: More than expected have come.
            ContentError: The bytes cannot be copied.
        """
        begun = self.size
        with self._naming_failures():
            copied = _copy(source, self._file.fileno(), begun)
            self._file.seek(0, os.SEEK_END)
        self.size += copied
        if self._expected is not None and self.size > self._expected.size:
            raise SizeMismatch(
                f"blob {self._expected.digest} should have {self._expected.size} bytes, "
                f"at least {self.size} have come"
            )
        if self._hash is not None:
            with self._naming_failures():
                while piece := os.pread(self._file.fileno(), _READ_TOGETHER, begun):
                    self._hash.update(piece)
                    begun += len(piece)

    def read_kept(self, offset: int, n: int) -> bytes:
        """Read from what an earlier writer left: `n` bytes at most, not beyond `kept`.

        Raises:
            ContentError: It cannot be read.
        """
        with self._naming_failures():
            return os.pread(self._file.fileno(), min(n, self.kept - offset), offset)

    def fileno(self) -> int:
        """The temporary file's descriptor, for calls such as copy_file_range(2)."""
        return self._file.fileno()

    def commit(self, digest: Digest | None = None, size: int | None = None) -> Digest:
        """Make the blob permanent. That there is such a blob already is fine.

        Args:
            digest: What it must be; a writer that does not hash takes it at its word.
            size: How many bytes it must have.

        Returns:
            The blob's digest.

        Raises:
            DigestMismatch: The bytes are others than expected.
            SizeMismatch: There are fewer or more of them.
            ContentError: They cannot be written.
            ValueError: The writer was used up before, or nobody knows the digest.
        """
        if self._file.closed:
            raise ValueError("this writer is closed")
        with self._naming_failures():
            self.size = os.fstat(self._file.fileno()).st_size
        found = self._check(digest, size)
        with self._naming_failures():
            self._sync(self._file.fileno())
            # Still open, so that the lock protects the file until it has its name.
            self._install(self._path, found, self.size)
            self._file.close()
        return found

    def _check(self, digest: Digest | None, size: int | None) -> Digest:
        found = digest if self._hash is None else self.digest
        if found is None:
            raise ValueError("a writer that does not hash must be told the digest")
        promises = [(digest, size)]
        if self._expected is not None:
            promises.append((self._expected.digest, self._expected.size))
        for promised, length in promises:
            if length is not None and length != self.size:
                raise SizeMismatch(
                    f"blob {promised or found} should have {length} bytes, found {self.size}"
                )
        for promised, _ in promises:
            if promised is not None and promised != found:
                raise DigestMismatch(f"blob should be {promised}, its bytes are {found}")
        return found

    def close(self) -> None:
        """End; what is not committed is discarded, or left to who resumes it."""
        if self._resume and not self._file.closed and self._file.seek(0, os.SEEK_END):
            self._file.close()
        self.discard()

    def discard(self) -> None:
        """End, and remove what is not committed."""
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _naming_failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ContentError(
                f"cannot write a blob in {self._path.parent}: {error.strerror}"
            ) from error


def _copy(source: int, target: int, at: int) -> int:
    """Copy a file to a place in another, and return how many bytes that were."""
    copied = 0
    try:
        while more := os.copy_file_range(source, target, _COPIED_TOGETHER, copied, at + copied):
            copied += more
    except OSError as error:
        if error.errno not in _NOT_BY_THE_KERNEL:
            raise
    # Some file systems have no such call, and those of /proc end early; whatever is left is read.
    while piece := os.pread(source, _READ_TOGETHER, copied):
        copied += os.pwrite(target, piece, at + copied)
    return copied


def sync_directory(path: Path) -> None:
    """Make what was renamed into a directory survive a crash of the machine."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
