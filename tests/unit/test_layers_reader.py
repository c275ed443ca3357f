"""Reading tar: each format, by hand-made headers and by the tars that are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from archives import BLOCK, END, archive, extension, file, header, in_pieces, joined, padded, pax
from pycontainer.errors import TarError
from pycontainer.layers import Entry, Kind, read_entries

PIECES = ((1 << 20,), (512,), (1,), (700, 3, 1000))


def read(data: bytes, *sizes: int) -> list[tuple[Entry, bytes]]:
    """All entries with their contents."""
    return [
        (entry, joined(entry.content()) if entry.content else b"")
        for entry in read_entries(in_pieces(data, *(sizes or PIECES[0])))
    ]


def read_one(data: bytes) -> tuple[Entry, bytes]:
    (found,) = read(data)
    return found


# --- ustar -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", PIECES)
def test_all_kinds_in_pieces_of_any_size(sizes: tuple[int, ...]) -> None:
    data = archive(
        header(b"etc/", b"5", mode=0o755, mtime=7),
        file(b"etc/passwd", b"root:x:0:0\n", uid=1, gid=2, mtime=3),
        header(b"bin", b"2", link=b"usr/bin", mode=0o777),
        header(b"etc/group", b"1", link=b"./etc/passwd"),
        header(b"dev/null", b"3", major=1, minor=3),
        header(b"dev/sda", b"4", major=8),
        header(b"run/fifo", b"6"),
        file(b"big", bytes(range(256)) * 40),
    )
    entries = read(data, *sizes)
    assert [(entry.path, entry.kind) for entry, _ in entries] == [
        (b"etc", Kind.DIRECTORY),
        (b"etc/passwd", Kind.FILE),
        (b"bin", Kind.SYMLINK),
        (b"etc/group", Kind.HARD_LINK),
        (b"dev/null", Kind.CHARACTER_DEVICE),
        (b"dev/sda", Kind.BLOCK_DEVICE),
        (b"run/fifo", Kind.FIFO),
        (b"big", Kind.FILE),
    ]
    passwd = entries[1][0]
    assert (passwd.mode, passwd.uid, passwd.gid, passwd.mtime_ns) == (0o644, 1, 2, 3_000_000_000)
    assert entries[1][1] == b"root:x:0:0\n"
    assert entries[2][0].link == b"usr/bin"
    assert entries[3][0].link == b"etc/passwd"
    assert (entries[4][0].major, entries[4][0].minor) == (1, 3)
    assert entries[7][1] == bytes(range(256)) * 40


def test_content_that_is_not_read_is_skipped() -> None:
    data = archive(file(b"a", b"x" * 5000), file(b"b", b"y"))
    assert [entry.path for entry in read_entries(in_pieces(data, 600))] == [b"a", b"b"]


def test_content_that_is_partly_read_is_skipped() -> None:
    data = archive(file(b"a", b"x" * 5000), file(b"b", b"y"))
    entries = read_entries(in_pieces(data, 600))
    first = next(entries)
    assert first.content is not None
    next(first.content())
    assert [entry.path for entry in entries] == [b"b"]


def test_content_is_gone_with_the_next_entry() -> None:
    entries = read_entries(in_pieces(archive(file(b"a", b"x" * 5000), file(b"b", b"y")), 600))
    first = next(entries)
    next(entries)
    assert first.content is not None
    with pytest.raises(ValueError, match="after the next entry"):
        next(first.content())


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"./a", b"a"),
        (b"/etc/a", b"etc/a"),
        (b"a//b/./c", b"a/b/c"),
        (b"./", b""),
        (b".", b""),
        (b"a/.", b"a"),
        (b"../a", b"../a"),
        (b"a/../b", b"a/../b"),
        (b".a", b".a"),
        (b"a/.b./c.", b"a/.b./c."),
        (b"\xff\xfe\n ", b"\xff\xfe\n "),
    ],
)
def test_paths_are_normalised(raw: bytes, path: bytes) -> None:
    flag = b"5" if raw.endswith((b"/", b".")) else b"0"
    entries = read(archive(*[header(raw, flag)] * 2))
    assert [entry.path for entry, _ in entries] == [path, path]


def test_prefix_of_ustar_only() -> None:
    assert read_one(archive(header(b"b", prefix=b"a" * 155)))[0].path == b"a" * 155 + b"/b"
    gnu = header(b"b", magic=b"ustar  \0", prefix=b"12345")
    assert read_one(archive(gnu))[0].path == b"b"
    before_posix = header(b"b", magic=bytes(8), prefix=b"rubbish")
    assert read_one(archive(before_posix))[0].path == b"b"


def test_names_that_fill_their_fields() -> None:
    entry, _ = read_one(archive(header(b"n" * 100, b"2", link=b"l" * 100)))
    assert (entry.path, entry.link) == (b"n" * 100, b"l" * 100)


def test_a_slash_made_a_directory_before_posix() -> None:
    assert read_one(archive(header(b"d/", b"\0", magic=bytes(8))))[0].kind is Kind.DIRECTORY
    entries = read(archive(header(b"d/", b"\0", size=3) + padded(b"abc"), header(b"e")))
    assert [(entry.path, entry.kind) for entry, _ in entries] == [
        (b"d", Kind.DIRECTORY),
        (b"e", Kind.FILE),
    ]


@pytest.mark.parametrize("flag", [b"0", b"\0", b"7"])
def test_flags_of_regular_files(flag: bytes) -> None:
    entry, content = read_one(archive(header(b"f", flag, size=3) + padded(b"abc")))
    assert (entry.kind, content) == (Kind.FILE, b"abc")


@pytest.mark.parametrize("flag", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_only_files_have_data(flag: bytes) -> None:
    data = archive(header(b"x", flag, size=100, link=b"y"), header(b"next"))
    assert [(entry.path, entry.size) for entry, _ in read(data)] == [(b"x", 0), (b"next", 0)]


# --- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"00000000017\0", 0o17),
        (b"000000000017", 0o17),
        (b"         17\0", 0o17),
        (b"17 \0", 0o17),
        (b"17", 0o17),
        (b" 17\0", 0o17),
        (b"", 0),
        (b"\x80" + bytes(10) + b"\x0f", 15),
        (b"\x80\0\0\0\x01" + bytes(7), 1 << 56),
        (b"\xff" * 12, -1),
        (b"\xff" * 10 + b"\xfe\x00", -512),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    entry, _ = read_one(archive(header(b"f", b"5", mtime=field)))
    assert entry.mtime_ns == value * 1_000_000_000


def test_large_owners_in_base_256() -> None:
    number = b"\x80\0\0\0\xff\xff\xff\xfe"
    entry, _ = read_one(archive(header(b"f", uid=number, gid=number)))
    assert (entry.uid, entry.gid) == (0xFFFFFFFE, 0xFFFFFFFE)


def test_the_largest_number_in_both_forms() -> None:
    largest = (1 << 63) - 1
    for part in (
        pax((b"size", b"%d" % largest), (b"mtime", b"%d" % largest)) + header(b"f", b"5"),
        header(b"f", b"5", mtime=b"\x80\0\0\0" + largest.to_bytes(8, "big")),
    ):
        assert read_one(archive(part))[0].mtime_ns == largest * 1_000_000_000
    assert read_one(archive(pax((b"uid", b"%d" % largest)), header(b"f")))[0].uid == largest


@pytest.mark.parametrize(
    "fields",
    [
        {"size": b"\xff" * 12},
        {"size": b"-0000000001\0"},
        {"uid": b"\xff" * 8},
        {"size": b"00000000018\0"},
        {"size": b"00000000 18\0"},
        {"size": b"0000000_100\0"},
        {"size": b"+0000000100\0"},
        {"mtime": b"0o000000017\0"},
        {"mtime": b"-0000000001\0"},
        {"mtime": b"abcdefghijk\0"},
        {"mtime": b"\x80" + b"\xff" * 11},
        {"size": b"\x80\0\0\x01" + bytes(8)},
        {"mode": b"9999999\0"},
    ],
)
def test_impossible_numbers(fields: dict[str, bytes]) -> None:
    with pytest.raises(TarError, match=r"near byte 512"):
        read(archive(header(b"f", **fields)))  # type: ignore[arg-type]


def test_numbers_of_a_device_that_no_header_can_hold() -> None:
    for number in (b"\x80" + bytes(4) + b"\x20\0\0", b"\xff" * 8):
        with pytest.raises(TarError, match="the minor number is"):
            read(archive(header(b"f", b"3", minor=number)))  # type: ignore[arg-type]


# --- checksums, ends -------------------------------------------------------------------------


@pytest.mark.parametrize("form", [b"%06o\0 ", b"%07o\0", b"%6o\0 ", b"%6o \0", b"%08o", b"%o"])
def test_checksums_in_the_forms_that_tars_write(form: bytes) -> None:
    total = sum(header(b"f", checksum=b" " * 8))
    assert read_one(archive(header(b"f", checksum=form % total)))[0].path == b"f"


def test_sum_of_signed_characters() -> None:
    plain = header(b"\xff\xfe", checksum=b" " * 8)
    signed = sum(byte - 256 if byte > 127 else byte for byte in plain)
    assert read_one(archive(header(b"\xff\xfe", checksum=b"%06o\0 " % signed)))[0].path


@pytest.mark.parametrize("checksum", [b"000000\0 ", b"", b"xxxxxx\0 ", b"-01234\0 "])
def test_wrong_checksum(checksum: bytes) -> None:
    with pytest.raises(TarError, match="checksum"):
        read(archive(header(b"f", checksum=checksum)))


def test_wrong_byte_anywhere_in_a_header() -> None:
    good = header(b"some/name", mode=0o755, mtime=1_700_000_000, size=0)
    for at in range(BLOCK):
        bad = bytearray(good)
        bad[at] ^= 1
        if 148 <= at < 156:  # other forms of the same sum are fine
            continue
        with pytest.raises(TarError, match="checksum"):
            read(archive(bytes(bad)))


@pytest.mark.parametrize("end", [END, b"", bytes(BLOCK), END + b"rubbish" * 1000, bytes(10240)])
def test_ends(end: bytes) -> None:
    assert len(read(file(b"a", b"1") + end, 700)) == 1


def test_no_archive_at_all_is_an_empty_one() -> None:
    assert read(b"") == []


def test_an_entry_after_a_block_of_zeros() -> None:
    with pytest.raises(TarError, match="follows a block of zeros"):
        read(file(b"a") + bytes(BLOCK) + file(b"b") + END)


def test_truncated_anywhere() -> None:
    """Wherever an archive is cut but between entries, that is found out."""
    parts = (
        file(b"a", b"x" * 700),
        pax((b"path", b"long" * 30)) + file(b"short", b"y"),
        extension(b"L", b"n" * 200 + b"\0") + file(b"short"),
    )
    whole = b"".join(parts)
    between = {0, len(parts[0]), len(parts[0] + parts[1]), len(whole)}
    for size in range(len(whole)):
        if size in between:
            assert len(read(whole[:size])) == sorted(between).index(size)
            continue
        with pytest.raises(TarError, match="ends"):
            read(whole[:size], 512)


@pytest.mark.parametrize("flag", [b"V", b"M", b"D", b"8", b"Z", b"\xff"])
def test_unknown_types(flag: bytes) -> None:
    with pytest.raises(TarError, match="not supported"):
        read(archive(header(b"f", flag)))


# --- pax -------------------------------------------------------------------------------------


def test_pax_overrides_the_header() -> None:
    long = b"d" * 300 + b"/" + b"n" * 200
    data = archive(
        pax(
            (b"path", b"./" + long),
            (b"size", b"5"),
            (b"uid", b"4000000000"),
            (b"gid", b"3000000"),
            (b"mtime", b"1700000000.123456789"),
            (b"atime", b"1"),
            (b"comment", b"whatever = you\nlike"),
            (b"SCHILY.xattr.user.a", b"1\n\0=2"),
            (b"SCHILY.xattr.user.b%3Dc%25", b""),
        ),
        header(b"short") + padded(b"hello"),
        file(b"next", b"!"),
    )
    (entry, content), (following, _) = read(data)
    assert entry.path == long
    assert content == b"hello"
    assert (entry.uid, entry.gid) == (4_000_000_000, 3_000_000)
    assert entry.mtime_ns == 1_700_000_000_123_456_789
    assert entry.xattrs == {"user.a": b"1\n\0=2", "user.b=c%": b""}
    assert (following.path, following.uid, following.xattrs) == (b"next", 0, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"0", 0),
        (b"-1", -1_000_000_000),
        (b"-1.5", -1_500_000_000),
        (b"-0.000000001", -1),
        (b"12.", 12_000_000_000),
        (b"1.1234567899", 1_123_456_789),
        (b"1.5", 1_500_000_000),
        (b"-9223372036854775807", -9_223_372_036_854_775_807_000_000_000),
    ],
)
def test_times(text: bytes, value: int) -> None:
    assert read_one(archive(pax((b"mtime", text)), header(b"f")))[0].mtime_ns == value


def test_global_records_last_and_local_ones_win() -> None:
    data = archive(
        pax((b"uid", b"5"), (b"gid", b"6"), (b"comment", b"x"), flag=b"g"),
        header(b"a"),
        pax((b"uid", b"7")),
        header(b"b"),
        pax((b"uid", b"")),
        header(b"c", uid=9),
        pax((b"gid", b"8"), flag=b"g"),
        header(b"d"),
    )
    owners = [(entry.uid, entry.gid) for entry, _ in read(data)]
    assert owners == [(5, 6), (7, 6), (9, 6), (5, 8)]


def test_linkpath() -> None:
    data = archive(pax((b"linkpath", b"t" * 300)), header(b"s", b"2", link=b"short"))
    assert read_one(data)[0].link == b"t" * 300


@pytest.mark.parametrize(
    "body",
    [
        b"rubbish\n",
        b"10 a=b\n",
        b"8 a=bc\n",
        b"0 a=b\n",
        b"6 abc\n",
        b"5 =b\n",
        b"-6 a=b\n",
        b"99999999999999999999 a=b\n",
        b"6 a=b",
        b"\0\0\0",
        b"+6 a=b\n",
    ],
)
def test_malformed_pax_records(body: bytes) -> None:
    with pytest.raises(TarError, match="pax record"):
        read(archive(extension(b"x", body), header(b"f")))


@pytest.mark.parametrize(
    "record",
    [
        (b"size", b"-1"),
        (b"size", b"1e3"),
        (b"size", b"9" * 30),
        (b"size", b"9223372036854775808"),
        (b"uid", b"root"),
        (b"mtime", b"now"),
        (b"mtime", b"1.-5"),
        (b"mtime", b"9" * 30),
        (b"mtime", b"9223372036854775808"),
        (b"path", b"a\0b"),
        (b"linkpath", b"a\0b"),
    ],
)
def test_impossible_pax_values(record: tuple[bytes, bytes]) -> None:
    with pytest.raises(TarError):
        read(archive(pax(record), header(b"f", b"2")))


def test_an_extended_header_of_nothing() -> None:
    for part in (pax((b"path", b"x")), extension(b"L", b"x\0"), extension(b"K", b"x\0")):
        with pytest.raises(TarError, match="after an extended header"):
            read(archive(part))


@pytest.mark.parametrize("flag", [b"x", b"g", b"L", b"K"])
def test_oversized_extended_header(flag: bytes) -> None:
    with pytest.raises(TarError, match="extended header has"):
        read(header(b"x", flag, size=1 << 30) + bytes(4096))


# --- GNU -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", PIECES)
def test_gnu_long_names(sizes: tuple[int, ...]) -> None:
    name, link = b"n" * 5000, b"l" * 5000
    data = archive(
        extension(b"L", name + b"\0"),
        extension(b"K", link + b"\0"),
        header(b"n" * 100, b"2", link=b"l" * 100, magic=b"ustar  \0"),
        file(b"next"),
    )
    (entry, _), (following, _) = read(data, *sizes)
    assert (entry.path, entry.link) == (name, link)
    assert (following.path, following.link) == (b"next", b"")


def _pair(offset: int, length: int) -> bytes:
    return b"%011o\0%011o\0" % (offset, length)


def test_gnu_sparse_with_continuations() -> None:
    pieces = [(i * 10_000, 512) for i in range(40)]
    size = 500_000
    stored = b"".join(bytes([i]) * 512 for i in range(40))
    pairs = [_pair(*piece) for piece in pieces]
    tail = bytes(41) + b"".join(pairs[:4]) + b"\x01" + b"%011o\0" % size
    first = header(b"f", b"S", size=len(stored), magic=b"ustar  \0", rest=tail)
    more = [
        (b"".join(pairs[at : at + 21]).ljust(504, b"\0") + bytes([at + 21 < 40])).ljust(512, b"\0")
        for at in (4, 25)
    ]
    entry, content = read_one(archive(first, *more, stored))
    assert (entry.kind, entry.size) == (Kind.FILE, size)
    assert entry.sparse == tuple(pieces)
    assert content == stored


def _sparse(version: int) -> bytes:
    """A file of 5,000 bytes with ``abc`` at 1,000 and ``defg`` at 4,096, in a pax format."""
    numbers = b"1000,3,4096,4"
    if version == 0:
        records = [
            (b"GNU.sparse.size", b"5000"),
            (b"GNU.sparse.numblocks", b"2"),
            (b"GNU.sparse.offset", b"1000"),
            (b"GNU.sparse.numbytes", b"3"),
            (b"GNU.sparse.offset", b"4096"),
            (b"GNU.sparse.numbytes", b"4"),
        ]
        return pax(*records) + file(b"f", b"abcdefg")
    if version == 1:
        records = [
            (b"GNU.sparse.size", b"5000"),
            (b"GNU.sparse.numblocks", b"2"),
            (b"GNU.sparse.map", numbers),
            (b"GNU.sparse.name", b"f"),
        ]
        return pax(*records) + file(b"GNUSparseFile.1/f", b"abcdefg")
    records = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"f"),
        (b"GNU.sparse.realsize", b"5000"),
    ]
    body = padded(b"2\n" + numbers.replace(b",", b"\n") + b"\n") + b"abcdefg"
    return pax(*records) + file(b"GNUSparseFile.1/f", body)


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("sizes", PIECES)
def test_pax_sparse(version: int, sizes: tuple[int, ...]) -> None:
    (entry, content), (following, _) = read(archive(_sparse(version), file(b"next")), *sizes)
    assert (entry.path, entry.size) == (b"f", 5000)
    assert entry.sparse == ((1000, 3), (4096, 4))
    assert content == b"abcdefg"
    assert following.path == b"next"


@pytest.mark.parametrize(
    "records",
    [
        [(b"GNU.sparse.map", b"0,5"), (b"GNU.sparse.size", b"3")],  # outside
        [(b"GNU.sparse.map", b"4,2,0,1"), (b"GNU.sparse.size", b"9")],  # not ascending
        [(b"GNU.sparse.map", b"0,2"), (b"GNU.sparse.size", b"9")],  # less than is stored
        [(b"GNU.sparse.map", b"0,3,9"), (b"GNU.sparse.size", b"9")],
        [(b"GNU.sparse.map", b"0,x"), (b"GNU.sparse.size", b"9")],
        [(b"GNU.sparse.map", b"0,3"), (b"GNU.sparse.size", b"x")],
        [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9")],  # "abc" is no map
    ],
)
def test_impossible_sparse_maps(records: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(TarError, match=r"sparse|number"):
        read(archive(pax(*records), file(b"f", b"abc")))


# --- other tars ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    (root / "d" / ("e" * 120) / ("f" * 120)).mkdir(parents=True)
    (root / "d" / ("e" * 120) / ("f" * 120) / "deep").write_bytes(b"deep" * 1000)
    (root / "empty").write_bytes(b"")
    (root / "late").write_bytes(b"late")
    os.utime(root / "late", ns=(0, 8_000_000_000_123_456_789))
    (root / "early").write_bytes(b"early")
    os.utime(root / "early", ns=(0, -1_500_000_000))
    os.link(root / "late", root / "later")
    (root / "s").symlink_to("x" * 150)
    os.mkfifo(root / "p")
    (root / os.fsdecode(b"\xe9\n name")).write_bytes(b"?")
    with (root / "sparse").open("wb") as sparse:
        for at in range(0, 3_000_000, 100_000):
            sparse.seek(at)
            sparse.write(b"%d" % at)
        sparse.truncate(5_000_000)
    (root / "suid").write_bytes(b"")
    (root / "suid").chmod(0o6755)
    return root


WRITERS = [
    pytest.param(("tar", f"--format={style}", *sparse), id=f"tar-{style}{'-sparse' * bool(sparse)}")
    for style in ("gnu", "posix")
    for sparse in ((), ("--sparse",))
] + [
    pytest.param(
        ("tar", "--sparse", "--format=posix", "--sparse-version=0.0"), id="tar-sparse-0.0"
    ),
    pytest.param(
        ("tar", "--sparse", "--format=posix", "--sparse-version=0.1"), id="tar-sparse-0.1"
    ),
    pytest.param(("bsdtar", "--format=pax"), id="bsdtar-pax"),
    pytest.param(("bsdtar", "--format=gnutar"), id="bsdtar-gnu"),
]


@pytest.mark.parametrize("command", WRITERS)
def test_archives_of_other_tars(command: tuple[str, ...], tree: Path) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]} here")
    made = subprocess.run(
        [*command, "-cf", "-", "-C", tree, "."],
        capture_output=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    found: dict[str, tuple[Entry, bytes]] = {}
    for entry, content in read(made.stdout, 5000):
        if entry.sparse is not None:
            whole = bytearray(entry.size)
            for offset, length in entry.sparse:
                whole[offset : offset + length], content = content[:length], content[length:]
            content = bytes(whole)
        found[os.fsdecode(entry.path)] = entry, content
    exact = "pax" in command[1] or "posix" in "".join(command)
    for path in [tree, *tree.rglob("*")]:
        status = path.lstat()
        entry, content = found.pop(str(path.relative_to(tree)).removeprefix("."))
        assert entry.mode == status.st_mode & 0o7777 or path.is_symlink()
        assert (entry.uid, entry.gid) == (status.st_uid, status.st_gid)
        mtime = status.st_mtime_ns if exact else status.st_mtime_ns // 10**9 * 10**9
        if command[0] == "tar" or path.name != "early":  # bsdtar gets times before 1970 wrong
            assert entry.mtime_ns == mtime
        if path.is_symlink():
            assert (entry.kind, entry.link) == (Kind.SYMLINK, os.fsencode(path.readlink()))
        elif path.is_dir():
            assert entry.kind is Kind.DIRECTORY
        elif path.is_fifo():
            assert entry.kind is Kind.FIFO
        elif entry.kind is Kind.HARD_LINK:
            assert entry.link in (b"late", b"later")
        else:
            assert content == path.read_bytes()
    assert not found
