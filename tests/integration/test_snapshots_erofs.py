"""Layers that the kernel mounts by an index: the same files as unpacked, in stacks, containers and builds."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings

import pycontainer as pc
from busybox import busybox_image
from property.strategies_indexes import unruly_layers
from property.strategies_stacks import sensible_stacks
from pycontainer._linux import erofs, mount, overlay
from pycontainer.containers import _ranges
from pycontainer.content import Store
from pycontainer.errors import LayerError, StoreError, UnsupportedFeature
from pycontainer.layers import Entry, Kind, index, unpack, write_tar
from pycontainer.snapshots import (
    Driver,
    TreeView,
    ensure_directory,
    ensure_layer,
    erofs_refusal,
    layer_path,
    mounted,
    prepare,
)
from pycontainer.snapshots import _erofs as probe
from stacks import WHITEOUT, Tree, packed, stacked
from trees import differences, picture_of

pytestmark = pytest.mark.root


@pytest.fixture
def indexing(tmp_path: Path) -> Iterator[Store]:
    """A store whose layers are indexed."""
    with Store.open(tmp_path / "store", snapshotter="erofs") as store:
        if reason := erofs_refusal(store):
            pytest.skip(reason)
        yield store
        store.collect()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "mounted"
    path.mkdir()
    return path


@contextlib.contextmanager
def _mounted_image(image: Path, target: Path) -> Iterator[None]:
    tree = erofs.detached(str(image))
    mount.attach(tree, str(target))
    os.close(tree)
    try:
        yield
    finally:
        mount.unmount(str(target))


def _opaque(root: Path) -> set[str]:
    marked = set()
    for path in (root, *root.rglob("*")):
        with contextlib.suppress(OSError):
            if os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y":
                marked.add(str(path.relative_to(root)))
    return marked


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(unruly_layers)
def test_an_index_is_what_the_extractor_makes(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]
) -> None:
    directory = tmp_path_factory.mktemp("index")
    tar = b"".join(write_tar(entries))
    indexed = index(io.BytesIO(tar), directory / "i.erofs")
    root, target = directory / "root", directory / "target"
    root.mkdir()
    target.mkdir()
    try:
        unpack(io.BytesIO(tar), root)
    except LayerError:
        assert indexed.obstacle
        return
    if indexed.obstacle:
        return  # the extractor does it, as it does wherever an index is at a loss
    with _mounted_image(directory / "i.erofs", target):
        found, opaque = picture_of(target), _opaque(target)
    expected = picture_of(root)
    for path, facts in expected.items():
        if path in found and facts.mtime_ns > (time.time() - 3600) * 1e9:
            found[path] = evolve(found[path], mtime_ns=facts.mtime_ns)
    found["."] = evolve(found["."], mtime_ns=expected["."].mtime_ns)
    if not any(entry.path == b"" for entry in entries):
        found["."] = evolve(found["."], mode=expected["."].mode)
    assert differences(found, expected) == {}
    assert opaque == _opaque(root)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sensible_stacks)
def test_stacks_of_indexes_are_stacks_of_directories(
    tmp_path_factory: pytest.TempPathFactory, trees: list[Tree]
) -> None:
    directory = tmp_path_factory.mktemp("stack")
    target = directory / "mounted"
    target.mkdir()
    with Store.open(directory / "store", snapshotter="erofs") as store:
        if reason := erofs_refusal(store):
            pytest.skip(reason)
        diff_ids = stacked(store, *trees)
        snapshot = prepare(store, diff_ids, directory / "snapshot")
        assert all(
            lower.endswith((erofs.SUFFIX, "/empty0", "/empty1")) for lower in snapshot.plan.lowers
        )
        view = {node.path.lstrip("/") or "." for node in snapshot.tree().walk()}
        with mounted(snapshot.plan, target):
            found = picture_of(target)
        assert found.keys() == view
        copied = prepare(store, diff_ids, directory / "copy", driver=Driver.COPY)
        assert differences(found, picture_of(Path(copied.plan.path or ""))) == {}


def test_three_hundred_indexes(indexing: Store, tmp_path: Path, target: Path) -> None:
    trees: list[Tree] = [{"d": {f"f{i}": str(i).encode()}, "last": b"%d" % i} for i in range(300)]
    trees[150] = {"d": {"f3": WHITEOUT}, "last": b"150"}
    snapshot = prepare(indexing, stacked(indexing, *trees), tmp_path / "snapshot")
    with mounted(snapshot.plan, target):
        names = {path.name for path in (target / "d").iterdir()}
        assert names == {f"f{i}" for i in range(300)} - {"f3", "f150"}
        assert (target / "last").read_text() == "299"


def test_kernels_that_take_only_attached_mounts(
    indexing: Store, tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before 6.15: then the images are attached while the overlay is made, and not after."""

    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(22, "not a lower")

    snapshot = prepare(indexing, stacked(indexing, {"a": b"1"}, {"b": b"2"}), tmp_path / "s")
    monkeypatch.setattr(overlay, "detached", refuse)
    with mounted(snapshot.plan, target):
        assert sorted(os.listdir(target)) == ["a", "b"]
    assert str(target) not in Path("/proc/self/mountinfo").read_text()


