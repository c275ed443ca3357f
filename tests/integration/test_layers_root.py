"""Layers with root's rights: owners, devices, attributes, and what a real overlay makes of them."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archives import archive, extension, file, header, in_pieces, joined, pax
from pycontainer.content import BlobDir
from pycontainer.errors import LayerError
from pycontainer.layers import (
    Entry,
    Ownership,
    pack,
    read_entries,
    unpack,
    walk_diff,
    walk_tree,
    write_tar,
)
from trees import differences, picture_of

pytestmark = pytest.mark.root
ROOT = Ownership.ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def put(root: Path, *parts: bytes, apply: bool = False) -> None:
    unpack(
        io.BytesIO(archive(*parts)), root, ownership=ROOT, whiteouts="apply" if apply else "overlay"
    )


def said(entries: Iterator[Entry]) -> dict[bytes, tuple[object, ...]]:
    return {
        entry.path: (
            entry.kind,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            entry.link,
            entry.major,
            entry.minor,
            dict(entry.xattrs),
            joined(entry.content()) if entry.content else b"",
        )
        for entry in entries
    }


PARTS = (
    header(b"./", b"5", mode=0o755, mtime=1),
    header(b"d/", b"5", mode=0o2775, uid=10, gid=20, mtime=2),
    header(b"d/e/", b"5", mode=0o1777, mtime=2),
    pax(
        (b"SCHILY.xattr.security.capability", bytes.fromhex("0100000200040000") + bytes(12)),
        (b"SCHILY.xattr.trusted.k", b"v"),
        (b"mtime", b"-7.5"),
    ),
    file(b"d/f", b"x" * 100_000, mode=0o4755, uid=1, gid=2),
    file(b"d/g", b"x" * 700_000, mode=0o6711, uid=1, gid=2, mtime=4),
    header(b"disk", b"4", mode=0o660, gid=6, major=8, minor=300_000, mtime=5),
    header(b"fifo", b"6", mode=0o622, uid=7, mtime=6),
    header(b"null", b"3", mode=0o666, uid=5, major=1, minor=3, mtime=5),
    pax((b"SCHILY.xattr.trusted.k", b"link")),
    header(b"s", b"2", link=b"d", mode=0o777, uid=8, gid=9, mtime=7),
)


def test_all_is_as_the_layer_says(root: Path) -> None:
    put(root, *PARTS)
    assert said(walk_tree(root, ownership=ROOT)) == said(read_entries([archive(*PARTS)]))
    d, f = (root / "d").stat(), (root / "d/f").stat()
    assert (d.st_uid, d.st_gid, stat.S_IMODE(d.st_mode)) == (10, 20, 0o2775)
    assert (f.st_uid, f.st_gid, stat.S_IMODE(f.st_mode)) == (1, 2, 0o4755)
    assert (root / "disk").stat().st_rdev == os.makedev(8, 300_000)
    assert (root / "s").lstat().st_uid == 8


def test_a_directorys_group_is_not_handed_down(root: Path) -> None:
    """Neither by set-gid, nor its default access list to what the layer puts into it."""
    acl = bytes.fromhex("02000000 01000700 ffffffff 04000500 ffffffff 20000500 ffffffff")
    put(
        root,
        pax((b"SCHILY.xattr.system.posix_acl_default", acl)),
        header(b"d/", b"5", mode=0o2755, gid=50),
        file(b"d/f", mode=0o666),
        header(b"d/e/", b"5", mode=0o777),
        file(b"d/implicit/f", mode=0o666),
    )
    for name in ("f", "e", "implicit", "implicit/f"):
        assert (root / "d" / name).stat().st_gid == os.getegid()
        assert not os.listxattr(root / "d" / name)
    assert stat.S_IMODE((root / "d/e").stat().st_mode) == 0o777
    assert stat.S_IMODE((root / "d/f").stat().st_mode) == 0o666
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o2755
    assert os.getxattr(root / "d", "system.posix_acl_default") == acl
    put(root, file(b"d/late", mode=0o600), apply=True)
    assert (root / "d/late").stat().st_gid == os.getegid()
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o2755


@pytest.mark.parametrize("style", ["gnu", "posix"])
@pytest.mark.parametrize("compression", [(), ("--gzip",), ("--zstd",)], ids=str)
def test_the_same_as_gnu_tar_extracts(
    style: str, compression: tuple[str, ...], tmp_path: Path
) -> None:
    """A part of this system, file by file."""
    base = Path("/usr/share")
    names = [
        name
        for name in ("doc/apt", "perl5", "terminfo", "bash-completion")
        if (base / name).exists()
    ]
    made = tmp_path / "made.tar"
    options: list[str | Path] = [f"--format={style}", *compression, "--xattrs"]
    command: list[str | Path] = ["tar", *options, "-C", base, "-cf", made]
    subprocess.run([*command, *names, "-C", "/usr/bin", "su", "passwd"], check=True)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "-C", theirs, "-xpf", made], check=True
    )
    with made.open("rb") as source:
        unpack(source, ours, ownership=ROOT)
    for path in (theirs, ours, theirs / "doc", ours / "doc"):
        if path.exists():  # which the archive does not name
            os.utime(path, ns=(0, 0))
    assert differences(picture_of(ours), picture_of(theirs)) == {}


def test_there_and_back_through_tar(root: Path, tmp_path: Path) -> None:
    put(root, *PARTS)
    data = joined(write_tar(walk_tree(root, ownership=ROOT)))
    assert data == joined(write_tar(walk_tree(root, ownership=ROOT)))
    listed = subprocess.run(["tar", "-tvf", "-"], input=data, capture_output=True, check=True)
    assert b"-rwsr-xr-x 1/2 " in listed.stdout
    other = tmp_path / "other"
    other.mkdir()
    unpack(io.BytesIO(data), other, ownership=ROOT)
    assert differences(picture_of(root), picture_of(other)) == {}


def test_both_ownerships_make_the_same_layer(root: Path, tmp_path: Path) -> None:
    """But for symlinks and fifos, whose owners an ordinary user cannot keep."""
    parts = PARTS[:-4] + PARTS[-3:-2]
    user = tmp_path / "user"
    user.mkdir()
    put(root, *parts)
    unpack(io.BytesIO(archive(*parts)), user, ownership=Ownership.USER)
    blobs = BlobDir(tmp_path)
    digests = set()
    for path, ownership in ((root, ROOT), (user, Ownership.USER)):
        with blobs.writer() as blob:
            digests.add(pack(walk_tree(path, ownership=ownership), blob).diff_id)
    assert len(digests) == 1


# --- overlays --------------------------------------------------------------------------------


@contextmanager
def mounted(
    target: Path, lowers: list[Path], upper: Path | None, *, userxattr: bool
) -> Iterator[Path]:
    """An overlay of directories, the top one first."""
    target.mkdir(exist_ok=True)
    kind = "userxattr" if userxattr else "redirect_dir=off,metacopy=off"
    said = f"lowerdir={':'.join(map(str, lowers))},{kind}"
    if upper is not None:
        work = upper.parent / (upper.name + ".work")
        work.mkdir(exist_ok=True)
        upper.mkdir(exist_ok=True)
        said += f",upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", said, target], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", target], check=True)


LOWER = (
    header(b"./", b"5", mode=0o755),
    header(b"a/", b"5", mode=0o755),
    file(b"a/old", b"1"),
    file(b"a/stays", b"2"),
    header(b"o/", b"5", mode=0o755),
    file(b"o/hidden", b"3"),
    file(b"gone", b"4"),
    header(b"tree/", b"5", mode=0o755),
    file(b"tree/x", b"5"),
    file(b"swap", b"6"),
)
UPPER = (
    header(b"./", b"5", mode=0o755),
    header(b"a/", b"5", mode=0o700),
    file(b"a/.wh.old", mode=0o600),
    file(b"a/new", b"7"),
    header(b"o/", b"5", mode=0o755),
    file(b"o/.wh..wh..opq", mode=0o600),
    file(b"o/shown", b"8"),
    file(b".wh.gone", mode=0o600),
    file(b".wh.tree", mode=0o600),
    file(b"tree/y", b"9"),
    header(b"swap/", b"5", mode=0o755),
    file(b"swap/z", b"10"),
)


@pytest.mark.parametrize("userxattr", [False, True])
def test_an_overlay_of_layers_is_what_applying_them_gives(userxattr: bool, tmp_path: Path) -> None:
    lower, upper, applied = (tmp_path / name for name in ("lower", "upper", "applied"))
    for path in (lower, upper, applied):
        path.mkdir()
    options = {"ownership": ROOT, "userxattr": userxattr}
    unpack(io.BytesIO(archive(*LOWER)), lower, **options)  # type: ignore[arg-type]
    unpack(io.BytesIO(archive(*UPPER)), upper, **options)  # type: ignore[arg-type]
    put(applied, *LOWER)
    put(applied, *UPPER, apply=True)
    with mounted(tmp_path / "merged", [upper, lower], None, userxattr=userxattr) as merged:
        found, wanted = picture_of(merged), picture_of(applied)
    found.pop("tree")  # which no entry describes
    wanted.pop("tree")
    assert differences(found, wanted) == {}
    assert sorted(wanted) == sorted(
        [".", "a", "a/new", "a/stays", "o", "o/shown", "swap", "swap/z", "tree/y"]
    )


@pytest.mark.parametrize("userxattr", [False, True])
def test_changes_in_an_overlay_become_a_layer(userxattr: bool, tmp_path: Path) -> None:
    lower, upper, applied = (tmp_path / name for name in ("lower", "upper", "applied"))
    lower.mkdir()
    applied.mkdir()
    put(lower, *LOWER)
    put(applied, *LOWER)
    with mounted(tmp_path / "merged", [lower], upper, userxattr=userxattr) as merged:
        (merged / "a" / "old").unlink()
        (merged / "a" / "new").write_bytes(b"new")
        (merged / "gone").unlink()
        subprocess.run(["rm", "-r", merged / "tree"], check=True)
        (merged / "tree").mkdir()
        (merged / "tree" / "y").write_bytes(b"y")
        (merged / "swap").unlink()
        (merged / "swap").symlink_to("a")
        (merged / "o").chmod(0o700)
        os.mknod(merged / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.setxattr(merged / "a" / "stays", "user.k", b"v")
        os.chown(merged / "a" / "stays", 5, 6)
        wanted = picture_of(merged)
    entries = list(walk_diff(upper, ownership=ROOT, userxattr=userxattr))
    assert [entry.path for entry in entries] == [
        b"a",
        b"a/new",
        b"a/.wh.old",
        b"a/stays",
        b".wh.gone",
        b"null",
        b"o",
        b"swap",
        b"tree",
        b"tree/.wh..wh..opq",
        b"tree/y",
    ]
    data = joined(write_tar(walk_diff(upper, ownership=ROOT, userxattr=userxattr)))
    unpack(io.BytesIO(data), applied, ownership=ROOT, whiteouts="apply")
    found = picture_of(applied)
    wanted.pop(".")
    found.pop(".")
    assert differences(found, wanted) == {}


def test_a_layer_of_another_overlay_is_the_same_again(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    parts = [part for part in UPPER if part != UPPER[0]]
    put(upper, *parts)
    data = joined(write_tar(walk_diff(upper, ownership=ROOT)))
    again = tmp_path / "again"
    again.mkdir()
    unpack(io.BytesIO(data), again, ownership=ROOT)
    assert joined(write_tar(walk_diff(again, ownership=ROOT))) == data


def test_redirects_are_noticed(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    (lower / "d").mkdir(parents=True)
    (lower / "d" / "f").touch()
    (tmp_path / "merged").mkdir()
    (tmp_path / "work").mkdir()
    upper.mkdir()
    said = f"lowerdir={lower},upperdir={upper},workdir={tmp_path / 'work'},redirect_dir=on"
    if subprocess.run(["mount", "-t", "overlay", "o", "-o", said, tmp_path / "merged"]).returncode:
        pytest.skip("this kernel has no redirect_dir")
    try:
        (tmp_path / "merged" / "d").rename(tmp_path / "merged" / "e")
    finally:
        subprocess.run(["umount", tmp_path / "merged"], check=True)
    with pytest.raises(LayerError, match="only the mounted overlay shows"):
        list(walk_diff(upper, ownership=ROOT))


# --- who we are ------------------------------------------------------------------------------


def test_root_of_a_user_namespace_is_an_ordinary_user(tmp_path: Path) -> None:
    assert Ownership.current() is ROOT
    code = "from pycontainer.layers import Ownership; print(Ownership.current().name)"
    for command in (["unshare", "--user", "--map-root-user"], ["setpriv", "--bounding-set=-chown"]):
        made = subprocess.run([*command, "true"], capture_output=True)
        if made.returncode:
            continue
        shown = subprocess.run(
            [*command, sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert shown.stdout.strip() == "USER"


@pytest.mark.parametrize("number", [0xFFFF_FFFF, 1 << 40])
@pytest.mark.parametrize("flag", [b"0", b"2", b"5"])
def test_numbers_that_no_owner_has(number: int, flag: bytes, root: Path) -> None:
    """The first means "leave it as it is" to chown(2)."""
    field = b"\x80" + number.to_bytes(7, "big")
    for owner in ({"uid": field}, {"gid": field}):
        with pytest.raises(LayerError, match="'x'"):
            put(root, header(b"x", flag, link=b"y", **owner))  # type: ignore[arg-type]


def test_names_of_any_bytes_and_length(root: Path) -> None:
    names = [b"\xff" * 255, b"new\nline", b"d" * 200 + b"/" + b"f" * 200]
    data = archive(*[extension(b"L", name + b"\0") + file(b"x", b"x") for name in names])
    unpack(io.BytesIO(data), root, ownership=ROOT)
    back = {
        entry.path for entry in read_entries(in_pieces(joined(write_tar(walk_tree(root))), 999))
    }
    assert set(names) <= back


# --- devices that must not be made -----------------------------------------------------------


def test_a_root_who_may_not_make_devices_gets_placeholders(root: Path) -> None:
    """As in a container without CAP_MKNOD, and as root of a user namespace with all ids."""
    code = """
