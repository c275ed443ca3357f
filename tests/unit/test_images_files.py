"""Saving and loading: round trips, the archives of others' making, hostile ones."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from attrs import evolve

from archives import archive, file, header, pax
from pycontainer.content import Store
from pycontainer.errors import (
    BlobNotFound,
    ContentError,
    DigestMismatch,
    Error,
    ImageError,
    LayerError,
    PlatformNotFound,
    SizeMismatch,
    SpecError,
    TarError,
)
from pycontainer.images import Event, Image, LayerDone, TransferDone, TransferStarted, create
from pycontainer.images._create import read_chunks
from pycontainer.images._files import Format
from pycontainer.oci import (
    Compression,
    ContainerConfig,
    Descriptor,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    media_types,
)
from pycontainer.snapshots import has_layer
from stacks import packed, pair

FORMATS: tuple[Format, ...] = ("oci-archive", "oci-layout", "docker-archive")
AMD64 = ImageConfig(os="linux", architecture="amd64")


@pytest.fixture
def image(store: Store) -> Image:
    layers = [
        packed(store, {"etc": {"a": b"1" * 3000}}),
        packed(store, {"etc": {"b": b"2"}}, Compression.ZSTD),
        packed(store, {"c": b"3"}, Compression.NONE),
    ]
    config = AMD64.evolve(config=ContainerConfig(cmd=("run",), env=("A=1",)))
    return create(store, [pair(layer) for layer in layers], config, tag="team/app:1")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other") as store:
        yield store


# --- round trips -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_saved_can_be_loaded(
    image: Image, other: Store, tmp_path: Path, form: Format
) -> None:
    image.save(tmp_path / "saved", format=form)
    (loaded,) = Image.load(tmp_path / "saved", store=other)
    assert (loaded.id, loaded.diff_ids) == (image.id, image.diff_ids)
    assert loaded.config.encode() == image.config.encode()
    assert loaded.reference == image.reference
    assert all(has_layer(other, diff_id) for diff_id in image.diff_ids)
    if form != "docker-archive":  # which knows no manifests
        assert loaded.digest == image.digest
    assert other.collect().removed == ()


@pytest.mark.parametrize("form", FORMATS)
def test_saving_again_gives_the_same_bytes(image: Image, tmp_path: Path, form: Format) -> None:
    for name in ("one", "two"):
        image.save(tmp_path / name, format=form)
    assert _bytes_of(tmp_path / "one") == _bytes_of(tmp_path / "two")
    image.save(tmp_path / "two", format=form)
    assert _bytes_of(tmp_path / "one") == _bytes_of(tmp_path / "two")


def _bytes_of(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


@pytest.mark.parametrize("form", FORMATS)
def test_an_image_without_a_name_comes_back_without(
    image: Image, other: Store, tmp_path: Path, form: Format
) -> None:
    Image.get(image.id, store=image.store).save(tmp_path / "saved", format=form)
    (loaded,) = Image.load(tmp_path / "saved", store=other)
    assert (loaded.reference, loaded.tags) == (None, ())
    assert loaded.id == image.id


@pytest.mark.parametrize(
    "compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress]
)
def test_archives_may_be_compressed(
    image: Image, other: Store, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    image.save(tmp_path / "saved.tar")
    (tmp_path / "compressed").write_bytes(compress((tmp_path / "saved.tar").read_bytes()))
    (loaded,) = Image.load(tmp_path / "compressed", store=other)
    assert loaded.digest == image.digest


def test_a_layout_takes_several_images(image: Image, other: Store, tmp_path: Path) -> None:
    second = create(image.store, [pair(packed(image.store, {"x": b""}))], image.config, tag="b")
    for each in (image, second, image):
        each.save(tmp_path / "layout", format="oci-layout")
    loaded = Image.load(tmp_path / "layout", store=other)
    assert [found.digest for found in loaded] == [second.digest, image.digest]
    third = create(image.store, [], image.config, tag="b")
    third.save(tmp_path / "layout", format="oci-layout")
    index = Index.parse((tmp_path / "layout/index.json").read_bytes())
    assert [entry.digest for entry in index.manifests] == [image.digest, third.digest]


def test_loading_tells_its_progress(image: Image, other: Store, tmp_path: Path) -> None:
    image.save(tmp_path / "layout", format="oci-layout")
    events: list[Event] = []
    Image.load(tmp_path / "layout", store=other, progress=events.append)
    assert events[0] == TransferStarted(image.reference, image.digest, image.layers)
    assert events[-1] == TransferDone(image.reference, image.digest)
    assert {e.layer: e.reused for e in events if isinstance(e, LayerDone)} == dict.fromkeys(
        image.layers, False
    )
    events.clear()
    Image.load(tmp_path / "layout", store=other, progress=events.append)
    assert {e.layer: e.reused for e in events if isinstance(e, LayerDone)} == dict.fromkeys(
        image.layers, True
    )


# --- where it cannot work --------------------------------------------------------------------


def test_saving_says_what_is_wrong(image: Image, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/precious").write_text("x")
    with pytest.raises(ImageError, match="no image layout"):
        image.save(tmp_path / "dir", format="oci-layout")
    with pytest.raises(ImageError, match="cannot save"):
        image.save(tmp_path / "none/file")
    with pytest.raises(ValueError, match="unknown format"):
        image.save(tmp_path / "x", format="zip")  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "dir").iterdir()] == ["precious"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_store_is_not_saved(image: Image, tmp_path: Path, form: Format) -> None:
    path = image.store.blobs.path(image.layers[0].digest)
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises((ContentError, TarError)):
        image.save(tmp_path / "saved", format=form)
    assert not (tmp_path / "saved").is_file()
    assert not (tmp_path / "saved/index.json").exists()
    assert not list(tmp_path.glob(".saved*"))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "there is nothing"),
        (archive(file(b"etc/passwd", b"root")), "neither an OCI archive nor one of docker save"),
        (archive(file(b"oci-layout", b"{}"), file(b"index.json", b"{}")), "image layout"),
        (b"#!/bin/sh\n" * 100, "tar"),
        (archive(file(b"manifest.json", b"[]")), "no image"),
        (archive(file(b"manifest.json", b"{}")), "expected a list"),
        (archive(file(b"manifest.json", b"[{}]")), "needs a config"),
        (archive(file(b"manifest.json", b'[{"Config":"../../x"}]')), "does not hold"),
        (archive(file(b"manifest.json", b"[" * 100_000)), "JSON"),
    ],
)
def test_what_is_no_image_says_so(
    store: Store, tmp_path: Path, content: bytes | None, error: str
) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(Error, match=error):
        Image.load(tmp_path / "file", store=store)


def test_a_directory_without_a_layout_says_so(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no image layout"):
        Image.load(tmp_path, store=store)


# --- layouts of others' making ---------------------------------------------------------------


class Layout:
    """A layout written by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def add(self, data: bytes, media_type: str, **more: object) -> Descriptor:
        digest = Digest.of(data)
        (self.path / "blobs/sha256" / digest.hex).write_bytes(data)
        return Descriptor(media_type, digest, len(data), **more)  # type: ignore[arg-type]

    def add_image(
        self, tar: bytes, architecture: str = "amd64", diff_id: Digest | None = None
    ) -> Descriptor:
        config = ImageConfig(
            os="linux", architecture=architecture, diff_ids=(diff_id or Digest.of(tar),)
        )
        manifest = Manifest(
            config=self.add(config.encode(), media_types.OCI_CONFIG),
            layers=(self.add(tar, media_types.OCI_LAYER),),
        )
        return self.add(
            manifest.encode(), media_types.OCI_MANIFEST, platform=Platform("linux", architecture)
        )

    def finish(self, *entries: Descriptor) -> Path:
        (self.path / "index.json").write_bytes(Index(manifests=entries).encode())
        return self.path


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def test_of_several_platforms_the_wanted_is_taken(layout: Layout, store: Store) -> None:
    arm = layout.add_image(archive(file(b"f", b"arm")), "arm64")
    amd = layout.add_image(archive(file(b"f", b"amd")))
    inner = layout.add(Index(manifests=(arm, amd)).encode(), media_types.OCI_INDEX)
    path = layout.finish(inner)
    for name, expected in (("linux/arm64", arm), ("linux/amd64", amd)):
        (image,) = Image.load(path, platform=name, store=store)
        assert image.digest == expected.digest
    with pytest.raises(PlatformNotFound, match="linux/arm64"):
        Image.load(path, platform="linux/s390x", store=store)
    (image,) = Image.load(path, store=store)
    assert image.platform.matches(Platform.current())