def test_both_kinds_stack(indexing: Store, tmp_path: Path, target: Path) -> None:
    with Store.open(indexing.path, snapshotter="overlay") as unpacking:
        lower = stacked(unpacking, {"d": {"below": b"1"}, "gone": b""})
    upper = stacked(indexing, {"d": {"above": b"2"}, "gone": WHITEOUT})
    snapshot = prepare(indexing, [*lower, *upper], tmp_path / "snapshot")
    suffixes = [Path(name).suffix for name in snapshot.plan.lowers]
    assert suffixes == [erofs.SUFFIX, ""]
    with mounted(snapshot.plan, target):
        assert sorted(os.listdir(target)) == ["d"]
        assert sorted(os.listdir(target / "d")) == ["above", "below"]


def test_what_no_index_can_express_is_unpacked(indexing: Store) -> None:
    acl = bytes.fromhex("0200000001000600ffffffff04000400ffffffff20000400ffffffff")
    entry = Entry(b"f", Kind.FILE, 0o644, xattrs={"system.posix_acl_access": acl})
    layer = packed(indexing, [entry])
    assert ensure_layer(indexing, layer.descriptor, layer.diff_id).is_dir()


def test_a_directory_is_made_of_an_index_where_one_is_needed(indexing: Store) -> None:
    layer = packed(indexing, {"d": {"f": b"x"}})
    with indexing.lease():
        image = ensure_layer(indexing, layer.descriptor, layer.diff_id)
        assert image.is_file()
        directory = ensure_directory(indexing, layer.descriptor, layer.diff_id)
        assert (directory / "d/f").read_bytes() == b"x"
        indexing.collect()
        assert directory.is_dir()
    indexing.collect()
    assert not directory.exists()
    assert not image.exists()


