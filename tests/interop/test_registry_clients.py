"""Our client and other people's at other people's registries: each format, both ways, over bad lines."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from cutter import Cutter
from interop.peers import (
    Docker,
    DockerRegistry,
    Layout,
    Podman,
    busybox,
    busybox_tar,
    docker_registry,
    dockerd,
    podman,
    run,
    serving_docker_registry,
    skopeo,
)
from pycontainer.content import Store
from pycontainer.errors import ManifestNotFound, RegistryError, SpecError, Unauthorized
from pycontainer.images import Image, ImageIndex, Registry, create, create_index
from pycontainer.oci import (
    Compression,
    Descriptor,
    Digest,
    History,
    ImageConfig,
    Platform,
    media_types,
)
from pycontainer.registry import Client, Credentials
from pycontainer.snapshots import has_layer
from stacks import file_entry, packed, pair

__all__ = ["busybox", "docker_registry", "dockerd", "podman"]

pytestmark = pytest.mark.interop("docker-registry")

HERE = Platform.current()
ANN = Credentials("ann", "a secret")
NOBODY = Credentials()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other") as store:
        yield store


@pytest.fixture
def image(busybox: Layout, store: Store) -> Image:
    (image,) = Image.load(busybox.path, store=store)
    return image


def image_of(store: Store, compression: Compression, size: int = 0) -> Image:
    """An image with a static busybox, and some bytes that no codec makes smaller."""
    program = file_entry(b"busybox", Path("/bin/busybox").read_bytes(), 0o755)
    layers = [packed(store, [program], compression)]
    for number in range(3 if size else 0):
        data = random.Random(number).randbytes(size // 3)
        layers.append(packed(store, {f"data{number}": data}, compression))
    config = ImageConfig(
        os="linux",
        architecture=HERE.architecture,
        variant=HERE.variant,
        history=tuple(History(created_by=f"layer {number}") for number in range(len(layers))),
    )
    return create(store, [pair(layer) for layer in layers], config)


# --- users and passwords ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A docker-registry that lets in only Ann, by Basic authentication."""
    bcrypt = pytest.importorskip("bcrypt")
    directory = tmp_path_factory.mktemp("guarded")
    hashed = bcrypt.hashpw(ANN.password.encode(), bcrypt.gensalt(4)).decode()
    users = directory / "htpasswd"
    users.write_text(f"{ANN.username}:{hashed.replace('$2b$', '$2y$', 1)}\n")
    auth = {"htpasswd": {"realm": "test", "path": str(users)}}
    with serving_docker_registry(directory, auth=auth) as registry:
        yield registry


def test_docker_registry_deletes_by_digest_alone(guarded: DockerRegistry, image: Image) -> None:
    with Registry(guarded.host, credentials=ANN) as registry:
        pushed = registry.push(image, "deleted/box:1")
        with pytest.raises(RegistryError) as caught:
            registry.delete("deleted/box:1")
        assert caught.value.remedy is not None
        assert "by digest alone" in str(caught.value)
        registry.delete(f"deleted/box@{pushed.digest}")
        with pytest.raises(ManifestNotFound):
            registry.pull("deleted/box:1")


