"""Uploads to an object store: what was acknowledged is there, for any server of the bucket.

    uploads/<id>/state       JSON: repository, parts, and where the rest is
    uploads/<id>/rest-<…>    the bytes after the last part: parts have a least size
    uploads/<id>/data        the object that comes in parts

The state is written last, in one piece, and names all that counts. Parts are named by the tags that the
object store gave them, so what another request wrote in their place cannot become part of a blob.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from typing import TYPE_CHECKING, Final

from attrs import asdict, field, frozen

from pycontainer.errors import DigestMismatch
from pycontainer.oci import Digest
from pycontainer.registry._storage import StorageFailed, UploadBusy

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable

    from pycontainer.registry._s3_objects import Objects

__all__ = ["S3Upload", "S3Uploads"]

_ID: Final = re.compile(r"[0-9a-f]{32}")
_PART: Final = 8 << 20
_READ: Final = 1 << 20
_MOST_HASHES: Final = 1000
_HASHED_AS: Final = Digest.of(b"")  # most blobs have SHA-256 digests; others are read again


@frozen
class _State:
    """What is written down of an upload.

    Attributes:
        repository: Where it belongs.
        multipart: The object store's id of the object that comes in parts; empty if none does yet.
        tags: Those of its parts.
        rest: Key of the bytes after them; empty if there are none.
        size: Bytes in all.
        written: Tells one state from another.
    """

    repository: str
    multipart: str = ""
    tags: tuple[str, ...] = field(default=(), converter=tuple[str, ...])
    rest: str = ""
    size: int = 0
    written: str = ""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()


class S3Uploads:
    """The uploads of a bucket.

    Args:
        objects: The bucket.
        install: Makes a blob of a repository: given that, the digest, and what writes an object's
            bytes under a key.
    """

    def __init__(
        self, objects: Objects, install: Callable[[str, Digest, Callable[[str], None]], None]
    ) -> None:
        self.objects = objects
        self.install = install
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._hashes: dict[str, tuple[str, int, hashlib._Hash]] = {}

    def begin(self, repository: str) -> S3Upload:
        """Start an upload; it is known to others once it is closed."""
        upload_id = secrets.token_hex(16)
        self._hold(upload_id)
        return S3Upload(self, upload_id, _State(repository), b"")

    def resume(self, repository: str, upload_id: str) -> S3Upload | None:
        """Take hold of an upload; see `Storage.resume_upload`."""
        if not _ID.fullmatch(upload_id):
            return None
        self._hold(upload_id)
        try:
            state = self._state(upload_id)
            if state is None or state.repository != repository:
                self.let_go(upload_id)
                return None
            rest = self.objects.get(state.rest) if state.rest else b""
            if rest is None:
                raise StorageFailed(f"the upload {upload_id} lost bytes")
            return S3Upload(self, upload_id, state, rest)
        except BaseException:
            self.let_go(upload_id)
            raise

    def _state(self, upload_id: str) -> _State | None:
        data = self.objects.get(f"uploads/{upload_id}/state")
        return None if data is None else _State(**json.loads(data))

    def _hold(self, upload_id: str) -> None:
        with self._lock:
            if upload_id in self._held:
                raise UploadBusy(upload_id)
            self._held.add(upload_id)

    def let_go(self, upload_id: str) -> None:
        """Leave it to the next request."""
        with self._lock:
            self._held.discard(upload_id)

    def expire(self, oldest: float) -> int:
        """Forget those that have lain still since before that time, also what killed servers left."""
        changed: dict[str, float] = {}
        for listed in self.objects.list("uploads/"):
            upload_id = listed.key.split("/")[1]
            changed[upload_id] = max(changed.get(upload_id, 0.0), listed.changed)
        for key, _, begun in self.objects.unfinished("uploads/"):
            changed.setdefault(key.split("/")[1], begun)
        with self._lock:
            held = set(self._held)
        expired = [each for each, when in changed.items() if when < oldest and each not in held]
        for upload_id in expired:
            self.remove(upload_id)
        return len(expired)

    def remove(self, upload_id: str) -> None:
        """Remove all that is of an upload, its state first."""
        directory = f"uploads/{upload_id}/"
        self.objects.delete(f"{directory}state")
        for listed in list(self.objects.list(directory)):
            self.objects.delete(listed.key)
        for key, multipart, _ in list(self.objects.unfinished(directory)):
            self.objects.abort_parts(key, multipart)

    def keep_hash(self, upload_id: str, written: str, offset: int, running: hashlib._Hash) -> None:
        """Remember how far an upload is hashed in a state of it; others are hashed from the object."""
        with self._lock:
            while len(self._hashes) >= _MOST_HASHES:
                del self._hashes[next(iter(self._hashes))]
            self._hashes[upload_id] = (written, offset, running)

    def take_hash(self, upload_id: str, written: str) -> tuple[int, hashlib._Hash]:
        """How far an upload is hashed, as far as it is known of that state."""
        with self._lock:
            known = self._hashes.pop(upload_id, ("", 0, _HASHED_AS.hasher()))
        return known[1:] if known[0] == written else (0, _HASHED_AS.hasher())


class S3Upload:
    """An `Upload` that one request of this server holds."""

    def __init__(self, uploads: S3Uploads, upload_id: str, state: _State, rest: bytes) -> None:
        self.id = upload_id
        self.offset = state.size
        self._uploads = uploads
        self._objects = uploads.objects
        self._state = state
        self._data = f"uploads/{upload_id}/data"
        self._multipart = state.multipart
        self._tags = list(state.tags)
        self._buffer = bytearray(rest)
        self._is_over = False  # the object was made of its parts; a server was killed after that
        self._closed = False
        self._hashed, self._hash = uploads.take_hash(upload_id, state.written)

    def fileno(self) -> None:
        """What has come is not in a file."""
        return

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._buffer += data
        if self._hashed == self.offset:
            self._hash.update(data)
            self._hashed += len(data)
        self.offset += len(data)
        while len(self._buffer) >= _PART:
            self._send(_PART)

    def _send(self, n: int) -> None:
        """Make the first bytes of the buffer a part."""
        if not self._multipart:
            self._multipart = self._objects.begin_parts(self._data)
        data = bytes(memoryview(self._buffer)[:n])
        if not self._is_over:
            number = len(self._tags) + 1
            tag = self._objects.put_part(self._data, self._multipart, number, data)
            self._is_over = tag is None
            self._tags += [] if tag is None else [tag]
        del self._buffer[:n]

    def commit(self, digest: Digest) -> None:
        """Make it a blob of its repository: durable, then visible. The upload is over.

        Raises:
            DigestMismatch: Its bytes are others; they are discarded.
        """
        in_parts = bool(self._multipart)
        if in_parts:
            self._finish_parts()
        found = self._digest(digest.algorithm, in_parts=in_parts)
        if found != digest:
            self.cancel()
            raise DigestMismatch(f"blob should be {digest}, its bytes are {found}")

        def write(key: str) -> None:
            if in_parts:
                self._objects.copy(self._data, key)
            else:
                self._objects.put(key, bytes(self._buffer))

        self._uploads.install(self._state.repository, digest, write)
        self.cancel()

    def _finish_parts(self) -> None:
        if self._buffer and not self._is_over:
            self._send(len(self._buffer))
        if not self._is_over:
            self._is_over = not self._objects.finish_parts(self._data, self._multipart, self._tags)
        if self._is_over:
            self._hashed = 0  # what stands there must be looked at

    def _digest(self, algorithm: str, *, in_parts: bool) -> Digest:
        if self._hashed == self.offset and algorithm == self._hash.name:
            return Digest(algorithm, self._hash.hexdigest())
        if not in_parts:
            return Digest.of(bytes(self._buffer), algorithm)
        file = self._objects.open(self._data)
        if file is None:
            raise StorageFailed(f"the upload {self.id} lost its data")
        running = Digest.of(b"", algorithm).hasher()
        with file:
            while data := file.read(_READ):
                running.update(data)
        return Digest(algorithm, running.hexdigest())

    def cancel(self) -> None:
        """Discard it."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._multipart or self._state.written:
                self._uploads.remove(self.id)
        finally:
            self._uploads.let_go(self.id)

    def close(self) -> None:
        """Let go of it; what it has stays, for the next request of whatever server."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.offset != self._state.size or not self._state.written:
                self._save()
        finally:
            self._uploads.let_go(self.id)

    def _save(self) -> None:
        written, rest = secrets.token_hex(8), ""
        if self._buffer:
            rest = f"uploads/{self.id}/rest-{written}"
            self._objects.put(rest, bytes(self._buffer))
        state = _State(
            self._state.repository,
            self._multipart,
            tuple(self._tags),
            rest,
            self.offset,
            written,
        )
        self._objects.put(f"uploads/{self.id}/state", state.encode())
        self._uploads.keep_hash(self.id, written, self._hashed, self._hash)
        if self._state.rest:
            self._objects.delete(self._state.rest)
