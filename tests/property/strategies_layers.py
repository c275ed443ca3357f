"""Entries, trees of them, and archives that somebody has damaged."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from archives import BLOCK, archive, extension, file, header, pax
from pycontainer.layers import Entry, Kind

SECOND = 1_000_000_000

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: (
        not set(name) & set(b"/\0") and name not in (b".", b"..") and not name.startswith(b".wh.")
    )
)
few_names = st.sampled_from([b"a", b"b", b"c", b"\xff", b"d" * 120])
long_names = st.integers(90, 255).map(lambda size: b"n" * size)
paths = st.lists(st.one_of(names, few_names, long_names), min_size=1, max_size=4).map(b"/".join)
times = st.one_of(
    st.integers((2 - 2**31) * SECOND, (2**31 - 1) * SECOND),  # what all file systems keep
    st.integers(0, 2**31).map(lambda seconds: seconds * SECOND),
)
owners = st.one_of(st.just(0), st.integers(0, 2**32 - 2))
modes = st.integers(0, 0o7777)
xattrs = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).map(
        "user.x.{}".format
    ),
    st.binary(max_size=100),
    max_size=3,
)
contents = st.one_of(st.binary(max_size=1500), st.integers(0, 700_000).map(bytes))


@st.composite
def entries(draw: st.DrawFn, path: bytes | None = None) -> Entry:
    """Any entry that a tar can hold."""
    kind = draw(st.sampled_from(Kind))
    entry = Entry(
        draw(paths) if path is None else path,
        kind,
        draw(modes),
        draw(owners),
        draw(owners),
        draw(times),
        xattrs=draw(xattrs),
    )
    if kind is Kind.FILE:
        fill(entry, draw(contents))
    elif kind is Kind.SYMLINK:
        entry.link = draw(st.one_of(paths, long_names, st.just(b"../" * 60 + b"x")))
    elif kind is Kind.HARD_LINK:
        entry.link = draw(paths)
    elif kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE):
        entry.major, entry.minor = draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1))
    return entry


def fill(entry: Entry, data: bytes) -> None:
    entry.size = len(data)
    entry.content = lambda: iter([data])


@st.composite
def trees(draw: st.DrawFn, kinds: Sequence[Kind] = tuple(Kind)) -> list[Entry]:
    """The entries of a directory as a walk gives them: sorted, each below a directory."""
    found: dict[bytes, Entry] = {b"": Entry(b"", Kind.DIRECTORY, draw(modes), mtime_ns=draw(times))}
    for parts in draw(st.lists(st.lists(few_names, min_size=1, max_size=3), max_size=10)):
        for depth in range(1, len(parts) + 1):
            path = b"/".join(parts[:depth])
            if path in found and found[path].kind is Kind.DIRECTORY:
                continue
            if path in found:
                break
            entry = draw(entries(path))
            if depth < len(parts):
                entry = Entry(
                    path, Kind.DIRECTORY, entry.mode, entry.uid, entry.gid, entry.mtime_ns
                )
            elif entry.kind not in kinds or entry.kind is Kind.HARD_LINK:
                entry.kind = Kind.FILE
                entry.link, entry.major, entry.minor = b"", 0, 0
                fill(entry, draw(contents))
            found[path] = entry
    in_order = sorted(
        found.values(), key=lambda entry: entry.path.split(b"/") if entry.path else []
    )
    return [draw(_perhaps_linked(entry, in_order)) for entry in in_order]


@st.composite
def _perhaps_linked(draw: st.DrawFn, entry: Entry, tree: list[Entry]) -> Entry:
    """Some files become further names of the ones before them."""
    if entry.kind is not Kind.FILE or draw(st.integers(0, 4)):
        return entry
    before = [
        other for other in tree[: tree.index(entry)] if other.kind is Kind.FILE and not other.link
    ]
    if not before:
        return entry
    first = draw(st.sampled_from(before))
    entry.link = first.path  # marks it, so that no link leads to a link
    return Entry(
        entry.path,
        Kind.HARD_LINK,
        first.mode,
        first.uid,
        first.gid,
        first.mtime_ns,
        link=first.path,
    )


piece_sizes = st.lists(st.integers(1, 100_000), min_size=1, max_size=4)

_PARTS = [
    header(b"./", b"5", mode=0o755),
    header(b"d/", b"5", mode=0o755),
    file(b"d/f", b"content" * 200),
    header(b"d/s", b"2", link=b"../../x"),
    header(b"d/h", b"1", link=b"d/f"),
    header(b"up", b"2", link=b".."),
    file(b"up/f", b"x"),
    header(b"null", b"3", major=1, minor=3),
    header(b"fifo", b"6"),
    file(b"d/.wh.gone"),
    file(b"d/.wh..wh..opq"),
    file(b".wh.d"),
    pax((b"path", b"p" * 200), (b"mtime", b"-1.5"), (b"SCHILY.xattr.user.k", b"v"))
    + file(b"x", b"y"),
    pax((b"uid", b"7"), flag=b"g"),
    extension(b"L", b"l" * 300 + b"\0") + file(b"x", b"y"),
    extension(b"K", b"k" * 300 + b"\0") + header(b"k", b"2"),
    pax((b"GNU.sparse.size", b"9000"), (b"GNU.sparse.map", b"10,3,5000,2")) + file(b"s", b"abcde"),
    pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"900"))
    + file(b"t", b"1\n5\n3\n".ljust(BLOCK, b"\0") + b"abc"),
    header(
        b"g",
        b"S",
        size=3,
        magic=b"ustar  \0",
        rest=bytes(41) + (b"%011o\0%011o\0" % (512, 3)).ljust(97, b"\0") + b"%011o\0" % 600,
    )
    + b"abc".ljust(BLOCK, b"\0"),
]


@st.composite
def damaged_archives(draw: st.DrawFn) -> bytes:
    """Archives of all formats, changed here and there, their checksums often made right again."""
    data = bytearray(archive(*draw(st.lists(st.sampled_from(_PARTS), min_size=1, max_size=8))))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        change = draw(st.sampled_from(["byte", "field", "cut", "insert", "repeat"]))
        if change == "byte":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif change == "field":
            base = at - at % BLOCK
            start, end = draw(st.sampled_from(_FIELDS))
            value = draw(st.one_of(st.sampled_from(_VALUES), st.binary(max_size=end - start)))
            data[base + start : base + end] = value[: end - start].ljust(end - start, b"\0")
        elif change == "cut":
            del data[at : at + draw(st.sampled_from([1, BLOCK, 3000]))]
        elif change == "insert":
            data[at:at] = draw(st.one_of(st.binary(max_size=20), st.just(bytes(BLOCK))))
        else:
            base = at - at % BLOCK
            data[base:base] = data[base : base + BLOCK]
    if draw(st.booleans()):
        for base in range(0, len(data) - BLOCK + 1, BLOCK):
            block = data[base : base + BLOCK]
            if block[257:262] == b"ustar":
                block[148:156] = b" " * 8
                data[base + 148 : base + 156] = b"%06o\0 " % sum(block)
    return bytes(data)


_FIELDS = [
    (0, 100),
    (100, 108),
    (108, 116),
    (124, 136),
    (136, 148),
    (156, 157),
    (157, 257),
    (345, 500),
]
_VALUES = [
    b"../../outside",
    b"/",
    b"..",
    b"",
    b".wh...",
    b".wh.",
    b"up/up/outside",
    b"d",
    b"\x80" + bytes(10) + b"\xff",
    b"\xff" * 12,
    b"77777777777",
    b"00000001000",
    *(bytes([flag]) for flag in b"01234567LKxgSX\0"),
]
