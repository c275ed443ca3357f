"""Unpacked layers: each in a directory of its own, made once, shared by all images that have it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from pycontainer.layers import unpack
from pycontainer.snapshots._lock import exclusive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pycontainer.content import BlobWriter, Readable, Store
    from pycontainer.layers import LayerEvent, Unpacked
    from pycontainer.oci import Descriptor, Digest

__all__ = ["add_layer", "ensure_layer", "has_layer", "is_described", "layer_path"]

_KIND: Final = "layer"
_UNDESCRIBED_MODE: Final = 0o1700  # of a root while its layer unpacks, until an entry sets another
_UNDESCRIBED_NS: Final = 1  # time of a root that its layer has no entry for


def layer_path(store: Store, diff_id: Digest) -> Path | None:
    """Where a layer is unpacked, or None if it is not; the current lease keeps it from now on."""
    return _place(store, diff_id) if has_layer(store, diff_id) else None


def has_layer(store: Store, diff_id: Digest) -> bool:
    """Whether a layer is unpacked; the current lease keeps it from now on."""
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
    """Verify, store and unpack a layer in one pass over its bytes.

    Neither the blob nor the directory exists before all of it has come and is right.

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
    """
    with exclusive(_lock_file(store, diff_id)):
        if not keep_blob:
            return _unpack(store, source, expected, diff_id, None, events)
        with store.blobs.writer(expected, hashing=False) as blob:
            unpacked = _unpack(store, source, expected, diff_id, blob, events)
            blob.commit(unpacked.digest, unpacked.size)
            return unpacked


def ensure_layer(
    store: Store,
    descriptor: Descriptor,
    diff_id: Digest,
    *,
    events: Callable[[LayerEvent], None] | None = None,
) -> Path:
    """The directory of a layer, unpacked from its stored blob if it is not yet there.

    Who asks while another thread or process unpacks it waits for that.

    Raises:
        BlobNotFound: Neither the directory nor the blob is there.
        ContentError: The stored bytes are not what they should be.
        LayerError: They are no sound layer, or cannot be written.
    """
    if not has_layer(store, diff_id):
        with exclusive(_lock_file(store, diff_id)):
            if not has_layer(store, diff_id):
                with store.blobs.open(descriptor.digest) as source:
                    _unpack(store, source, descriptor, diff_id, None, events)
    return _place(store, diff_id)


def is_described(root: os.stat_result) -> bool:
    """Whether a layer says anything of the root directory, given the status of the layer's own."""
    return root.st_mtime_ns != _UNDESCRIBED_NS


def _place(store: Store, diff_id: Digest) -> Path:
    return store.path / "layers" / diff_id.algorithm / diff_id.hex


def _lock_file(store: Store, diff_id: Digest) -> Path:
    return store.directory("layers") / f".{diff_id.algorithm}-{diff_id.hex}.lock"


def _unpack(
    store: Store,
    source: Readable,
    expected: Descriptor,
    diff_id: Digest,
    blob: BlobWriter | None,
    events: Callable[[LayerEvent], None] | None,
) -> Unpacked:
    with store.temporary("layer") as temporary:
        root = temporary / "root"
        root.mkdir()
        root.chmod(_UNDESCRIBED_MODE)
        unpacked = unpack(
            source, root, expected=expected, diff_id=diff_id, blob=blob, events=events
        )
        if stat.S_IMODE(root.stat().st_mode) == _UNDESCRIBED_MODE:
            root.chmod(0o755)
            os.utime(root, ns=(_UNDESCRIBED_NS, _UNDESCRIBED_NS))
        store.put_resource(
            _KIND,
            str(diff_id),
            path=_place(store, diff_id),
            size=unpacked.tar_size,
            install=root,
        )
        return unpacked
