"""A registry's storage in a directory.

Blobs and manifests are blobs by digest, shared by all repositories; a repository is a directory of
small files that say which of them it holds. No part of a repository's name begins with an
underscore, so the directories of one are never mistaken for repositories beneath it::

    blobs/sha256/<hex>                            bytes of blobs and manifests
    repositories/<name>/_blobs/sha256/<hex>       empty: the repository holds this blob
    repositories/<name>/_manifests/sha256/<hex>   a media type: it holds this manifest
    repositories/<name>/_tags/<tag>               a digest
    repositories/<name>/_referrers/sha256/<hex>/sha256-<hex>   empty: that manifest has this subject
    uploads/<id>/{repository,data}                a blob that is coming in
    lock                                          held shared by what adds, alone by what collects
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from pycontainer.content import BlobDir
from pycontainer.errors import BlobNotFound
from pycontainer.oci import Descriptor, Digest, Index, Manifest, parse_manifest
from pycontainer.registry._garbage import digests_in, reachable
from pycontainer.registry._referrers import referrer
from pycontainer.registry._storage import Collected, StoredManifest
from pycontainer.registry._uploads import FileUploads, sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pycontainer.registry._storage import Going, Pace, Upload

__all__ = ["FileStorage"]

T = TypeVar("T")

_TEMPORARY: Final = "~"
"""Begins the name of an unfinished file; no tag or digest begins so."""

_FRESH_SECONDS: Final = 60.0
_HOLDERS: Final = ("_blobs", "_manifests")


class FileStorage:
    """A `Storage` in a directory; many servers may serve one directory at once.

    Args:
        root: The directory, made on demand.
    """

    pace: Pace = "quick"

    def __init__(self, root: Path) -> None:
        self._repositories = root / "repositories"
        self._blobs = BlobDir(root)
        self._lock = root / "lock"
        self._uploads = FileUploads(root / "uploads", self._add_blob)
        self._repositories.mkdir(parents=True, exist_ok=True)

    # --- blobs -------------------------------------------------------------------------------

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Size of a blob, or None if the repository does not hold it."""
        if not self._keep_young(self._link(repository, "_blobs", digest)):
            return None
        try:
            return self._blobs.size(digest)
        except BlobNotFound:
            return None

    def open_blob(self, repository: str, digest: Digest) -> BinaryIO | None:
        """Open a blob for reading, or None if the repository does not hold it."""
        if not self._link(repository, "_blobs", digest).exists():
            return None
        try:
            return self._blobs.open(digest)
        except BlobNotFound:
            return None

    def _keep_young(self, link: Path) -> bool:
        """Whether a link is there; who asks may be about to push a manifest that needs it."""
        try:
            if link.stat().st_mtime < time.time() - _FRESH_SECONDS:
                with self._uncollected():
                    os.utime(link)
        except FileNotFoundError:
            return False
        return True

    def mount_blob(self, source: str, repository: str, digest: Digest) -> bool:
        """Let a repository hold a blob of another one; False if that does not hold it."""
        with self._uncollected():
            if self.blob_size(source, digest) is None:
                return False
            self._hold_blob(repository, digest)
        return True

    def delete_blob(self, repository: str, digest: Digest) -> bool:
        """Take a blob from a repository; False if it did not hold it."""
        return _remove(self._link(repository, "_blobs", digest))

    def _add_blob(self, repository: str, digest: Digest, data: Path) -> None:
        """Give an upload's file, which is synced, its place among the blobs, durably."""
        with self._uncollected():
            final = self._blobs.path(digest)
            final.parent.mkdir(parents=True, exist_ok=True)
            data.rename(final)
            sync_directory(final.parent)
            self._hold_blob(repository, digest)

    def _hold_blob(self, repository: str, digest: Digest) -> None:
        _write(self._link(repository, "_blobs", digest), b"")

    # --- uploads -----------------------------------------------------------------------------

    def begin_upload(self, repository: str) -> Upload:
        """Start a new upload."""
        return self._uploads.begin(repository)

    def resume_upload(self, repository: str, upload_id: str) -> Upload | None:
        """Take hold of an upload, or None if there is no such one in the repository.

        Raises:
            UploadBusy: Another request holds it.
        """
        return self._uploads.resume(repository, upload_id)

    # --- manifests ---------------------------------------------------------------------------

    def manifest(self, repository: str, target: str | Digest) -> StoredManifest | None:
        """A manifest by tag or digest."""
        try:
            digest = self._tagged(repository, target) if isinstance(target, str) else target
            # Asked for most of all: paths are put together as text, which takes a tenth of the time.
            holder = f"{self._repositories}/{repository}/_manifests"
            media_type = _read(f"{holder}/{digest.algorithm}/{digest.hex}").decode()
            data = _read(f"{self._blobs.root}/blobs/{digest.algorithm}/{digest.hex}")
        except FileNotFoundError:
            return None
        return StoredManifest(data, media_type, digest)

    def put_manifest(
        self, repository: str, manifest: StoredManifest, *, subject: Digest | None
    ) -> None:
        """Store a manifest, and make it a referrer of `subject`."""
        digest = manifest.digest
        descriptor = Descriptor(manifest.media_type, digest, len(manifest.data))
        with self._uncollected():
            with self._blobs.writer(descriptor) as writer:
                writer.write(manifest.data)
                writer.commit()
            if subject is not None:
                note = self._referrers(repository, subject) / f"{digest.algorithm}-{digest.hex}"
                _write(note, b"")
            _write(self._link(repository, "_manifests", digest), manifest.media_type.encode())

    def put_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Let a tag name a manifest that the repository holds."""
        _write(self._tags(repository) / tag, str(digest).encode())

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """Remove a manifest and the tags that name it; False if it was not there."""
        if not _remove(self._link(repository, "_manifests", digest)):
            return False
        for tag in self.tags(repository) or ():
            if self._names(repository, tag, digest):
                self.delete_tag(repository, tag)
        return True

    def _tagged(self, repository: str, tag: str) -> Digest:
        return Digest.parse(_read(f"{self._repositories}/{repository}/_tags/{tag}").decode())

    def _targets(self, repository: str) -> dict[str, Digest]:
        """What each tag names."""
        found = {}
        for tag in self.tags(repository) or ():
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                found[tag] = self._tagged(repository, tag)
        return found

    def _names(self, repository: str, tag: str, digest: Digest) -> bool:
        try:
            return self._tagged(repository, tag) == digest
        except FileNotFoundError:
            return False

    # --- lists -------------------------------------------------------------------------------

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Remove a tag; False if it was not there."""
        return _remove(self._tags(repository) / tag)

    def tags(self, repository: str) -> list[str] | None:
        """Tags, sorted; None if there is no such repository."""
        if not (self._repositories / repository / "_manifests").is_dir():
            return None
        return sorted(_finished(self._tags(repository)))

    def repositories(self) -> list[str]:
        """Names of all repositories, sorted."""
        return sorted(self._with("_manifests"))

    def _with(self, *kinds: str) -> Iterator[str]:
        """Names of the repositories that have such a directory."""
        for directory, children, _ in os.walk(self._repositories):
            if not set(kinds).isdisjoint(children):
                yield os.path.relpath(directory, self._repositories)
            children[:] = [name for name in children if not name.startswith("_")]

    def referrers(self, repository: str, subject: Digest) -> list[Descriptor]:
        """The manifests that have that subject, which need not be there itself; by digest."""
        found = []
        for name in sorted(_finished(self._referrers(repository, subject))):
            algorithm, _, encoded = name.partition("-")
            # The note outlives a deleted manifest, and is right again if it is pushed again.
            document = self._document(repository, Digest(algorithm, encoded))
            if document is not None:
                found.append(referrer(document))
        return found

    # --- upkeep ------------------------------------------------------------------------------

    def undisturbed(self, work: Callable[[], T]) -> T:
        """Do work that adds what needs other things, after a look whether these are there."""
        with self._uncollected():
            return work()

    def _uncollected(self) -> AbstractContextManager[None]:
        """While this is entered, nothing is collected: what is found stays until it is used."""
        return _locked(self._lock, fcntl.LOCK_SH)

    def close(self) -> None:
        """Nothing to let go of."""

    def expire_uploads(self, seconds: float) -> int:
        """Forget the uploads that have lain still for so long; return how many there were."""
        return self._uploads.expire(seconds)

    def collect(self, *, young: float, untagged: bool) -> Collected:
        """Take away what no manifest needs, beside servers that go on."""
        return self._collect(time.time() - young, "untagged" if untagged else "none")

    def touch(self, repository: str, digest: Digest) -> None:
        """Note that somebody asked for a manifest; nothing if it is not there."""
        with contextlib.suppress(FileNotFoundError), self._uncollected():
            os.utime(self._link(repository, "_manifests", digest))

    def evict(self, *, unused: float) -> Collected:
        """Take away the manifests that nobody has asked for in so many seconds, with their tags and blobs."""
        return self._collect(time.time() - unused, "all")

    def _collect(self, oldest: float, going: Going) -> Collected:
        links = 0
        for repository in self._with(*_HOLDERS):
            with _locked(self._lock, fcntl.LOCK_EX):
                links += self._collect_links(repository, oldest, going)
        blobs, freed = 0, 0
        with _locked(self._lock, fcntl.LOCK_EX):
            held = {digest for name in self._with(*_HOLDERS) for digest in self._held(name)}
            for digest in list(self._blobs.digests()):
                if digest not in held:
                    freed += self._blobs.size(digest)
                    self._blobs.delete(digest)
                    blobs += 1
        return Collected(links, blobs, freed)

    def _collect_links(self, repository: str, oldest: float, going: Going) -> int:
        """Take from a repository what its manifests do not need, unless it came after `oldest`."""
        manifests = set(self._digests(repository, "_manifests"))
        documents = {digest: self._document(repository, digest) for digest in manifests}
        tags = self._targets(repository) if going != "none" else {}
        count = 0
        if going != "none":
            needed = reachable(tags.values(), documents) if going == "untagged" else set()
            for digest in manifests - needed:
                count += self._drop(repository, "_manifests", digest, oldest)
        kept = {d for d in manifests if self._link(repository, "_manifests", d).exists()}
        for tag in [tag for tag, digest in tags.items() if digest in manifests - kept]:
            self.delete_tag(repository, tag)
        parts = {part for digest in kept for part in digests_in(documents[digest])}
        for digest in set(self._digests(repository, "_blobs")) - parts:
            count += self._drop(repository, "_blobs", digest, oldest)
        return count

    def _drop(self, repository: str, kind: str, digest: Digest, oldest: float) -> bool:
        link = self._link(repository, kind, digest)
        return link.stat().st_mtime < oldest and _remove(link)

    def _document(self, repository: str, digest: Digest) -> Manifest | Index | None:
        stored = self.manifest(repository, digest)
        return None if stored is None else parse_manifest(stored.data, stored.media_type)

    def _held(self, repository: str) -> Iterator[Digest]:
        for kind in _HOLDERS:
            yield from self._digests(repository, kind)

    def _digests(self, repository: str, kind: str) -> Iterator[Digest]:
        for directory in (self._repositories / repository / kind).glob("*"):
            for name in _finished(directory):
                yield Digest(directory.name, name)

    # --- places ------------------------------------------------------------------------------

    def _link(self, repository: str, kind: str, digest: Digest) -> Path:
        return self._repositories / repository / kind / digest.algorithm / digest.hex

    def _tags(self, repository: str) -> Path:
        return self._repositories / repository / "_tags"

    def _referrers(self, repository: str, subject: Digest) -> Path:
        return self._link(repository, "_referrers", subject)


# --- small files -------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    """Hold a lock of flock(2), shared or alone, against threads and processes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _write(path: Path, data: bytes) -> None:
    """Write a small file: whole and durable, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_TEMPORARY + secrets.token_hex(8))
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _remove(path: Path) -> bool:
    """Remove a file; False if it was not there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_directory(path.parent)
    return True


def _finished(directory: Path) -> Iterator[str]:
    """Names of the whole files of a directory, which need not be there."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return iter(())
    return (name for name in names if not name.startswith(_TEMPORARY))
