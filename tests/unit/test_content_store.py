"""Stores: opening them, what is in them, what keeps it, and what collection takes."""

from __future__ import annotations

import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path

import pytest

from pycontainer.content import Collected, Node, Root, Schema, Store, _home, exclusive
from pycontainer.content import _database as database
from pycontainer.errors import StoreError
from pycontainer.oci import Digest

CHILD_FAILED = 70


def add(store: Store, text: str) -> Node:
    with store.blobs.writer() as writer:
        writer.write(text.encode())
        return ("blob", str(writer.commit()))


def add_layer(store: Store, key: str) -> Node:
    with store.temporary("layer") as temporary:
        (temporary / "root").mkdir()
        (temporary / "root/file").write_text(key)
        path = store.directory("layers") / key
        store.put_resource("layer", key, path=path, size=10, install=temporary / "root")
    return ("layer", key)


def has(store: Store, *nodes: Node) -> bool:
    return all(store.has_resource(*node) for node in nodes)


def in_child(work: Callable[[], None]) -> None:
    """Run something in a forked child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, from 3.12 on
        pid = os.fork()
    if pid == 0:
        status = CHILD_FAILED
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def left(store: Store) -> list[str]:
    """What is in a store beside its own files."""
    found = [
        p for name in ("blobs", "layers", "tmp", "trash") for p in store.path.glob(f"{name}/**/*")
    ]
    return sorted(str(p.relative_to(store.path)) for p in found if not p.is_dir())


# --- opening ---------------------------------------------------------------------------------


def test_a_store_is_made_for_its_user_alone(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a/b") as store:
        assert store.path == tmp_path / "a/b"
        assert store.path.stat().st_mode & 0o777 == 0o700
        assert (store.path / "version").read_text() == "1\n"
        assert repr(store) == f"Store('{store.path}')"
        assert store.directory("layers").stat().st_mode & 0o777 == 0o700


def test_two_handles_of_one_store_are_fine(tmp_path: Path) -> None:
    with Store.open(tmp_path) as one, Store.open(str(tmp_path)) as two:
        node = add(one, "x")
        assert has(two, node)
        one.close()
        assert has(two, node)


def test_the_home_is_chosen_as_people_expect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYCONTAINER_HOME", "/p")
    assert _home.default_home() == Path("/p")
    monkeypatch.setenv("PYCONTAINER_HOME", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert _home.default_home() == Path("/var/lib/pycontainer")
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    monkeypatch.setenv("XDG_DATA_HOME", "/x")
    assert _home.default_home() == Path("/x/pycontainer")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert _home.default_home() == Path("/h/.local/share/pycontainer")


def test_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("2\n")
    with pytest.raises(StoreError, match="is of version '2', this program knows version 1"):
        Store.open(tmp_path)


def test_anothers_store_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StoreError, match=r"belongs to user \d+, not to user \d+.*PYCONTAINER_HOME"):
        Store.open(tmp_path)


def test_a_place_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        with pytest.raises(StoreError, match=r"cannot open a store at .*\(remedy"):
            Store.open(tmp_path / place)


def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    with Store.open(tmp_path):
        pass
    (tmp_path / "store.db").write_bytes(b"nonsense" * 200)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(tmp_path)


def test_many_open_a_new_store_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def use() -> None:
        try:
            with Store.open(tmp_path / "s") as store:
                add(store, "x")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# --- closing ---------------------------------------------------------------------------------


def test_closing_twice_is_fine_and_closed_is_closed(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.collect()
    with pytest.raises(ValueError, match="closed"), store.temporary():
        pass


def test_a_leaked_handle_is_told(tmp_path: Path) -> None:
    with pytest.warns(ResourceWarning, match="unclosed store"):
        Store.open(tmp_path).__del__()


def test_the_default_store_is_one_and_is_never_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYCONTAINER_HOME", str(tmp_path / "a"))
    store = Store.default()
    assert Store.default() is store
    assert store.path == tmp_path / "a"
    store.__del__()
    again = Store.default()
    assert again is not store
    monkeypatch.setenv("PYCONTAINER_HOME", str(tmp_path / "b"))
    other = Store.default()
    assert other.path == tmp_path / "b"
    again.close()
    other.close()


# --- things ----------------------------------------------------------------------------------


def test_temporaries_end(store: Store) -> None:
    with store.temporary("work") as one, store.temporary("work") as two:
        assert one != two
        assert one.stat().st_mode & 0o777 == 0o700
        assert one.stat().st_dev == store.path.stat().st_dev
        (one / "file").write_text("x")
        two.rmdir()
    assert left(store) == []


def test_a_thing_gets_its_place(store: Store) -> None:
    node = add_layer(store, "a")
    assert has(store, node)
    assert (store.path / "layers/a/file").read_text() == "a"
    assert left(store) == ["layers/a/file"]


def test_a_directory_that_is_there_already_is_kept(store: Store) -> None:
    add_layer(store, "a")
    (store.path / "layers/a/mark").write_text("first")
    add_layer(store, "a")
    assert left(store) == ["layers/a/file", "layers/a/mark"]


def test_a_row_without_its_file_counts_as_absent(store: Store) -> None:
    blob, layer = add(store, "x"), add_layer(store, "a")
    store.blobs.path(Digest.of(b"x")).unlink()
    (store.path / "layers/a").rename(store.path / "elsewhere")
    assert not has(store, blob)
    assert not has(store, layer)
    assert not store.blobs.exists(Digest.of(b"x"))
    assert add(store, "x") == blob
    assert add_layer(store, "a") == layer
    assert has(store, blob, layer)


def test_a_thing_may_have_no_file(store: Store) -> None:
    store.put_resource("note", "n", path=None, size=0)
    assert store.has_resource("note", "n")
    assert store.collect() == Collected(0, (("note", "n"),))
    assert not store.has_resource("note", "n")


def test_things_are_removed_at_once(store: Store) -> None:
    node, layer = add(store, "x"), add_layer(store, "a")
    store.add_root("image", "i", [node])
    store.blobs.delete(Digest.of(b"x"))
    store.blobs.delete(Digest.of(b"x"))
    store.remove_resource(*layer)
    store.remove_resource(*layer)
    assert left(store) == []
    assert not has(store, node)


def test_a_store_can_be_moved(tmp_path: Path) -> None:
    with Store.open(tmp_path / "old") as store:
        nodes = [add(store, "x"), add_layer(store, "a")]
        (store.directory("containers") / "c").mkdir()
        store.add_root("container", "c", nodes, path=store.path / "containers/c")
    (tmp_path / "old").rename(tmp_path / "new")
    with Store.open(tmp_path / "new") as store:
        assert has(store, *nodes)
        assert store.collect() == Collected()
        assert store.roots("container")[0].path == tmp_path / "new/containers/c"


# --- roots -----------------------------------------------------------------------------------


def test_roots_are_listed(store: Store, tmp_path: Path) -> None:
    store.add_root("image", "b", [("blob", "2"), ("blob", "1"), ("blob", "1")])
    store.add_root("image", "a", [], path=tmp_path)
    store.add_root("cache", "c", [("blob", "1")])
    store.add_root("image", "dead", [("blob", "1")], path=tmp_path / "gone")
    assert store.roots("image") == [
        Root("image", "a", (), tmp_path),
        Root("image", "b", (("blob", "1"), ("blob", "2"))),
    ]
    assert store.roots_of(("blob", "1")) == (("cache", "c"), ("image", "b"))
    assert store.roots_of(("blob", "9")) == ()
    store.drop_root("cache", "c")
    store.drop_root("cache", "c")
    assert store.roots("cache") == []


def test_a_root_is_put_in_place_of_the_former(store: Store) -> None:
    one, two = add(store, "1"), add(store, "2")
    store.add_root("image", "i", [one])
    store.add_root("image", "i", [two])
    assert store.collect().removed == (one,)
    assert has(store, two)


def test_a_root_keeps_what_is_needed_and_what_that_needs(store: Store) -> None:
    one, two, three, stray = (add(store, text) for text in "123x")
    store.link(("image", "i"), [one])
    store.link(one, [two, three])
    store.link(three, [one])
    assert store.links(one) == tuple(sorted([two, three]))
    store.add_root("name", "n", [("image", "i")])
    assert store.collect() == Collected(1, (stray,))
    assert has(store, one, two, three)
    store.drop_root("name", "n")
    assert sorted(store.collect().removed) == sorted([one, two, three])
    assert store.links(one) == ()
    assert left(store) == []


def test_a_root_ends_with_its_path(store: Store) -> None:
    node = add(store, "x")
    path = store.directory("containers") / "c"
    path.mkdir()
    store.add_root("container", "c", [node], path=path)
    assert store.collect() == Collected()
    path.rmdir()
    assert store.collect().removed == (node,)
    path.mkdir()
    assert store.roots("container") == []


def test_roots_of_other_things_than_are_there_are_fine(store: Store) -> None:
    store.add_root("image", "i", [("blob", "none")])
    assert store.collect() == Collected()


# --- leases ----------------------------------------------------------------------------------


def test_what_is_added_under_a_lease_is_kept(store: Store) -> None:
    with store.lease("pull"):
        nodes = [add(store, "x"), add_layer(store, "a")]
        store.put_resource("note", "n", path=None, size=0)
        assert store.collect() == Collected()
        assert has(store, *nodes)
    assert len(store.collect().removed) == 3


def test_what_is_found_under_a_lease_is_kept(store: Store) -> None:
    node, other, linked = add(store, "x"), add(store, "y"), add(store, "z")
    with store.lease():
        assert store.blobs.exists(Digest.of(b"x"))
        store.link(("image", "i"), [linked])
        assert store.collect().removed == (other,)
        assert has(store, node, linked)


def test_a_lease_is_told_what_else_to_keep(store: Store) -> None:
    node = add(store, "x")
    with store.lease("why") as lease:
        assert lease.name == "why"
        lease.add(node, ("blob", "none"))
        assert store.collect() == Collected()
    lease.add(node)
    assert store.collect().removed == (node,)


def test_an_inner_lease_leaves_what_it_kept_to_the_outer(store: Store) -> None:
    with store.lease():
        with store.lease():
            node = add(store, "x")
        assert store.collect() == Collected()
        assert has(store, node)
    assert store.collect().removed == (node,)


def test_a_lease_ends_after_an_error(store: Store) -> None:
    with pytest.raises(RuntimeError), store.lease():  # noqa: PT012
        add(store, "x")
        raise RuntimeError
    assert len(store.collect().removed) == 1


def test_a_lease_is_of_one_store(store: Store, tmp_path: Path) -> None:
    with Store.open(tmp_path / "other") as other, store.lease():
        node = add(other, "x")
        assert other.collect().removed == (node,)


def test_threads_work_under_a_lease_in_a_copy_of_the_context(store: Store) -> None:
    nodes: list[Node] = []

    def work(text: str) -> None:
        nodes.append(add(store, text))

    with store.lease():
        inside = threading.Thread(target=copy_context().run, args=(work, "in"))
        outside = threading.Thread(target=work, args=("out",))
        for thread in (inside, outside):
            thread.start()
            thread.join()
        assert store.collect().removed == (nodes[1],)


def test_a_thread_that_outlives_the_lease_keeps_nothing(store: Store) -> None:
    with store.lease():
        context = copy_context()
    node = context.run(add, store, "x")
    assert store.collect().removed == (node,)


def test_leases_end_with_the_handle(store: Store) -> None:
    other = Store.open(store.path)
    lease = other.lease()
    with lease:
        node = add(other, "x")
        assert store.collect() == Collected()
        other._session.close()  # type: ignore[union-attr]  # as the kernel does for a killed process
        assert store.collect().removed == (node,)
        other._session = None
    other.close()


# --- collection ------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing(store: Store) -> None:
    node = add(store, "12345")
    (store.path / "tmp/dead-work-1").mkdir(parents=True)
    stray = store.blobs.path(Digest.of(b"stray"))
    stray.write_bytes(b"stray")
    before = left(store)
    assert store.collect(dry_run=True) == Collected(10, (node,))
    assert left(store) == before
    assert has(store, node)
    assert store.collect() == Collected(10, (node,))
    assert left(store) == []


def test_what_killed_processes_left_is_removed(store: Store) -> None:
    add(store, "x")
    for name in ("tmp/dead-work-1/deep", "trash/1/deep", "sessions"):
        (store.path / name).mkdir(parents=True, exist_ok=True)
    (store.path / "tmp/dead-work-1/deep/file").write_text("x")
    (store.path / "sessions/dead").write_text("")
    store.blobs.path(Digest.of(b"x")).with_name(".dead.partial").write_bytes(b"12")
    store.blobs.path(Digest.of(b"never entered")).write_bytes(b"1234")
    assert store.collect().freed == 1 + 2 + 4
    assert left(store) == []
    assert list((store.path / "sessions").iterdir()) == []


def test_locks_of_the_dead_are_removed(store: Store) -> None:
    abandoned = store.directory("layers") / ".a.lock"
    abandoned.touch()
    with exclusive(store.directory("build") / ".b.lock"):
        store.collect()
        assert not abandoned.exists()
        assert (store.path / "build/.b.lock").exists()
    assert not (store.path / "build/.b.lock").exists()


def test_what_the_living_use_is_left_alone(store: Store) -> None:
    with (
        Store.open(store.path) as other,
        other.temporary() as temporary,
        other.blobs.writer() as writer,
    ):
        writer.write(b"x")
        assert store.collect() == Collected()
        assert temporary.is_dir()
        writer.commit()


def test_a_reader_goes_on_reading_what_is_collected(store: Store) -> None:
    add(store, "x" * 100)
    with store.blobs.open(Digest.of(b"x" * 100)) as file:
        assert store.collect().freed == 100
        assert file.read() == b"x" * 100


def test_what_cannot_be_removed_waits_for_the_next_collection(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    node = add(store, "x")
    with monkeypatch.context() as patch:
        patch.setattr("pycontainer.content._collector.remove_tree", refuse)
        assert store.collect().removed == (node,)
    assert "the next collection tries again" in caplog.text
    assert len(left(store)) == 1
    store.collect()
    assert left(store) == []


def test_a_path_that_vanishes_during_a_collection_is_judged_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows must not be forgotten for what the files were left for."""
    path = store.directory("containers") / "c"
    path.mkdir()
    layer = add_layer(store, "a")
    store.add_root("container", "c", [layer], path=path)
    real = type(store._graph).unreached

    def then_vanish(*args: object) -> object:
        found = real(*args)  # type: ignore[arg-type]
        path.rmdir()
        return found

    monkeypatch.setattr(type(store._graph), "unreached", then_vanish)
    assert store.collect() == Collected()
    monkeypatch.undo()
    assert store.collect().removed == (layer,)
    assert left(store) == []


