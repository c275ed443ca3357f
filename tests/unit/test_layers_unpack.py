"""Unpacking: what is written, what is refused, and that nothing outside the root is touched."""

from __future__ import annotations

import io
import os
import random
import re
import resource
import stat
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from archives import archive, extension, file, header, joined, pax
from pycontainer.content import BlobDir
from pycontainer.errors import (
    DigestMismatch,
    Error,
    LayerError,
    SizeMismatch,
    TarError,
    UnsafePath,
)
from pycontainer.layers import (
    Entry,
    Extractor,
    Kind,
    LayerEvent,
    Ownership,
    _compression,
    unpack,
    walk_tree,
)
from pycontainer.layers._reader import TarReader
from pycontainer.oci import Compression, Descriptor, Digest

USER = Ownership.USER


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "box" / "root"
    path.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("untouched")
    return path


@pytest.fixture
def outside(root: Path, tmp_path: Path) -> Iterator[Path]:
    """A directory next to the root, which nothing may have touched at the end."""
    path = tmp_path / "outside"
    before = _picture(tmp_path, root)
    yield path
    assert _picture(tmp_path, root) == before


def _picture(base: Path, root: Path) -> dict[str, object]:
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.lstat().st_nlink)
        for path in [base, *base.rglob("*")]
        if path != root and root not in path.parents
    }


def put(root: Path, *parts: bytes, apply: bool = False) -> None:
    unpack(
        io.BytesIO(archive(*parts)),
        root,
        ownership=USER,
        whiteouts="apply" if apply else "overlay",
    )


# --- what is written -------------------------------------------------------------------------


def test_kinds_modes_and_times(root: Path) -> None:
    put(
        root,
        header(b"./", b"5", mode=0o711, mtime=5),
        header(b"d/", b"5", mode=0o775, mtime=6),
        pax((b"mtime", b"-3.25"), (b"SCHILY.xattr.user.k", b"v")),
        file(b"d/f", b"hello", mode=0o666),
        header(b"d/s", b"2", link=b"/f", mtime=7),
        header(b"d/h", b"1", link=b"d/f"),
        header(b"d/p", b"6", mode=0o622, mtime=8),
        file(b"big", bytes(700_000), mtime=9),
    )
    f = (root / "d/f").stat()
    assert (root / "d/f").read_bytes() == b"hello"
    assert stat.S_IMODE(f.st_mode) == 0o666
    assert f.st_mtime_ns == -3_250_000_000
    assert os.getxattr(root / "d/f", "user.k") == b"v"
    assert os.readlink(root / "d/s") == "/f"
    assert (root / "d/s").lstat().st_mtime == 7
    assert (root / "d/h").stat().st_ino == f.st_ino
    fifo = (root / "d/p").stat()
    assert stat.S_ISFIFO(fifo.st_mode)
    assert (stat.S_IMODE(fifo.st_mode), fifo.st_mtime) == (0o622, 8)
    assert (root / "big").stat().st_size == 700_000
    d = (root / "d").stat()
    assert (stat.S_IMODE(d.st_mode), d.st_mtime) == (0o775, 6)
    r = root.stat()
    assert (stat.S_IMODE(r.st_mode), r.st_mtime) == (0o711, 5)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_no_umask_changes_a_mode(root: Path, umask: int) -> None:
    modes = (0o755, 0o777, 0o700, 0o555)
    parts = [header(b"%o/" % mode, b"5", mode=mode) for mode in modes]
    parts += [file(b"%o/%o" % (mode, mode), b"x", mode=mode) for mode in modes]
    parts += [file(b"implicit/f")]
    before = os.umask(umask)
    try:
        put(root, *parts)
    finally:
        assert os.umask(before) == umask
    for mode in modes:
        assert stat.S_IMODE((root / f"{mode:o}").stat().st_mode) == mode
        assert stat.S_IMODE((root / f"{mode:o}/{mode:o}").stat().st_mode) == mode
    assert stat.S_IMODE((root / "implicit").stat().st_mode) == 0o755


