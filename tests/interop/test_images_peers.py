"""Images to and from other people's tools, file by file."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.peers import Docker, Layout, busybox, dockerd, run, skopeo
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.oci import Digest
from pycontainer.snapshots import mounted
from trees import differences, picture_of

__all__ = ["busybox", "dockerd"]  # fixtures

pytestmark = [pytest.mark.interop, pytest.mark.root]


@pytest.fixture
def image(busybox: Layout, store: Store) -> Image:
    (image,) = Image.load(busybox.path, store=store)
    return image.tag("example.com/team/box:1")


@pytest.fixture
def other_store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other") as store:
        yield store


def _manifest_digest(place: str) -> str:
    return str(json.loads(skopeo("inspect", place))["Digest"])


def _mounted_picture(image: Image, directory: Path) -> dict[str, object]:
    target = directory / "mounted"
    target.mkdir(parents=True)
    with mounted(image.prepare(directory / "snapshot").plan, target):
        return dict(picture_of(target))


# --- skopeo ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["oci-archive", "oci-layout"])
def test_skopeo_reads_what_we_save(image: Image, tmp_path: Path, form: str) -> None:
    image.save(tmp_path / "saved", format=form)  # type: ignore[arg-type]
    place = f"{form.replace('-layout', '')}:{tmp_path / 'saved'}:1"
    assert _manifest_digest(place) == str(image.digest)
    skopeo("copy", place, f"oci:{tmp_path / 'copy'}:x")
    assert (tmp_path / "copy/blobs/sha256" / image.digest.hex).exists()


def test_skopeo_reads_our_docker_archive(image: Image, tmp_path: Path) -> None:
    image.save(tmp_path / "saved.tar", format="docker-archive")
    found = json.loads(skopeo("inspect", "--config", f"docker-archive:{tmp_path / 'saved.tar'}"))
    assert found["rootfs"]["diff_ids"] == [str(diff_id) for diff_id in image.diff_ids]
    tags = json.loads(skopeo("list-tags", f"docker-archive:{tmp_path / 'saved.tar'}"))["Tags"]
    assert tags == ["example.com/team/box:1"]


def test_we_read_what_skopeo_writes(
    busybox: Layout, image: Image, other_store: Store, tmp_path: Path
) -> None:
    source = f"oci:{busybox.path}:{busybox.tag}"
    name = "example.com/team/box:2"
    skopeo("copy", source, f"oci-archive:{tmp_path / 'a.tar'}:{name}")
    skopeo("copy", source, f"docker-archive:{tmp_path / 'b.tar'}:{name}")
    skopeo("copy", source, f"oci:{tmp_path / 'c'}:{name}")
    (from_archive,) = Image.load(tmp_path / "a.tar", store=other_store)
    (from_layout,) = Image.load(tmp_path / "c", store=other_store)
    (from_docker,) = Image.load(tmp_path / "b.tar", store=other_store)
    assert from_archive.digest == from_layout.digest == image.digest
    assert from_docker.id == image.id
    assert [str(tag) for tag in from_docker.tags] == [name]


def test_we_read_docker_schema_2(busybox: Layout, store: Store, tmp_path: Path) -> None:
    """A layout with Docker's media types, as some tools write it."""
    source = f"oci:{busybox.path}:{busybox.tag}"
    skopeo("copy", "--format", "v2s2", source, f"dir:{tmp_path / 'dir'}")
    manifest = (tmp_path / "dir/manifest.json").read_bytes()
    layout = tmp_path / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    for blob in (tmp_path / "dir").iterdir():
        if len(blob.name) == 64:
            blob.rename(layout / "blobs/sha256" / blob.name)
    digest = Digest.of(manifest)
    (layout / "blobs/sha256" / digest.hex).write_bytes(manifest)
    media_type = json.loads(manifest)["mediaType"]
    entry = {"mediaType": media_type, "digest": str(digest), "size": len(manifest)}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (image,) = Image.load(layout, store=store)
    assert image.digest == digest
    assert image.manifest.media_type == media_type


# --- umoci -----------------------------------------------------------------------------------


def test_umoci_unpacks_the_same_tree(image: Image, tmp_path: Path) -> None:
    image.save(tmp_path / "layout", format="oci-layout")
    run("umoci", "unpack", "--image", f"{tmp_path / 'layout'}:1", tmp_path / "bundle")
    theirs = picture_of(tmp_path / "bundle/rootfs")
    ours = _mounted_picture(image, tmp_path / "ours")
    assert differences(ours, theirs) == {}  # type: ignore[arg-type]


def test_we_read_layers_that_umoci_makes(
    busybox: Layout, other_store: Store, tmp_path: Path
) -> None:
    """New, changed and deleted files, in a layer of umoci's own making."""
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    run("cp", "-a", busybox.path, layout)
    run("umoci", "unpack", "--image", f"{layout}:{busybox.tag}", bundle)
    (bundle / "rootfs/etc/passwd").unlink()
    (bundle / "rootfs/etc/group").write_text("changed\n")
    (bundle / "rootfs/new").mkdir(mode=0o1777)
    (bundle / "rootfs/new/link").symlink_to("../etc/group")
    for path in [*(bundle / "rootfs").rglob("*"), bundle / "rootfs"]:
        os.utime(path, (1000, 1000), follow_symlinks=False)  # umoci rounds fractions of a second
    run("umoci", "repack", "--image", f"{layout}:new", bundle)
    expected = picture_of(bundle / "rootfs")
    run("umoci", "rm", "--image", f"{layout}:{busybox.tag}")
    (image,) = Image.load(layout, store=other_store)
    target = tmp_path / "mounted"
    target.mkdir()
    with mounted(image.prepare(tmp_path / "snapshot").plan, target):
        assert differences(picture_of(target), expected) == {}


# --- docker ----------------------------------------------------------------------------------


def test_docker_loads_and_runs_what_we_save(image: Image, dockerd: Docker, tmp_path: Path) -> None:
    image = image.tag("example.com/docker/loads:1")
    image.save(tmp_path / "saved.tar", format="docker-archive")
    assert "example.com/docker/loads:1" in dockerd.run("load", "--input", tmp_path / "saved.tar")
    run_it = ["run", "--rm", "--network=none", "example.com/docker/loads:1", "/bin/echo", "hello"]
    assert dockerd.run(*run_it) == "hello\n"
    found = dockerd.run("inspect", "--format", "{{.Id}}", "example.com/docker/loads:1").strip()
    assert found == str(image.id)


def test_we_load_what_docker_saves(
    image: Image, dockerd: Docker, other_store: Store, tmp_path: Path
) -> None:
    image = image.tag("example.com/docker/saves:1")
    image.save(tmp_path / "first.tar", format="docker-archive")
    dockerd.run("load", "--input", tmp_path / "first.tar")
    dockerd.run("save", "--output", tmp_path / "second.tar", "example.com/docker/saves:1")
    subprocess.run(["gzip", "-1", tmp_path / "second.tar"], check=True)
    (found,) = Image.load(tmp_path / "second.tar.gz", store=other_store)
    assert (found.id, found.diff_ids) == (image.id, image.diff_ids)
    assert str(found.reference) == "example.com/docker/saves:1"
    ours = _mounted_picture(image, tmp_path / "ours")
    theirs = _mounted_picture(found, tmp_path / "theirs")
    assert differences(ours, theirs) == {}  # type: ignore[arg-type]
