"""After a power cut nothing incomplete is believed whole."""

from __future__ import annotations

import errno
import os
import threading
from contextvars import copy_context
from pathlib import Path

import pytest

from pycontainer.content import Node, Store, _unsynced
from pycontainer.content import _store as store_module
from pycontainer.errors import ContentError
from pycontainer.oci import Digest

LAYER: Node = ("layer", "a")


def add_layer(store: Store, text: str = "whole") -> Path:
    path = store.directory("layers") / "a"
    with store.temporary("layer") as temporary:
        (temporary / "root").mkdir()
        (temporary / "root/file").write_text(text)
        store.put_resource(*LAYER, path=path, size=10, install=temporary / "root")
    return path


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The directories whose file systems were synced."""
    done: list[Path] = []
    monkeypatch.setattr(_unsynced, "sync_file_system", done.append)
    return done


def reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unsynced, "boot_id", lambda: "the next boot")


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name == "store-sync":
            thread.join()


def test_in_the_same_boot_nothing_is_doubted(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        add_layer(store)
    with Store.open(tmp_path) as store:
        assert store.has_resource(*LAYER)


def test_what_was_not_synced_is_gone_after_the_machine_went_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path) as store:
        path = add_layer(store)
    (path / "file").write_bytes(b"")  # as file systems leave what was never written out
    reboot(monkeypatch)
    with Store.open(tmp_path) as store:
        assert not store.has_resource(*LAYER)
        assert not path.exists()
        add_layer(store)
    with Store.open(tmp_path) as store:  # in the same boot as it was made again
        assert store.has_resource(*LAYER)
        assert (path / "file").read_text() == "whole"


def test_what_another_has_made_again_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path) as store:
        add_layer(store)
    reboot(monkeypatch)
    remove = Store.remove_resource

    def slow(store: Store, kind: str, key: str, **options: object) -> None:
        monkeypatch.setattr(Store, "remove_resource", remove)
        with Store.open(tmp_path) as faster:  # sees to it first
            add_layer(faster, "made again")
        remove(store, kind, key, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "remove_resource", slow)
    with Store.open(tmp_path) as store:
        assert store.has_resource(*LAYER)
        assert (tmp_path / "layers/a/file").read_text() == "made again"


def test_what_was_synced_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[Path]
) -> None:
    with Store.open(tmp_path) as store:
        add_layer(store)
        store.add_root("image", "i", [LAYER])
        monkeypatch.setattr(_unsynced, "_SETTLED_SECONDS", 0.0)
        store.collect()
        store.collect()
    assert synced == [tmp_path]
    reboot(monkeypatch)
    with Store.open(tmp_path) as store:
        assert store.has_resource(*LAYER)


def test_young_things_wait_for_a_sync(tmp_path: Path, synced: list[Path]) -> None:
    with Store.open(tmp_path) as store:
        add_layer(store)
        store.collect()
    with Store.open(tmp_path):
        wait_for_threads()
    assert synced == []


def test_a_later_opening_syncs_what_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[Path]
) -> None:
    with Store.open(tmp_path) as store:
        add_layer(store)
    monkeypatch.setattr(_unsynced, "_SETTLED_SECONDS", 0.0)
    with Store.open(tmp_path):
        wait_for_threads()
    with Store.open(tmp_path):
        wait_for_threads()
    assert synced == [tmp_path]


def test_a_sync_that_fails_makes_sure_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_unsynced, "sync_file_system", fail)
    monkeypatch.setattr(_unsynced, "_SETTLED_SECONDS", 0.0)
    with Store.open(tmp_path) as store:
        add_layer(store)
        store.collect()
    reboot(monkeypatch)
    with Store.open(tmp_path) as store:
        assert not store.has_resource(*LAYER)


def test_a_file_system_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(tmp_path) as store:
        add_layer(store)
        store.add_root("image", "i", [LAYER])
        monkeypatch.setattr(_unsynced, "_SETTLED_SECONDS", 0.0)
        _unsynced.settle(store)
        with store.db.transaction(write=False) as connection:
            assert connection.execute("SELECT count(*) FROM unsynced").fetchone() == (0,)


def test_files_whose_row_was_lost_are_replaced(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        torn = store.directory("layers") / "a"
        torn.mkdir()
        (torn / "fil").write_bytes(b"torn")
        path = add_layer(store)
        assert [each.name for each in path.iterdir()] == ["file"]
        assert not any((tmp_path / "trash").iterdir())


def test_only_blobs_wait_for_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    directories: list[Path] = []
    monkeypatch.setattr(store_module, "sync_directory", directories.append)
    add_layer(store)
    assert directories == []
    with store.blobs.writer() as blob:
        blob.write(b"x")
        digest = blob.commit()
    assert directories == [store.blobs.path(digest).parent]


# --- blobs that are synced together ------------------------------------------------------------


def add_blob(store: Store, content: bytes = b"content") -> Digest:
    with store.blobs.writer() as blob:
        blob.write(content)
        return blob.commit()


def add_to_broken_batch(store: Store) -> Digest:
    digests: list[Digest] = []

    def fail() -> None:
        with store.sync_together():
            digests.append(add_blob(store))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    return digests[0]


@pytest.fixture
def fsynced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files and directories that were synced."""
    done: list[Path] = []
    sync = os.fsync

    def fsync(fd: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{fd}")))
        sync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return done


def test_blobs_of_a_batch_are_synced_at_its_end_and_their_directory_once(
    tmp_path: Path, fsynced: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path) as store:
        with store.sync_together():
            digests = [add_blob(store, b"%d" % number) for number in range(3)]
            assert fsynced == []
        paths = [store.blobs.path(digest) for digest in digests]
        assert fsynced == [*paths, paths[0].parent]
    reboot(monkeypatch)
    with Store.open(tmp_path) as store:
        assert all(map(store.blobs.exists, digests))


def test_threads_in_a_copy_of_the_context_belong_to_the_batch(
    tmp_path: Path, fsynced: list[Path]
) -> None:
    with Store.open(tmp_path) as store, store.sync_together():
        thread = threading.Thread(target=copy_context().run, args=(add_blob, store))
        thread.start()
        thread.join()
        assert fsynced == []


def test_another_store_and_what_comes_after_the_batch_are_synced_one_by_one(
    tmp_path: Path, fsynced: list[Path]
) -> None:
    with Store.open(tmp_path / "a") as store, Store.open(tmp_path / "b") as other:
        with store.sync_together():
            digest = add_blob(other)
        assert other.blobs.path(digest).parent in fsynced
        fsynced.clear()
        digest = add_blob(store)
        assert store.blobs.path(digest).parent in fsynced


def test_a_batch_that_the_power_cut_ended_leaves_no_blobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path) as store:
        digest = add_to_broken_batch(store)
        path = store.blobs.path(digest)
        path.write_bytes(b"")
    reboot(monkeypatch)
    with Store.open(tmp_path) as store:
        assert not store.blobs.exists(digest)
        assert not path.exists()
        assert add_blob(store) == digest
        assert path.read_bytes() == b"content"


def test_a_blob_that_was_synced_since_is_not_doubted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path) as store:
        add_to_broken_batch(store)
        digest = add_blob(store)
    reboot(monkeypatch)
    with Store.open(tmp_path) as store:
        assert store.blobs.exists(digest)


def test_a_batch_keeps_the_notes_that_were_written_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path) as store, store.sync_together():
        digest = add_blob(store)
        with store.db.transaction() as connection:
            _unsynced.note(connection, ("blob", str(digest)))
    reboot(monkeypatch)
    with Store.open(tmp_path) as store:
        assert not store.blobs.exists(digest)


def test_a_blob_that_was_deleted_within_its_batch_is_not_missed(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        with store.sync_together():
            digest = add_blob(store)
            store.blobs.delete(digest)
        assert not store.blobs.exists(digest)


def test_a_disk_that_fails_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Store.open(tmp_path) as store:
        digest = add_to_broken_batch(store)
        batch = _unsynced.Batch(store)
        batch.add(("blob", str(digest)), store.blobs.path(digest), 0)
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(ContentError, match="cannot write out"):
            batch.sync()
        monkeypatch.undo()
    reboot(monkeypatch)
    with Store.open(tmp_path) as store:
        assert not store.blobs.exists(digest)
