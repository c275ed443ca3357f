"""Layers ready to be stacked: each made once, shared by all images that have it.

A layer is a directory that it was unpacked to or, where the store's snapshotter is erofs, a file with
its tar and an index. Where a directory is needed nevertheless, it is unpacked from that file.
"""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING, Final

from attrs import evolve

from pycontainer._linux.erofs import SUFFIX
from pycontainer.content import Resumable, exclusive, resumed
from pycontainer.errors import DigestMismatch, LayerError, SizeMismatch, TarError, UnsafePath
from pycontainer.layers import index, indexed_tar, unpack
from pycontainer.oci import Compression
from pycontainer.snapshots._erofs import check, erofs_refusal, is_chosen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pycontainer.content import BlobWriter, Readable, Store
    from pycontainer.layers import LayerEvent, Unpacked
    from pycontainer.oci import Descriptor, Digest

__all__ = [
    "add_layer",
    "ensure_directory",
    "ensure_layer",
    "has_layer",
    "is_described",
    "layer_path",
]

_log = logging.getLogger("pycontainer.snapshots")
_KIND: Final = "layer"
_KIND_OF_DIRECTORY: Final = "layer-directory"  # beside a layer that is an index
_UNDESCRIBED_MODE: Final = 0o1700  # of a root while its layer unpacks, until an entry sets another
_UNDESCRIBED_NS: Final = 1  # time of a root that its layer has no entry for


def layer_path(store: Store, diff_id: Digest) -> Path | None:
    """Where a layer is, or None if it is not there; the current lease keeps it from now on.

    Raises:
        LayerError: It is an index, and damaged.
    """
    return _usable(store, diff_id) if has_layer(store, diff_id) else None


def has_layer(store: Store, diff_id: Digest) -> bool:
    """Whether a layer is unpacked or indexed; the current lease keeps it from now on."""
    return store.has_resource(_KIND, str(diff_id))


def add_layer(
    store: Store,
    source: Readable,
    *,
    expected: Descriptor,
    diff_id: Digest,
    keep_blob: bool = True,
    events: Callable[[LayerEvent], None] | None = None,
) -> Unpacked:
    """Verify, store and unpack or index a layer in one pass over its bytes.

    Neither the blob nor the layer exists before all of it has come and is right.

    Args:
        store: Where it goes.
        source: The bytes as they come from the wire or a file.
        expected: Their digest and size.
        diff_id: Digest of the tar in them.
        keep_blob: Store the compressed bytes too.
        events: Called now and then, from this thread.

    Raises:
        ContentError: The bytes are not what was expected.
        LayerError: They are no sound layer, or cannot be written.
        UnsupportedFeature: The store's snapshotter is not available.
    """
    with exclusive(_lock_file(store, diff_id)):
        if not keep_blob:
            return _make(store, source, expected, diff_id, None, events)
        return _make_and_store(store, source, expected, diff_id, events)


def _make_and_store(
    store: Store,
    source: Readable,
    expected: Descriptor,
    diff_id: Digest,
    events: Callable[[LayerEvent], None] | None,
) -> Unpacked:
    resume = isinstance(source, Resumable)
    with store.blobs.writer(expected, hashing=False, resume=resume) as blob:
        try:
            unpacked = _make(store, resumed(source, blob), expected, diff_id, blob, events)
            blob.commit(unpacked.digest, unpacked.size)
            return unpacked
        except (DigestMismatch, SizeMismatch, TarError, UnsafePath) as error:
            blob.discard()
            if not blob.kept:
                raise
            # Perhaps only what was kept is damaged, as after a power cut.
            _log.warning("layer %s is fetched anew: %s", expected.digest, error)
    return _make_and_store(store, source, expected, diff_id, events)


def ensure_layer(
    store: Store,
    descriptor: Descriptor,
    diff_id: Digest,
    *,
    events: Callable[[LayerEvent], None] | None = None,
) -> Path:
    """The directory or index of a layer, made from its stored blob if it is not yet there.

    Who asks while another thread or process makes it waits for that. A damaged index is made anew.

    Raises:
        BlobNotFound: Neither the layer nor the blob is there.
        ContentError: The stored bytes are not what they should be.
        LayerError: They are no sound layer, or cannot be written.
        UnsupportedFeature: The store's snapshotter is not available.
    """
    if has_layer(store, diff_id):
        try:
            return _usable(store, diff_id)
        except LayerError as error:
            _log.warning("%s; it is made anew", error.message)
    with exclusive(_lock_file(store, diff_id)):
        if has_layer(store, diff_id):
            try:
                return _usable(store, diff_id)  # somebody else has made it meanwhile
            except LayerError:
                store.blobs.size(descriptor.digest)  # without it nothing can be made
                store.remove_resource(_KIND, str(diff_id))
        with store.blobs.open(descriptor.digest) as source:
            _make(store, source, descriptor, diff_id, None, events)
    return _usable(store, diff_id)


