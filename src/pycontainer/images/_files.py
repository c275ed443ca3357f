"""Images as files of other tools: which kind a file is, and the way in and out of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import frozen

from pycontainer.content import BlobDir
from pycontainer.errors import ImageError
from pycontainer.images import _layout
from pycontainer.images._archive import bytes_entry, read_archive, reader_entry, write_archive
from pycontainer.images._docker_archive import (
    MANIFEST_FILE,
    docker_entries,
    images_in_docker_archive,
)
from pycontainer.images._intake import take_in
from pycontainer.layers import Entry, Kind
from pycontainer.oci import ImageConfig, Index, Manifest, Platform, Reference, media_types

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pycontainer.content import Readable, Store
    from pycontainer.images._progress import Progress
    from pycontainer.oci import Descriptor

__all__ = ["Format", "load", "save", "save_index"]

Format = Literal["oci-archive", "oci-layout", "docker-archive"]

_Named = tuple[Manifest, list[Reference]]


@frozen
class _Blobs:
    """The blobs of a directory as a source."""

    blobs: BlobDir

    def open(self, descriptor: Descriptor, /) -> AbstractContextManager[Readable]:
        return self.blobs.open(descriptor.digest)


def load(
    store: Store, path: Path, *, platform: Platform | None = None, progress: Progress
) -> list[_Named]:
    """Bring all images of a file or directory into a store.

    Args:
        store: Where to.
        path: An OCI layout or the tar of one, or what ``docker save`` writes; tars may be compressed.
        platform: The only one that is wanted of several.
        progress: Told what happens.

    Returns:
        Their manifests and names.

    Raises:
        ImageError: It is none of these.
        SpecError: A document in it is damaged.
        ContentError: A blob is not what it should be.
        LayerError: The tar is damaged, or a layer unsound.
    """
    if not path.exists():
        raise ImageError(f"cannot load {path}: there is nothing")
    with store.lease():
        if path.is_dir():
            source = BlobDir(path)
            found = _in_directory(path, source, platform)
        else:
            source = store.blobs
            found = _in_archive(store, path, platform)
        loaded = []
        for manifest, names in found:
            take_in(
                store,
                manifest,
                _Blobs(source),
                names=names,
                platform=platform,
                progress=progress,
            )
            loaded.append((manifest, names))
    if not loaded:
        wanted = f" for {platform}" if platform is not None else ""
        raise ImageError(f"there is no image{wanted} in {path}")
    return loaded


def _in_directory(path: Path, blobs: BlobDir, platform: Platform | None) -> Iterable[_Named]:
    try:
        mark = (path / _layout.LAYOUT_FILE).read_bytes()
        index = (path / _layout.INDEX_FILE).read_bytes()
    except OSError as error:
        raise ImageError(f"{path} is no image layout: {error.strerror}") from error
    return _in_layout(mark, index, blobs, platform)


def _in_archive(store: Store, path: Path, platform: Platform | None) -> Iterable[_Named]:
    with store.sync_together():
        archive = read_archive(store, path)
    documents = archive.documents
    if _layout.LAYOUT_FILE in documents and _layout.INDEX_FILE in documents:
        mark, index = documents[_layout.LAYOUT_FILE], documents[_layout.INDEX_FILE]
        return _in_layout(mark, index, store.blobs, platform)
    if MANIFEST_FILE in documents:
        return images_in_docker_archive(store, archive)
    raise ImageError(
        f"{path} is neither an OCI archive nor one of docker save",
        remedy="Image.import_rootfs takes the tar of a root file system",
    )


def _in_layout(
    mark: bytes, index: bytes, blobs: BlobDir, platform: Platform | None
) -> Iterable[_Named]:
    _layout.check_mark(mark)
    document = Index.parse(index, media_type=media_types.OCI_INDEX)
    return _layout.images_in(document, blobs.read_bytes, platform)


def save(
    store: Store,
    manifest: Manifest,
    config: ImageConfig,
    reference: Reference | None,
    path: Path,
    form: Format,
) -> None:
    """Write an image to a file or directory; the same image gives the same bytes.

    Raises:
        ImageError: It cannot be written there.
        ContentError: A stored blob is missing or damaged.
    """
    try:
        with store.lease():
            if form == "docker-archive":
                write_archive(path, docker_entries(store, manifest, config, reference))
                return
            entry = _layout.entry_of(manifest, config.platform, reference)
            _save_layout(store, entry, _layout.blobs_of(manifest), path, form)
    except OSError as error:
        raise ImageError(f"cannot save to {path}: {error.strerror or error}") from error


def save_index(
    store: Store,
    index: Index,
    below: Sequence[Manifest | Index],
    reference: Reference | None,
    path: Path,
    form: Literal["oci-archive", "oci-layout"],
) -> None:
    """Write an index with all that is below it to a file or directory; the same give the same bytes.

    Raises: as `save`.
    """
    entry = _layout.named(index.descriptor(), reference)
    indexes = [each.descriptor() for each in (index, *below) if isinstance(each, Index)]
    manifests = [each for each in below if isinstance(each, Manifest)]
    blobs = sorted([*indexes, *_layout.blobs_of(*manifests)], key=lambda each: each.digest)
    try:
        with store.lease():
            _save_layout(store, entry, blobs, path, form)
    except OSError as error:
        raise ImageError(f"cannot save to {path}: {error.strerror or error}") from error


def _save_layout(
    store: Store,
    entry: Descriptor,
    blobs: Iterable[Descriptor],
    path: Path,
    form: Literal["oci-archive", "oci-layout"],
) -> None:
    if form == "oci-layout":
        _layout.write_layout(store, entry, blobs, path)
    else:
        write_archive(path, _oci_entries(store, entry, blobs))


def _oci_entries(store: Store, entry: Descriptor, blobs: Iterable[Descriptor]) -> Iterator[Entry]:
    yield bytes_entry(_layout.LAYOUT_FILE, _layout.LAYOUT_MARK)
    yield bytes_entry(_layout.INDEX_FILE, Index(manifests=(entry,)).encode())
    yield Entry(b"blobs", Kind.DIRECTORY, 0o755)
    directory = ""
    for blob in blobs:
        if blob.digest.algorithm != directory:
            directory = blob.digest.algorithm
            yield Entry(f"blobs/{directory}".encode(), Kind.DIRECTORY, 0o755)
        yield reader_entry(f"blobs/{directory}/{blob.digest.hex}", store, blob)
