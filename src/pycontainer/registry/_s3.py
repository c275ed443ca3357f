"""A registry's storage in a bucket of an object store that speaks S3; many servers may share it.

The keys are those that `FileStorage` has as paths, and the objects say the same::

    blobs/sha256/<hex>                            bytes of blobs and manifests
    repositories/<name>/_blobs/sha256/<hex>       empty: the repository holds this blob
    repositories/<name>/_manifests/sha256/<hex>   a media type: it holds this manifest
    repositories/<name>/_tags/<tag>               a digest
    repositories/<name>/_referrers/sha256/<hex>/sha256-<hex>   empty: that manifest has this subject
    uploads/<id>/                                 a blob that is coming in
    collecting/<id>                               something is being taken away just now
    collected                                     the <id> of who did so last

There are no locks between servers. Who adds something that needs other things looks for marks of collections
afterwards, and if there is one waits for its end and looks again; who collects sets a mark before it looks.
As each write is seen by all who read later, one of them sees the other.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar, cast

from pycontainer.oci import Digest, Index, Manifest, parse_manifest
from pycontainer.registry._garbage import digests_in, reachable
from pycontainer.registry._referrers import referrer
from pycontainer.registry._s3_objects import Listed, Objects
from pycontainer.registry._s3_uploads import S3Uploads
from pycontainer.registry._storage import Collected, StorageFailed, StoredManifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycontainer.oci import Descriptor
    from pycontainer.registry._s3_bucket import S3Bucket
    from pycontainer.registry._storage import Going, Pace, Upload

__all__ = ["S3Storage"]

T = TypeVar("T")

_FRESH_SECONDS: Final = 600.0
_HOLDERS: Final = ("_blobs", "_manifests")
_MARKS: Final = "collecting/"
_SWEPT: Final = "collected"
_MARK_SECONDS: Final = 600.0
"""After so long a mark is one that a killed collection left."""

_SWEEP_SECONDS: Final = 240.0
"""After so long a collection sets its mark anew and looks again."""

_WAIT_SECONDS: Final = 0.2


class S3Storage:
    """A `Storage` in a bucket.

    Args:
        bucket: Which, and where in it.

    Raises:
        StorageFailed: It cannot be used.
    """

    pace: Pace = "remote"

    def __init__(self, bucket: S3Bucket) -> None:
        self._objects = Objects(bucket)
        self._objects.now()
        self._uploads = S3Uploads(self._objects, self._add_blob)

    # --- blobs -------------------------------------------------------------------------------

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Size of a blob, or None if the repository does not hold it."""
        link = self._objects.head(_link(repository, "_blobs", digest))
        if link is None:
            return None
        if link.changed < time.time() - _FRESH_SECONDS:
            # Who asks may be about to push a manifest that needs it: it counts as new.
            self._objects.put(link.key, b"")
        blob = self._objects.head(_blob(digest))
        return None if blob is None else blob.size

    def open_blob(self, repository: str, digest: Digest) -> BinaryIO | None:
        """Open a blob for reading, or None if the repository does not hold it."""
        if self._objects.head(_link(repository, "_blobs", digest)) is None:
            return None
        return cast("BinaryIO | None", self._objects.open(_blob(digest)))

    def mount_blob(self, source: str, repository: str, digest: Digest) -> bool:
        """Let a repository hold a blob of another one; False if that does not hold it."""

        def mount() -> bool:
            if self.blob_size(source, digest) is None:
                return False
            self._objects.put(_link(repository, "_blobs", digest), b"")
            return True

        return self.undisturbed(mount)

    def delete_blob(self, repository: str, digest: Digest) -> bool:
        """Take a blob from a repository; False if it did not hold it."""
        return self._remove(_link(repository, "_blobs", digest))

    def _remove(self, key: str) -> bool:
        """Delete an object; False if it was not there."""
        if self._objects.head(key) is None:
            return False
        self._objects.delete(key)
        return True

    # --- uploads -----------------------------------------------------------------------------

    def begin_upload(self, repository: str) -> Upload:
        """Start a new upload."""
        return self._uploads.begin(repository)

    def resume_upload(self, repository: str, upload_id: str) -> Upload | None:
        """Take hold of an upload, or None if there is no such one in the repository.

        Raises:
            UploadBusy: Another request to this server holds it.
        """
        return self._uploads.resume(repository, upload_id)

    def _add_blob(self, repository: str, digest: Digest, write: Callable[[str], None]) -> None:
        def add() -> None:
            write(_blob(digest))
            self._objects.put(_link(repository, "_blobs", digest), b"")

        self.undisturbed(add)

    # --- manifests ---------------------------------------------------------------------------

    def manifest(self, repository: str, target: str | Digest) -> StoredManifest | None:
        """A manifest by tag or digest."""
        digest = self._tagged(repository, target) if isinstance(target, str) else target
        if digest is None:
            return None
        media_type = self._objects.get(_link(repository, "_manifests", digest))
        data = None if media_type is None else self._objects.get(_blob(digest))
        if media_type is None or data is None:
            return None
        return StoredManifest(data, media_type.decode(), digest)

    def put_manifest(
        self, repository: str, manifest: StoredManifest, *, subject: Digest | None
    ) -> None:
        """Store a manifest, and make it a referrer of `subject`."""
        digest = manifest.digest

        def put() -> None:
            self._objects.put(_blob(digest), manifest.data)
            if subject is not None:
                note = f"{_referrers(repository, subject)}{digest.algorithm}-{digest.hex}"
                self._objects.put(note, b"")
            link = _link(repository, "_manifests", digest)
            self._objects.put(link, manifest.media_type.encode())

        self.undisturbed(put)

    def put_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Let a tag name a manifest that the repository holds."""
        self._objects.put(f"{_tags(repository)}{tag}", str(digest).encode())

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """Remove a manifest and the tags that name it; False if it was not there."""
        if not self._remove(_link(repository, "_manifests", digest)):
            return False
        for tag in self.tags(repository) or ():
            if self._tagged(repository, tag) == digest:
                self.delete_tag(repository, tag)
        return True

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Remove a tag; False if it was not there."""
        return self._remove(f"{_tags(repository)}{tag}")

    def _tagged(self, repository: str, tag: str) -> Digest | None:
        data = self._objects.get(f"{_tags(repository)}{tag}")
        return None if data is None else Digest.parse(data.decode())

    # --- lists -------------------------------------------------------------------------------

    def tags(self, repository: str) -> list[str] | None:
        """Tags, sorted; None if there is no such repository."""
        tags = [_last(listed) for listed in self._objects.list(_tags(repository))]
        if (
            not tags
            and next(self._objects.list(_directory(repository, "_manifests")), None) is None
        ):
            return None
        return sorted(tags)

    def repositories(self) -> list[str]:
        """Names of all repositories, sorted."""
        return sorted(self._with("_manifests"))

    def _with(self, *kinds: str) -> Iterator[str]:
        """Names of the repositories that have objects of such a kind."""
        todo = [""]
        while todo:
            name = todo.pop()
            children = list(self._objects.directories(f"repositories/{name}"))
            if name and not set(kinds).isdisjoint(children):
                yield name.rstrip("/")
            todo += [f"{name}{child}/" for child in children if not child.startswith("_")]

    def referrers(self, repository: str, subject: Digest) -> list[Descriptor]:
        """The manifests that have that subject, which need not be there itself; by digest."""
        found = []
        for listed in self._objects.list(_referrers(repository, subject)):
            algorithm, _, encoded = _last(listed).partition("-")
            document = self._document(repository, Digest(algorithm, encoded))
            if document is not None:
                found.append(referrer(document))
        return found

    def _document(self, repository: str, digest: Digest) -> Manifest | Index | None:
        stored = self.manifest(repository, digest)
        return None if stored is None else parse_manifest(stored.data, stored.media_type)

    # --- upkeep ------------------------------------------------------------------------------

    def undisturbed(self, work: Callable[[], T]) -> T:
        """Do work that adds what needs other things, after a look whether these are there.

        It is done again if a collection was under way at its end, or has ended since it began: what was
        found to be there may be gone.
        """
        while True:
            swept = self._objects.get(_SWEPT)
            done = work()
            if not self._is_marked() and self._objects.get(_SWEPT) == swept:
                return done
            while self._is_marked():
                time.sleep(_WAIT_SECONDS)

    def _is_marked(self) -> bool:
        """Whether a collection is under way."""
        marks = list(self._objects.list(_MARKS))
        return bool(marks) and any(
            mark.changed > self._objects.now() - _MARK_SECONDS for mark in marks
        )

    def close(self) -> None:
        """Close the connections."""
        self._objects.close()

    def expire_uploads(self, seconds: float) -> int:
        """Forget the uploads that have lain still for so long; return how many there were."""
        return self._uploads.expire(self._objects.now() - seconds)

    def collect(self, *, young: float, untagged: bool) -> Collected:
        """Take away what no manifest needs, beside servers that go on."""
        return self._collect(young, "untagged" if untagged else "none")

    def touch(self, repository: str, digest: Digest) -> None:
        """Note that somebody asked for a manifest; nothing if it is not there."""
        key = _link(repository, "_manifests", digest)

        def write_again() -> None:
            media_type = self._objects.get(key)
            if media_type is not None:
                self._objects.put(key, media_type)

        self.undisturbed(write_again)

    def evict(self, *, unused: float) -> Collected:
        """Take away the manifests that nobody has asked for in so many seconds, with their tags and blobs."""
        return self._collect(unused, "all")

    def _collect(self, young: float, going: Going) -> Collected:
        oldest = self._objects.now() - young
        links = 0
        for repository in list(self._with(*_HOLDERS)):
            # What can be read before is read before: pushes wait while the mark is there.
            known = self._documents(repository, {})
            with self._sweep() as check:
                known = self._documents(repository, known)
                for key in self._garbage(repository, known, oldest, going):
                    check()
                    self._objects.delete(key)
                    links += 1
                if going == "all":
                    self._drop_tags_of_nothing(repository)
        return self._collect_blobs(links, oldest)

    def _collect_blobs(self, links: int, oldest: float) -> Collected:
        blobs, freed = 0, 0
        old = [listed for listed in self._objects.list("blobs/") if listed.changed < oldest]
        with self._sweep() as check:
            held = {_digest(listed) for kind in _HOLDERS for listed in self._links(kind)}
            for listed in old:
                if _digest(listed) not in held:
                    check()
                    self._objects.delete(listed.key)
                    blobs, freed = blobs + 1, freed + listed.size
        return Collected(links, blobs, freed)

    @contextmanager
    def _sweep(self) -> Iterator[Callable[[], None]]:
        """Mark that things are taken away; yields what fails once the mark may be taken for an old one."""
        token, begun = secrets.token_hex(8), time.monotonic()
        mark = f"{_MARKS}{token}"
        self._objects.put(mark, b"")

        def check() -> None:
            if time.monotonic() - begun > _SWEEP_SECONDS:
                raise StorageFailed("collecting took too long: the object store is slow")

        try:
            yield check
        finally:
            self._objects.put(_SWEPT, token.encode())
            self._objects.delete(mark)

    def _documents(
        self, repository: str, known: dict[Digest, Manifest | Index | None]
    ) -> dict[Digest, Manifest | Index | None]:
        """The manifests of a repository, those that are known already not read again."""
        found = [_digest(listed) for listed in self._listed(repository, "_manifests")]
        return {
            digest: known[digest] if digest in known else self._document(repository, digest)
            for digest in found
        }

    def _garbage(
        self,
        repository: str,
        documents: dict[Digest, Manifest | Index | None],
        oldest: float,
        going: Going,
    ) -> Iterator[str]:
        """Keys of what a repository holds and does not need, unless it came after `oldest`."""
        kept = set(documents)
        if going != "none":
            needed = self._reachable(repository, documents) if going == "untagged" else set()
            for listed in list(self._listed(repository, "_manifests")):
                if _digest(listed) not in needed and listed.changed < oldest:
                    kept.discard(_digest(listed))
                    yield listed.key
        parts = {part for digest in kept for part in digests_in(documents.get(digest))}
        for listed in list(self._listed(repository, "_blobs")):
            if _digest(listed) not in parts and listed.changed < oldest:
                yield listed.key

    def _reachable(
        self, repository: str, documents: dict[Digest, Manifest | Index | None]
    ) -> set[Digest]:
        tags = (self._tagged(repository, tag) for tag in self.tags(repository) or ())
        return reachable([digest for digest in tags if digest is not None], documents)

    def _drop_tags_of_nothing(self, repository: str) -> None:
        for tag in self.tags(repository) or ():
            digest = self._tagged(repository, tag)
            if (
                digest is not None
                and self._objects.head(_link(repository, "_manifests", digest)) is None
            ):
                self.delete_tag(repository, tag)

    def _listed(self, repository: str, kind: str) -> Iterator[Listed]:
        return self._objects.list(_directory(repository, kind))

    def _links(self, kind: str) -> Iterator[Listed]:
        for repository in list(self._with(kind)):
            yield from self._listed(repository, kind)


# --- keys --------------------------------------------------------------------------------------


def _blob(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _directory(repository: str, kind: str) -> str:
    return f"repositories/{repository}/{kind}/"


def _link(repository: str, kind: str, digest: Digest) -> str:
    return f"{_directory(repository, kind)}{digest.algorithm}/{digest.hex}"


def _tags(repository: str) -> str:
    return _directory(repository, "_tags")


def _referrers(repository: str, subject: Digest) -> str:
    return f"{_link(repository, '_referrers', subject)}/"


def _last(listed: Listed) -> str:
    return listed.key.rpartition("/")[2]


def _digest(listed: Listed) -> Digest:
    *_, algorithm, encoded = listed.key.split("/")
    return Digest(algorithm, encoded)
