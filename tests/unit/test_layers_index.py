"""Layers that are indexed: the image as a second reader sees it, what is left to the extractor, damage."""

from __future__ import annotations

import io
import os
import stat
import zlib
from pathlib import Path

import pytest

from archives import archive, file, header, pax
from erofs_images import ImageFile, ImageReader
from pycontainer.errors import DigestMismatch, LayerError, TarError
from pycontainer.layers import Indexed, LayerEvent, index, indexed_tar, verify_index
from pycontainer.oci import Descriptor, Digest, media_types


def _indexed(tmp_path: Path, *parts: bytes) -> tuple[Indexed, Path]:
    path = tmp_path / "layer.erofs"
    return index(io.BytesIO(archive(*parts)), path), path


def _files(tmp_path: Path, *parts: bytes) -> dict[bytes, ImageFile]:
    indexed, path = _indexed(tmp_path, *parts)
    assert indexed.obstacle == ""
    verify_index(path)
    return ImageReader(path).files()


def test_a_file_is_found_in_the_tar(tmp_path: Path) -> None:
    content = bytes(range(256)) * 30
    files = _files(
        tmp_path, header(b"d/", b"5", mode=0o750, uid=70_000, gid=3), file(b"d/f", content)
    )
    assert files[b"d/f"].content == content
    assert files[b"d"].mode == stat.S_IFDIR | 0o750
    assert files[b"d"].owner == (70_000, 3)
    image = (tmp_path / "layer.erofs").read_bytes()
    assert image.count(content) == 1


def test_an_empty_layer_is_an_empty_directory(tmp_path: Path) -> None:
    files = _files(tmp_path)
    assert files.keys() == {b""}
    assert files[b""].mode == stat.S_IFDIR | 0o755
    assert files[b""].mtime_ns == 1  # no entry describes it


def test_names_of_one_file(tmp_path: Path) -> None:
    files = _files(
        tmp_path,
        file(b"a", b"x"),
        header(b"sub/b", b"1", link=b"a"),
        header(b"c", b"1", link=b"sub/b"),
        file(b"a", b"new"),
    )
    assert files[b"sub/b"].number == files[b"c"].number
    assert files[b"sub/b"].links == 2
    assert (files[b"a"].content, files[b"a"].links) == (b"new", 1)


@pytest.mark.parametrize("name", [b".wh..wh..opq", b"link/.wh..wh..opq"])
def test_a_root_that_hides_all_below_is_left_to_unpacking(tmp_path: Path, name: bytes) -> None:
    tar = archive(header(b"link", b"2", link=b"/"), file(name), file(b"f", b"x"))
    assert "hides all" in index(io.BytesIO(tar), tmp_path / "index").obstacle


def test_whiteouts_and_opaque_directories_are_overlays(tmp_path: Path) -> None:
    files = _files(
        tmp_path,
        file(b"gone/.wh.x"),
        file(b"d/.wh..wh..opq"),
        file(b".wh..wh.aufs"),
        file(b"own/f"),
        file(b".wh.own"),
        file(b".wh.again"),
        header(b"again", b"5"),
    )
    assert (files[b"gone/x"].mode, files[b"gone/x"].device) == (stat.S_IFCHR, 0)
    opaque = {path for path, each in files.items() if "trusted.overlay.opaque" in each.xattrs}
    assert opaque == {b"d", b"own", b"again"}


@pytest.mark.parametrize("count", [2, 37, 70_000])
def test_directories_of_any_size(tmp_path: Path, count: int) -> None:
    names = [b"%d-" % i + b"n" * (i % 90) for i in range(count)]
    files = _files(tmp_path, *(header(name, b"6") for name in names))
    assert files.keys() == {b"", *names}


def test_long_links_and_attributes_stand_in_blocks_of_their_own(tmp_path: Path) -> None:
    records = [(b"SCHILY.xattr.user.n%d" % i, bytes([i]) * 200) for i in range(9)]
    link = b"l" * 4000
    files = _files(
        tmp_path,
        pax(*records) + file(b"f", b"x"),
        pax((b"linkpath", link)) + header(b"long", b"2"),
        pax((b"linkpath", b"s" * 300), *[(b"SCHILY.xattr.trusted.t", b"v" * 300)])
        + header(b"short", b"2"),
        header(b"tiny", b"2", link=b"t"),
    )
    assert files[b"f"].xattrs == {f"user.n{i}": bytes([i]) * 200 for i in range(9)}
    assert files[b"long"].content == link
    assert files[b"short"].content == b"s" * 300
    assert files[b"short"].xattrs == {"trusted.t": b"v" * 300}
    assert files[b"tiny"].mode == stat.S_IFLNK | 0o777


def test_times_before_1970_and_below_the_second(tmp_path: Path) -> None:
    files = _files(tmp_path, pax((b"mtime", b"-1.25")) + file(b"f"))
    assert files[b"f"].mtime_ns == -1_250_000_000


def test_devices(tmp_path: Path) -> None:
    files = _files(tmp_path, header(b"d", b"4", mode=0o660, major=259, minor=70_000))
    device = files[b"d"].device
    assert (device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00) == (259, 70_000)


