"""Preparing stacks, and what was changed in a copy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pycontainer.content import Store
from pycontainer.errors import LayerError, SnapshotError, UnsupportedFeature
from pycontainer.layers import Entry, Kind
from pycontainer.oci import Digest
from pycontainer.snapshots import Driver, RootfsPlan, Snapshot, _snapshot, ensure_layer, prepare
from stacks import WHITEOUT, Tree, packed, stacked
from trees import differences, picture_of

LOW: Tree = {
    "etc": {"passwd": b"root", "group": b"root", "old": {"x": b"", "y": b""}},
    "bin": {"sh": b"#!", "link": "sh"},
    "twins": {},
}


def _root(snapshot: Snapshot) -> Path:
    assert snapshot.plan.path is not None
    return Path(snapshot.plan.path)


@pytest.fixture
def copy(store: Store, tmp_path: Path) -> Snapshot:
    twins = [
        Entry(b"twins/a", Kind.FILE, size=1, content=lambda: iter((b"t",))),
        Entry(b"twins/b", Kind.HARD_LINK, link=b"twins/a"),
    ]
    diff_ids = stacked(store, LOW, {"bin": {"sh": b"#!/new", "gone": WHITEOUT}})
    layer = packed(store, twins)
    diff_ids.append(layer.diff_id)
    ensure_layer(store, layer.descriptor, layer.diff_id)
    return prepare(store, diff_ids, tmp_path / "copy", driver=Driver.COPY)


# --- plans -----------------------------------------------------------------------------------


def test_an_overlay_is_prepared_as_data(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_snapshot, "overlay_refusal", lambda store: "")
    diff_ids = stacked(store, {"a": b""}, {"b": b""})
    snapshot = prepare(store, diff_ids, tmp_path / "s", volatile=True)
    plan = snapshot.plan
    places = [store.path / "layers/sha256" / diff_id.hex for diff_id in reversed(diff_ids)]
    assert plan.kind == "overlay"
    assert plan.lowers == tuple(map(str, places))
    assert plan.upper == str(tmp_path / "s/upper")
    assert plan.work == str(tmp_path / "s/work")
    assert (plan.volatile, plan.readonly, plan.userxattr) == (True, False, os.geteuid() != 0)
    assert [node.path for node in snapshot.tree().walk()] == ["/", "/a", "/b"]
    assert list(snapshot.changes()) == []
    snapshot.delete()
    assert not (tmp_path / "s").exists()


def test_a_read_only_overlay_has_no_place_for_changes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_snapshot, "overlay_refusal", lambda store: "")
    plan = prepare(store, stacked(store, {"a": b""}), tmp_path / "s", writable=False).plan
    assert (plan.upper, plan.work, plan.readonly) == (None, None, True)


def test_plans_cross_processes_as_plain_values(tmp_path: Path) -> None:
    plan = RootfsPlan(kind="overlay", lowers=("/b", "/a"), upper="/u", work="/w", volatile=True)
    assert RootfsPlan.from_wire(plan.to_wire()) == plan
    assert plan.to_wire()["lowers"] == ["/b", "/a"]


def test_where_overlay_is_refused_layers_are_copied(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_snapshot, "overlay_refusal", lambda store: "no such device")
    diff_ids = stacked(store, {"a": b"1", "b": b"2"}, {"b": WHITEOUT, "c": b"3"})
    snapshot = prepare(store, diff_ids, tmp_path / "s")
    assert (snapshot.driver, snapshot.plan.kind) == (Driver.COPY, "directory")
    assert sorted(path.name for path in _root(snapshot).iterdir()) == ["a", "c"]
    with pytest.raises(UnsupportedFeature, match="no such device"):
        prepare(store, diff_ids, tmp_path / "t", driver=Driver.OVERLAY)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("driver", list(Driver))
def test_no_layers_make_an_empty_root(
    store: Store, tmp_path: Path, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_snapshot, "overlay_refusal", lambda store: "")
    snapshot = prepare(store, [], tmp_path / "s", driver=driver)
    assert [node.path for node in snapshot.tree().walk()] == ["/"]
    root = snapshot.tree().lookup("/")
    assert root is not None
    assert root.status.st_mode & 0o7777 == 0o755


def test_a_missing_layer_is_named(store: Store, tmp_path: Path) -> None:
    diff_id = Digest.of(b"nowhere")
    with pytest.raises(SnapshotError, match=diff_id.hex):
        prepare(store, [diff_id], tmp_path / "s")


def test_too_many_layers_for_an_overlay(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_snapshot, "overlay_refusal", lambda store: "")
    monkeypatch.setattr(_snapshot, "_unpacked", lambda store, diff_id: Path(diff_id.hex))
    diff_ids = [Digest.of(b"%d" % i) for i in range(501)]
    with pytest.raises(SnapshotError, match="500 layers, the image has 501"):
        prepare(store, diff_ids, tmp_path / "s")


def test_a_repeated_layer_counts_where_it_comes_last(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_snapshot, "overlay_refusal", lambda store: "")
    one, two = stacked(store, {"f": b"1"}, {"f": b"2"})
    plan = prepare(store, [one, two, one, one], tmp_path / "s").plan
    assert [Path(lower).name for lower in plan.lowers] == [one.hex, two.hex]


def test_a_failed_copy_leaves_nothing_of_its_own(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(layers: object, target: Path) -> None:
        (target / "half").touch()
        raise LayerError("no space left")

    monkeypatch.setattr(_snapshot, "copy_layers", fail)
    (tmp_path / "s").mkdir()
    (tmp_path / "s/of others").touch()
    with pytest.raises(LayerError):
        prepare(store, stacked(store, {}), tmp_path / "s", driver=Driver.COPY)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["of others"]


def test_a_directory_in_use_is_left_alone(copy: Snapshot, store: Store) -> None:
    with pytest.raises(SnapshotError, match="another snapshot"):
        prepare(store, [], copy.directory, driver=Driver.COPY)
    assert (_root(copy) / "etc/passwd").exists()


@pytest.mark.parametrize("driver", list(Driver))
def test_the_root_is_as_the_topmost_layer_that_speaks_of_it_says(
    store: Store, tmp_path: Path, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_snapshot, "overlay_refusal", lambda store: "")
    diff_ids = []
    for mode in (0o755, 0o711, None):
        entries = [Entry(b"d", Kind.DIRECTORY, 0o755)]
        if mode is not None:
            entries.insert(0, Entry(b"", Kind.DIRECTORY, mode, mtime_ns=mode * 10**9))
        layer = packed(store, entries)
        ensure_layer(store, layer.descriptor, layer.diff_id)
        diff_ids.append(layer.diff_id)
    snapshot = prepare(store, diff_ids, tmp_path / "s", driver=driver)
    status = Path(snapshot.plan.upper or snapshot.plan.path or "").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o711, 0o711)


# --- changes in a copy -----------------------------------------------------------------------


def test_an_untouched_copy_has_no_changes(copy: Snapshot) -> None:
    assert list(copy.changes()) == []


def _write(root: Path) -> None:
    (root / "etc/passwd").write_bytes(b"user")
    os.utime(root / "etc/passwd", ns=(0, 0))  # same size, same time: only the bytes tell


def _append(root: Path) -> None:
    with (root / "bin/sh").open("a") as file:
        file.write("x")


def _make(root: Path) -> None:
    (root / "etc/new").mkdir()
    (root / "etc/new/file").touch()
    (root / "etc/new/pipe").unlink(missing_ok=True)
    os.mkfifo(root / "etc/new/pipe")


def _remove(root: Path) -> None:
    (root / "etc/old/x").unlink()
    (root / "bin/link").unlink()


def _replace_by_file(root: Path) -> None:
    for name in ("x", "y"):
        (root / "etc/old" / name).unlink()
    (root / "etc/old").rmdir()
    (root / "etc/old").write_text("now a file")


def _retarget(root: Path) -> None:
    (root / "bin/link").unlink()
    (root / "bin/link").symlink_to("bash")


def _annotate(root: Path) -> None:
    os.setxattr(root / "etc/group", "user.note", b"1")


CHANGES: list[tuple[Callable[[Path], object], list[str]]] = [
    (_write, ["etc", "etc/passwd"]),
    (_append, ["bin", "bin/sh"]),
    (_make, ["etc", "etc/new", "etc/new/file", "etc/new/pipe"]),
    (_remove, ["bin", "bin/.wh.link", "etc", "etc/old", "etc/old/.wh.x"]),
    (_replace_by_file, ["etc", "etc/old"]),
    (_retarget, ["bin", "bin/link"]),
    (_annotate, ["etc", "etc/group"]),
    (lambda root: (root / "etc/old").chmod(0o700), ["etc", "etc/old"]),
    (lambda root: (root / "etc/group").touch(), ["etc", "etc/group"]),
    (lambda root: (root / "twins/b").write_bytes(b"T"), ["twins", "twins/a", "twins/b"]),
    (
        lambda root: (root / "etc/third").hardlink_to(root / "twins/a"),
        ["etc", "etc/third", "twins", "twins/a", "twins/b"],
    ),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_changes_are_found_with_the_directories_above(
    copy: Snapshot, change: Callable[[Path], object], expected: list[str]
) -> None:
    change(_root(copy))
    assert [os.fsdecode(entry.path) for entry in copy.changes()] == expected


def test_hard_links_hold_within_the_layer(copy: Snapshot) -> None:
    (_root(copy) / "etc/third").hardlink_to(_root(copy) / "twins/a")
    kinds = {entry.path: (entry.kind, entry.link) for entry in copy.changes()}
    assert kinds[b"etc/third"] == (Kind.FILE, b"")
    assert kinds[b"twins/a"] == (Kind.HARD_LINK, b"etc/third")


def test_what_is_excluded_is_no_change(copy: Snapshot) -> None:
    _write(_root(copy))
    _remove(_root(copy))
    found = [os.fsdecode(e.path) for e in copy.changes(exclude=[b"etc/old", b"bin"])]
    assert found == ["etc", "etc/passwd"]


def test_changes_become_a_layer_that_gives_the_same_tree(
    copy: Snapshot, store: Store, tmp_path: Path
) -> None:
    for change in (_append, _make, _remove, _annotate):
        change(_root(copy))
    with store.blobs.writer() as blob:
        layer = copy.diff(blob)
    ensure_layer(store, layer.descriptor, layer.diff_id)
    lowers = [Digest("sha256", Path(lower).name) for lower in reversed(copy.plan.lowers)]
    again = prepare(store, [*lowers, layer.diff_id], tmp_path / "again", driver=Driver.COPY)
    left = differences(picture_of(_root(copy)), picture_of(_root(again)))
    assert left.keys() <= {"."}  # a root's own time is not part of a layer


def test_usage_counts_what_is_there(copy: Snapshot) -> None:
    before = copy.usage()
    (_root(copy) / "big").write_bytes(b"x" * 100_000)
    after = copy.usage()
    assert after.size - before.size >= 100_000
    assert after.entries == before.entries + 1
