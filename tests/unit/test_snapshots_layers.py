"""Unpacked layers: made once, whole or not at all."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
from attrs import evolve

from archives import archive, file
from pycontainer.content import Store, exclusive
from pycontainer.errors import (
    BlobNotFound,
    DigestMismatch,
    Error,
    SizeMismatch,
    TarError,
    UnsafePath,
)
from pycontainer.layers import Entry, Kind
from pycontainer.oci import Descriptor, Digest, media_types
from pycontainer.snapshots import add_layer, ensure_layer, has_layer, layer_path
from stacks import packed


def _raw(data: bytes) -> tuple[Descriptor, Digest]:
    return Descriptor(media_types.OCI_LAYER, Digest.of(data), len(data)), Digest.of(data)


def _left(store: Store) -> list[Path]:
    """What lies in the store's places of layers, blobs and temporaries."""
    return [
        path
        for name in ("layers", "blobs", "tmp")
        for path in (store.path / name).rglob("*")
        if not (path.is_dir() and path.parent.name in ("layers", "blobs"))
    ]


def test_a_layer_is_stored_and_unpacked_in_one_pass(store: Store) -> None:
    data = archive(file(b"dir/file", b"content"))
    descriptor, diff_id = _raw(data)
    unpacked = add_layer(store, io.BytesIO(data), expected=descriptor, diff_id=diff_id)
    assert (unpacked.digest, unpacked.diff_id) == (descriptor.digest, diff_id)
    root = layer_path(store, diff_id)
    assert root is not None
    assert (root / "dir/file").read_bytes() == b"content"
    assert store.blobs.read_bytes(descriptor) == data
    assert [path for path in _left(store) if path.parent.name == "tmp"] == []


def test_the_blob_can_be_left_out(store: Store) -> None:
    data = archive(file(b"f"))
    descriptor, diff_id = _raw(data)
    add_layer(store, io.BytesIO(data), expected=descriptor, diff_id=diff_id, keep_blob=False)
    assert has_layer(store, diff_id)
    assert not store.blobs.exists(descriptor.digest)


SOUND = archive(file(b"file", b"x" * 5000))
ELSE = Digest.of(b"something else")


@pytest.mark.parametrize(
    ("data", "changes", "diff_id", "error"),
    [
        (SOUND, {"digest": ELSE}, None, DigestMismatch),
        (SOUND, {}, ELSE, DigestMismatch),
        (SOUND, {"size": len(SOUND) + 1}, None, SizeMismatch),
        (SOUND, {"size": len(SOUND) - 1}, None, SizeMismatch),
        (SOUND[:3000], {}, None, TarError),
        (b"no tar" * 500, {}, None, TarError),
        (archive(file(b"ok"), file(b"../../etc/passwd", b"root")), {}, None, UnsafePath),
    ],
)
def test_nothing_is_left_of_a_wrong_layer(
    store: Store,
    data: bytes,
    changes: dict[str, object],
    diff_id: Digest | None,
    error: type[Error],
) -> None:
    descriptor, own = _raw(data)
    before = _left(store)
    with pytest.raises(error):
        add_layer(
            store,
            io.BytesIO(data),
            expected=evolve(descriptor, **changes),  # type: ignore[arg-type]
            diff_id=diff_id or own,
        )
    assert _left(store) == before
    assert not has_layer(store, own)


def test_ensuring_unpacks_from_the_blob_once(store: Store) -> None:
    layer = packed(store, {"f": b"x"})
    path = ensure_layer(store, layer.descriptor, layer.diff_id)
    inode = path.stat().st_ino
    assert ensure_layer(store, layer.descriptor, layer.diff_id) == path
    assert path.stat().st_ino == inode


def test_ensuring_without_a_blob_says_so(store: Store) -> None:
    descriptor, diff_id = _raw(SOUND)
    with pytest.raises(BlobNotFound):
        ensure_layer(store, descriptor, diff_id)
    assert layer_path(store, diff_id) is None


def test_many_askers_get_one_layer(store: Store) -> None:
    layer = packed(store, {f"f{i}": b"x" for i in range(200)})
    ready = threading.Barrier(8)
    inodes: list[int] = []

    def ask() -> None:
        ready.wait()
        inodes.append(ensure_layer(store, layer.descriptor, layer.diff_id).stat().st_ino)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inodes) == 8
    assert len(set(inodes)) == 1
    assert list((store.path / "layers").glob(".*")) == []


def test_a_collection_takes_what_nobody_needs(store: Store) -> None:
    layer = packed(store, {"f": b"x"})
    path = ensure_layer(store, layer.descriptor, layer.diff_id)
    store.collect()
    assert not path.exists()
    assert not has_layer(store, layer.diff_id)


def test_a_lease_keeps_layers_found_and_made(store: Store) -> None:
    layer = packed(store, {"f": b"x"})
    with store.lease():
        store.blobs.exists(layer.descriptor.digest)
        path = ensure_layer(store, layer.descriptor, layer.diff_id)
        store.collect()
        assert path.exists()


@pytest.mark.parametrize("mode", [0o755, 0o1777, 0o700])
def test_the_root_is_as_its_layer_says(store: Store, mode: int) -> None:
    layer = packed(store, [Entry(b"", Kind.DIRECTORY, mode, mtime_ns=5_000_000_000)])
    status = ensure_layer(store, layer.descriptor, layer.diff_id).stat()
    assert (status.st_mode & 0o7777, status.st_mtime) == (mode, 5)


def test_a_root_that_no_entry_describes_is_plain(store: Store) -> None:
    layer = packed(store, {"f": b"x"})
    old = os.umask(0o077)
    try:
        status = ensure_layer(store, layer.descriptor, layer.diff_id).stat()
    finally:
        os.umask(old)
    assert (status.st_mode & 0o7777, int(status.st_mtime)) == (0o755, 0)


def test_the_lock_excludes_and_vanishes(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order: list[str] = []

    def other() -> None:
        with exclusive(path):
            order.append("other")

    with exclusive(path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]
    assert not path.exists()