def test_overlays_own_attributes_come_from_whiteouts_alone(tmp_path: Path) -> None:
    records = [
        (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
        (b"SCHILY.xattr.user.overlay.whiteout", b""),
        (b"SCHILY.xattr.security.selinux", b"label"),
        (b"SCHILY.xattr.user.kept", b"k"),
    ]
    files = _files(tmp_path, pax(*records) + header(b"d", b"5"))
    assert files[b"d"].xattrs == {"user.kept": b"k"}


@pytest.mark.parametrize(
    ("obstacle", "parts"),
    [
        (
            "sparse",
            [
                pax((b"GNU.sparse.size", b"9000"), (b"GNU.sparse.map", b"10,3,5000,2"))
                + file(b"s", b"abcde")
            ],
        ),
        ("posix_acl", [pax((b"SCHILY.xattr.system.posix_acl_access", b"\2")) + file(b"f")]),
        ("user.x", [pax((b"SCHILY.xattr.user.x", b"v")) + header(b"l", b"2", link=b"t")]),
        ("capability", [pax((b"SCHILY.xattr.security.capability", b"bad")) + file(b"f")]),
        ("upwards", [file(b"../out")]),
        ("usable path", [file(b"a/..")]),
        ("upwards", [file(b"a/../../out/f")]),
        ("whiteout", [file(b".wh..")]),
        ("no directory", [file(b"f"), file(b"f/g")]),
        ("symlinks", [header(b"l", b"2", link=b"l"), file(b"l/f")]),
        ("out of the root", [header(b"l", b"2", link=b"a/../.."), file(b"l/f")]),
        ("hard link", [header(b"h", b"1", link=b"missing")]),
        ("hard link", [header(b"d", b"5"), header(b"h", b"1", link=b"d")]),
        ("device", [header(b"d", b"3", major=5000, minor=1)]),
        ("usable path", [pax((b"path", b"n" * 256)) + file(b"x")]),
    ],
)
def test_what_no_index_can_express_is_left_to_the_extractor(
    tmp_path: Path, obstacle: str, parts: list[bytes]
) -> None:
    indexed, path = _indexed(tmp_path, file(b"before", b"b"), *parts, file(b"after", b"a"))
    assert obstacle in indexed.obstacle
    tar = archive(file(b"before", b"b"), *parts, file(b"after", b"a"))
    assert indexed.unpacked.diff_id == Digest.of(tar)
    with indexed_tar(path) as source:
        assert source.read(1 << 20) == tar
    with pytest.raises(LayerError, match="damaged"):
        verify_index(path)


def test_the_tar_is_kept_to_its_last_byte(tmp_path: Path) -> None:
    tar = archive(file(b"f", b"x")) + bytes(20_000) + b"trailing"
    path = tmp_path / "layer.erofs"
    indexed = index(io.BytesIO(zlib.compress(tar, wbits=31)), path)
    assert indexed.unpacked.diff_id == Digest.of(tar)
    with indexed_tar(path) as source:
        assert b"".join(iter(lambda: source.read(1000), b"")) == tar


def test_the_same_tar_gives_the_same_image(tmp_path: Path) -> None:
    tar = archive(header(b"d", b"5"), file(b"d/f", b"x"), file(b"e", b"y"))
    for name in ("one", "other"):
        index(io.BytesIO(tar), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_events_tell_how_far_it_is(tmp_path: Path) -> None:
    seen: list[LayerEvent] = []
    tar = archive(file(b"f", b"x"))
    index(io.BytesIO(tar), tmp_path / "i", events=seen.append)
    assert (seen[-1].done, seen[-1].entries, seen[-1].unpacked) == (True, 1, len(tar))


def test_wrong_bytes_are_found_out(tmp_path: Path) -> None:
    tar = archive(file(b"f", b"x"))
    expected = Descriptor(media_types.OCI_LAYER, Digest.of(b"else"), len(tar))
    with pytest.raises(DigestMismatch):
        index(io.BytesIO(tar), tmp_path / "a", expected=expected)
    with pytest.raises(DigestMismatch):
        index(io.BytesIO(tar), tmp_path / "b", diff_id=Digest.of(b"else"))
    with pytest.raises(TarError):
        index(io.BytesIO(b"no tar" * 200), tmp_path / "c")


def test_each_damaged_byte_of_the_structure_is_found(tmp_path: Path) -> None:
    _, path = _indexed(tmp_path, file(b"d/f", b"x" * 600), header(b"l", b"2", link=b"t"))
    whole = path.read_bytes()
    tar = range(4096, 4096 + len(archive(file(b"d/f", b"x" * 600), header(b"l", b"2", link=b"t"))))
    used = whole.rstrip(b"\0")
    structure = (*range(200), *range(1024, 1200), *range(tar.stop, len(used)))
    for at in structure:
        if whole[at : at + 1].isspace():  # the description is JSON
            continue
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(LayerError, match="damaged"):
            verify_index(path)


def test_a_file_that_was_cut_short_is_found(tmp_path: Path) -> None:
    _, path = _indexed(tmp_path, file(b"f", b"x"))
    os.truncate(path, path.stat().st_size - 4096)
    with pytest.raises(LayerError, match="ends early"):
        verify_index(path)
    with pytest.raises(LayerError, match="damaged"):
        verify_index(tmp_path / "missing")
