"""Our client against Docker's registry; skopeo and the Docker daemon against our server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import attrs
import pytest

from interop.peers import (
    Docker,
    DockerRegistry,
    Layout,
    busybox,
    busybox_tar,
    docker_registry,
    dockerd,
    skopeo,
)
from pycontainer.content import VerifiedReader
from pycontainer.errors import ManifestNotFound, RegistryBlobNotFound, RegistryError
from pycontainer.oci import Descriptor, Digest, Index, Manifest, Platform, media_types
from pycontainer.registry import Client, RegistryServer, serve

__all__ = ["busybox", "docker_registry", "dockerd"]

pytestmark = pytest.mark.interop("docker-registry", "skopeo", "docker", "dockerd")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with serve(tmp_path / "served") as server:
        yield server


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def push(client: Client, repository: str, tag: str, image: Layout) -> Manifest:
    manifest = Manifest.parse(image.manifest)
    for part in (manifest.config, *manifest.layers):
        path = image.blob_path(str(part.digest))
        assert client.push_blob(repository, part, partial(_open, path))
    digest = client.put_manifest(repository, tag, image.manifest, manifest.media_type)
    assert digest == manifest.digest
    return manifest


def index_of(manifest: Manifest) -> Index:
    entry = attrs.evolve(manifest.descriptor(), platform=Platform.current())
    return Index(manifests=(entry,))


def read(client: Client, repository: str, blob: Descriptor) -> bytes:
    with client.open_blob(repository, blob) as stream:
        reader = VerifiedReader(stream, blob)
        return b"".join(iter(lambda: reader.read(1 << 16), b""))


class TestOurClient:
    """Against docker-registry."""

    @pytest.fixture
    def client(self, docker_registry: DockerRegistry) -> Iterator[Client]:
        with Client(docker_registry.host) as client:
            yield client

    def test_pushes_what_skopeo_reads(
        self, client: Client, busybox: Layout, docker_registry: DockerRegistry, tmp_path: Path
    ) -> None:
        manifest = push(client, "ours/pushed", "v1", busybox)
        source = f"docker://{docker_registry.host}/ours/pushed:v1"
        skopeo("copy", "--src-tls-verify=false", source, f"oci:{tmp_path / 'copy'}:box")
        assert Layout(tmp_path / "copy").manifest == busybox.manifest
        for part in (manifest.config, *manifest.layers):
            assert Layout(tmp_path / "copy").blob(str(part.digest))

    def test_pulls_what_skopeo_wrote(
        self, client: Client, busybox: Layout, docker_registry: DockerRegistry
    ) -> None:
        target = f"docker://{docker_registry.host}/theirs/box:v1"
        skopeo("copy", "--dest-tls-verify=false", f"oci:{busybox.path}:box", target)
        data, media_type, digest = client.get_manifest("theirs/box", "v1")
        assert (data, media_type) == (busybox.manifest, media_types.OCI_MANIFEST)
        assert client.get_manifest("theirs/box", str(digest)).data == data
        assert client.head_manifest("theirs/box", "v1") == Descriptor(media_type, digest, len(data))
        layer = Manifest.parse(data).layers[0]
        assert read(client, "theirs/box", layer) == busybox.blob(str(layer.digest))

    def test_skips_and_mounts_what_is_there(self, client: Client, busybox: Layout) -> None:
        manifest = push(client, "ours/source", "v1", busybox)

        def unwanted() -> BinaryIO:
            raise AssertionError("opened a blob that need not be sent")

        layer = manifest.layers[0]
        assert not client.push_blob("ours/source", layer, unwanted)
        assert not client.push_blob("ours/target", layer, unwanted, mount_from="ours/source")
        assert client.blob_exists("ours/target", layer.digest)

    def test_sends_the_blob_where_the_source_has_nothing_to_mount(
        self, client: Client, busybox: Layout
    ) -> None:
        layer = Manifest.parse(busybox.manifest).layers[0]
        path = busybox.blob_path(str(layer.digest))
        assert client.push_blob("ours/other", layer, lambda: path.open("rb"), mount_from="no/where")

    def test_lists_tags(self, client: Client, busybox: Layout) -> None:
        names = [f"v{number}" for number in range(12)]
        manifest = push(client, "ours/tagged", names[0], busybox)
        for name in names[1:]:
            client.put_manifest("ours/tagged", name, busybox.manifest, manifest.media_type)
        assert sorted(client.tags("ours/tagged")) == sorted(names)

    def test_tells_what_is_missing(self, client: Client, busybox: Layout) -> None:
        client.ping()
        manifest = Manifest.parse(busybox.manifest)
        nothing = Digest.of(b"nothing")
        with pytest.raises(ManifestNotFound) as error:
            client.get_manifest("ours/none", "v1")
        assert (error.value.status, error.value.code) == (404, "MANIFEST_UNKNOWN")
        assert client.head_manifest("ours/none", "v1") is None
        with pytest.raises(RegistryBlobNotFound) as absent:
            client.open_blob("ours/none", Descriptor("", nothing, 7))
        assert (absent.value.status, absent.value.code) == (404, "BLOB_UNKNOWN")
        assert not client.blob_exists("ours/none", nothing)
        with pytest.raises(ManifestNotFound):
            client.tags("ours/none")
        with pytest.raises(RegistryError) as refused:
            client.put_manifest("ours/none", "v1", busybox.manifest, manifest.media_type)
        assert refused.value.code == "MANIFEST_BLOB_UNKNOWN"

    def test_index_goes_both_ways(
        self, client: Client, busybox: Layout, docker_registry: DockerRegistry, tmp_path: Path
    ) -> None:
        index = index_of(push(client, "ours/many", "one", busybox))
        client.put_manifest("ours/many", "all", index.encode(), index.media_type)
        source = f"docker://{docker_registry.host}/ours/many:all"
        skopeo("copy", "--all", "--src-tls-verify=false", source, f"dir:{tmp_path / 'copy'}")
        assert (tmp_path / "copy/manifest.json").read_bytes() == index.encode()
        assert client.get_manifest("ours/many", "all").data == index.encode()


class TestOurServer:
    """Pushed to and pulled from by others."""

    def test_skopeo_copies_there_and_back(
        self, server: RegistryServer, busybox: Layout, tmp_path: Path
    ) -> None:
        name = f"docker://{server.host}/team/box"
        skopeo("copy", "--dest-tls-verify=false", f"oci:{busybox.path}:box", f"{name}:v1")
        skopeo("copy", "--src-tls-verify=false", f"{name}:v1", f"oci:{tmp_path / 'back'}:box")
        assert Layout(tmp_path / "back").manifest == busybox.manifest
        listed = json.loads(skopeo("list-tags", "--tls-verify=false", name))
        assert listed["Tags"] == ["v1"]
        shown = json.loads(skopeo("inspect", "--tls-verify=false", f"{name}:v1"))
        assert shown["Digest"] == str(Manifest.parse(busybox.manifest).digest)

    def test_skopeo_copies_an_index(self, server: RegistryServer, busybox: Layout) -> None:
        with Client(server.host) as client:
            index = index_of(push(client, "a/many", "one", busybox))
            client.put_manifest("a/many", "all", index.encode(), index.media_type)
            flags = ["--all", "--src-tls-verify=false", "--dest-tls-verify=false"]
            source, target = (f"docker://{server.host}/{name}/many:all" for name in ("a", "b"))
            skopeo("copy", *flags, source, target)
            assert client.get_manifest("b/many", "all").data == index.encode()

    @pytest.mark.parametrize("form", ["oci", "v2s2"])
    def test_skopeo_copies_within_and_deletes(
        self, server: RegistryServer, busybox: Layout, form: str
    ) -> None:
        flags = ["--src-tls-verify=false", "--dest-tls-verify=false", "--format", form]
        first, second = (f"docker://{server.host}/{name}" for name in ("a/box:v1", "b/c/box:v2"))
        skopeo("copy", *flags[1:], f"oci:{busybox.path}:box", first)
        skopeo("copy", *flags, first, second)
        with Client(server.host) as client:
            assert (
                client.get_manifest("a/box", "v1").data == client.get_manifest("b/c/box", "v2").data
            )
            skopeo("delete", "--tls-verify=false", second)
            assert client.head_manifest("b/c/box", "v2") is None
            assert client.tags("b/c/box") == []
            assert client.tags("a/box") == ["v1"]

    @pytest.mark.root
    def test_docker_pushes_and_pulls(
        self, server: RegistryServer, dockerd: Docker, tmp_path: Path
    ) -> None:
        name = f"{server.host}/docker/box:v1"
        image_id = dockerd.run("import", busybox_tar(tmp_path), name).strip()
        dockerd.run("push", name)
        dockerd.run("rmi", name)
        dockerd.run("pull", name)
        assert dockerd.run("image", "inspect", "--format", "{{.Id}}", name).strip() == image_id
        with Client(server.host) as client:
            data, media_type, _ = client.get_manifest("docker/box", "v1")
        assert media_type == media_types.DOCKER_MANIFEST
        assert str(Manifest.parse(data).config.digest) == image_id

    @pytest.mark.root
    def test_docker_pulls_what_our_client_pushed(
        self, server: RegistryServer, dockerd: Docker, busybox: Layout
    ) -> None:
        with Client(server.host) as client:
            manifest = push(client, "ours/box", "v1", busybox)
        name = f"{server.host}/ours/box:v1"
        dockerd.run("pull", name)
        found = dockerd.run("image", "inspect", "--format", "{{.Id}}", name).strip()
        assert found == str(manifest.config.digest)
        listed = dockerd.run("run", "--rm", "--network=none", name, "ls", "/bin")
        assert "busybox" in listed.split()

    @pytest.mark.root
    def test_docker_mounts_from_another_repository(
        self, server: RegistryServer, dockerd: Docker, tmp_path: Path
    ) -> None:
        first, second = (f"{server.host}/{name}/box:v1" for name in ("one", "two"))
        dockerd.run("import", busybox_tar(tmp_path), first)
        dockerd.run("push", first)
        dockerd.run("tag", first, second)
        assert "Mounted from one/box" in dockerd.run("push", second)
