"""Podman and buildah against our server: every format, both ways."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from attrs import frozen

from interop.peers import DockerRegistry, busybox_tar, docker_registry
from pycontainer.content import Store
from pycontainer.images import Image, Registry
from pycontainer.oci import Index, Manifest, media_types
from pycontainer.registry import Client, RegistryServer

__all__ = ["docker_registry"]

pytestmark = [pytest.mark.root, pytest.mark.interop("podman", "buildah", "docker-registry")]

Program = Literal["podman", "buildah"]


@frozen
class Tool:
    """Podman or buildah with a storage of its own, without mounts that outlive it."""

    directory: Path

    def __call__(self, program: Program, *arguments: str | Path) -> str:
        temporary = self.directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        options: list[str | Path] = ["--root", self.directory / "root"]
        options += ["--runroot", self.directory / "run", "--storage-driver", "vfs"]
        if program == "podman":
            options += ["--tmpdir", self.directory / "libpod", "--cgroup-manager", "cgroupfs"]
            options += ["--events-backend", "none"]
        done = subprocess.run(
            [program, *options, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "TMPDIR": str(temporary)},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def image(self, directory: Path, name: str) -> str:
        """Make an image of a file system with busybox; gives its id."""
        self("podman", "import", busybox_tar(directory), name)
        return self.id(name)

    def id(self, name: str) -> str:
        return self("podman", "image", "inspect", "--format", "{{.Id}}", name)


@pytest.fixture
def tool() -> Iterator[Tool]:
    # Podman takes no path of more than 50 characters for some of its files.
    with tempfile.TemporaryDirectory(prefix="pc-") as directory:
        yield Tool(Path(directory))


@pytest.fixture(params=["directory", "store"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, store: Store
) -> Iterator[RegistryServer]:
    with Registry.serve(store if request.param == "store" else tmp_path / "served") as server:
        yield server


@pytest.mark.parametrize("program", ["podman", "buildah"])
@pytest.mark.parametrize(
    ("options", "manifest", "layer"),
    [
        (["--format", "oci"], media_types.OCI_MANIFEST, media_types.OCI_LAYER_GZIP),
        (["--format", "v2s2"], media_types.DOCKER_MANIFEST, media_types.DOCKER_LAYER_GZIP),
    ],
    ids=["oci", "v2s2"],
)
def test_push_and_pull(
    server: RegistryServer,
    tool: Tool,
    tmp_path: Path,
    program: Program,
    options: list[str],
    manifest: str,
    layer: str,
) -> None:
    tool.image(tmp_path, "localhost/box:v1")
    name = f"{server.host}/team/box:v1"
    tool(program, "push", "--tls-verify=false", *options, "localhost/box:v1", f"docker://{name}")
    with Client(server.host) as client:
        data, media_type, digest = client.get_manifest("team/box", "v1")
        assert media_type == manifest
        parsed = Manifest.parse(data, media_type=media_type)
        assert [each.media_type for each in parsed.layers] == [layer]
        assert client.tags("team/box") == ["v1"]
    tool("podman", "rmi", "--all", "--force")
    tool(program, "pull", "--tls-verify=false", name)
    assert tool.id(name) == parsed.config.digest.hex
    tool(program, "pull", "--tls-verify=false", f"{server.host}/team/box@{digest}")
    with Registry(server.host) as registry, Store.open(tmp_path / "ours") as ours:
        assert registry.pull("team/box:v1", store=ours).digest == digest


def test_zstd(server: RegistryServer, tool: Tool, tmp_path: Path) -> None:
    tool.image(tmp_path, "localhost/box:v1")
    name = f"{server.host}/team/box:v1"
    options = ["--tls-verify=false", "--compression-format", "zstd", "--format", "oci"]
    tool("podman", "push", *options, "localhost/box:v1", f"docker://{name}")
    with Registry(server.host) as registry, Store.open(tmp_path / "ours") as ours:
        image = registry.pull("team/box:v1", store=ours)
    assert [layer.media_type for layer in image.layers] == [media_types.OCI_LAYER_ZSTD]
    tool("podman", "rmi", "--all", "--force")
    tool("podman", "pull", "--tls-verify=false", name)
    assert tool.id(name) == image.id.hex


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_an_index(server: RegistryServer, tool: Tool, tmp_path: Path, form: str) -> None:
    tool.image(tmp_path, "localhost/box:v1")
    tool("buildah", "manifest", "create", "localhost/many:v1")
    tool("buildah", "manifest", "add", "localhost/many:v1", "containers-storage:localhost/box:v1")
    name = f"{server.host}/team/many:v1"
    options = ["--tls-verify=false", "--all", "--format", form]
    tool("buildah", "manifest", "push", *options, "localhost/many:v1", f"docker://{name}")
    with Client(server.host) as client:
        data, media_type, _ = client.get_manifest("team/many", "v1")
        assert media_type in media_types.INDEXES
        index = Index.parse(data, media_type=media_type)
        one = client.get_manifest("team/many", str(index.manifests[0].digest))
    tool("podman", "rmi", "--all", "--force")
    tool("podman", "pull", "--tls-verify=false", name)
    image_id = Manifest.parse(one.data, media_type=one.media_type).config.digest.hex
    assert tool.id(name) == image_id


@pytest.mark.parametrize("program", ["podman", "buildah"])
def test_an_image_of_a_store(store: Store, tool: Tool, tmp_path: Path, program: Program) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_text("hello")
    image = Image.import_rootfs(tmp_path / "root", tag="ours/box:v1", store=store)
    with Registry.serve(store) as server:
        name = f"{server.host}/ours/box:v1"
        tool(program, "pull", "--tls-verify=false", name)
        assert tool.id(name) == image.id.hex


@pytest.mark.parametrize("schema", ["oci", "docker"])
def test_what_our_client_pushed_to_another_registry(
    docker_registry: DockerRegistry,
    tool: Tool,
    store: Store,
    tmp_path: Path,
    schema: Literal["oci", "docker"],
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_text("hello")
    image = Image.import_rootfs(tmp_path / "root", store=store)
    with Registry(docker_registry.host) as registry:
        registry.push(image, f"podman/{schema}:v1", schema=schema)
    for program in ("podman", "buildah"):
        tool(program, "pull", "--tls-verify=false", f"{docker_registry.host}/podman/{schema}:v1")
        tool("podman", "rmi", "--all", "--force")
