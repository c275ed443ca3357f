"""What comes out of a build beside the image in the store: files, directories, other layers."""

from __future__ import annotations

import os
import tarfile  # noqa: TID251  (as others will read it)
from pathlib import Path

import pytest

from built_images import contents_of, layers_of
from pycontainer.build import BuildCache, Builder, Output, OutputFormat
from pycontainer.content import Store
from pycontainer.errors import BuildError
from pycontainer.images import Image
from pycontainer.oci import Compression, media_types


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    (path / "d/deep").mkdir(parents=True)
    (path / "d/a").write_text("A")
    (path / "d/deep/b").write_text("B")
    (path / "d/link").symlink_to("a")
    (path / "new").write_text("new")
    return path


@pytest.fixture
def builder(context: Path) -> Builder:
    return Builder.scratch(context=context).copy("d", "/d").workdir("/w").copy("new", "/d/a")


def files(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


FILES = {"d/a": "new", "d/deep/b": "B", "d/link": "a"}


# --- files and directories -----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["oci-archive", "oci-layout", "docker-archive"])
def test_the_image_in_a_file(
    builder: Builder, store: Store, tmp_path: Path, form: OutputFormat
) -> None:
    image = builder.build("app:1", store=store, outputs=Output(form, tmp_path / "out"))
    with Store.open(tmp_path / "other") as other:
        (loaded,) = Image.load(tmp_path / "out", store=other)
        assert loaded.id == image.id
        assert loaded.reference == image.reference


def test_the_files_in_a_directory(builder: Builder, store: Store, tmp_path: Path) -> None:
    root = tmp_path / "out/root"
    builder.build(store=store, outputs=[Output("rootfs-directory", root)])
    assert files(root) == FILES
    assert (root / "w").is_dir()
    assert (root / "d/a").stat().st_mtime == 0


def test_the_files_in_a_tar(builder: Builder, store: Store, tmp_path: Path) -> None:
    tars = [tmp_path / name for name in ("one.tar", "two.tar")]
    builder.build(store=store, outputs=[Output("rootfs-tar", path) for path in tars])
    with tarfile.open(tars[0]) as tar:
        names = tar.getnames()
        content = tar.extractfile("d/a")
        assert content is not None
        assert content.read() == b"new"
    assert [name for name in names if name != "."] == [
        "d",
        "d/a",
        "d/deep",
        "d/deep/b",
        "d/link",
        "w",
    ]
    assert tars[0].read_bytes() == tars[1].read_bytes()
    assert Image.import_rootfs(tars[0], store=store).size > 0


def test_a_directory_with_something_in_it_is_left_alone(
    builder: Builder, store: Store, context: Path, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match="not empty"):
        builder.build(store=store, outputs=Output("rootfs-directory", context))
    with pytest.raises(BuildError, match="cannot write"):
        builder.build(store=store, outputs=Output("rootfs-directory", context / "new"))
    with pytest.raises(BuildError, match="cannot write"):
        builder.build(store=store, outputs=Output("rootfs-tar", tmp_path / "missing/root.tar"))
    assert files(context) == {**FILES, "d/a": "A", "new": "new"}


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("out", Output("rootfs-directory", Path("out"))),
        ("type=local,dest=out", Output("rootfs-directory", Path("out"))),
        ("type=tar,dest=out.tar", Output("rootfs-tar", Path("out.tar"))),
        ("dest=app.tar,type=oci", Output("oci-archive", Path("app.tar"))),
        ("type=oci,dest=app,tar=false", Output("oci-layout", Path("app"))),
        ("type=docker,dest=app.tar", Output("docker-archive", Path("app.tar"))),
    ],
)
def test_outputs_as_buildx_has_them(text: str, output: Output) -> None:
    assert Output.parse(text) == output


@pytest.mark.parametrize("text", ["type=tar", "type=cpio,dest=x", "dest=x", "type=tar,dest=x,y=z"])
def test_what_is_no_output_is_told(text: str) -> None:
    with pytest.raises(BuildError, match="not an output"):
        Output.parse(text)


def test_mistakes_are_found_at_once(builder: Builder) -> None:
    with pytest.raises(ValueError, match="unknown format"):
        Output("zip", Path("x"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="without a tag"):
        builder.build(push=True)


# --- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_layers_are_compressed_as_asked(builder: Builder, store: Store, compression: str) -> None:
    plain = builder.build(store=store)
    image = builder.build(store=store, compression=compression)  # type: ignore[arg-type]
    kinds = {media_types.compression_of(layer.media_type) for layer in image.layers}
    assert kinds == {Compression(compression)}
    assert image.diff_ids == plain.diff_ids


def test_the_level_counts(store: Store, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"".join(b"%d" % (i * i) for i in range(50_000)))
    builder = Builder.scratch(context=tmp_path).copy("f", "/")
    sizes = [
        builder.build(store=store, compression="zstd", level=level).layers[0].size
        for level in (1, 19)
    ]
    assert sizes[0] > sizes[1]


def test_squashing_leaves_the_base_and_one_layer(
    store: Store, context: Path, builder: Builder
) -> None:
    base = builder.build("base", store=store)
    (context / "more").mkdir()
    (context / "more/x").write_text("X")
    steps = (
        Builder(base, context=context)
        .copy("more", "/d/deep")
        .env({"A": "1"})
        .workdir("/w/below")
        .copy("more/x", "/d/a")
    )
    long, short = steps.build(store=store), steps.build(store=store, squash=True)
    assert len(long.layers) == len(base.layers) + 3
    assert short.layers[:-1] == base.layers
    assert sorted(layers_of(short)[-1]) == ["d", "d/a", "d/deep", "d/deep/x", "w", "w/below"]
    assert contents_of(short) == contents_of(long)
    assert short.config.config == long.config.config
    assert [step.created_by for step in short.history[:-1]] == [s.created_by for s in long.history]
    assert [step.empty_layer for step in short.history].count(False) == len(short.layers)
    before = BuildCache(store).entries()
    assert steps.build(store=store, squash=True).digest == short.digest
    assert len(BuildCache(store).entries()) == len(before)
    BuildCache(store).prune()
    assert steps.build(store=store, squash=True).digest == short.digest


def test_one_layer_needs_no_squashing(store: Store, context: Path) -> None:
    builder = Builder.scratch(context=context).copy("d", "/")
    assert builder.build(store=store, squash=True).digest == builder.build(store=store).digest
