"""Laws of layers: nothing is lost on the way there and back, and nothing gets out."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import example, given, target
from hypothesis import strategies as st

from archives import END, file, header, in_pieces, joined
from property.strategies_layers import (
    contents,
    damaged_archives,
    entries,
    few_names,
    piece_sizes,
    trees,
)
from pycontainer._linux.tree import remove_tree
from pycontainer.errors import Error
from pycontainer.layers import (
    Entry,
    Extractor,
    Kind,
    Ownership,
    _compression,
    decompress,
    read_entries,
    unpack,
    walk_diff,
    walk_tree,
    write_tar,
)
from pycontainer.layers._zstd_frames import ZstdFrames
from pycontainer.oci import Compression

USER = Ownership.USER
Facts = tuple[object, ...]


@contextmanager
def directory() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp())
    try:
        yield base
    finally:
        remove_tree(base)


def facts(entry: Entry) -> Facts:
    """All that an entry says."""
    content = joined(entry.content()) if entry.content is not None else b""
    link_only = entry.kind is Kind.HARD_LINK
    return (
        entry.path,
        entry.kind,
        *(() if link_only else (entry.mode, entry.uid, entry.gid, entry.mtime_ns)),
        entry.link,
        entry.major,
        entry.minor,
        *(() if link_only else (tuple(sorted(entry.xattrs.items())),)),
        entry.size,
        content,
    )


def extract(entries: Iterable[Entry], root: Path, *, apply: bool = False) -> None:
    with Extractor(root, USER, apply=apply) as extractor:
        for entry in entries:
            extractor.put(entry)
        extractor.finish()


# --- tar -------------------------------------------------------------------------------------


@given(st.lists(entries(), max_size=5), piece_sizes)
def test_reading_undoes_writing(given: list[Entry], sizes: list[int]) -> None:
    data = joined(write_tar(given))
    assert len(data) % 512 == 0
    back = [(facts(entry), dict(entry.xattrs)) for entry in read_entries(in_pieces(data, *sizes))]
    assert back == [(facts(entry), dict(entry.xattrs)) for entry in given]


@given(st.lists(entries(), max_size=5))
def test_writing_undoes_reading(given: list[Entry]) -> None:
    data = joined(write_tar(given))
    assert joined(write_tar(read_entries([data]))) == data


@given(contents, st.sampled_from(Compression), piece_sizes, piece_sizes)
def test_decompressing_undoes_compressing(
    data: bytes, kind: Compression, there: list[int], back: list[int]
) -> None:
    compressed = joined(_compression.compress(in_pieces(data, *there), kind))
    assert compressed == joined(_compression.compress([data] if data else [], kind))
    assert joined(decompress(in_pieces(compressed, *back), kind)) == data


@given(st.binary(max_size=300), st.integers(1, 50))
def test_following_frames_never_fails(data: bytes, size: int) -> None:
    for beginning in (b"", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"):
        whole, pieces = ZstdFrames(), ZstdFrames()
        whole.feed(beginning + data)
        for piece in in_pieces(beginning + data, size):
            pieces.feed(piece)
        assert whole.complete == pieces.complete


# --- directories -----------------------------------------------------------------------------


def _as_user(entry: Entry) -> Facts:
    """What can be kept of an entry by who is not root: symlinks and fifos lose their attributes."""
    if entry.kind in (Kind.SYMLINK, Kind.FIFO):
        entry.xattrs = {}
    if entry.kind is Kind.SYMLINK:
        entry.mode = 0o777
    if entry.kind is Kind.FIFO:
        entry.mode = entry.mode & 0o1777 | 0o400
    return facts(entry)


@given(trees())
def test_walking_undoes_extracting(tree: list[Entry]) -> None:
    with directory() as root:
        extract(tree, root)
        assert [facts(entry) for entry in walk_tree(root, ownership=USER)] == [
            _as_user(entry) for entry in tree
        ]


@given(trees(), trees())
def test_one_tree_over_another_is_their_union(lower: list[Entry], upper: list[Entry]) -> None:
    """Each path is as the upper tree has it, else as the lower one has it unless it is gone."""
    merged: dict[bytes, Entry] = {entry.path: entry for entry in lower}
    for entry in upper:
        merged[entry.path] = entry
        if entry.kind is not Kind.DIRECTORY:
            merged = {
                path: other
                for path, other in merged.items()
                if not path.startswith(entry.path + b"/")
            }
    with directory() as root:
        extract(lower, root)
        extract(upper, root, apply=True)
        found = {
            entry.path: (entry.kind, facts(entry)) for entry in walk_tree(root, ownership=USER)
        }
        assert found.keys() == merged.keys()
        for path, entry in merged.items():
            kind, said = found[path]
            if Kind.HARD_LINK not in (kind, entry.kind):
                assert said == _as_user(entry)


# --- whiteouts -------------------------------------------------------------------------------


@st.composite
def layers(draw: st.DrawFn) -> list[Entry]:
    """A tree with whiteouts in it where it has nothing itself, as `walk_diff` gives it."""
    tree = [entry for entry in draw(trees()) if entry.path]
    held = {entry.path for entry in tree}
    directories = [b"", *(entry.path for entry in tree if entry.kind is Kind.DIRECTORY)]
    gone: dict[bytes, Entry] = {}
    for above, name in draw(
        st.lists(st.tuples(st.sampled_from(directories), few_names), max_size=4)
    ):
        lead = above + b"/" if above else b""
        if lead + name not in held:
            gone[lead + name] = Entry(lead + b".wh." + name, Kind.FILE, 0o600)
    for above in draw(st.sets(st.sampled_from(directories), max_size=2)):
        lead = above + b"/" if above else b""
        gone[lead] = Entry(lead + b".wh..wh..opq", Kind.FILE, 0o600)
    return [
        entry
        for _, entry in sorted(
            [*((entry.path, entry) for entry in tree), *gone.items()],
            # An opaque marker stands before all else in its directory.
            key=lambda item: item[0].split(b"/"),
        )
    ]


@given(layers())
def test_diffing_undoes_extracting(layer: list[Entry]) -> None:
    with directory() as root:
        extract(layer, root)
        found = [facts(entry) for entry in walk_diff(root, ownership=USER)]
        assert found == [_as_user(entry) for entry in layer]


def _applied(lower: list[Entry], layer: list[Entry]) -> set[bytes]:
    """The paths that are left, by the words of the image specification."""
    paths = {entry.path for entry in lower}
    kinds = {entry.path: entry.kind for entry in layer}

    def drop(path: bytes, *, below: bool) -> None:
        lead = path + b"/" if path else b""
        gone = [other for other in paths if other.startswith(lead) and other != b""]
        paths.difference_update(gone if below else [*gone, path])

    for entry in layer:
        above, slash, name = entry.path.rpartition(b"/")
        if name == b".wh..wh..opq":
            drop(above, below=True)
        elif name.startswith(b".wh."):
            drop(above + slash + name[4:], below=False)
    for path, kind in kinds.items():
        if b".wh." not in path:
            if kind is not Kind.DIRECTORY:
                drop(path, below=True)
            paths.add(path)
    return paths


@given(trees(), layers(), st.randoms(use_true_random=False))
def test_applying_deletes_what_is_below_and_nothing_else(
    lower: list[Entry], layer: list[Entry], random: object
) -> None:
    """Wherever in the layer its whiteouts stand."""
    whiteouts = [entry for entry in layer if b".wh." in entry.path]
    others = [entry for entry in layer if b".wh." not in entry.path]
    wanted = _applied(lower, layer)
    for order in (layer, others + whiteouts):
        with directory() as root:
            extract(lower, root)
            extract(order, root, apply=True)
            assert {entry.path for entry in walk_tree(root, ownership=USER)} == wanted


# --- damage ----------------------------------------------------------------------------------


@given(damaged_archives(), st.booleans(), st.sampled_from(Compression))
@example(header(b"up", b"2", link=b"..") + file(b"up/outside", b"x") + END, True, Compression.NONE)
def test_no_archive_crashes_or_escapes(data: bytes, apply: bool, kind: Compression) -> None:
    blob = joined(_compression.compress([data], kind))
    with directory() as base:
        (base / "outside").write_bytes(b"untouched")
        root = base / "in" / "root"
        root.mkdir(parents=True)
        os.utime(base / "in", ns=(0, 0))
        os.utime(base, ns=(0, 0))
        try:
            unpacked = unpack(
                io.BytesIO(blob),
                root,
                ownership=USER,
                whiteouts="apply" if apply else "overlay",
                compression=kind,
            )
            target(unpacked.entries, label="entries")
        except Error:
            pass
        assert sorted(os.listdir(base)) == ["in", "outside"]
        assert os.listdir(base / "in") == ["root"]
        assert (base / "outside").read_bytes() == b"untouched"
        assert (base / "outside").stat().st_nlink == 1
        assert base.stat().st_mtime_ns == (base / "in").stat().st_mtime_ns == 0


@given(damaged_archives(), piece_sizes)
def test_pieces_do_not_change_what_is_read(data: bytes, sizes: list[int]) -> None:
    def read(chunks: Iterable[bytes]) -> tuple[list[Facts], str]:
        found: list[Facts] = []
        try:
            found.extend(map(facts, read_entries(chunks)))
        except Error as error:
            return found, str(error).partition(" (near")[0]
        return found, ""

    assert read([data]) == read(in_pieces(data, *sizes))
