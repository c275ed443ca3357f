"""Importing root file systems; several things at once; the progress callback."""

from __future__ import annotations

import gzip
import os
import threading
import time
from pathlib import Path

import pytest

from archives import archive, file, header
from pycontainer.content import Store
from pycontainer.errors import ImageError, TarError, UnsafePath
from pycontainer.images import Image
from pycontainer.images._parallel import for_each
from pycontainer.images._progress import Event, LayerStarted, one_at_a_time
from pycontainer.layers import Ownership, walk_tree
from pycontainer.oci import ContainerConfig, Descriptor, Digest, Platform, media_types
from trees import differences, picture_of


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc/link").symlink_to("passwd")
    (root / "etc/twin").hardlink_to(root / "etc/passwd")
    os.mkfifo(root / "pipe")
    (root / "etc/passwd").chmod(0o4751)
    os.setxattr(root / "etc/passwd", "user.note", b"n")
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(1, 1_234_567_890_123_456_789), follow_symlinks=False)
    return root


def test_a_directory_becomes_an_image(tree: Path, store: Store) -> None:
    config = ContainerConfig(cmd=("sh",))
    image = Image.import_rootfs(tree, tag="tree:1", config=config, store=store)
    assert (image.config.config, image.platform) == (config, Platform.current())
    assert image.reference is not None
    (root,) = image.unpack()
    if os.geteuid():  # an ordinary user's store keeps the set-uid bit in an attribute
        modes = {entry.path: entry.mode for entry in walk_tree(root, ownership=Ownership.USER)}
        assert modes[b"etc/passwd"] & 0o7777 == (tree / "etc/passwd").stat().st_mode & 0o7777
        (tree / "etc/passwd").chmod((root / "etc/passwd").stat().st_mode)
        os.utime(tree / "etc/passwd", ns=(0, (root / "etc/passwd").stat().st_mtime_ns))
        os.setxattr(tree / "etc/passwd", "user.pycontainer.meta", b"0:0:4751")
    assert differences(picture_of(root), picture_of(tree)) == {}
    assert image.history[0].created_by == "import tree"


def test_the_same_directory_gives_the_same_digest(tree: Path, store: Store) -> None:
    first = Image.import_rootfs(tree, store=store)
    with Store.open(store.path.parent / "other") as other:
        assert Image.import_rootfs(tree, store=other).digest == first.digest
    (tree / "etc/passwd").chmod(0o755)
    assert Image.import_rootfs(tree, store=store).digest != first.digest


def test_a_tar_becomes_an_image(store: Store, tmp_path: Path) -> None:
    tar = archive(header(b"./", b"5", mode=0o750), file(b"./a", b"1"), file(b"/b", b"2"))
    (tmp_path / "plain.tar").write_bytes(tar)
    (tmp_path / "plain.tar.gz").write_bytes(gzip.compress(tar))
    (tmp_path / "again").mkdir()
    (tmp_path / "again/plain.tar").write_bytes(gzip.compress(tar))
    image = Image.import_rootfs(tmp_path / "plain.tar", platform="linux/arm64", store=store)
    assert str(image.platform) == "linux/arm64"
    (root,) = image.unpack()
    assert sorted(path.name for path in root.iterdir()) == ["a", "b"]
    assert root.stat().st_mode & 0o777 == 0o750
    again = Image.import_rootfs(tmp_path / "again/plain.tar", platform="linux/arm64", store=store)
    assert again == image
    packed = Image.import_rootfs(tmp_path / "plain.tar.gz", store=store)
    assert packed.diff_ids == image.diff_ids


def test_what_cannot_be_imported_says_so(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        Image.import_rootfs(tmp_path / "none", store=store)
    (tmp_path / "bad.tar").write_bytes(archive(file(b"a", b"x" * 600))[:800])
    with pytest.raises(TarError):
        Image.import_rootfs(tmp_path / "bad.tar", store=store)
    (tmp_path / "evil.tar").write_bytes(archive(file(b"../evil", b"x")))
    with pytest.raises(UnsafePath):
        Image.import_rootfs(tmp_path / "evil.tar", store=store)
    assert Image.list(store=store) == ()
    assert not list((store.path / "layers").rglob("*/*/*"))
    assert not list((store.path / "tmp").iterdir())


# --- several at once -------------------------------------------------------------------------


def test_work_is_shared_among_threads_and_sees_the_lease(store: Store) -> None:
    names: set[str] = set()
    digests: list[Digest] = []
    both = threading.Barrier(2)

    def work(number: int) -> None:
        both.wait(timeout=10)
        names.add(threading.current_thread().name)
        with store.blobs.writer() as blob:
            blob.write(b"%d" % number)
            digests.append(blob.commit())

    with store.lease():
        for_each(range(2), work)
        store.collect()
        assert all(store.blobs.exists(digest) for digest in digests)
    assert len(names) == 2
    store.collect()
    assert not any(store.blobs.exists(digest) for digest in digests)


def test_the_first_failure_ends_the_rest() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.002)  # else all may be done before the first failure is heard of
        raise ValueError(number)

    with pytest.raises(ValueError, match=r"\d"):
        for_each(range(1000), work)
    assert len(begun) < 1000
    for_each([], work)


def test_callbacks_are_not_called_at_the_same_time() -> None:
    inside = 0
    seen: list[Event] = []

    def callback(event: Event) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        seen.append(event)
        inside -= 1

    event = LayerStarted(Descriptor(media_types.OCI_LAYER, Digest.of(b""), 0))
    tell = one_at_a_time(callback)
    threads = [threading.Thread(target=lambda: [tell(event) for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 400
    one_at_a_time(None)(event)
