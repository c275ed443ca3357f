"""Images from one registry to another, without a store between."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer.images._parallel import for_each
from pycontainer.images._progress import (
    LayerDone,
    LayerProgress,
    LayerStarted,
    Progress,
    TransferDone,
    TransferStarted,
)
from pycontainer.oci import Descriptor, Digest, Index, Manifest, Platform, parse_manifest
from pycontainer.registry import Deadline, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from pycontainer.oci import Reference
    from pycontainer.registry import Client, Download, FetchedManifest

__all__ = ["copy"]


@frozen
class _Copy:
    source: Client
    origin: str
    target: Client
    repository: str
    progress: Progress

    def documents(self, fetched: FetchedManifest) -> list[tuple[FetchedManifest, Manifest]]:
        """Store all manifests below one, and return those with blobs. What is there is passed over."""
        document = parse_manifest(fetched.data, fetched.media_type or None)
        if isinstance(document, Manifest):
            return [(fetched, document)]
        found = []
        for entry in document.manifests:
            if self.target.head_manifest(self.repository, str(entry.digest)) is None:
                found += self.documents(self.source.get_manifest(self.origin, str(entry.digest)))
        return found

    def blob(self, blob: Descriptor) -> None:
        """Bring one blob: by a mount where both are one registry."""
        self.progress(LayerStarted(blob))
        done = 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            self.progress(LayerProgress(blob, done))

        same = self.source.url == self.target.url and self.origin != self.repository
        sent = self.target.push_blob(
            self.repository,
            blob,
            lambda: io.BufferedReader(_Remote(self.source.download(self.origin, blob), blob.size)),
            progress=moved,
            mount_from=self.origin if same else None,
        )
        self.progress(LayerDone(blob, reused=not sent))


def copy(
    source: Client,
    origin: Reference,
    target: Client,
    goal: Reference,
    *,
    platform: Platform | None,
    progress: Progress,
    seconds: float | None,
) -> Digest:
    """Copy an image, or an index with all its images, as it is.

    Args:
        source: Where from.
        origin: Its name there.
        target: Where to.
        goal: Its name there.
        platform: Only the image of an index that is for that; None for all of it.
        progress: Told what happens, from several threads.
        seconds: How long it may take in all.

    Returns:
        The digest, which is the same there.
    """
    with within(Deadline(seconds)) as deadline:
        fetched = source.get_manifest(origin.repository, origin.target)
        document = parse_manifest(fetched.data, fetched.media_type or None)
        if platform is not None and isinstance(document, Index):
            chosen = document.select(platform)
            fetched = source.get_manifest(origin.repository, str(chosen.digest))
        work = _Copy(source, origin.repository, target, goal.repository, progress)
        images = work.documents(fetched)
        blobs = _blobs([manifest for _, manifest in images])
        progress(TransferStarted(goal, fetched.digest, tuple(blobs)))
        for_each(blobs, work.blob, give_up=deadline.give_up)
        for each, manifest in images:
            target.put_manifest(
                goal.repository, str(each.digest), each.data, each.media_type or manifest.media_type
            )
        _put_indexes(work, fetched)
        media_type = fetched.media_type or document.media_type
        digest = target.put_manifest(goal.repository, goal.target, fetched.data, media_type)
        progress(TransferDone(goal, digest))
    return digest


def _put_indexes(work: _Copy, fetched: FetchedManifest) -> None:
    """Store the indexes below one, the innermost first."""
    document = parse_manifest(fetched.data, fetched.media_type or None)
    if isinstance(document, Manifest):
        return
    for entry in document.manifests:
        if work.target.head_manifest(work.repository, str(entry.digest)) is None:
            inner = work.source.get_manifest(work.origin, str(entry.digest))
            _put_indexes(work, inner)
            work.target.put_manifest(
                work.repository, str(entry.digest), inner.data, inner.media_type or entry.media_type
            )


def _blobs(manifests: Sequence[Manifest]) -> list[Descriptor]:
    """The blobs of all, each once; those that may not be distributed stay where they are."""
    found = {
        blob.digest: blob
        for each in manifests
        for blob in (each.config, *each.layers)
        if not blob.urls
    }
    return list(found.values())


class _Remote(io.RawIOBase):
    """A blob of a registry as a file."""

    def __init__(self, download: Download, size: int) -> None:
        self._download = download
        self._size = size
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        self._offset = start + offset
        self._download.resume(self._offset)
        return self._offset

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._download.read(min(len(view), self._size - self._offset)) if view else b""
        view[: len(data)] = data
        self._offset += len(data)
        return len(data)

    def close(self) -> None:
        self._download.close()
        super().close()
