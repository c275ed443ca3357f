"""Entries, trees of them, and archives that somebody has damaged."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from hypothesis import strategies as st

from archives import BLOCK, FIELDS, PARTS, VALUES, archive, with_checksums
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


@st.composite
def root_trees(draw: st.DrawFn) -> list[Entry]:
    """Trees as root extracts and walks them: with what only root can give to a file."""
    tree = draw(trees())
    for entry in tree:
        entry.xattrs = {
            _for_root(entry, key): value
            for key, value in sorted(entry.xattrs.items())
            if entry.kind is not Kind.HARD_LINK
        }
        if entry.kind is Kind.SYMLINK:
            entry.mode = 0o777
        if entry.kind is Kind.CHARACTER_DEVICE and not entry.major:
            entry.major = 1  # 0:0 is a whiteout
    return tree


def _for_root(entry: Entry, key: str) -> str:
    """All but files and directories have attributes of root only; those may have both."""
    trusted = entry.kind not in (Kind.FILE, Kind.DIRECTORY) or len(key) % 2
    return key.replace("user.", "trusted.", 1) if trusted else key


VERBS = (
    "append",
    "chmod",
    "chown",
    "device",
    "fifo",
    "grow",
    "link",
    "mkdir",
    "remake",
    "remove",
    "rename",
    "rewrite",
    "symlink",
    "touch",
    "untag",
    "tag",
    "write",
)


@frozen
class Change:
    """Something that a program does to a file.

    Attributes:
        verb: One of `VERBS`.
        which: Which of the paths that are there, and in which of the directories, by number.
        name: Of what is made.
        mode: What it gets.
        data: What is written.
        mtime_ns: The time it gets.
    """

    verb: str
    which: tuple[int, int]
    name: bytes
    mode: int
    data: bytes
    mtime_ns: int


changes: st.SearchStrategy[list[Change]] = st.lists(
    st.builds(
        Change,
        st.sampled_from(VERBS),
        st.tuples(st.integers(0, 30), st.integers(0, 10)),
        few_names,
        modes,
        st.binary(max_size=50),
        times,
    ),
    min_size=1,
    max_size=8,
)

piece_sizes = st.lists(st.integers(1, 100_000), min_size=1, max_size=4)


@st.composite
def damaged_archives(draw: st.DrawFn) -> bytes:
    """Archives of all formats, changed here and there, their checksums often made right again."""
    data = bytearray(archive(*draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=8))))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        change = draw(st.sampled_from(["byte", "field", "cut", "insert", "repeat"]))
        if change == "byte":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif change == "field":
            base = at - at % BLOCK
            start, end = draw(st.sampled_from(FIELDS))
            value = draw(st.one_of(st.sampled_from(VALUES), st.binary(max_size=end - start)))
            data[base + start : base + end] = value[: end - start].ljust(end - start, b"\0")
        elif change == "cut":
            del data[at : at + draw(st.sampled_from([1, BLOCK, 3000]))]
        elif change == "insert":
            data[at:at] = draw(st.one_of(st.binary(max_size=20), st.just(bytes(BLOCK))))
        else:
            base = at - at % BLOCK
            data[base:base] = data[base : base + BLOCK]
    return with_checksums(data) if draw(st.booleans()) else bytes(data)