def ensure_directory(store: Store, descriptor: Descriptor, diff_id: Digest) -> Path:
    """The directory of a layer, unpacked now if it was only indexed.

    Raises: as `ensure_layer`.
    """
    path = ensure_layer(store, descriptor, diff_id)
    return path if path.suffix != SUFFIX else _unpack_indexed(store, diff_id)


def is_described(root: os.stat_result) -> bool:
    """Whether a layer says anything of the root directory, given the status of the layer's own."""
    return root.st_mtime_ns != _UNDESCRIBED_NS


def _place(store: Store, diff_id: Digest) -> Path:
    return store.path / "layers" / diff_id.algorithm / diff_id.hex


def _image_place(store: Store, diff_id: Digest) -> Path:
    return store.path / "layers" / diff_id.algorithm / (diff_id.hex + SUFFIX)


def _usable(store: Store, diff_id: Digest) -> Path:
    """What of a layer that is there can be used here: an index only where it can be mounted."""
    directory = _place(store, diff_id)
    if directory.is_dir():
        return directory
    image = _image_place(store, diff_id)
    if erofs_refusal(store):  # the store, or the program, has moved
        return _unpack_indexed(store, diff_id)
    check(image)
    return image


def _unpack_indexed(store: Store, diff_id: Digest) -> Path:
    """Unpack a layer that is there as an index, beside it and for as long as it is kept."""
    directory = _place(store, diff_id)
    with exclusive(_lock_file(store, diff_id)):
        if not store.has_resource(_KIND_OF_DIRECTORY, str(diff_id)):
            with (
                indexed_tar(_image_place(store, diff_id)) as source,
                store.temporary("layer") as temporary,
            ):
                root = temporary / "root"
                _unpack_to(root, source, diff_id)
                node = (_KIND_OF_DIRECTORY, str(diff_id))
                store.link((_KIND, str(diff_id)), [node])
                store.put_resource(*node, path=directory, size=0, install=root)
    return directory


def _lock_file(store: Store, diff_id: Digest) -> Path:
    return store.directory("layers") / f".{diff_id.algorithm}-{diff_id.hex}.lock"


def _make(
    store: Store,
    source: Readable,
    expected: Descriptor,
    diff_id: Digest,
    blob: BlobWriter | None,
    events: Callable[[LayerEvent], None] | None,
) -> Unpacked:
    with store.temporary("layer") as temporary:
        root = temporary / "root"
        if not is_chosen(store):
            unpacked = _unpack_to(
                root, source, diff_id, expected=expected, blob=blob, events=events
            )
            _install(store, diff_id, _place(store, diff_id), root, unpacked)
            return unpacked
        image = temporary / f"layer{SUFFIX}"
        indexed = index(source, image, expected=expected, diff_id=diff_id, blob=blob, events=events)
        if not indexed.obstacle:
            _install(store, diff_id, _image_place(store, diff_id), image, indexed.unpacked)
            return indexed.unpacked
        _log.info("layer %s is unpacked: no index holds %s", diff_id, indexed.obstacle)
        with indexed_tar(image) as tar:
            entries = _unpack_to(root, tar, diff_id).entries
        unpacked = evolve(indexed.unpacked, entries=entries)
        _install(store, diff_id, _place(store, diff_id), root, unpacked)
        return unpacked


def _unpack_to(
    root: Path,
    source: Readable,
    diff_id: Digest,
    *,
    expected: Descriptor | None = None,
    blob: BlobWriter | None = None,
    events: Callable[[LayerEvent], None] | None = None,
) -> Unpacked:
    """Unpack a layer to a new directory; without `expected` what comes is the tar itself."""
    root.mkdir()
    root.chmod(_UNDESCRIBED_MODE)
    unpacked = unpack(
        source,
        root,
        compression=Compression.NONE if expected is None else None,
        expected=expected,
        diff_id=diff_id,
        blob=blob,
        events=events,
    )
    if stat.S_IMODE(root.stat().st_mode) == _UNDESCRIBED_MODE:
        root.chmod(0o755)
        os.utime(root, ns=(_UNDESCRIBED_NS, _UNDESCRIBED_NS))
    return unpacked


def _install(store: Store, diff_id: Digest, place: Path, made: Path, unpacked: Unpacked) -> None:
    store.put_resource(_KIND, str(diff_id), path=place, size=unpacked.tar_size, install=made)
