"""A real Debian, through our rooms and a real registry, compared file by file with other tools'."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.debian import debian_tar
from interop.peers import DockerRegistry, docker_registry, run, skopeo
from pycontainer.content import Store
from pycontainer.images import Image, Registry
from pycontainer.snapshots import mounted
from trees import FileFacts, differences, picture_of

__all__ = ["debian_tar", "docker_registry"]  # fixtures

pytestmark = [
    pytest.mark.interop("docker-registry", "mmdebstrap", "skopeo", "umoci"),
    pytest.mark.root,
    pytest.mark.xdist_group("debian"),
]


@pytest.fixture(scope="module")
def debian(debian_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with Store.open(tmp_path_factory.mktemp("debian") / "store") as store:
        yield Image.import_rootfs(debian_tar, tag="debian:bookworm", store=store)


@pytest.fixture(scope="module")
def extracted(debian_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, FileFacts]:
    """What GNU tar makes of the same archive."""
    place = tmp_path_factory.mktemp("extracted")
    run("tar", "-C", place, "--xattrs", "--xattrs-include=*", "-xpf", debian_tar)
    picture = picture_of(place)
    assert len(picture) > 5_000
    return picture


def _unpacked(layout: Path, tag: str, bundle: Path) -> dict[str, FileFacts]:
    """What umoci makes of a layout."""
    run("umoci", "unpack", "--image", f"{layout}:{tag}", bundle)
    return picture_of(bundle / "rootfs")


def test_pulled_from_a_registry_it_is_what_umoci_unpacks(
    debian: Image,
    docker_registry: DockerRegistry,
    extracted: dict[str, FileFacts],
    tmp_path: Path,
) -> None:
    with Registry(docker_registry.host) as registry, Store.open(tmp_path / "store") as store:
        pushed = registry.push(debian, "team/debian:bookworm")
        pulled = registry.pull("team/debian:bookworm", store=store)
        assert pulled.digest == debian.digest == pushed.digest
        source = f"docker://{pushed.name}:bookworm"
        skopeo("copy", "--src-tls-verify=false", source, f"oci:{tmp_path / 'copy'}:d")
        theirs = _unpacked(tmp_path / "copy", "d", tmp_path / "bundle")
        target = tmp_path / "mounted"
        target.mkdir()
        with mounted(pulled.prepare(tmp_path / "snapshot").plan, target):
            ours = picture_of(target)
    assert differences(ours, theirs) == {}
    assert differences(ours, extracted) == {}


def test_our_layout_is_what_umoci_unpacks(
    debian: Image, extracted: dict[str, FileFacts], tmp_path: Path
) -> None:
    debian.save(tmp_path / "layout", format="oci-layout")
    theirs = _unpacked(tmp_path / "layout", "bookworm", tmp_path / "bundle")
    assert differences(extracted, theirs) == {}