def test_directories_that_shut_their_owner_out_are_filled_first(root: Path) -> None:
    put(
        root,
        header(b"d/", b"5", mode=0o000, mtime=1),
        header(b"d/e/", b"5", mode=0o500, mtime=2),
        file(b"d/e/f", b"x", mode=0o000),
    )
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o500  # so that layers can be made of it
    assert stat.S_IMODE((root / "d/e").stat().st_mode) == 0o500
    assert stat.S_IMODE((root / "d/e/f").stat().st_mode) == 0o400
    assert ((root / "d").stat().st_mtime, (root / "d/e").stat().st_mtime) == (1, 2)
    modes = {entry.path: entry.mode for entry in walk_tree(root, ownership=USER)}
    assert (modes[b"d"], modes[b"d/e"], modes[b"d/e/f"]) == (0o000, 0o500, 0o000)
    for path in ("d/e", "d"):  # so that tmp_path can be removed
        (root / path).chmod(0o700)


def test_owners_and_devices_of_others_are_written_down(root: Path) -> None:
    put(
        root,
        header(b"d/", b"5", mode=0o2755, uid=3, gid=4),
        pax(
            (b"SCHILY.xattr.security.capability", b"\1\2"),
            (b"SCHILY.xattr.user.pycontainer.meta", b"9:9:777"),
        ),
        file(b"d/f", b"x", mode=0o4755, uid=1, gid=2),
        header(b"null", b"3", mode=0o666, uid=5, major=1, minor=3, mtime=9),
        header(b"disk", b"4", mode=0o660, gid=6, major=8, minor=1),
        file(b"plain", b"x"),
    )
    f = (root / "d/f").stat()
    assert (f.st_uid, stat.S_IMODE(f.st_mode)) == (os.geteuid(), 0o755)
    assert stat.S_ISREG((root / "null").stat().st_mode)
    assert not os.listxattr(root / "plain")
    found = {entry.path: entry for entry in walk_tree(root, ownership=USER)}
    d, f2, null, disk = (found[path] for path in (b"d", b"d/f", b"null", b"disk"))
    assert (d.mode, d.uid, d.gid) == (0o2755, 3, 4)
    assert (f2.mode, f2.uid, f2.gid) == (0o4755, 1, 2)
    assert f2.xattrs == {"security.capability": b"\1\2", "user.pycontainer.meta": b"9:9:777"}
    assert (null.kind, null.mode, null.uid, null.major, null.minor) == (
        Kind.CHARACTER_DEVICE,
        0o666,
        5,
        1,
        3,
    )
    assert null.mtime_ns == 9_000_000_000
    assert (disk.kind, disk.mode, disk.gid, disk.major, disk.minor) == (
        Kind.BLOCK_DEVICE,
        0o660,
        6,
        8,
        1,
    )


def test_a_changed_mode_wins_over_the_one_written_down(root: Path) -> None:
    put(root, file(b"f", b"x", mode=0o4755, uid=1, gid=2))
    (root / "f").chmod(0o700)
    entry = next(entry for entry in walk_tree(root, ownership=USER) if entry.path)
    assert (entry.mode, entry.uid) == (0o700, 1)


def test_sparse_files_keep_their_holes(root: Path) -> None:
    put(
        root,
        pax((b"GNU.sparse.size", b"100000000"), (b"GNU.sparse.map", b"5000000,3,99999999,1")),
        file(b"f", b"abcd"),
    )
    status = (root / "f").stat()
    assert status.st_size == 100_000_000
    assert status.st_blocks * 512 < 1_000_000
    with (root / "f").open("rb") as f:
        f.seek(5_000_000)
        assert f.read(4) == b"abc\0"
        f.seek(99_999_999)
        assert f.read() == b"d"


def test_names_of_any_bytes(root: Path) -> None:
    names = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."] + [b"\xff" * 255]
    put(root, *[extension(b"L", name + b"\0") + file(b"x") for name in names])
    assert sorted(os.listdir(os.fsencode(root))) == sorted(names)


def test_overlays_attributes_are_not_a_layers_to_set(root: Path) -> None:
    put(
        root,
        pax(
            (b"SCHILY.xattr.user.overlay.opaque", b"y"),
            (b"SCHILY.xattr.trusted.overlay.redirect", b"/"),
        ),
        header(b"d/", b"5", mode=0o755),
        pax(
            (b"SCHILY.xattr.security.selinux", b"label"),
            (b"SCHILY.xattr.user.overlay.metacopy", b""),
        ),
        file(b"f"),
    )
    assert os.listxattr(root / "d") == []
    assert os.listxattr(root / "f") == []


