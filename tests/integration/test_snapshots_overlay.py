"""Overlay mounts by the kernel: many layers, changes, and agreement with what we see unmounted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from property.strategies_stacks import sensible_stacks
from pycontainer._linux import mount, overlay
from pycontainer.content import Store
from pycontainer.errors import SnapshotError
from pycontainer.oci import Digest
from pycontainer.snapshots import (
    Driver,
    RootfsPlan,
    Snapshot,
    TreeView,
    ensure_layer,
    mounted,
    prepare,
)
from stacks import OPAQUE, WHITEOUT, Tree, stacked
from trees import FileFacts, differences, picture_of

pytestmark = pytest.mark.root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "mounted"
    path.mkdir()
    return path


def _is_mount(path: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return str(path) in [line.split()[4] for line in lines]


def test_three_hundred_layers(store: Store, tmp_path: Path, target: Path) -> None:
    trees: list[Tree] = [{"d": {f"f{i}": str(i).encode()}, "last": b"%d" % i} for i in range(300)]
    trees[150] = {"d": {"f3": WHITEOUT}, "last": b"150"}
    snapshot = prepare(store, stacked(store, *trees), tmp_path / "snapshot")
    assert snapshot.driver is Driver.OVERLAY
    with mounted(snapshot.plan, target):
        names = {path.name for path in (target / "d").iterdir()}
        assert names == {f"f{i}" for i in range(300)} - {"f3", "f150"}
        assert (target / "d/f0").read_text() == "0"
        assert (target / "d/f299").read_text() == "299"
        assert (target / "last").read_text() == "299"
        (target / "d/f0").write_text("changed")
    assert not _is_mount(target)
    assert [entry.path for entry in snapshot.changes()] == [b"d", b"d/f0"]


def test_three_hundred_layers_by_the_old_system_call(
    store: Store, tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mount(2) takes one page of options; kernels before 6.8 have no other way."""

    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(22, "no such parameter")

    monkeypatch.setattr(overlay, "detached", refuse)
    diff_ids = stacked(store, *({f"f{i}": b""} for i in range(300)))
    plan = prepare(store, diff_ids, tmp_path / "snapshot").plan
    with mounted(plan, target):
        assert len(list(target.iterdir())) == 300


@pytest.mark.parametrize("driver", Driver)
def test_an_opaque_root_hides_all_below(
    store: Store, tmp_path: Path, target: Path, driver: Driver
) -> None:
    trees: list[Tree] = [
        {"old": b"", "dir": {"old": b""}},
        {OPAQUE: True, "dir": {"new": b""}},
        {"top": b""},
    ]
    snapshot = prepare(store, stacked(store, *trees), tmp_path / "snapshot", driver=driver)
    with mounted(snapshot.plan, target):
        found = sorted(str(path.relative_to(target)) for path in target.rglob("*"))
        assert found == ["dir", "dir/new", "top"]
        (target / "more").touch()
    assert [entry.path for entry in snapshot.changes()] == [b"more"]


def test_changes_in_an_overlay_become_a_layer(store: Store, tmp_path: Path, target: Path) -> None:
    diff_ids = stacked(store, {"keep": b"1", "gone": b"2", "dir": {"x": b"", "y": b""}})
    snapshot = prepare(store, diff_ids, tmp_path / "snapshot")
    with mounted(snapshot.plan, target):
        (target / "gone").unlink()
        (target / "new").write_text("n")
        os.setxattr(target / "new", "user.note", b"v")
        os.chown(target / "new", 12, 34)
        os.chmod(target / "new", 0o4711)
        subprocess.run(["rm", "-r", target / "dir"], check=True)
        (target / "dir").mkdir()
        (target / "dir/z").touch()
        expected = picture_of(target)
    assert _layered(store, snapshot, diff_ids, tmp_path, target).keys() == expected.keys()
    assert differences(_layered(store, snapshot, diff_ids, tmp_path, target), expected).keys() <= {
        "."
    }


