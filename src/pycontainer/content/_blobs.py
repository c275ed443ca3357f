"""Blobs as files named by their digest."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from pycontainer.content._locked import remove_abandoned
from pycontainer.content._reader import VerifiedReader
from pycontainer.content._writer import PARTIAL, BlobWriter, sync_directory
from pycontainer.errors import BlobNotFound, ContentError, SpecError
from pycontainer.oci import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pycontainer.oci import Descriptor

__all__ = ["BlobDir"]

_DOCUMENT_LIMIT = 16 << 20


class BlobDir:
    """A directory ``blobs/<algorithm>/<hex>``, as stores, OCI layouts and registries have it.

    Safe for many threads and processes: a blob appears whole, by rename, or not at all.

    Args:
        root: The directory that holds ``blobs``; made when the first blob is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r})"

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
        with self._naming_failures(digest):
            return self.path(digest).stat().st_size

    def digests(self) -> Iterator[Digest]:
        """All blobs, in no order."""
        for path in self.root.glob("blobs/*/*"):
            try:
                yield Digest.parse(f"{path.parent.name}:{path.name}")
            except SpecError:
                continue

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading, unverified and unbuffered.

        Raises:
            BlobNotFound: It is not there.
        """
        with self._naming_failures(digest):
            return self.path(digest).open("rb", buffering=0)

    def reader(self, descriptor: Descriptor) -> VerifiedReader:
        """Open a blob so that wrong bytes raise before the last of them is handed out.

        Raises:
            BlobNotFound: It is not there.
        """
        return VerifiedReader(self.open(descriptor.digest), descriptor)

    def read_bytes(self, descriptor: Descriptor, *, limit: int = _DOCUMENT_LIMIT) -> bytes:
        """Read a small blob whole, verified.

        Args:
            descriptor: Which one.
            limit: How many bytes may be read into memory; `descriptor` comes from outside.

        Raises:
            BlobNotFound: It is not there.
            ContentError: It is larger than `limit`.
            DigestMismatch: Its bytes are others.
            SizeMismatch: There are more or fewer of them.
        """
        if descriptor.size > limit:
            raise ContentError(
                f"blob {descriptor.digest} of {descriptor.size} bytes is too large to be read at once"
                f" (at most {limit})"
            )
        with self.reader(descriptor) as reader, self._naming_failures(descriptor.digest):
            return reader.read()

    def writer(
        self,
        expected: Descriptor | None = None,
        *,
        hashing: bool = True,
        resume: bool = False,
    ) -> BlobWriter:
        """Begin a blob.

        Args:
            expected: What it has to become; checked by `BlobWriter.commit`.
            hashing: Whether the writer computes the digest; else `commit` must be told it.
            resume: Whether to go on with what an earlier such writer of the blob left, and to leave
                what is not committed to the next one, at most until the next `sweep`.

        Raises:
            ContentError: Nothing can be written here.
        """
        algorithm = "sha256" if expected is None else expected.digest.algorithm
        directory = self.root / "blobs" / algorithm
        return BlobWriter(
            directory,
            expected,
            hashing=hashing,
            sync=self._sync,
            install=self._install,
            resume=resume,
        )

    def delete(self, digest: Digest) -> None:
        """Remove a blob; one that is not there is removed."""
        self.path(digest).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the unfinished blobs of writers that were killed."""
        for path in self._partials():
            remove_abandoned(path)

    def _partials(self) -> Iterator[Path]:
        return self.root.glob(f"blobs/*/.*{PARTIAL}")

    def _sync(self, fd: int) -> None:
        """Write out a finished file before it gets its name."""
        os.fsync(fd)

    def _install(self, temporary: Path, digest: Digest, size: int) -> None:  # noqa: ARG002
        """Give a finished, synced file its name."""
        final = self.path(digest)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(final)
        sync_directory(final.parent)

    @contextmanager
    def _naming_failures(self, digest: Digest) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise BlobNotFound(f"no blob {digest} in {self.root}") from error
        except OSError as error:
            raise ContentError(
                f"cannot read blob {digest} in {self.root}: {error.strerror}"
            ) from error
