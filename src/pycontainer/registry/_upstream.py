"""A storage that fetches from another registry what it does not hold (a pull-through cache)."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from attrs import field, frozen

from pycontainer.errors import (
    ContentError,
    ManifestNotFound,
    RegistryError,
    RegistryUnavailable,
    SpecError,
)
from pycontainer.oci import Descriptor, Digest, parse_manifest
from pycontainer.registry._arriving import Arriving
from pycontainer.registry._client import Client
from pycontainer.registry._credentials import ANONYMOUS, Credentials
from pycontainer.registry._deadline import Deadline, within
from pycontainer.registry._retry import PASSING
from pycontainer.registry._storage import StoredManifest
from pycontainer.registry._use import Use

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.registry._storage import CacheStorage, Collected, Pace, Upload
    from pycontainer.registry._tls import Tls

__all__ = ["ProxyStorage", "Upstream"]

T = TypeVar("T")
_log = logging.getLogger("pycontainer.registry")

_FETCHING: Final = 16
"""How many blobs are fetched at once; the others wait."""

_LOCKS: Final = 64
_REST_SECONDS: Final = 30.0
_CHUNK: Final = 1 << 20
_HUB: Final = "docker.io"
_ANY: Final = "application/octet-stream"


@frozen(kw_only=True)
class Upstream:
    """A registry whose content a server fetches on demand and keeps.

    Attributes:
        host: As references name it: ``docker.io``, ``https://registry.example``.
        credentials: In whose name it is asked; left out in nobody's, None: of whom Docker's
            configuration of the serving user names. Who may pull from the server sees all that these
            may read: see `ServerOptions.authorize`. What clients send of their own never goes there.
        age: Seconds for which a tag counts as known before the upstream is asked for it again.
        keep: Seconds after which what nobody has asked for goes, and is fetched again when somebody
            does; None keeps all. It may stay longer by a quarter, or an hour if that is less.
        tls: How to speak TLS to it; None for what this machine has configured.
        insecure: Whether plain HTTP may be spoken to it; None: only to this machine.
        timeout: Seconds for a connection to come up, and for each wait for bytes.
    """

    host: str = _HUB
    credentials: Credentials | None = field(default=ANONYMOUS, repr=False)
    age: float = 60.0
    keep: float | None = None
    tls: Tls | None = None
    insecure: bool | None = None
    timeout: float = 30.0


class ProxyStorage:
    """A `Storage` over another one, which keeps what came from an upstream.

    Tags are asked for anew by HEAD once they are of some age. What is held is served while the upstream
    cannot be reached. Manifests and blobs never change, and are fetched once, also when many ask at a time.

    Args:
        storage: What is held.
        upstream: Where the rest comes from.
    """

    pace: Pace = "remote"

    def __init__(self, storage: CacheStorage, upstream: Upstream) -> None:
        self._storage = storage
        self._upstream = upstream
        self._client = Client(
            upstream.host,
            insecure=upstream.insecure,
            timeout=upstream.timeout,
            credentials=upstream.credentials,
            tls=upstream.tls,
        )
        self._checked: dict[tuple[str, str], float] = {}
        self._use = Use(storage, upstream.keep)
        self._rests_until = 0.0
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))
        self._coming: dict[tuple[str, Digest], Arriving] = {}
        self._lock = threading.Lock()
        self._fetching = ThreadPoolExecutor(_FETCHING, "pycontainer-upstream")
        self._deadline = Deadline(None)

    def close(self) -> None:
        """Give up what is being fetched. Twice is fine."""
        self._deadline.give_up()
        for arriving in list(self._coming.values()):
            arriving.fail(RegistryUnavailable("the server stops"))
        self._fetching.shutdown(cancel_futures=True)
        self._client.close()

    # --- manifests ---------------------------------------------------------------------------

    def manifest(self, repository: str, target: str | Digest) -> StoredManifest | None:
        """A manifest by tag or digest; fetched, or its tag looked at again, if that is due.

        Raises:
            RegistryError: It is not held, and the upstream cannot be reached or refuses.
        """
        repository = self._named(repository)
        found = self._find(repository, target)
        if found is not None:
            self._use.note(repository, found.digest)
        return found

    def _find(self, repository: str, target: str | Digest) -> StoredManifest | None:
        held = self._storage.manifest(repository, target)
        if held is not None and (isinstance(target, Digest) or self._is_known(repository, target)):
            return held
        with self._locks[hash((repository, target)) % _LOCKS]:
            if isinstance(target, Digest):
                return self._storage.manifest(repository, target) or self._fetch(repository, target)
            return self._look(repository, target)

    def _is_known(self, repository: str, tag: str) -> bool:
        checked = self._checked.get((repository, tag))
        return checked is not None and time.monotonic() - checked < self._upstream.age

    def _look(self, repository: str, tag: str) -> StoredManifest | None:
        """What a tag stands for upstream, else, while that cannot be asked, what it stood for."""
        held = self._storage.manifest(repository, tag)
        if held is not None and (self._is_known(repository, tag) or self._rests):
            return held
        try:
            found = self._ask(lambda: self._client.head_manifest(repository, tag))
            if found is None:
                self._storage.delete_tag(repository, tag)
                return None
            if held is None or held.digest != found.digest:
                known = self._storage.manifest(repository, found.digest)
                held = known or self._fetch(repository, found.digest)
                if held is not None:
                    self._storage.put_tag(repository, tag, held.digest)
        except RegistryError as error:
            if held is None or not _passes(error):
                raise
            _log.warning("%s:%s is served as it was: %s", repository, tag, error)
            return held
        self._checked[repository, tag] = time.monotonic()
        return held

    def _fetch(self, repository: str, digest: Digest) -> StoredManifest | None:
        try:
            fetched = self._ask(lambda: self._client.get_manifest(repository, str(digest)))
            document = parse_manifest(fetched.data, fetched.media_type or None)
        except ManifestNotFound:
            return None
        stored = StoredManifest(fetched.data, document.media_type, digest)
        subject = None if document.subject is None else document.subject.digest
        self._storage.put_manifest(repository, stored, subject=subject)
        return stored

    # --- blobs -------------------------------------------------------------------------------

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Size of a blob, or None if neither this nor the upstream holds it.

        Raises:
            RegistryError: It is not held, and the upstream cannot be reached or refuses.
        """
        repository = self._named(repository)
        size = self._storage.blob_size(repository, digest)
        if size is not None:
            return size
        return self._ask(lambda: self._client.blob_size(repository, digest))

    def open_blob(self, repository: str, digest: Digest) -> BinaryIO | Arriving | None:
        """Open a blob for reading while it comes; None if neither this nor the upstream holds it.

        Raises:
            RegistryError: It is not held, and the upstream cannot be reached or refuses.
        """
        repository = self._named(repository)
        held = self._storage.open_blob(repository, digest) or self._coming.get((repository, digest))
        if held is not None:
            return held
        with self._locks[hash((repository, digest)) % _LOCKS]:
            held = self._storage.open_blob(repository, digest)
            held = held or self._coming.get((repository, digest))
            if held is not None:
                return held
            size = self._ask(lambda: self._client.blob_size(repository, digest))
            return None if size is None else self._begin(repository, digest, size)

    def _begin(self, repository: str, digest: Digest, size: int) -> Arriving:
        upload = self._storage.begin_upload(repository)
        fd, spool = upload.fileno(), None
        if fd is None:
            spool = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (closed by `_end`)
            fd = spool.fileno()
        arriving = self._coming[repository, digest] = Arriving(size, fd)
        fetched = self._fetching.submit(self._receive, repository, arriving, digest, upload, spool)
        fetched.add_done_callback(lambda _: self._end(repository, digest, upload, spool))
        return arriving

    def _receive(
        self,
        repository: str,
        arriving: Arriving,
        digest: Digest,
        upload: Upload,
        spool: BinaryIO | None,
    ) -> None:
        """Let a blob come, verify it, and keep it."""
        blob = Descriptor(_ANY, digest, arriving.size)
        try:
            with within(self._deadline), self._client.open_blob(repository, blob) as source:
                while data := source.read(_CHUNK):
                    if spool is not None:  # at a place of its own: readers move the file's position
                        _write_at(spool.fileno(), data, upload.offset)
                    upload.write(data)
                    arriving.advance(upload.offset)
            if upload.offset != arriving.size:
                raise RegistryError(f"the upstream sent {upload.offset} bytes of {arriving.size}")
            upload.commit(digest)
        except BaseException as error:
            _log.warning("%s of %s did not come: %s", digest, repository, error)
            arriving.fail(RegistryUnavailable(f"{digest} did not come: {error}"))
        else:
            arriving.finish()

    def _end(self, repository: str, digest: Digest, upload: Upload, spool: BinaryIO | None) -> None:
        # It is held by now, or has failed, or never began as the server stops.
        self._coming.pop((repository, digest)).fail(RegistryUnavailable(f"{digest} did not come"))
        upload.cancel()
        if spool is not None:
            spool.close()

    # --- lists -------------------------------------------------------------------------------

    def tags(self, repository: str) -> list[str] | None:
        """Tags, sorted, as the upstream lists them; while that cannot be asked, those that are held.

        Raises:
            RegistryError: None are held, and the upstream cannot be reached or refuses.
        """
        repository = self._named(repository)
        try:
            return sorted(self._ask(lambda: self._client.tags(repository)))
        except ManifestNotFound:
            return None
        except RegistryError as error:
            held = self._storage.tags(repository)
            if held is None or not _passes(error):
                raise
            return held

    def referrers(self, repository: str, subject: Digest) -> list[Descriptor]:
        """The manifests that have that subject, as the upstream lists them, else those that are held.

        Raises:
            RegistryError: The upstream refuses.
        """
        repository = self._named(repository)
        try:
            return self._ask(lambda: self._client.referrers(repository, subject))
        except RegistryError as error:
            if not _passes(error):
                raise
            return self._storage.referrers(repository, subject)

    def repositories(self) -> list[str]:
        """Names of the repositories of which something is held, sorted."""
        return self._storage.repositories()

    # --- asking ------------------------------------------------------------------------------

    def _named(self, repository: str) -> str:
        """What a repository is called upstream."""
        official = self._upstream.host == _HUB and "/" not in repository
        return f"library/{repository}" if official else repository

    @property
    def _rests(self) -> bool:
        return time.monotonic() < self._rests_until

    def _ask(self, ask: Callable[[], T]) -> T:
        """Ask the upstream; one that cannot be reached is left alone for a while, where that is possible."""
        try:
            with within(self._deadline):
                return ask()
        except RegistryUnavailable:
            self._rests_until = time.monotonic() + _REST_SECONDS
            raise
        except (ContentError, SpecError) as error:
            raise RegistryError(f"the upstream's answer is wrong: {error}") from error

    # --- what clients of a cache cannot do ---------------------------------------------------

    def mount_blob(self, source: str, repository: str, digest: Digest) -> bool:
        """As of the storage beneath."""
        return self._storage.mount_blob(source, repository, digest)

    def delete_blob(self, repository: str, digest: Digest) -> bool:
        """As of the storage beneath."""
        return self._storage.delete_blob(repository, digest)

    def begin_upload(self, repository: str) -> Upload:
        """As of the storage beneath."""
        return self._storage.begin_upload(repository)

    def resume_upload(self, repository: str, upload_id: str) -> Upload | None:
        """As of the storage beneath."""
        return self._storage.resume_upload(repository, upload_id)

    def put_manifest(
        self, repository: str, manifest: StoredManifest, *, subject: Digest | None
    ) -> None:
        """As of the storage beneath."""
        self._storage.put_manifest(repository, manifest, subject=subject)

    def put_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """As of the storage beneath."""
        self._storage.put_tag(repository, tag, digest)

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """As of the storage beneath."""
        return self._storage.delete_manifest(repository, digest)

    def delete_tag(self, repository: str, tag: str) -> bool:
        """As of the storage beneath."""
        return self._storage.delete_tag(repository, tag)

    # --- upkeep ------------------------------------------------------------------------------

    def undisturbed(self, work: Callable[[], T]) -> T:
        """As of the storage beneath."""
        return self._storage.undisturbed(work)

    def expire_uploads(self, seconds: float) -> int:
        """As of the storage beneath; what nobody has asked for goes then, too."""
        self._use.evict()
        return self._storage.expire_uploads(seconds)

    def collect(self, *, young: float, untagged: bool) -> Collected:
        """As of the storage beneath; what is still needed is fetched again."""
        return self._storage.collect(young=young, untagged=untagged)


def _passes(error: RegistryError) -> bool:
    """Whether an upstream may answer later."""
    return isinstance(error, RegistryUnavailable) or error.status in PASSING


def _write_at(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