# --- entries that meet -----------------------------------------------------------------------


def test_later_entries_replace_earlier_ones(root: Path) -> None:
    put(
        root,
        file(b"a", b"first"),
        file(b"a", b"second"),
        header(b"b/", b"5", mode=0o700),
        file(b"b/x", b"x"),
        file(b"b", b"a file now"),
        header(b"c", b"2", link=b"a"),
        file(b"c", b"no link now"),
        file(b"d", b"x"),
        header(b"d/", b"5", mode=0o755, mtime=3),
        file(b"d/x", b"in a directory now"),
        header(b"e", b"2", link=b"a"),
        header(b"e/", b"5", mode=0o755),
        file(b"e/f", b"x"),
        header(b"g/", b"5", mode=0o700, mtime=1),
        header(b"g/", b"5", mode=0o755, mtime=2),
    )
    assert (root / "a").read_bytes() == b"second"
    assert (root / "b").read_bytes() == b"a file now"
    assert (root / "c").read_bytes() == b"no link now"
    assert (root / "d/x").exists()
    assert (root / "d").stat().st_mtime == 3
    assert (root / "e/f").exists()
    assert ((root / "g").stat().st_mode & 0o777, (root / "g").stat().st_mtime) == (0o755, 2)


def test_replaced_directories_leave_no_trace(root: Path) -> None:
    """Time and mode that a directory was to get at the end must not reach what replaced it."""
    put(
        root,
        header(b"other/", b"5", mode=0o755, mtime=50),
        header(b"d/", b"5", mode=0o000, mtime=40),
        header(b"d/e/", b"5", mode=0o000, mtime=41),
        file(b"d/e/f", b"x"),
        header(b"d", b"2", link=b"other", mtime=42),
        header(b"other/e", b"5", mode=0o755, mtime=43),
    )
    assert os.readlink(root / "d") == "other"
    assert (root / "d").lstat().st_mtime == 42
    assert ((root / "other").stat().st_mode & 0o777, (root / "other").stat().st_mtime) == (
        0o755,
        50,
    )
    assert (root / "other/e").stat().st_mtime == 43


def test_symlinks_on_the_way_are_followed_inside_the_root(root: Path, outside: Path) -> None:
    put(
        root,
        header(b"run/", b"5", mode=0o755),
        header(b"var/run", b"2", link=b"/run"),
        file(b"var/run/a", b"1"),
        header(b"deep/er/up", b"2", link=b"../../run"),
        file(b"deep/er/up/b", b"2"),
        header(b"new", b"2", link=b"not/yet/there"),
        file(b"new/c", b"3"),
        header(b"var/run/d/", b"5", mode=0o755, mtime=4),
        header(b"self", b"2", link=b"./var/../self2"),
        header(b"self2", b"2", link=b"run"),
        file(b"self/e", b"5"),
    )
    assert sorted(os.listdir(root / "run")) == ["a", "b", "d", "e"]
    assert (root / "run/d").stat().st_mtime == 4
    assert (root / "not/yet/there/c").read_bytes() == b"3"


def test_a_symlink_at_the_end_is_replaced_not_followed(root: Path, outside: Path) -> None:
    put(
        root,
        header(b"f", b"2", link=str(outside / "file").encode()),
        file(b"f", b"evil"),
        header(b"d", b"2", link=str(outside).encode()),
        header(b"d/", b"5", mode=0o700),
        file(b"d/file", b"evil"),
        header(b"h", b"2", link=str(outside / "file").encode()),
        file(b"target"),
        header(b"h", b"1", link=b"target"),
        header(b"p", b"2", link=str(outside / "file").encode()),
        header(b"p", b"6", mode=0o7777, mtime=1),
        header(b"s", b"2", link=str(outside).encode()),
        header(b"s", b"2", link=b"elsewhere", mtime=1),
    )
    assert (root / "f").read_bytes() == b"evil"
    assert (root / "d/file").read_bytes() == b"evil"


