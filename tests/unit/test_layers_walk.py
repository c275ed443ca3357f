"""Directories as entries: order, links, times, whiteouts."""

from __future__ import annotations

import io
import os
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from archives import archive, file, header, in_pieces, joined, pax
from pycontainer.content import BlobDir
from pycontainer.errors import LayerError
from pycontainer.layers import (
    Entry,
    Kind,
    Ownership,
    _compression,
    _pipeline,
    decompress,
    pack,
    read_entry,
    unpack,
    walk_diff,
    walk_tree,
    write_tar,
)
from pycontainer.oci import Compression, Digest, media_types

USER = Ownership.USER


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def walk(root: Path, **options: object) -> list[Entry]:
    return list(walk_tree(root, ownership=USER, **options))  # type: ignore[arg-type]


def diff(root: Path, **options: object) -> list[Entry]:
    return list(walk_diff(root, ownership=USER, **options))  # type: ignore[arg-type]


def paths(entries: list[Entry]) -> list[bytes]:
    return [entry.path for entry in entries]


def test_order_is_that_of_the_bytes(root: Path) -> None:
    names = [b"a", b"a-", b"a.b", b"B", b"\xc3\xa9", b"\x01", b"z"]
    for name in names:
        (root / os.fsdecode(name)).mkdir()
        (root / os.fsdecode(name) / "x").touch()
    wanted = [b""]
    for name in sorted(names):
        wanted += [name, name + b"/x"]
    assert paths(walk(root)) == wanted


def test_what_entries_say(root: Path) -> None:
    (root / "f").write_bytes(b"hello")
    (root / "f").chmod(0o640)
    os.utime(root / "f", ns=(0, -1_000_000_001))
    os.setxattr(root / "f", "user.k", b"v")
    (root / "s").symlink_to("somewhere")
    os.mkfifo(root / "p", 0o600)
    os.link(root / "f", root / "g")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "z"))
    root.chmod(0o751)
    top, f, g, p, s = walk(root)
    assert (top.path, top.kind, top.mode) == (b"", Kind.DIRECTORY, 0o751)
    assert (f.kind, f.mode, f.size, f.mtime_ns) == (Kind.FILE, 0o640, 5, -1_000_000_001)
    assert f.xattrs == {"user.k": b"v"}
    assert (g.kind, g.link) == (Kind.HARD_LINK, b"f")
    assert (p.kind, p.mode) == (Kind.FIFO, 0o600)
    assert (s.kind, s.link) == (Kind.SYMLINK, b"somewhere")


def test_contents_can_be_read_until_the_next(root: Path) -> None:
    (root / "a").write_bytes(b"first")
    (root / "b").write_bytes(bytes(range(256)) * 10_000)
    contents = [
        joined(entry.content())
        for entry in walk_tree(root, ownership=USER)
        if entry.content is not None
    ]
    assert contents == [b"first", bytes(range(256)) * 10_000]


def test_contents_are_gone_with_the_next(root: Path) -> None:
    (root / "a").write_bytes(b"first")
    (root / "b").write_bytes(b"other")
    _, a, _ = walk(root)
    assert a.content is not None
    with pytest.raises(ValueError, match="after the next entry"):
        next(a.content())