def test_side_by_side_images_are_all_taken_or_the_wanted(layout: Layout, store: Store) -> None:
    arm = layout.add_image(archive(file(b"f", b"arm")), "arm64")
    amd = layout.add_image(archive(file(b"f", b"amd")))
    unknown = Platform("unknown", "unknown")
    attestation = layout.add(b"{}", media_types.OCI_MANIFEST, platform=unknown)
    path = layout.finish(arm, attestation, amd)
    assert [image.digest for image in Image.load(path, store=store)] == [arm.digest, amd.digest]
    (image,) = Image.load(path, platform="linux/arm64", store=store)
    assert image.digest == arm.digest
    with pytest.raises(ImageError, match="no image for linux/386"):
        Image.load(path, platform="linux/386", store=store)


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({"org.opencontainers.image.ref.name": "latest"}, None),
        ({"org.opencontainers.image.ref.name": "example.com/a:1"}, "example.com/a:1"),
        ({"org.opencontainers.image.ref.name": "app:1"}, "docker.io/library/app:1"),
        (
            {
                "io.containerd.image.name": "docker.io/library/app:2",
                "org.opencontainers.image.ref.name": "2",
            },
            "docker.io/library/app:2",
        ),
        ({"org.opencontainers.image.ref.name": "Not:A/Name"}, None),
    ],
)
def test_names_in_layouts(
    layout: Layout, store: Store, annotations: dict[str, str], name: str | None
) -> None:
    entry = evolve(layout.add_image(archive(file(b"f"))), annotations=annotations)
    (image,) = Image.load(layout.finish(entry), store=store)
    assert image.reference is None if name is None else str(image.reference) == name


