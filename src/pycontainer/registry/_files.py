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
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, BinaryIO, Final

from pycontainer.content import BlobDir
from pycontainer.errors import BlobNotFound
from pycontainer.oci import Descriptor, Digest
from pycontainer.registry._storage import StoredManifest
from pycontainer.registry._uploads import FileUploads, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pycontainer.registry._storage import Upload

__all__ = ["FileStorage"]

_TEMPORARY: Final = "~"
"""Begins the name of an unfinished file; no tag or digest begins so."""


class FileStorage:
    """A `Storage` in a directory; many servers may serve one directory at once.

    Args:
        root: The directory, made on demand.
        blobs: Where blobs are, if not in `root`.
    """

    def __init__(self, root: Path, blobs: BlobDir | None = None) -> None:
        self._repositories = root / "repositories"
        self._blobs = BlobDir(root) if blobs is None else blobs
        self._uploads = FileUploads(root / "uploads", self._blobs)
        self._repositories.mkdir(parents=True, exist_ok=True)

    # --- blobs -------------------------------------------------------------------------------

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Size of a blob, or None if the repository does not hold it."""
        if not self._link(repository, "_blobs", digest).exists():
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

    def mount_blob(self, source: str, repository: str, digest: Digest) -> bool:
        """Let a repository hold a blob of another one; False if that does not hold it."""
        if self.blob_size(source, digest) is None:
            return False
        self._hold_blob(repository, digest)
        return True

    def delete_blob(self, repository: str, digest: Digest) -> bool:
        """Take a blob from a repository; False if it did not hold it."""
        return _remove(self._link(repository, "_blobs", digest))

    def _hold_blob(self, repository: str, digest: Digest) -> None:
        _write(self._link(repository, "_blobs", digest), b"")

    # --- uploads -----------------------------------------------------------------------------

    def begin_upload(self, repository: str) -> Upload:
        """Start a new upload."""
        return self._uploads.begin(repository, self._hold_blob)

    def resume_upload(self, repository: str, upload_id: str) -> Upload | None:
        """Take hold of an upload, or None if there is no such one in the repository.

        Raises:
            UploadBusy: Another request holds it.
        """
        return self._uploads.resume(repository, upload_id, self._hold_blob)

    # --- manifests ---------------------------------------------------------------------------

    def manifest(self, repository: str, target: str | Digest) -> StoredManifest | None:
        """A manifest by tag or digest."""
        try:
            digest = self._tagged(repository, target) if isinstance(target, str) else target
            media_type = self._link(repository, "_manifests", digest).read_text()
            data = self._blobs.path(digest).read_bytes()
        except FileNotFoundError:
            return None
        return StoredManifest(data, media_type, digest)

    def put_manifest(
        self, repository: str, manifest: StoredManifest, *, tag: str | None, subject: Digest | None
    ) -> None:
        """Store a manifest, make it a referrer of `subject`, then let `tag` name it."""
        digest = manifest.digest
        descriptor = Descriptor(manifest.media_type, digest, len(manifest.data))
        with self._blobs.writer(descriptor) as writer:
            writer.write(manifest.data)
            writer.commit()
        if subject is not None:
            _write(self._referrers(repository, subject) / f"{digest.algorithm}-{digest.hex}", b"")
        _write(self._link(repository, "_manifests", digest), manifest.media_type.encode())
        if tag is not None:
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
        return Digest.parse((self._tags(repository) / tag).read_text())

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
        found = []
        for directory, children, _ in os.walk(self._repositories):
            if "_manifests" in children:
                found.append(os.path.relpath(directory, self._repositories))
            children[:] = [name for name in children if not name.startswith("_")]
        return sorted(found)

    def referrers(self, repository: str, subject: Digest) -> list[StoredManifest]:
        """The manifests that have that subject, which need not be there itself; by digest."""
        found = []
        for name in sorted(_finished(self._referrers(repository, subject))):
            algorithm, _, encoded = name.partition("-")
            # The note outlives a deleted manifest, and is right again if it is pushed again.
            manifest = self.manifest(repository, Digest(algorithm, encoded))
            if manifest is not None:
                found.append(manifest)
        return found

    # --- places ------------------------------------------------------------------------------

    def _link(self, repository: str, kind: str, digest: Digest) -> Path:
        return self._repositories / repository / kind / digest.algorithm / digest.hex

    def _tags(self, repository: str) -> Path:
        return self._repositories / repository / "_tags"

    def _referrers(self, repository: str, subject: Digest) -> Path:
        return self._link(repository, "_referrers", subject)


# --- small files -------------------------------------------------------------------------------


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
