"""What a registry server keeps, and the interface to wherever it keeps it.

The server calls a storage from worker threads; each call may block. Nothing here knows HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, TypeVar, runtime_checkable

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.oci import Descriptor, Digest
    from pycontainer.registry._arriving import Arriving

__all__ = [
    "CacheStorage",
    "Collected",
    "Going",
    "Needed",
    "Storage",
    "StorageFailed",
    "StoredManifest",
    "Upload",
    "UploadBusy",
]

Pace = Literal["quick", "local", "remote"]
Going = Literal["none", "untagged", "all"]
"""Which manifests a collection takes away, if they are old enough."""

T = TypeVar("T")


class UploadBusy(Exception):
    """Another request is writing to that upload."""


class StorageFailed(Exception):
    """Wherever things are kept cannot be reached, or refuses."""


class Needed(Exception):
    """Something else needs what was to be deleted; says what."""


@frozen
class Collected:
    """What a collection of garbage took away.

    Attributes:
        links: Blobs and manifests that repositories hold no more.
        blobs: Blobs that none holds any more.
        freed: Their bytes.
    """

    links: int = 0
    blobs: int = 0
    freed: int = 0


@frozen
class StoredManifest:
    """A manifest as it was pushed."""

    data: bytes
    media_type: str
    digest: Digest


class Upload(Protocol):
    """A blob that comes in, over one or several requests; one of them at a time holds it.

    Attributes:
        id: Names it within its repository; unguessable.
        offset: How many bytes it has.
    """

    id: str
    offset: int

    def fileno(self) -> int | None:
        """Descriptor of the file in which what has come can be read; None where there is none."""

    def write(self, data: bytes) -> None:
        """Append bytes."""

    def commit(self, digest: Digest) -> None:
        """Make it a blob of its repository: durable, then visible. The upload is over.

        Raises:
            DigestMismatch: Its bytes are others; they are discarded.
        """

    def cancel(self) -> None:
        """Discard it, if it is not over."""

    def close(self) -> None:
        """Let go of it; what it has stays, for the next request. Twice is fine."""


class Storage(Protocol):
    """Repositories with their blobs, manifests and tags; safe for many threads.

    Repository and tag names are checked by the caller. A repository exists once something was
    pushed to it, and blobs are seen only in the repositories that they were pushed or mounted to.

    Attributes:
        pace: How long calls may take. ``quick``: to read a manifest or open a blob takes as long as to
            open files does, so it need not be done by another thread; ``local``: they wait for disks
            and locks; ``remote``: for other machines, so that many threads are needed.
    """

    pace: Pace

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Size of a blob, or None if the repository does not hold it."""

    def open_blob(self, repository: str, digest: Digest) -> BinaryIO | Arriving | None:
        """Open a blob for reading, or None if the repository does not hold it."""

    def mount_blob(self, source: str, repository: str, digest: Digest) -> bool:
        """Let a repository hold a blob of another one; False if that does not hold it."""

    def delete_blob(self, repository: str, digest: Digest) -> bool:
        """Take a blob from a repository; False if it did not hold it.

        Raises:
            Needed: It stays.
        """

    def begin_upload(self, repository: str) -> Upload:
        """Start a new upload."""

    def resume_upload(self, repository: str, upload_id: str) -> Upload | None:
        """Take hold of an upload, or None if there is no such one in the repository.

        Raises:
            UploadBusy: Another request holds it.
        """

    def manifest(self, repository: str, target: str | Digest) -> StoredManifest | None:
        """A manifest by tag or digest."""

    def put_manifest(
        self, repository: str, manifest: StoredManifest, *, subject: Digest | None
    ) -> None:
        """Store a manifest, and make it a referrer of `subject`."""

    def put_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Let a tag name a manifest that the repository holds."""

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """Remove a manifest and the tags that name it; False if it was not there.

        Raises:
            Needed: It stays.
        """

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Remove a tag; False if it was not there."""

    def tags(self, repository: str) -> list[str] | None:
        """Tags, sorted; None if there is no such repository."""

    def repositories(self) -> list[str]:
        """Names of all repositories, sorted."""

    def referrers(self, repository: str, subject: Digest) -> list[Descriptor]:
        """The manifests that have that subject, which need not be there itself; by digest.

        Each with its artifact type and annotations ("Listing Referrers").
        """

    # --- upkeep ------------------------------------------------------------------------------

    def undisturbed(self, work: Callable[[], T]) -> T:
        """Do work that adds what needs other things, after a look whether these are there.

        No collection takes them in between; for that the work may be done more than once.
        """

    def expire_uploads(self, seconds: float) -> int:
        """Forget the uploads that have lain still for so long; return how many there were."""

    def close(self) -> None:
        """Let go of what is only needed to serve: the server stops. Twice is fine."""

    def collect(self, *, young: float, untagged: bool) -> Collected:
        """Take away what no manifest needs, beside servers that go on; see `RegistryServer.collect`."""


@runtime_checkable
class CacheStorage(Storage, Protocol):
    """A `Storage` of what can be had from elsewhere again, and so may go when nobody asks for it."""

    def touch(self, repository: str, digest: Digest) -> None:
        """Note that somebody asked for a manifest; nothing if it is not there."""

    def evict(self, *, unused: float) -> Collected:
        """Take away the manifests that nobody has asked for in so many seconds, with their tags and blobs."""