def test_a_hard_link_to_a_symlink_links_the_symlink(root: Path, outside: Path) -> None:
    put(
        root,
        header(b"s", b"2", link=str(outside / "file").encode()),
        header(b"h", b"1", link=b"s"),
    )
    assert (root / "h").is_symlink()


def test_hard_links_may_cross_symlinks_and_repeat(root: Path) -> None:
    put(
        root,
        file(b"run/f", b"x"),
        header(b"l", b"2", link=b"run"),
        header(b"h", b"1", link=b"l/f"),
        header(b"h", b"1", link=b"run/f"),
        header(b"run/f", b"1", link=b"h"),
        file(b"other"),
        header(b"other", b"1", link=b"h"),
    )
    assert (root / "h").stat().st_nlink == 3


# --- what is refused -------------------------------------------------------------------------

UNSAFE: dict[str, list[bytes]] = {
    "dots": [file(b"../../etc/passwd", b"evil")],
    "dots in the middle": [file(b"a/../../outside/file", b"evil")],
    "dots at the end": [header(b"a/..", b"5", mode=0o777)],
    "only dots": [header(b"..", b"5", mode=0o777)],
    "a file named dots": [file(b"a/..", b"evil")],
    "dots after a slash": [file(b"/../outside/file", b"evil")],
    "dots in pax": [pax((b"path", b"../outside/file")), file(b"x", b"evil")],
    "dots in a long name": [extension(b"L", b"../outside/file\0"), file(b"x", b"evil")],
    "hard link upwards": [header(b"h", b"1", link=b"../outside/file")],
    "hard link to dots": [header(b"h", b"1", link=b"a/..")],
    "hard link to the root": [header(b"h", b"1", link=b"/")],
    "a file as root": [file(b"./", b"evil")],
    "a symlink as root": [header(b".", b"2", link=b"../outside")],
    "a symlink loop": [
        header(b"a", b"2", link=b"b"),
        header(b"b", b"2", link=b"a"),
        file(b"a/f", b"evil"),
    ],
    "whiteout of nothing": [file(b".wh.")],
    "whiteout of the directory": [file(b"d/.wh..")],
    "whiteout of the one above": [file(b"d/.wh...")],
    "below a whiteout": [file(b".wh.d/f")],
}


@pytest.mark.parametrize("apply", [False, True])
@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_paths(name: str, apply: bool, root: Path, outside: Path) -> None:
    with pytest.raises(UnsafePath) as caught:
        put(root, *UNSAFE[name], apply=apply)
    *_, entry = TarReader(iter([archive(*UNSAFE[name])]))
    assert caught.value.message.startswith(f"entry {os.fsdecode(entry.path)!r}: ")


@pytest.mark.parametrize("target", ["..", "../..", "/..", "../../outside", "d/../../outside"])
def test_a_layer_that_writes_through_a_symlink_out_of_the_root(
    target: str, root: Path, outside: Path, tmp_path: Path
) -> None:
    link = header(b"out", b"2", link=target.encode())
    put(root, link)  # alone it does no harm: in a container it leads to the root
    for entry in (file(b"out/file", b"evil"), header(b"out/a/.wh.outside", b"0")):
        with pytest.raises(
            UnsafePath, match=r"^entry 'out/.*the symlink 'out' to .* out of the root"
        ):
            put(root, link, entry)
    assert (outside / "file").read_text() == "untouched"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == 4]


@pytest.mark.parametrize(
    ("target", "apply"),
    [("{outside}", False)]
    + [(target, True) for target in ("..", "../..", "/..", "../../outside", "{outside}")],
)
def test_symlinks_cannot_lead_out(
    target: str, apply: bool, root: Path, outside: Path, tmp_path: Path
) -> None:
    link = target.format(outside=outside).encode()
    put(
        root,
        header(b"out", b"2", link=link),
        file(b"out/file", b"evil"),
        header(b"out/new/", b"5", mode=0o777),
        header(b"out/fifo", b"6"),
        header(b"out/.wh.outside", b"0"),
        header(b"out/box/.wh..wh..opq", b"0"),
        apply=apply,
    )
    assert (outside / "file").read_text() == "untouched"
    evil = [path for path in tmp_path.rglob("file") if path.read_bytes() == b"evil"]
    assert evil
    assert all(root in path.parents for path in evil)