def _wrong_digest(layout: Layout, entry: Descriptor) -> None:
    manifest = json.loads((layout.path / "blobs/sha256" / entry.digest.hex).read_bytes())
    layer = layout.path / "blobs/sha256" / manifest["layers"][0]["digest"][7:]
    data = bytearray(layer.read_bytes())
    data[600] ^= 1
    layer.write_bytes(data)


def _truncated(layout: Layout, entry: Descriptor) -> None:
    manifest = json.loads((layout.path / "blobs/sha256" / entry.digest.hex).read_bytes())
    layer = layout.path / "blobs/sha256" / manifest["layers"][0]["digest"][7:]
    layer.write_bytes(layer.read_bytes()[:700])


def _no_config(layout: Layout, entry: Descriptor) -> None:
    manifest = json.loads((layout.path / "blobs/sha256" / entry.digest.hex).read_bytes())
    (layout.path / "blobs/sha256" / manifest["config"]["digest"][7:]).unlink()


@pytest.mark.parametrize(
    ("damage", "error"),
    [(_wrong_digest, DigestMismatch), (_truncated, SizeMismatch), (_no_config, BlobNotFound)],
)
def test_nothing_is_kept_of_a_damaged_layout(
    layout: Layout, store: Store, damage: Callable[[Layout, Descriptor], None], error: type[Error]
) -> None:
    entry = layout.add_image(archive(file(b"f", b"x" * 1000)))
    damage(layout, entry)
    with pytest.raises(error):
        Image.load(layout.finish(entry), store=store)
    _assert_empty(store)