def test_rooms_have_tables_of_their_own(store: Store) -> None:
    store.db.ensure(Schema("room", 1, "CREATE TABLE IF NOT EXISTS name (x)"))
    with pytest.raises(sqlite3.OperationalError), store.db.transaction() as connection:  # noqa: PT012
        connection.execute("INSERT INTO name VALUES (1)")
        store.add_root("image", "i", [])
        connection.execute("INSERT INTO nonsense VALUES (1)")
    assert store.roots("image") == []


# --- forks -----------------------------------------------------------------------------------


@pytest.fixture
def forkable(store: Store) -> Iterator[Store]:
    with store.lease(), store.temporary():
        add(store, "parent")
        yield store


def test_a_child_goes_on_with_a_store_of_its_own(forkable: Store) -> None:
    def child() -> None:
        assert database._inherited
        node = add(forkable, "child")
        assert has(forkable, ("blob", str(Digest.of(b"parent"))), node)
        # The parent's lease keeps the parent's blob; it is not extended to the child's.
        assert forkable.collect().removed == (node,)
        with forkable.lease():
            node = add(forkable, "child")
            assert forkable.collect() == Collected()

    in_child(child)
    assert forkable.collect().removed == (("blob", str(Digest.of(b"child"))),)
    assert has(forkable, ("blob", str(Digest.of(b"parent"))))


def test_a_child_that_unwinds_takes_nothing_from_its_parent(store: Store) -> None:
    def child() -> None:
        # What the child inherited of the parent's `with` blocks ends here, as if it had returned.
        lease.__exit__(None, None, None)
        store.close()

    lease = store.lease()
    with lease:
        node = add(store, "parent")
        in_child(child)
        assert store.collect() == Collected()
        assert has(store, node)


def test_a_child_may_be_born_in_the_middle_of_a_transaction(store: Store) -> None:
    def child() -> None:
        with Store.open(store.path) as other:
            assert other.roots("image") == []
        assert store.roots("image") == []

    with store.db.transaction():
        store.add_root("image", "i", [])
        in_child(child)
    assert len(store.roots("image")) == 1
