"""Uploads as files: what has come stays, also when the server is killed, until it is a blob."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, Final

from pycontainer.errors import DigestMismatch
from pycontainer.oci import Digest
from pycontainer.registry._storage import UploadBusy

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["FileUpload", "FileUploads", "sync_directory"]

_ID: Final = re.compile(r"[0-9a-f]{32}")
_CHUNK: Final = 1 << 20
_MOST_HASHES: Final = 1000
_HASHED_AS: Final = Digest.of(b"")  # most blobs have SHA-256 digests; others are read again


class FileUploads:
    """The uploads of a storage directory.

    Args:
        root: Where they are; made on demand.
        install: Gives the file of a finished one its place among the blobs, durably, by repository,
            digest and the file's path; it is synced and verified.
    """

    def __init__(self, root: Path, install: Callable[[str, Digest, Path], None]) -> None:
        self._root = root
        self.install = install
        self._lock = threading.Lock()
        self._hashes: dict[str, tuple[int, hashlib._Hash]] = {}

    def begin(self, repository: str) -> FileUpload:
        """Start an upload."""
        upload_id = secrets.token_hex(16)
        directory = self._root / upload_id
        directory.mkdir(parents=True)
        (directory / "repository").write_text(repository)
        file = (directory / "data").open("xb+", buffering=0)
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        return FileUpload(self, directory, repository, file)

    def resume(self, repository: str, upload_id: str) -> FileUpload | None:
        """Take hold of an upload; see `Storage.resume_upload`."""
        if not _ID.fullmatch(upload_id):
            return None
        directory = self._root / upload_id
        try:
            if (directory / "repository").read_text() != repository:
                return None
            file = (directory / "data").open("rb+", buffering=0)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise UploadBusy(upload_id) from error
        if os.fstat(file.fileno()).st_nlink == 0 or not (directory / "data").exists():
            file.close()  # it was finished between opening and locking
            return None
        return FileUpload(self, directory, repository, file)

    def expire(self, seconds: float) -> int:
        """Forget those that have lain still for so long, also what a killed server left of others."""
        oldest, expired = time.time() - seconds, 0
        for directory in self._directories():
            try:
                if directory.stat().st_mtime > oldest:
                    continue
                upload = self.resume((directory / "repository").read_text(), directory.name)
                if upload is None:  # its server was killed at its beginning or its end
                    _remove(directory)
            except (FileNotFoundError, UploadBusy):
                continue
            if upload is not None and upload.changed_at < oldest:
                upload.cancel()
                expired += 1
            elif upload is not None:
                upload.close()
        return expired

    def _directories(self) -> list[Path]:
        try:
            return list(self._root.iterdir())
        except FileNotFoundError:
            return []

    def keep_hash(self, upload_id: str, offset: int, running: hashlib._Hash) -> None:
        """Remember how far an upload is hashed; forgotten ones are hashed again from the file."""
        with self._lock:
            while len(self._hashes) >= _MOST_HASHES:
                del self._hashes[next(iter(self._hashes))]
            self._hashes[upload_id] = (offset, running)

    def take_hash(self, upload_id: str) -> tuple[int, hashlib._Hash]:
        """How far an upload is hashed, as far as it is known."""
        with self._lock:
            return self._hashes.pop(upload_id, None) or (0, _HASHED_AS.hasher())


class FileUpload:
    """An `Upload` whose file this object holds locked."""

    def __init__(
        self,
        uploads: FileUploads,
        directory: Path,
        repository: str,
        file: BinaryIO,
    ) -> None:
        self.id = directory.name
        self._uploads = uploads
        self._directory = directory
        self._repository = repository
        self._file = file
        self.offset = file.seek(0, os.SEEK_END)
        self._hashed, self._hash = uploads.take_hash(self.id)
        if self._hashed > self.offset:
            self._hashed, self._hash = 0, _HASHED_AS.hasher()

    @property
    def changed_at(self) -> float:
        """When bytes came last, in seconds since the epoch."""
        return os.fstat(self._file.fileno()).st_mtime

    def fileno(self) -> int | None:
        """Descriptor of the file in which what has come can be read."""
        return self._file.fileno()

    def write(self, data: bytes) -> None:
        """Append bytes."""
        # Not at the file's own position: who reads meanwhile shares and moves that (`Arriving.open`).
        view, offset = memoryview(data), self.offset
        while view:
            written = os.pwrite(self._file.fileno(), view, offset)
            view, offset = view[written:], offset + written
        if self._hashed == self.offset:
            self._hash.update(data)
            self._hashed += len(data)
        self.offset += len(data)

    def commit(self, digest: Digest) -> None:
        """Make it a blob of its repository: durable, then visible. The upload is over.

        Raises:
            DigestMismatch: Its bytes are others; they are discarded.
        """
        found = self._digest(digest.algorithm)
        if found != digest:
            self.cancel()
            raise DigestMismatch(f"blob should be {digest}, its bytes are {found}")
        os.fsync(self._file.fileno())
        self._uploads.install(self._repository, digest, self._directory / "data")
        self._discard()

    def cancel(self) -> None:
        """Discard it."""
        self._discard()

    def close(self) -> None:
        """Let go of it; what it has stays, for the next request."""
        if not self._file.closed:
            self._uploads.keep_hash(self.id, self._hashed, self._hash)
            self._file.close()

    def _digest(self, algorithm: str) -> Digest:
        if algorithm != self._hash.name:
            self._hashed, self._hash = 0, Digest.of(b"", algorithm).hasher()
        while self._hashed < self.offset:
            chunk = os.pread(self._file.fileno(), _CHUNK, self._hashed)
            if not chunk:
                raise EOFError(f"the upload {self._directory} lost bytes behind the server's back")
            self._hash.update(chunk)
            self._hashed += len(chunk)
        return Digest(algorithm, self._hash.hexdigest())

    def _discard(self) -> None:
        _remove(self._directory)
        self._file.close()


def _remove(directory: Path) -> None:
    (directory / "data").unlink(missing_ok=True)
    (directory / "repository").unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        directory.rmdir()


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