def _layered(
    store: Store, snapshot: Snapshot, below: list[Digest], directory: Path, target: Path
) -> dict[str, FileFacts]:
    """What the changes look like once they are a layer of their own."""
    with store.blobs.writer() as blob:
        layer = snapshot.diff(blob)
    ensure_layer(store, layer.descriptor, layer.diff_id)
    again = prepare(store, [*below, layer.diff_id], directory / "again")
    try:
        with mounted(again.plan, target):
            return picture_of(target)
    finally:
        again.delete()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sensible_stacks)
def test_the_kernel_sees_what_we_see(
    tmp_path_factory: pytest.TempPathFactory, trees: list[Tree]
) -> None:
    directory = tmp_path_factory.mktemp("stack")
    target = directory / "mounted"
    target.mkdir()
    with Store.open(directory / "store") as store:
        diff_ids = stacked(store, *trees)
        snapshot = prepare(store, diff_ids, directory / "snapshot")
        view = {node.path.lstrip("/") or "." for node in snapshot.tree().walk()}
        with mounted(snapshot.plan, target):
            found = picture_of(target)
        assert found.keys() == view
        copied = prepare(store, diff_ids, directory / "copy", driver=Driver.COPY)
        assert differences(found, picture_of(Path(copied.plan.path or ""))) == {}


def test_a_read_only_mount(store: Store, tmp_path: Path, target: Path) -> None:
    for driver in Driver:
        snapshot = prepare(
            store,
            stacked(store, {"f": b"x"}),
            tmp_path / driver.value,
            driver=driver,
            writable=False,
        )
        with mounted(snapshot.plan, target), pytest.raises(OSError, match="Read-only"):
            (target / "f").write_text("y")


def test_a_busy_mount_goes_too(store: Store, tmp_path: Path, target: Path) -> None:
    snapshot = prepare(store, stacked(store, {"f": b"x"}), tmp_path / "snapshot")
    with mounted(snapshot.plan, target):
        file = (target / "f").open()
    assert not _is_mount(target)
    assert file.read() == "x"
    file.close()


def test_what_cannot_be_mounted_says_so(target: Path) -> None:
    plan = RootfsPlan(kind="overlay", lowers=("/nowhere",))
    with pytest.raises(SnapshotError, match="cannot mount 1 layers"), mounted(plan, target):
        pass
    assert not _is_mount(target)


def test_what_a_file_system_takes_is_not_believed_of_the_next_with_its_number(
    tmp_path: Path, target: Path
) -> None:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    places = [str(tmp_path / name) for name in ("lower", "upper", "work")]
    found: list[Driver] = []
    for kind in ("tmpfs", "overlay"):
        if kind == "tmpfs":
            mount.mount(kind, str(target), kind)
        else:
            overlay.mount_at(str(target), [places[0]], places[1], places[2])
        try:
            with Store.open(target / f"store{len(found)}") as store:
                snapshot = prepare(store, stacked(store, {"f": b"x"}), target / "snapshot")
                found.append(snapshot.driver)
        finally:
            mount.unmount(str(target))
    assert found == [Driver.OVERLAY, Driver.COPY]


def test_layers_are_copied_where_the_store_lies_on_an_overlay(tmp_path: Path, target: Path) -> None:
    """As in many containers: the kernel takes no overlay as the upper of another."""
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    places = [str(tmp_path / name) for name in ("lower", "upper", "work")]
    overlay.mount_at(str(target), [places[0]], places[1], places[2])
    try:
        with Store.open(target / "store") as store:
            snapshot = prepare(store, stacked(store, {"f": b"x"}), target / "snapshot")
            assert snapshot.driver is Driver.COPY
            assert TreeView([Path(snapshot.plan.path or "")]).read_bytes("f") == b"x"
    finally:
        mount.unmount(str(target))
