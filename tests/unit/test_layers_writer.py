"""Writing tar: the same bytes every time, which other tars read."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from archives import archive, file, header, in_pieces, joined
from pycontainer.errors import LayerError
from pycontainer.layers import Entry, Kind, read_entries, walk_tree, write_tar


def _file(path: bytes, data: bytes = b"", **fields: object) -> Entry:
    return Entry(path, Kind.FILE, size=len(data), content=lambda: iter([data]), **fields)  # type: ignore[arg-type]


def test_plain_entries_are_plain_ustar() -> None:
    entries = [
        Entry(b"", Kind.DIRECTORY, 0o755),
        Entry(b"etc", Kind.DIRECTORY, 0o1777, 1, 2, 3_000_000_000),
        _file(b"etc/a", b"hello", mode=0o4755, uid=5),
        Entry(b"l", Kind.SYMLINK, 0o777, link=b"etc/a"),
        Entry(b"h", Kind.HARD_LINK, link=b"etc/a"),
        Entry(b"c", Kind.CHARACTER_DEVICE, major=1, minor=3),
        Entry(b"p", Kind.FIFO),
    ]
    assert joined(write_tar(entries)) == archive(
        header(b"./", b"5", mode=0o755),
        header(b"etc/", b"5", mode=0o1777, uid=1, gid=2, mtime=3),
        file(b"etc/a", b"hello", mode=0o4755, uid=5),
        header(b"l", b"2", mode=0o777, link=b"etc/a"),
        header(b"h", b"1", link=b"etc/a"),
        header(b"c", b"3", major=1, minor=3),
        header(b"p", b"6"),
    )


def test_long_names_use_the_prefix_where_they_can() -> None:
    deep = b"d" * 150 + b"/" + b"n" * 100
    assert joined(write_tar([_file(deep)])) == archive(header(b"n" * 100, prefix=b"d" * 150))


@pytest.mark.parametrize(
    "entry",
    [
        _file(b"n" * 101),
        _file(b"d" * 160 + b"/n"),
        _file(b"d/" * 2000 + b"n"),
        _file(b"\xff\n=\x01"),
        Entry(b"d" * 99, Kind.DIRECTORY),
        Entry(b"d" * 100, Kind.DIRECTORY),
        Entry(b"s", Kind.SYMLINK, link=b"t" * 101),
        Entry(b"s", Kind.HARD_LINK, link=b"a/" + b"t" * 300),
        _file(b"f", uid=0o7777777, gid=0o10000000),
        _file(b"f", uid=0xFFFFFFFE),
        _file(b"f", mtime_ns=-1),
        _file(b"f", mtime_ns=-1_500_000_000),
        _file(b"f", mtime_ns=1),
        _file(b"f", mtime_ns=1_999_999_999_999_999_999),
        _file(b"f", mtime_ns=(1 << 33) * 1_000_000_000),
        _file(b"f", xattrs={"user.a=b%": b"\0\n=", "security.capability": bytes(20), "user.": b""}),
        Entry(b"d", Kind.BLOCK_DEVICE, major=4095, minor=1048575),
        _file(b"f", b"x" * 513, mode=0o7777),
    ],
    ids=lambda entry: str(entry.path[:10]),
)
def test_nothing_is_lost(entry: Entry) -> None:
    data = joined(write_tar([entry, _file(b"next", b"!")]))
    assert len(data) % 512 == 0
    (back, following) = read_entries(in_pieces(data, 1 << 20))
    for name in (
        "path",
        "kind",
        "mode",
        "uid",
        "gid",
        "mtime_ns",
        "size",
        "link",
        "major",
        "minor",
    ):
        assert getattr(back, name) == getattr(entry, name), name
    assert dict(back.xattrs) == dict(entry.xattrs)
    assert following.path == b"next"


def test_huge_sizes_are_written_in_pax() -> None:
    size = 1 << 33
    piece = bytes(1 << 20)
    entry = Entry(b"f", Kind.FILE, size=size, content=lambda: (piece for _ in range(size >> 20)))
    first = next(iter(write_tar([entry])))
    assert b"19 size=8589934592\n" in first[:1024]


def test_order_of_attributes_does_not_matter() -> None:
    one = _file(b"f", xattrs={"user.a": b"1", "user.b": b"2"})
    other = _file(b"f", xattrs={"user.b": b"2", "user.a": b"1"})
    assert joined(write_tar([one])) == joined(write_tar([other]))


def test_pieces_do_not_change_the_chunks() -> None:
    data = os.urandom(1_500_000)

    def entry(size: int) -> Entry:
        return Entry(b"f", Kind.FILE, size=len(data), content=lambda: in_pieces(data, size))

    for size in (1000, 1 << 19, 1 << 24):
        chunks = list(write_tar([entry(size), entry(77)]))
        assert {len(chunk) for chunk in chunks[:-1]} == {1 << 19}
        assert joined(chunks) == joined(write_tar([entry(9999), entry(9999)]))


def test_holes_are_filled() -> None:
    entry = Entry(
        b"f",
        Kind.FILE,
        size=200_000,
        content=lambda: iter([b"ab", b"cd"]),
        sparse=((5, 3), (150_000, 1)),
    )
    wanted = bytearray(200_000)
    wanted[5:8], wanted[150_000:150_001] = b"abc", b"d"
    assert joined(write_tar([entry])) == archive(file(b"f", bytes(wanted)))


@pytest.mark.parametrize("given", [b"", b"x" * 4, b"x" * 6])
def test_a_file_that_changes_while_it_is_read(given: bytes) -> None:
    entry = Entry(b"f", Kind.FILE, size=5, content=lambda: iter([given]))
    with pytest.raises(LayerError, match="changed while it was read"):
        joined(write_tar([entry]))


def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(1_000_000))

    def entries() -> Iterator[Entry]:
        for entry in walk_tree(tmp_path):
            if entry.path:
                os.truncate(tmp_path / "f", 700_000)
            yield entry

    with pytest.raises(LayerError, match="changed while it was read: 1000000 bytes became 700000"):
        joined(write_tar(entries()))


@pytest.mark.parametrize(
    "entry",
    [
        _file(b"a\0b"),
        Entry(b"a", Kind.SYMLINK, link=b"a\0b"),
        _file(b"a", uid=-1),
        Entry(b"a", Kind.CHARACTER_DEVICE, minor=1 << 24),
    ],
)
def test_what_tar_cannot_say(entry: Entry) -> None:
    with pytest.raises(ValueError, match=r"zero byte|negative|device numbers"):
        joined(write_tar([entry]))


@pytest.mark.parametrize("reader", ["tar", "bsdtar"])
def test_other_tars_read_it(reader: str, tmp_path: Path) -> None:
    if subprocess.run(["which", reader], capture_output=True).returncode:
        pytest.skip(f"no {reader} here")
    entries = [
        Entry(b"d", Kind.DIRECTORY, 0o750, mtime_ns=1_000_000_000),
        _file(b"d/" + b"n" * 250, b"x" * 1000, mtime_ns=1_700_000_000_123_456_789),
        _file(b"d/" + b"e" * 120 + b"/f", b"prefixed"),
        _file(os.fsencode("d/ünï\n"), b"u", mode=0o600),
        Entry(b"d/s", Kind.SYMLINK, link=b"t" * 200),
        Entry(b"d/h", Kind.HARD_LINK, link=b"d/" + b"e" * 120 + b"/f"),
    ]
    subprocess.run(
        [reader, "--no-same-owner", "-xpf", "-", "-C", tmp_path],
        input=joined(write_tar(entries)),
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        check=True,
    )
    long = tmp_path / "d" / ("n" * 250)
    assert long.read_bytes() == b"x" * 1000
    assert long.stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert (tmp_path / "d" / ("e" * 120) / "f").read_bytes() == b"prefixed"
    assert (tmp_path / "d" / "h").stat().st_nlink == 2
    assert os.readlink(tmp_path / "d" / "s") == "t" * 200
    assert (tmp_path / "d/ünï\n").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o750


def test_the_bytes_stay_the_same_from_version_to_version() -> None:
    """A changed digest here means that all layers ever built get another one."""
    entries = [
        Entry(b"usr", Kind.DIRECTORY, 0o755),
        _file(b"usr/" + b"x" * 120, b"content", mtime_ns=1_500_000_000, uid=3_000_000),
        _file(b"usr/y", b"y" * 1000, xattrs={"user.k": b"v"}),
        Entry(b"bin", Kind.SYMLINK, 0o777, link=b"usr/bin"),
    ]
    digest = hashlib.sha256(joined(write_tar(entries))).hexdigest()
    assert digest == "601caffae546e3f28cd9fc5faa174cc68a5fcc2b0bcbda23a6d7692e9efe1b96"