def _assert_empty(store: Store) -> None:
    assert Image.list(store=store) == ()
    assert store.collect(dry_run=True).removed == ()
    for name in ("blobs", "layers", "tmp"):
        assert not [path for path in (store.path / name).rglob("*") if path.is_file()]


def _hostile(outside: Path) -> dict[str, bytes]:
    """Members that would write below `outside`, or over something of the machine's."""
    upwards = b"../" * 30 + bytes(outside)[1:]

    def symlink(target: bytes) -> bytes:
        return pax((b"linkpath", target)) + header(b"out", b"2") + file(b"out/file", b"x")

    return {
        "path upwards": pax((b"path", upwards + b"/file")) + file(b"x", b"x"),
        "absolute path": pax((b"path", bytes(outside / "file"))) + file(b"x", b"x"),
        "hard link upwards": header(b"x", b"1", link=b"../../../../etc/passwd"),
        "symlink": symlink(bytes(outside)),
        "symlink upwards": symlink(upwards),
    }


@pytest.mark.parametrize("how", _hostile(Path("/")))
@pytest.mark.parametrize("in_archive", [False, True])
def test_a_hostile_layer_writes_nothing_outside(
    layout: Layout,
    store: Store,
    tmp_path: Path,
    how: str,
    in_archive: bool,
) -> None:
    outside = tmp_path / "outside"
    path = layout.finish(layout.add_image(archive(_hostile(outside)[how])))
    if in_archive:
        path = _archived(path, tmp_path / "archive.tar")
    if "upwards" in how:
        with pytest.raises(LayerError, match=r"^layer sha256:[0-9a-f]{64}: entry '"):
            Image.load(path, store=store)
        _assert_no_layer(store)
    else:  # taken as a process with that root directory would take it
        (image,) = Image.load(path, store=store)
        for root in image.unpack():
            assert root.is_relative_to(store.path)
    assert not outside.exists()


def _assert_no_layer(store: Store) -> None:
    assert Image.list(store=store) == ()
    assert not list((store.path / "layers").rglob("*/*/*"))
    assert not list((store.path / "tmp").iterdir())


def _archived(layout: Path, path: Path) -> Path:
    members = [
        file(str(each.relative_to(layout)).encode(), each.read_bytes())
        for each in sorted(layout.rglob("*"))
        if each.is_file()
    ]
    path.write_bytes(archive(*members))
    return path


def test_a_hostile_archive_writes_only_blobs(store: Store, tmp_path: Path) -> None:
    """Its names are looked up, never used as paths."""
    members = [
        file(b"../../outside", b"x"),
        file(b"/outside", b"x"),
        header(b"blobs", b"2", link=b"/etc"),
        file(b"blobs/sha256/../../../outside", b"x"),
        header(b"manifest.json", b"2", link=b"/etc/passwd"),
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.tar").write_bytes(archive(*members))
    with pytest.raises(Error):
        Image.load(tmp_path / "in/a.tar", store=store)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.tar"]
    assert not list(tmp_path.rglob("outside"))


def test_a_blob_in_an_archive_must_be_what_its_name_says(store: Store, tmp_path: Path) -> None:
    name = f"blobs/sha256/{Digest.of(b'this').hex}".encode()
    (tmp_path / "a.tar").write_bytes(archive(file(name, b"that")))
    with pytest.raises(DigestMismatch):
        Image.load(tmp_path / "a.tar", store=store)
    _assert_empty(store)


def test_a_truncated_archive_is_refused(image: Image, other: Store, tmp_path: Path) -> None:
    image.save(tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(TarError):
        Image.load(tmp_path / "a.tar", store=other)
    assert Image.list(store=other) == ()
    other.collect()
    _assert_empty(other)


# --- docker archives -------------------------------------------------------------------------


def _docker_archive(path: Path, *, names: list[str] | None, layers: int = 2) -> Path:
    """As Docker 20.10 writes it: a layer that comes twice is a symlink the second time."""
    tar = archive(file(b"f", b"x"))
    digest = str(Digest.of(tar))
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [digest] * layers},
            "config": {},
        }
    ).encode()
    name = Digest.of(config).hex + ".json"
    paths = [f"{i}/layer.tar" for i in range(2)]
    item = {"Config": name, "RepoTags": names, "Layers": paths}
    path.write_bytes(
        archive(
            file(b"0/VERSION", b"1.0"),
            file(b"0/json", b"{}"),
            file(b"0/layer.tar", tar),
            header(b"1/layer.tar", b"2", link=b"../0/layer.tar"),
            file(name.encode(), config),
            file(b"manifest.json", json.dumps([item]).encode()),
            file(b"repositories", b"{}"),
        )
    )
    return path