def test_hard_links_cannot_reach_out(root: Path, outside: Path) -> None:
    put_out = header(b"out", b"2", link=str(outside).encode())
    with pytest.raises(LayerError, match="does not hold before it"):
        put(root, put_out, header(b"h", b"1", link=b"out/file"))
    with pytest.raises(LayerError, match="does not hold before it"):
        put(root, header(b"i", b"1", link=str(outside / "file").encode()))


def test_a_directory_cannot_be_hard_linked(root: Path) -> None:
    with pytest.raises(LayerError, match="not permitted"):
        put(root, header(b"d/", b"5", mode=0o755), header(b"h", b"1", link=b"d"))


def test_a_file_cannot_hold_entries(root: Path) -> None:
    with pytest.raises(LayerError, match="no directory"):
        put(root, file(b"f", b"x"), file(b"f/g", b"y"))


@pytest.mark.parametrize("name", [b"n" * 256, b"d/" * 2100 + b"f"])
def test_names_that_no_file_system_takes(name: bytes, root: Path) -> None:
    with pytest.raises(LayerError):
        put(root, pax((b"path", name)), file(b"x"))


def test_descriptors_are_bounded_and_closed(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 40, hard))
    try:
        parts = [file(b"%d/%d/f" % (i % 7, i)) for i in range(1000)]
        parts += [header(b"wide/%d/" % i, b"5", mode=0o755) for i in range(1000)]
        parts += [extension(b"L", b"d/" * 900 + b"f\0"), file(b"x")]
        put(root, *parts)
        with pytest.raises(UnsafePath):
            put(root, file(b"x/../y"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == before
    assert sum(1 for _ in os.scandir(root / "wide")) == 1000


# --- whiteouts -------------------------------------------------------------------------------


def _is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(path: Path) -> bool:
    return "user.overlay.opaque" in os.listxattr(path)


def test_whiteouts_become_overlays(root: Path) -> None:
    put(
        root,
        header(b"a/", b"5", mode=0o755),
        file(b"a/.wh.gone"),
        file(b"a/.wh..wh..opq"),
        file(b".wh.b"),
        file(b".wh..wh.aufs"),
        file(b".wh..wh.plnk"),
    )
    assert _is_whiteout(root / "a/gone")
    assert _is_opaque(root / "a")
    assert _is_whiteout(root / "b")
    assert sorted(os.listdir(root)) == ["a", "b"]


def test_whiteouts_spare_their_own_layer(root: Path) -> None:
    put(
        root,
        file(b"a", b"kept"),
        file(b".wh.a"),
        file(b"d/x", b"kept"),
        file(b".wh.d"),
        file(b".wh.e"),
        file(b"e", b"new"),
        file(b".wh.g"),
        header(b"g/", b"5", mode=0o755),
        file(b".wh.i"),
        file(b"i/j", b"new"),
        file(b".wh.k"),
        file(b".wh.k"),
    )
    assert (root / "a").read_bytes() == b"kept"
    assert (root / "d/x").exists()
    assert _is_opaque(root / "d")
    assert (root / "e").read_bytes() == b"new"
    assert _is_opaque(root / "g")
    assert _is_opaque(root / "i")
    assert (root / "i/j").exists()
    assert _is_whiteout(root / "k")


def test_applied_whiteouts_delete_from_below(root: Path) -> None:
    put(
        root,
        file(b"a", b"1"),
        file(b"d/e/f", b"2"),
        file(b"d/g", b"3"),
        file(b"o/p/q", b"4"),
        file(b"o/r", b"5"),
        file(b"stays", b"6"),
    )
    put(
        root,
        file(b".wh.a"),
        file(b".wh.missing"),
        file(b"d/.wh.e"),
        file(b"o/p/new", b"7"),
        file(b"o/.wh..wh..opq"),
        file(b"o/late", b"8"),
        apply=True,
    )
    left = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    assert left == ["d", "d/g", "o", "o/late", "o/p", "o/p/new", "stays"]


def test_applied_whiteouts_spare_their_own_layer(root: Path) -> None:
    put(root, file(b"d/old", b""), file(b"f", b"old"), file(b"e/old"))
    put(
        root,
        file(b"d/new"),
        file(b".wh.d"),
        file(b"f", b"new"),
        file(b".wh.f"),
        file(b".wh.e"),
        file(b"e/new"),
        header(b"l", b"2", link=b"d"),
        file(b"l/linked"),
        file(b"d/.wh.linked"),
        apply=True,
    )
    left = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    assert left == ["d", "d/linked", "d/new", "e", "e/new", "f", "l"]
    assert (root / "f").read_bytes() == b"new"


def test_an_applied_opaque_marker_over_a_deep_tree(root: Path) -> None:
    deep = b"d/" * 600
    put(root, extension(b"L", deep + b"old\0"), file(b"x"))
    put(root, extension(b"L", deep + b"new\0"), file(b"x"), file(b".wh..wh..opq"), apply=True)
    entries = walk_tree(root, ownership=USER)
    assert [entry.path for entry in entries][-1] == deep + b"new"


def test_a_directory_of_an_applied_layer_replaces_all_that_was_said_of_it(root: Path) -> None:
    put(
        root,
        pax((b"SCHILY.xattr.user.old", b"1")),
        header(b"d/", b"5", mode=0o500, uid=3),
        file(b"d/f", b"1"),
    )
    put(
        root,
        pax((b"SCHILY.xattr.user.new", b"1")),
        header(b"d/", b"5", mode=0o755, mtime=7),
        file(b"d/g", b"1"),
        apply=True,
    )
    assert os.listxattr(root / "d") == ["user.new"]
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o755
    assert (root / "d").stat().st_mtime == 7
    assert sorted(os.listdir(root / "d")) == ["f", "g"]


def test_a_shut_directory_of_a_lower_layer_is_filled_and_shut_again(root: Path) -> None:
    put(root, header(b"d/", b"5", mode=0o500), file(b"d/f", b"1"))
    put(root, file(b"d/g", b"1"), file(b"d/.wh.f"), apply=True)
    assert os.listdir(root / "d") == ["g"]
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o500


# --- digests, sizes, damage ------------------------------------------------------------------

TAR = archive(
    header(b"d/", b"5", mode=0o755), file(b"d/f", os.urandom(900_000)), file(b"d/g", bytes(900_000))
)
DIFF_ID = Digest.of(TAR)


def compressed(kind: Compression, data: bytes = TAR) -> tuple[bytes, Descriptor]:
    blob = joined(_compression.compress([data], kind))
    return blob, Descriptor("x", Digest.of(blob), len(blob))


@pytest.mark.parametrize("kind", Compression)
def test_what_a_layer_turns_out_to_be(kind: Compression, root: Path, tmp_path: Path) -> None:
    blob, descriptor = compressed(kind)
    store = BlobDir(tmp_path / "blobs")
    with store.writer(descriptor, hashing=False) as writer:
        unpacked = unpack(
            io.BytesIO(blob),
            root,
            ownership=USER,
            expected=descriptor,
            diff_id=DIFF_ID,
            blob=writer,
        )
        writer.commit(unpacked.digest)
    assert unpacked.digest == descriptor.digest
    assert unpacked.diff_id == DIFF_ID
    assert (unpacked.size, unpacked.tar_size, unpacked.entries) == (len(blob), len(TAR), 3)
    assert store.read_bytes(descriptor) == blob
    assert (root / "d/g").stat().st_size == 900_000


def test_sha512(root: Path) -> None:
    expected = Descriptor("x", Digest.of(TAR, "sha512"), len(TAR))
    assert (
        unpack(io.BytesIO(TAR), root, ownership=USER, expected=expected).digest == expected.digest
    )


def test_all_behind_the_archive_belongs_to_the_diff_id(root: Path) -> None:
    data = TAR + b"behind" * 100_000
    assert unpack(io.BytesIO(data), root, ownership=USER).diff_id == Digest.of(data)


class Slow:
    """Gives few bytes at a time, as a network does."""

    def __init__(self, data: bytes, step: int = 1000) -> None:
        self._data = io.BytesIO(data)
        self._step = step

    def read(self, n: int, /) -> bytes:
        return self._data.read(min(n, self._step))


@pytest.mark.parametrize("kind", Compression)
def test_a_source_of_small_pieces(kind: Compression, root: Path) -> None:
    blob, descriptor = compressed(kind)
    unpack(Slow(blob), root, ownership=USER, expected=descriptor, diff_id=DIFF_ID)
    assert (root / "d/g").stat().st_size == 900_000


def _flipped(blob: bytes, at: int) -> bytes:
    return blob[:at] + bytes([blob[at] ^ 0x10]) + blob[at + 1 :]


CORRUPTIONS: dict[str, tuple[Callable[[bytes], bytes], type[Error]]] = {
    "flipped bit": (lambda blob: _flipped(blob, len(blob) // 2), DigestMismatch),
    "flipped first": (lambda blob: _flipped(blob, 0), DigestMismatch),
    "flipped last": (lambda blob: _flipped(blob, len(blob) - 1), DigestMismatch),
    "truncated": (lambda blob: blob[: len(blob) // 2], SizeMismatch),
    "a byte short": (lambda blob: blob[:-1], SizeMismatch),
    "nothing": (lambda _: b"", SizeMismatch),
    "a byte too many": (lambda blob: blob + b"\0", SizeMismatch),
    "far too many": (lambda blob: blob + bytes(1 << 20), SizeMismatch),
}


@pytest.mark.parametrize("kind", Compression)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupted_blobs(name: str, kind: Compression, root: Path) -> None:
    blob, descriptor = compressed(kind)
    corrupt, error = CORRUPTIONS[name]
    with pytest.raises(error, match=str(descriptor.digest)):
        unpack(io.BytesIO(corrupt(blob)), root, ownership=USER, expected=descriptor)


def test_wrong_diff_id(root: Path) -> None:
    blob, descriptor = compressed(Compression.ZSTD)
    with pytest.raises(DigestMismatch, match=str(DIFF_ID)):
        unpack(
            io.BytesIO(blob),
            root,
            ownership=USER,
            expected=descriptor,
            diff_id=Digest.of(b"other"),
        )


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.ZSTD])
def test_a_blob_that_is_damaged_but_as_announced(kind: Compression, root: Path) -> None:
    blob = compressed(kind)[0][:-20]
    with pytest.raises(TarError, match=f"^layer {Digest.of(blob)}: .*ends early"):
        unpack(
            io.BytesIO(blob),
            root,
            ownership=USER,
            expected=Descriptor("x", Digest.of(blob), len(blob)),
        )


def test_another_compression_than_announced(root: Path) -> None:
    with pytest.raises(TarError, match="damaged"):
        unpack(io.BytesIO(TAR), root, ownership=USER, compression=Compression.GZIP)


def test_a_hostile_archive_with_the_right_digest(root: Path, outside: Path) -> None:
    data = archive(file(b"../outside/file", b"evil")) + bytes(5_000_000)
    said = f"layer {Digest.of(data)}: entry '../outside/file': the path '../outside' leads upwards"
    with pytest.raises(UnsafePath, match=re.escape(said)):
        unpack(
            io.BytesIO(data),
            root,
            ownership=USER,
            expected=Descriptor("x", Digest.of(data), len(data)),
        )


@pytest.mark.parametrize("error", [OSError("wire cut"), KeyboardInterrupt(), Error("other room")])
def test_a_source_that_fails(error: BaseException, root: Path) -> None:
    class Failing(Slow):
        def read(self, n: int, /) -> bytes:
            if self._data.tell() > 500_000:
                raise error
            return super().read(n)

    with pytest.raises(type(error)):
        unpack(Failing(TAR), root, ownership=USER)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("layer-")]


def test_a_blob_writer_that_fails(root: Path, tmp_path: Path) -> None:
    too_small = Descriptor("x", DIFF_ID, 1000)
    with BlobDir(tmp_path / "b").writer(too_small) as writer, pytest.raises(SizeMismatch):
        unpack(Slow(TAR), root, ownership=USER, blob=writer)


def test_an_endless_source_is_left_when_the_archive_is_bad(root: Path) -> None:
    class Endless:
        def read(self, n: int, /) -> bytes:
            return b"x" * n

    with pytest.raises(TarError, match="checksum"):
        unpack(Endless(), root, ownership=USER)


# --- events ----------------------------------------------------------------------------------


def test_events(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycontainer.layers._pipeline._EVENT_SECONDS", 0.0)
    data = archive(*[file(b"%d" % i, b"x" * 1000) for i in range(1000)])
    blob, _ = compressed(Compression.GZIP, data)
    told: list[LayerEvent] = []
    unpack(io.BytesIO(blob), root, ownership=USER, events=told.append)
    last = told.pop()
    assert last.done
    assert (last.received, last.unpacked, last.entries) == (len(blob), len(data), 1000)
    assert [(stage.name, stage.bytes) for stage in last.stages] == [
        ("receive", len(blob)),
        ("digest", len(blob)),
        ("decompress", len(data)),
        ("diff_id", len(data)),
        ("write", len(data)),
    ]
    assert all(-0.1 < stage.seconds <= last.seconds + 0.1 for stage in last.stages)
    assert len(told) > 3
    assert not any(event.done for event in told)
    for before, after in pairwise(told):
        assert before.entries < after.entries
        assert before.received <= after.received
        assert before.seconds <= after.seconds
        assert all(
            one.bytes <= two.bytes for one, two in zip(before.stages, after.stages, strict=True)
        )


def test_a_slow_source_shows_in_its_stage(root: Path) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            time.sleep(0.05)
            return super().read(size)

    told: list[LayerEvent] = []
    unpack(Slow(TAR), root, ownership=USER, events=told.append)
    slowest = max(told[-1].stages, key=lambda stage: stage.seconds)
    assert (slowest.name, slowest.seconds >= 0.05) == ("receive", True)


class Trickle(io.BytesIO):
    """A slow line: a little at a time."""

    def read(self, size: int | None = -1) -> bytes:
        time.sleep(0.02)
        return super().read(min(size or -1, 1 << 16))


@pytest.mark.parametrize("compression", list(Compression))
def test_one_large_file_tells_too_while_it_comes(root: Path, compression: Compression) -> None:
    data = random.Random(0).randbytes(3 << 20)
    blob, _ = compressed(compression, archive(file(b"large", data)))
    told: list[LayerEvent] = []
    unpack(Trickle(blob), root, ownership=USER, events=told.append)
    come = [event.received for event in told if not event.done]
    assert len(come) >= 2
    assert come[0] < come[1] <= len(blob)

    def stop(_: LayerEvent) -> None:
        raise RuntimeError("enough")

    source = Trickle(blob)
    with pytest.raises(RuntimeError, match="enough"):
        unpack(source, root, ownership=USER, events=stop)
    assert source.tell() < len(blob)


def test_an_exception_of_the_callback_ends_it(root: Path) -> None:
    def stop(_: LayerEvent) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        unpack(io.BytesIO(TAR), root, ownership=USER, events=stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("layer-")]


def test_no_such_root(root: Path) -> None:
    with pytest.raises(LayerError, match="No such file"):
        put(root / "missing")


# --- entries from elsewhere ------------------------------------------------------------------


def test_the_extractor_checks_paths_itself(root: Path, outside: Path) -> None:
    for path in (b"../x", b"..", b"a/../../x"):
        with Extractor(root, USER) as extractor, pytest.raises(UnsafePath):
            extractor.put(Entry(path, Kind.DIRECTORY, 0o777))


@pytest.mark.parametrize("given", [b"", b"abcd", b"abcdef"])
def test_the_extractor_checks_sizes(root: Path, given: bytes) -> None:
    entry = Entry(b"f", Kind.FILE, size=5, content=lambda: iter([given]))
    with Extractor(root, USER) as extractor, pytest.raises(LayerError, match="should have 5 bytes"):
        extractor.put(entry)


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO])
def test_a_time_that_no_system_can_say(kind: Kind, root: Path) -> None:
    def extract() -> None:
        with Extractor(root, USER) as extractor:
            extractor.put(Entry(b"x", kind, 0o777, mtime_ns=1 << 100, link=b"y"))
            extractor.finish()

    with pytest.raises(LayerError, match="'x'"):
        extract()
