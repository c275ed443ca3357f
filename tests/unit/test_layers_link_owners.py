"""Owners of symlinks and fifos where the kernel cannot keep them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from archives import archive, header
from pycontainer.layers import Entry, Extractor, Kind, Ownership, read_entry, unpack, walk_tree

USER = Ownership.USER


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def put(root: Path, *parts: bytes, apply: bool = False) -> None:
    unpack(
        io.BytesIO(archive(*parts)),
        root,
        ownership=USER,
        whiteouts="apply" if apply else "overlay",
    )


def owners(root: Path) -> dict[bytes, tuple[int, int]]:
    entries = [entry for entry in walk_tree(root, ownership=USER) if entry.path]
    for entry in entries:
        assert not entry.xattrs
    return {
        entry.path: (entry.uid, entry.gid) for entry in entries if entry.kind is not Kind.DIRECTORY
    }


def link(name: bytes, uid: int, *, mtime: int = 7, flag: bytes = b"2") -> bytes:
    target = b"t" if flag == b"2" else b""
    return header(name, flag, link=target, uid=uid, gid=uid + 1, mtime=mtime)


def test_they_come_back(root: Path) -> None:
    put(root, link(b"s", 5), link(b"d/a", 0), link(b"d/ab", 6), link(b"d/p", 7, flag=b"6"))
    assert owners(root) == {
        b"s": (5, 6),
        b"d/a": (0, 1),
        b"d/ab": (6, 7),
        b"d/p": (7, 8),
    }
    assert read_entry(root / "d/ab", b"x", ownership=USER).uid == 6


def test_directories_keep_their_times_and_modes(root: Path) -> None:
    put(root, header(b"d", b"5", mode=0o555, mtime=3), link(b"d/s", 5))
    status = (root / "d").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o555, 3)
    assert owners(root) == {b"d/s": (5, 6)}


def test_what_takes_the_place_is_nobodys(root: Path) -> None:
    put(root, link(b"s", 5))
    (root / "s").unlink()
    (root / "s").symlink_to("elsewhere")
    assert owners(root) == {b"s": (0, 0)}


def test_layers_add_up_where_they_are_applied(root: Path) -> None:
    put(root, header(b"d", b"5"), link(b"d/a", 5), link(b"d/b", 6))
    put(root, header(b"d", b"5", mode=0o700), link(b"d/b", 8), link(b"d/c", 9), apply=True)
    assert owners(root) == {b"d/a": (5, 6), b"d/b": (8, 9), b"d/c": (9, 10)}


def test_a_directory_that_is_replaced_leaves_nothing(root: Path) -> None:
    put(root, link(b"d/s", 5), header(b"d", b"2", link=b"elsewhere"))
    assert owners(root) == {b"d": (0, 0)}


def test_more_than_the_file_system_holds(root: Path) -> None:
    names = [b"%090d" % i for i in range(800)]
    put(root, *(link(name, 5) for name in names))
    found = owners(root)
    assert sorted(found) == names
    assert set(found.values()) in ({(5, 6)}, {(0, 0)})


def test_times_below_the_second_tell_them_apart(root: Path) -> None:
    entry = Entry(b"s", Kind.SYMLINK, 0o777, 5, 6, -1, link=b"t")
    with Extractor(root, USER) as extractor:
        extractor.put(entry)
        extractor.finish()
    assert owners(root) == {b"s": (5, 6)}
    os.utime(root / "s", ns=(0, 0), follow_symlinks=False)
    assert owners(root) == {b"s": (0, 0)}