@pytest.mark.interop("skopeo")
def test_docker_registry_with_htpasswd(
    guarded: DockerRegistry,
    image: Image,
    other: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    name = f"{guarded.host}/ours/box:1"
    with pytest.raises(Unauthorized, match=r"it wants credentials: basic \(test\)|answers 401"):
        image.push(name)
    with pytest.raises(Unauthorized):
        image.push(name, credentials=evolve(ANN, password="wrong"))
    with Registry(guarded.host) as registry:
        registry.login(ANN.username, ANN.password)
    # Who has logged in need not say more: here, and with other programs.
    assert image.push(name).digest == image.digest
    flags = [f"--authfile={tmp_path / 'docker/config.json'}", "--tls-verify=false"]
    assert json.loads(skopeo("inspect", *flags, f"docker://{name}"))["Digest"] == str(image.digest)
    run("skopeo", "login", *flags, "-u", "ann", "-p", ANN.password, guarded.host)
    assert Image.pull(name, store=other).digest == image.digest
    with Registry(guarded.host) as registry:
        registry.logout()
        with pytest.raises(Unauthorized):
            registry.tags("ours/box")


@pytest.mark.parametrize("chunk", [None, 3 << 20])
def test_uploads_to_docker_registry_over_a_bad_line(
    guarded: DockerRegistry, chunk: int | None
) -> None:
    """It forgets an upload whose request was cut: that begins anew, and ends with the right bytes."""
    data = random.Random(f"{chunk}").randbytes(12 << 20)
    blob = Descriptor("application/x", Digest.of(data), len(data))
    with (
        Cutter(guarded.host, up=3) as line,
        Client(line.host, credentials=ANN) as client,
    ):
        assert client.push_blob("cut/up", blob, lambda: io.BytesIO(data), chunk=chunk)
        assert line.up == 0
    with Client(guarded.host, credentials=ANN) as client, client.open_blob("cut/up", blob) as got:
        assert got.read() == data


def test_pushes_to_docker_registry_over_a_bad_line(
    guarded: DockerRegistry, store: Store, other: Store
) -> None:
    image = image_of(store, Compression.GZIP, 9 << 20)
    with Cutter(guarded.host, up=3, down=2, most=1_000_000) as line:
        image.push(f"{line.host}/cut/image:1", credentials=ANN)
        assert line.up == 0
    pulled = Image.pull(f"{guarded.host}/cut/image:1", credentials=ANN, store=other)
    assert pulled.digest == image.digest


def test_pulls_from_docker_registry_over_a_line_that_breaks_ten_times(
    guarded: DockerRegistry, store: Store, other: Store
) -> None:
    image = image_of(store, Compression.GZIP, 24 << 20)
    image.push(f"{guarded.host}/cut/large:1", credentials=ANN)
    with Cutter(guarded.host, down=10, most=2_500_000) as line:
        pulled = Image.pull(f"{line.host}/cut/large:1", credentials=ANN, store=other)
        assert pulled.digest == image.digest
        assert line.down == 0
        assert line.received <= 1.05 * image.size
    for layer in pulled.layers:
        other.blobs.read_bytes(layer, limit=1 << 30)


def test_streams_to_docker_registry(guarded: DockerRegistry) -> None:
    data = random.Random(7).randbytes(5_000_000)
    with Client(guarded.host, credentials=ANN) as client:
        blob = client.push_stream("streams", io.BytesIO(data), chunk=1 << 20)
        assert (blob.digest, blob.size) == (Digest.of(data), len(data))
        with client.open_blob("streams", blob) as got:
            assert got.read() == data
    # What it forgets cannot be read again: that is said, and nothing is left of it.
    with (
        Cutter(guarded.host, up=1, least=2_000_000, most=3_000_000) as line,
        Client(line.host, credentials=ANN) as client,
    ):
        with pytest.raises(RegistryError, match="cannot be read again"):
            client.push_stream("streams", io.BytesIO(data + b"more"), chunk=1 << 20)
        assert not client.blob_exists("streams", Digest.of(data + b"more"))


# --- formats ---------------------------------------------------------------------------------


@pytest.mark.interop("podman", "skopeo")
@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_podman_pushes_and_we_pull(
    docker_registry: DockerRegistry, podman: Podman, other: Store, tmp_path: Path, form: str
) -> None:
    name = f"{docker_registry.host}/podman/{form}:1"
    podman.podman("import", busybox_tar(tmp_path), "localhost/box:1")
    podman.podman("push", "--tls-verify=false", "--format", form, "localhost/box:1", name)
    pulled = Image.pull(name, store=other)
    wanted = media_types.DOCKER_MANIFEST if form == "v2s2" else media_types.OCI_MANIFEST
    assert pulled.manifest.media_type == wanted
    assert podman.podman("image", "inspect", "--format", "{{.Id}}", "localhost/box:1").strip() in (
        pulled.id.hex,
        # Of another specification, the config is written anew.
        json.loads(skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{name}"))["config"][
            "digest"
        ].partition(":")[2],
    )
    assert (pulled.unpack()[0] / "bin/busybox").read_bytes() == Path("/bin/busybox").read_bytes()


@pytest.mark.interop("podman")
@pytest.mark.parametrize("kind", ["gzip", "zstd", "docker"])
def test_podman_pulls_what_we_push(
    docker_registry: DockerRegistry, podman: Podman, store: Store, kind: str
) -> None:
    image = image_of(store, Compression.ZSTD if kind == "zstd" else Compression.GZIP)
    name = f"{docker_registry.host}/ours/{kind}:1"
    sent = image.push(name, schema="docker" if kind == "docker" else "oci")
    podman.podman("pull", "--quiet", "--tls-verify=false", name)
    shown = podman.podman("image", "inspect", "--format", "{{.Id}} {{.Digest}}", name)
    assert shown.split() == [image.id.hex, str(sent.digest)]


@pytest.mark.interop("buildah")
@pytest.mark.parametrize("form", ["oci", "docker"])
def test_buildah_there_and_back(
    docker_registry: DockerRegistry, podman: Podman, other: Store, tmp_path: Path, form: str
) -> None:
    name = f"{docker_registry.host}/buildah/{form}:1"
    (tmp_path / "file").write_text("of buildah")
    container = podman.buildah("from", "scratch").strip()
    podman.buildah("copy", container, tmp_path / "file", "/file")
    podman.buildah("config", "--cmd", "/file", container)
    podman.buildah("commit", "--quiet", "--format", form, container, "localhost/made:1")
    podman.buildah("push", "--quiet", "--tls-verify=false", "localhost/made:1", f"docker://{name}")
    pulled = Image.pull(name, store=other)
    assert (pulled.unpack()[0] / "file").read_text() == "of buildah"
    assert pulled.config.config.cmd == ("/file",)
    # Back, under another name, as it is: buildah finds the very same.
    back = f"{docker_registry.host}/buildah/{form}-back:1"
    assert pulled.push(back).digest == pulled.digest
    podman.buildah("pull", "--quiet", "--tls-verify=false", back)
    found = podman.buildah("inspect", "--type", "image", "--format", "{{.FromImageDigest}}", back)
    assert found.strip() == str(pulled.digest)


@pytest.mark.interop("podman", "skopeo")
def test_an_index_of_podman_and_one_of_ours(
    docker_registry: DockerRegistry, podman: Podman, store: Store, other: Store, tmp_path: Path
) -> None:
    theirs = f"{docker_registry.host}/index/theirs:1"
    podman.podman("import", busybox_tar(tmp_path), "localhost/box:1")
    single = f"{docker_registry.host}/index/single:1"
    podman.podman("push", "--tls-verify=false", "localhost/box:1", single)
    podman.podman("manifest", "create", "localhost/many:1")
    podman.podman("manifest", "add", "--tls-verify=false", "localhost/many:1", f"docker://{single}")
    podman.podman(
        "manifest", "push", "--all", "--tls-verify=false", "localhost/many:1", f"docker://{theirs}"
    )
    index = ImageIndex.pull(theirs, store=other)
    raw = skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{theirs}")
    assert index.digest == Digest.of(raw.encode())
    assert has_layer(other, index.image().diff_ids[0])
    # Theirs by our hands, and one of ours with two platforms: both are what they were.
    ours = [
        evolve(image_of(store, Compression.GZIP).descriptor, platform=HERE),
        evolve(
            image_of(store, Compression.ZSTD).descriptor, platform=Platform.parse("linux/s390x")
        ),
    ]
    for each in (index, create_index(store, ours)):
        name = f"{docker_registry.host}/index/pushed:{each.digest.hex[:8]}"
        assert each.push(name).digest == each.digest
        raw = skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{name}")
        assert Digest.of(raw.encode()) == each.digest
        podman.podman("pull", "--quiet", "--tls-verify=false", name)


@pytest.mark.root
@pytest.mark.interop("docker", "dockerd")
@pytest.mark.parametrize("schema", ["oci", "docker"])
def test_docker_runs_what_we_push_in_either_schema(
    docker_registry: DockerRegistry, dockerd: Docker, store: Store, schema: str
) -> None:
    image = image_of(store, Compression.GZIP)
    name = f"{docker_registry.host}/ours/{schema}-for-docker:1"
    image.push(name, schema=schema)  # type: ignore[arg-type]
    dockerd.run("pull", name)
    assert dockerd.run("image", "inspect", "--format", "{{.Id}}", name).strip() == str(image.id)
    ran = dockerd.run("run", "--rm", "--network=none", name, "/busybox", "echo", "runs")
    assert ran == "runs\n"


@pytest.mark.interop("skopeo")
def test_schema_1_of_a_real_registry_is_refused(store: Store, other: Store, tmp_path: Path) -> None:
    schema1 = {"schema1": {"enabled": True}}
    with serving_docker_registry(tmp_path, compatibility=schema1) as registry:
        new, old = (f"{registry.host}/{name}/box:1" for name in ("new", "old"))
        image_of(store, Compression.GZIP).push(new)
        flags = ["--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s1"]
        skopeo("copy", *flags, f"docker://{new}", f"docker://{old}")
        with pytest.raises(SpecError, match="schema 1, which is retired") as caught:
            Image.pull(old, store=other)
        assert caught.value.remedy