def test_an_archive_of_docker_save(store: Store, tmp_path: Path) -> None:
    path = _docker_archive(tmp_path / "a.tar", names=["one:1", "example.com/two:2"])
    (image,) = Image.load(path, store=store)
    assert [tag.familiar for tag in image.tags] == ["one:1", "example.com/two:2"]
    assert [layer.media_type for layer in image.layers] == [media_types.OCI_LAYER] * 2
    assert len(set(image.layers)) == 1
    (image,) = Image.load(_docker_archive(tmp_path / "b.tar", names=None), store=store)
    assert image.reference is None


def test_a_docker_archive_must_fit_together(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"3 diff_ids, the manifest 2 layers"):
        Image.load(_docker_archive(tmp_path / "a.tar", names=None, layers=3), store=store)
    with pytest.raises(SpecError, match="RepoTags"):
        Image.load(_docker_archive(tmp_path / "b.tar", names=["Not A Name"]), store=store)


# --- what manifests must not say -------------------------------------------------------------


def test_an_artifact_is_no_image(layout: Layout, store: Store) -> None:
    blob = layout.add(b"chart", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    config = layout.add(b"{}", "application/vnd.cncf.helm.config.v1+json")
    manifest = Manifest(config=config, layers=(blob,)).encode()
    with pytest.raises(SpecError, match="artifact"):
        Image.load(layout.finish(layout.add(manifest, media_types.OCI_MANIFEST)), store=store)
    blob = layout.add(b"key", "application/octet-stream")
    manifest = Manifest(config=config, layers=(blob,)).encode()
    with pytest.raises(ImageError, match="no layer"):
        Image.load(layout.finish(layout.add(manifest, media_types.OCI_MANIFEST)), store=store)
    _assert_empty(store)


def test_a_wrong_diff_id_is_found(layout: Layout, store: Store) -> None:
    entry = layout.add_image(archive(file(b"f")), diff_id=Digest.of(b"else"))
    with pytest.raises(DigestMismatch, match="tar of layer"):
        Image.load(layout.finish(entry), store=store)
    _assert_empty(store)


def test_an_image_for_another_platform_is_refused_if_that_matters(
    layout: Layout, store: Store
) -> None:
    entry = layout.add_image(archive(file(b"f")), "arm64")
    path = layout.finish(Descriptor(entry.media_type, entry.digest, entry.size))
    with pytest.raises(PlatformNotFound, match="linux/arm64, wanted was linux/amd64"):
        Image.load(path, platform="linux/amd64", store=store)
    assert len(Image.load(path, store=store)) == 1


def test_entries_of_archives_are_read_whatever_their_source() -> None:
    """bz2 and xz come through the standard library: their damage is a `TarError` too."""
    for compress in (bz2.compress, lzma.compress, gzip.compress):
        data = compress(bytes(range(256)) * 1000)
        assert b"".join(read_chunks(io.BytesIO(data))) == bytes(range(256)) * 1000
        with pytest.raises(TarError):
            b"".join(read_chunks(io.BytesIO(data[: len(data) // 2])))