def test_a_store_whose_indexes_can_no_longer_be_mounted(
    indexing: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diff_ids = stacked(indexing, {"f": b"x"})
    key = (os.geteuid(), indexing.path.stat().st_dev)
    monkeypatch.setitem(probe._refusals, key, "an older kernel")
    snapshot = prepare(indexing, diff_ids, tmp_path / "snapshot")
    assert Path(snapshot.plan.lowers[0]).is_dir()
    with pytest.raises(UnsupportedFeature, match="an older kernel"):
        stacked(indexing, {"g": b"y"})
    with Store.open(indexing.path, snapshotter="auto") as choosing:
        (other,) = stacked(choosing, {"h": b"z"})
        path = layer_path(choosing, other)
        assert path is not None
        assert path.is_dir()


def test_auto_takes_what_is_faster(indexing: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    device = indexing.path.stat().st_dev
    for advantage, is_index in ((0.9, False), (2.0, True)):
        monkeypatch.setitem(probe._advantages, device, advantage)
        with Store.open(indexing.path, snapshotter="auto") as store:
            layer = packed(store, {"f": b"%f" % advantage})
            path = ensure_layer(store, layer.descriptor, layer.diff_id)
            assert path.is_file() is is_index
    monkeypatch.delitem(probe._advantages, device)
    assert probe.erofs_advantage(indexing) > 0


def test_an_unknown_snapshotter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONTAINER_SNAPSHOTTER", "zfs")
    with pytest.raises(StoreError, match="zfs"):
        Store.open(tmp_path / "store")


# --- damage ----------------------------------------------------------------------------------


def _damage(image: Path) -> None:
    data = bytearray(image.read_bytes())
    data[len(data.rstrip(b"\0")) - 40] ^= 0xFF
    image.write_bytes(data)


def test_a_damaged_index_is_an_error_and_not_mounted(indexing: Store, tmp_path: Path) -> None:
    (diff_id,) = stacked(indexing, {"d": {"f": b"x" * 5000}})
    path = layer_path(indexing, diff_id)
    assert path is not None
    _damage(path)
    with pytest.raises(LayerError, match="damaged"):
        prepare(indexing, [diff_id], tmp_path / "snapshot")


def test_a_damaged_index_is_made_anew_where_the_blob_is(indexing: Store) -> None:
    layer = packed(indexing, {"f": b"x"})
    with indexing.lease():
        indexing.blobs.exists(layer.descriptor.digest)
        image = ensure_layer(indexing, layer.descriptor, layer.diff_id)
        sound = image.read_bytes()
        _damage(image)
        assert ensure_layer(indexing, layer.descriptor, layer.diff_id) == image
        assert image.read_bytes() == sound


def test_one_that_is_killed_leaves_nothing(indexing: Store) -> None:
    """Killed at a random moment while it indexes; the next collection takes what is left."""
    layer = packed(indexing, {f"f{i}": b"x" * 100 for i in range(3000)})
    with indexing.lease():
        indexing.blobs.exists(layer.descriptor.digest)
        for delay in (0.0, 0.02, 0.05):
            worker = subprocess.Popen(
                [sys.executable, "-c", _WORKER, str(indexing.path), str(layer.descriptor.digest)],
                stdout=subprocess.PIPE,
            )
            assert worker.stdout is not None
            worker.stdout.readline()
            time.sleep(delay)
            worker.kill()
            worker.wait()
            worker.stdout.close()
            indexing.collect()
            assert list(indexing.directory("tmp").iterdir()) == []
        path = ensure_layer(indexing, layer.descriptor, layer.diff_id)
        assert len(list(TreeView([path]).iterdir())) == 3000


_WORKER = """
import sys
from pycontainer.content import Store
from pycontainer.oci import Descriptor, Digest, media_types
from pycontainer.snapshots import erofs_refusal
from pycontainer.snapshots._layers import _make
from pycontainer.layers import tar_digest
store = Store.open(sys.argv[1], snapshotter="erofs")
digest = Digest.parse(sys.argv[2])
descriptor = Descriptor(media_types.OCI_LAYER, digest, store.blobs.size(digest))
with store.blobs.open(digest) as blob:
    diff_id, _ = tar_digest(blob)
erofs_refusal(store)
print("begins", flush=True)
with store.blobs.open(digest) as blob:
    _make(store, blob, descriptor, diff_id, None, None)
print("done", flush=True)
"""


# --- containers and builds -------------------------------------------------------------------


def test_containers_and_builds(indexing: Store, tmp_path: Path) -> None:
    image = busybox_image(indexing, tmp_path / "busybox")
    done = pc.run(
        image,
        ["sh", "-c", "id -un; ls /etc; echo x > /etc/new; rm /etc/group; ls /etc"],
        store=indexing,
        user="app",
        timeout=30,
    )
    assert done.stdout.startswith(b"app\n")
    built = (
        pc.Builder(image)
        .run("mkdir /srv && echo built > /srv/file && rm /etc/group")
        .build(store=indexing)
    )
    assert [path.suffix for path in _layers(indexing, built)] == [erofs.SUFFIX] * 2
    with Store.open(tmp_path / "other") as unpacking:
        elsewhere = busybox_image(unpacking, tmp_path / "busybox2")
        again = (
            pc.Builder(elsewhere)
            .run("mkdir /srv && echo built > /srv/file && rm /etc/group")
            .build(store=unpacking)
        )
        assert again.diff_ids[-1] == built.diff_ids[-1]
    done = pc.run(
        built,
        ["sh", "-c", "cat /srv/file; test ! -e /etc/group && ls -d /etc/passwd"],
        store=indexing,
        timeout=30,
    )
    assert done.stdout == b"built\n/etc/passwd\n"
    assert all(path.is_dir() for path in built.unpack())


def _layers(store: Store, image: pc.Image) -> list[Path]:
    return [path for path in (layer_path(store, each) for each in image.diff_ids) if path]


def test_many_containers_share_a_mount(indexing: Store, tmp_path: Path) -> None:
    image = busybox_image(indexing, tmp_path / "busybox")

    def run() -> None:
        done = pc.run(image, ["cat", "/etc/passwd"], store=indexing, timeout=30)
        assert done.stdout.startswith(b"root:")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pc.Namespaces:
    """Users of its own, for one container at a time."""
    tmp_path.chmod(0o755)
    ids = tmp_path / "subid"
    ids.write_text("root:1000000:65536\n")
    monkeypatch.setattr(_ranges, "_FILES", (ids, ids))
    return pc.Namespaces(user="private")


def test_containers_with_users_of_their_own(
    indexing: Store, tmp_path: Path, private: pc.Namespaces
) -> None:
    base = busybox_image(indexing, tmp_path / "busybox")
    image = (
        pc.Builder(base)
        .run("mkdir /srv && echo built > /srv/file && chown -R app /srv && rm /etc/group")
        .build(store=indexing)
    )
    assert [path.suffix for path in _layers(indexing, image)] == [erofs.SUFFIX] * 2
    script = """
    stat -c %U /srv/file; test ! -e /etc/group; stat -c %u /bin/busybox
    echo changed > /srv/file; mkdir /srv/new; stat -c %u /srv/new; echo ready
    """
    command = ["sh", "-ec", f"{script}\nexec sleep 600"]
    with pc.Container.start(image, command, store=indexing, namespaces=private) as it:
        it.wait_ready(pc.ready.log("ready"), timeout=30)
        assert Path(f"/proc/{it.pid}").stat().st_uid == 1_000_000
        assert it.exec(["cat", "/srv/file"], user="app").stdout == b"changed\n"
        changed = it.commit()
        assert [path.suffix for path in _layers(indexing, changed)] == [erofs.SUFFIX] * 3
    show = ["sh", "-c", "cat /srv/file; stat -c %U /srv/file; stat -c %u /srv/new"]
    for namespaces in (private, None):
        done = pc.run(changed, show, store=indexing, namespaces=namespaces, timeout=30)
        assert done.stdout == b"changed\napp\n0\n", done.stderr


def test_a_read_only_container_with_users_of_its_own(
    indexing: Store, tmp_path: Path, private: pc.Namespaces
) -> None:
    image = busybox_image(indexing, tmp_path / "busybox")
    done = pc.run(
        image,
        ["sh", "-c", "touch /x 2>/dev/null || stat -c %u /bin/busybox"],
        store=indexing,
        namespaces=private,
        read_only=True,
        timeout=30,
    )
    assert done.stdout == b"0\n", done.stderr