import io, sys
from pathlib import Path
from pycontainer._linux import capability
from pycontainer.layers import Ownership, unpack
status = Path("/proc/thread-self/status").read_text()
every = int(status.partition("CapPrm:")[2].split()[0], 16)
capability.set_capabilities(every & ~capability.mask(("CAP_MKNOD",)), every, 0)
unpack(io.BytesIO(sys.stdin.buffer.read()), Path(sys.argv[1]), ownership=Ownership.ROOT)
"""
    tar = archive(
        header(b"dev/null", b"3", major=1, minor=3, mode=0o666),
        header(b"pipe", b"6", uid=5, gid=5),
        file(b"dev/.wh.gone"),
        file(b"f", b"x", uid=7, gid=7),
    )
    subprocess.run([sys.executable, "-c", code, str(root)], input=tar, check=True, timeout=60)
    null, pipe, file_status = ((root / name).lstat() for name in ("dev/null", "pipe", "f"))
    assert stat.S_ISREG(null.st_mode)
    assert (null.st_size, null.st_mode & 0o777) == (0, 0o600)
    assert (stat.S_ISFIFO(pipe.st_mode), pipe.st_uid) == (True, 5)
    assert file_status.st_uid == 7
    assert stat.S_ISCHR((root / "dev/gone").lstat().st_mode)
    (entry,) = (each for each in walk_tree(root, ownership=Ownership.USER) if b"null" in each.path)
    assert (entry.kind.name, entry.major, entry.minor) == ("CHARACTER_DEVICE", 1, 3)