def test_prefix_clamp_and_exclude(root: Path) -> None:
    for name in ("a/b/c", "a/d", "e"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    os.utime(root / "e", ns=(0, 5))
    entries = walk(root, prefix=b"usr/local", clamp=1.5, exclude=[b"usr/local/a/b"])
    assert paths(entries) == [b"usr/local", b"usr/local/a", b"usr/local/a/d", b"usr/local/e"]
    assert {entry.mtime_ns for entry in entries} == {1_500_000_000, 5}


def test_deep_trees(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert len(walk(root)) == 301


def test_a_walk_that_is_left_closes_what_it_holds(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "f").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    entries = walk_tree(root, ownership=USER)
    while next(entries).kind is Kind.DIRECTORY:
        pass
    assert len(os.listdir("/proc/self/fd")) > before
    entries.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_its_owner_may_not_read_is_read(root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(b"secret")
    (root / "d" / "f").chmod(0o000)
    (root / "d").chmod(0o000)
    contents = {
        entry.path: joined(entry.content())
        for entry in walk_tree(root, ownership=USER)
        if entry.content is not None
    }
    assert contents == {b"d/f": b"secret"}
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0
    (root / "d").chmod(0o700)
    assert stat.S_IMODE((root / "d" / "f").stat().st_mode) == 0


@pytest.mark.parametrize("walker", [walk, diff])
def test_names_that_would_be_whiteouts(walker: object, root: Path) -> None:
    (root / ".wh.x").touch()
    assert callable(walker)
    with pytest.raises(LayerError, match="whiteout"):
        walker(root)


def test_what_is_not_there(root: Path) -> None:
    with pytest.raises(LayerError, match="No such file"):
        walk(root / "missing")
    with pytest.raises(LayerError, match="No such file"):
        read_entry(root / "missing", b"x")


def test_read_entry(root: Path) -> None:
    (root / "f").write_bytes(b"hello")
    (root / "s").symlink_to("f")
    f = read_entry(root / "f", b"some/where", ownership=USER)
    assert (f.path, f.kind, f.size) == (b"some/where", Kind.FILE, 5)
    assert f.content is not None
    for _ in range(2):
        assert joined(f.content()) == b"hello"
    assert read_entry(root / "s", b"x", ownership=USER).link == b"f"
    assert read_entry(root, b"d", ownership=USER).kind is Kind.DIRECTORY
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "z"))
    with pytest.raises(LayerError, match="socket"):
        read_entry(root / "z", b"z", ownership=USER)


# --- diffs -----------------------------------------------------------------------------------


def test_whiteouts_come_back(root: Path) -> None:
    data = archive(
        header(b"a/", b"5", mode=0o755, mtime=1),
        file(b"a/.wh..wh..opq", mode=0o600),
        file(b"a/.wh.x", mode=0o600),
        file(b"a/b", b"new", mtime=2),
        file(b".wh.gone", mode=0o600),
    )
    unpack(io.BytesIO(data), root, ownership=USER)
    os.setxattr(root / "a", "user.overlay.origin", b"whatever")
    os.setxattr(root / "a", "user.overlay.impure", b"y")
    entries = diff(root)
    assert paths(entries) == [b"a", b"a/.wh..wh..opq", b"a/b", b"a/.wh.x", b".wh.gone"]
    assert entries[0].xattrs == {}
    assert entries[1].kind is Kind.FILE
    assert entries[1].size == 0


def test_an_opaque_root(root: Path) -> None:
    unpack(io.BytesIO(archive(file(b".wh..wh..opq"), file(b"f"))), root, ownership=USER)
    assert paths(diff(root)) == [b".wh..wh..opq", b"f"]


def test_whiteouts_that_are_attributes(root: Path) -> None:
    (root / "gone").touch()
    os.setxattr(root / "gone", "user.overlay.whiteout", b"")
    (root / "d").mkdir()
    os.setxattr(root / "d", "user.overlay.opaque", b"x")  # says that there are such below
    assert paths(diff(root)) == [b"d", b".wh.gone"]
    # Where overlay is mounted with the attributes of root, these are not overlay's.
    assert paths(diff(root, userxattr=False)) == [b"d", b"gone"]


@pytest.mark.parametrize("feature", ["redirect", "metacopy"])
def test_what_only_the_mounted_overlay_shows(feature: str, root: Path) -> None:
    (root / "d").mkdir()
    os.setxattr(root / "d", f"user.overlay.{feature}", b"/old")
    with pytest.raises(LayerError, match="only the mounted overlay shows"):
        diff(root)


def test_attributes_of_overlay_are_not_a_trees(root: Path) -> None:
    (root / "d").mkdir()
    os.setxattr(root / "d", "user.overlay.opaque", b"y")
    assert [dict(entry.xattrs) for entry in walk(root)] == [{}, {}]


# --- layers of them --------------------------------------------------------------------------


@pytest.mark.parametrize("compression", Compression)
def test_pack(compression: Compression, root: Path, tmp_path: Path) -> None:
    data = archive(
        header(b"./", b"5", mode=0o755, mtime=1),
        header(b"d/", b"5", mode=0o755, mtime=1),
        file(b"d/f", b"x" * 1_000_000, uid=3, gid=4, mtime=2),
        header(b"d/null", b"3", mode=0o666, major=1, minor=3, mtime=3),
        header(b"s", b"2", link=b"d", mode=0o777, mtime=4),
    )
    unpack(io.BytesIO(data), root, ownership=USER)
    blobs = BlobDir(tmp_path / "blobs")
    packed = []
    for hashing in (True, False):
        with blobs.writer(hashing=hashing) as blob:
            packed.append(pack(walk_tree(root, ownership=USER), blob, compression=compression))
    first, second = packed
    assert first == second
    assert first.diff_id == Digest.of(data)
    assert (first.tar_size, first.entries) == (len(data), 5)
    assert first.descriptor.media_type == media_types.oci_layer(compression)
    other = tmp_path / "other"
    other.mkdir()
    with blobs.reader(first.descriptor) as reader:
        unpacked = unpack(reader, other, ownership=USER, diff_id=first.diff_id)
    assert unpacked.digest == first.descriptor.digest


@pytest.mark.parametrize("slow", ["_hash", "_write_blob", "_deflate_segment"])
@pytest.mark.parametrize("compression", Compression)
def test_pack_overwrites_nothing_that_is_still_read(
    compression: Compression, slow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [os.urandom(700_000 + number) for number in range(20)]
    entries = [
        Entry(b"%d" % number, Kind.FILE, size=len(data), content=partial(in_pieces, data, 1 << 20))
        for number, data in enumerate(contents)
    ]
    data = joined(write_tar(entries))
    module = _compression if slow == "_deflate_segment" else _pipeline
    work = getattr(module, slow)

    def lagging(*arguments: Any) -> object:
        time.sleep(0.005)
        *others, read = arguments
        return work(*others, read if isinstance(read, bytes | memoryview) else in_slow_motion(read))

    monkeypatch.setattr(module, slow, lagging)
    blobs = BlobDir(tmp_path)
    with blobs.writer() as blob:
        packed = pack(entries, blob, compression=compression)
    assert packed.diff_id == Digest.of(data)
    assert joined(decompress([blobs.read_bytes(packed.descriptor)])) == data


def in_slow_motion(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        time.sleep(0.005)
        yield chunk


def test_pack_of_nothing(tmp_path: Path) -> None:
    with BlobDir(tmp_path).writer() as blob:
        packed = pack([], blob, compression=Compression.NONE)
    assert (packed.entries, packed.tar_size) == (0, 1024)


def test_pack_leaves_nothing_when_it_fails(root: Path, tmp_path: Path) -> None:
    (root / "f").write_bytes(b"x" * 3_000_000)
    (root / "g").write_bytes(b"x")
    blobs = BlobDir(tmp_path / "blobs")
    before = len(os.listdir("/proc/self/fd"))

    def entries() -> object:
        for entry in walk_tree(root, ownership=USER):
            if entry.path == b"g":
                entry.size = 2
            yield entry

    for compression in Compression:
        with blobs.writer() as blob, pytest.raises(LayerError, match="changed while"):
            pack(entries(), blob, compression=compression)  # type: ignore[arg-type]
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert len(os.listdir("/proc/self/fd")) == before


def test_pack_tells_why_the_blob_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (root / "f").write_bytes(os.urandom(30_000_000))

    class Full(Exception):
        pass

    for compression in Compression:
        with BlobDir(tmp_path / "blobs").writer() as blob, pytest.MonkeyPatch.context() as patch:

            def fail(_: bytes) -> int:
                raise Full

            patch.setattr(blob, "write", fail)
            with pytest.raises(Full):
                pack(walk_tree(root, ownership=USER), blob, compression=compression)


def test_times_before_1970_and_below_the_second_come_back(root: Path, tmp_path: Path) -> None:
    data = archive(pax((b"mtime", b"-1.000000001")), file(b"f", b"x"))
    unpack(io.BytesIO(data), root, ownership=USER)
    os.utime(root, ns=(0, 0))
    with BlobDir(tmp_path).writer() as blob:
        packed = pack(
            (entry for entry in walk_tree(root, ownership=USER) if entry.path),
            blob,
            compression=Compression.NONE,
        )
    assert b"mtime=-1.000000001\n" in BlobDir(tmp_path).read_bytes(packed.descriptor)
