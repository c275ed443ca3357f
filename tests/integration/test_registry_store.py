"""A store served as a registry: its images, without a copy of a blob."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from pycontainer.content import Store
from pycontainer.errors import ManifestNotFound, RegistryError
from pycontainer.images import Image, ImageIndex, Registry, create_index
from pycontainer.oci import Descriptor, Digest, Index, Manifest, Platform, media_types
from pycontainer.registry import Client, RegistryServer
from pycontainer.snapshots import layer_path

NOTE = b"a note"
NOTE_BLOB = Descriptor("application/x-note", Digest.of(NOTE), len(NOTE))


@pytest.fixture
def server(store: Store) -> Iterator[RegistryServer]:
    with Registry.serve(store) as server:
        yield server


@pytest.fixture
def client(server: RegistryServer) -> Iterator[Client]:
    with Client(server.host) as client:
        yield client


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other") as store:
        yield store


def image_in(store: Store, directory: Path, tag: str | None, text: str = "hello") -> Image:
    root = directory / f"root-{text}"
    if not root.is_dir():  # the same files give the same digest
        root.mkdir()
        (root / "file").write_text(text)
    return Image.import_rootfs(root, tag=tag, store=store)


def text_in(image: Image, directory: Path) -> str:
    """What `image_in` wrote, once the layer is unpacked."""
    image.prepare(directory / f"snapshot-{image.digest.hex}")
    path = layer_path(image.store, image.diff_ids[0])
    assert path is not None
    return (path / "file").read_text()


def blobs(store: Store) -> set[Path]:
    return {path for path in store.path.rglob("*") if path.parent.name == "sha256"}


def push_note(client: Client, repository: str, tag: str | None, subject: Image | None) -> Manifest:
    """Push an artifact that no container can be made of."""
    described = None if subject is None else subject.descriptor
    manifest = Manifest(config=NOTE_BLOB, artifact_type="application/x-note", subject=described)
    client.push_blob(repository, NOTE_BLOB, lambda: io.BytesIO(NOTE))
    target = tag or str(manifest.digest)
    client.put_manifest(repository, target, manifest.encode(), manifest.media_type)
    return manifest


class TestPulls:
    @pytest.mark.parametrize(
        ("name", "served"),
        [
            ("app:1", "app:1"),
            ("app:1", "library/app:1"),
            ("team/app:1", "team/app:1"),
            ("ghcr.io/team/app:1", "ghcr.io/team/app:1"),
            ("localhost/app:1", "localhost/app:1"),
            ("localhost:5000/app:1", "localhost__5000/app:1"),
            ("registry.example:443/team/app:1", "registry.example__443/team/app:1"),
        ],
    )
    def test_an_image_by_the_name_people_write(
        self,
        store: Store,
        other: Store,
        server: RegistryServer,
        tmp_path: Path,
        name: str,
        served: str,
    ) -> None:
        image = image_in(store, tmp_path, name)
        before = blobs(store)
        with Registry(server.host) as registry:
            assert registry.pull(served, store=other).digest == image.digest
            assert registry.tags(served.rpartition(":")[0]) == ["1"]
        assert blobs(store) == before

    def test_only_what_the_names_of_a_repository_lead_to(
        self, store: Store, client: Client, tmp_path: Path
    ) -> None:
        image = image_in(store, tmp_path, "app:1")
        image_in(store, tmp_path, None, "unnamed")
        assert client.head_manifest("app", str(image.digest)) is not None
        assert client.head_manifest("app", "2") is None
        assert client.head_manifest("other", str(image.digest)) is None
        assert not client.blob_exists("other", image.layers[0].digest)
        assert client.blob_exists("app", image.layers[0].digest)
        unnamed = image_in(store, tmp_path, None, "unnamed")
        for repository in ("app", "other"):
            assert client.head_manifest(repository, str(unnamed.digest)) is None
            assert not client.blob_exists(repository, unnamed.layers[0].digest)

    def test_a_layer_is_no_manifest(self, store: Store, client: Client, tmp_path: Path) -> None:
        image = image_in(store, tmp_path, "app:1")
        with pytest.raises(ManifestNotFound):
            client.get_manifest("app", str(image.layers[0].digest))

    def test_an_index_until_its_name_goes_to_another_image(
        self, store: Store, client: Client, tmp_path: Path
    ) -> None:
        image = image_in(store, tmp_path, "app:1")
        entry = Descriptor(
            media_types.OCI_MANIFEST, image.digest, image.descriptor.size, platform=image.platform
        )
        index = create_index(store, [entry], tag="app:1")
        assert client.get_manifest("app", "1").digest == index.digest
        later = image_in(store, tmp_path, "app:1", "later")
        assert client.get_manifest("app", "1").digest == later.digest

    def test_names_of_repositories(
        self, store: Store, server: RegistryServer, client: Client, tmp_path: Path
    ) -> None:
        ported = ("localhost:5000/app:1", "[::1]:5000/hidden:1")
        for name in ("app:1", "app:2", "ghcr.io/team/app:1", *ported):
            image_in(store, tmp_path, name)
        image_in(store, tmp_path, None, "unnamed")
        with urllib.request.urlopen(f"{server.url}/v2/_catalog") as answer:
            names = json.load(answer)["repositories"]
        assert names == ["app", "ghcr.io/team/app", "localhost__5000/app"]
        assert client.tags("app") == ["1", "2"]
        with pytest.raises(ManifestNotFound):
            client.tags("absent")


class TestPushes:
    def test_an_image_becomes_one_of_the_store(
        self, store: Store, other: Store, server: RegistryServer, tmp_path: Path
    ) -> None:
        image = image_in(other, tmp_path, "mine:1")
        with Registry(server.host) as registry:
            registry.push(image, "team/app:1")
            pushed = Image.get("team/app:1", store=store)
            assert pushed.digest == image.digest
            store.collect()
            assert (pushed.manifest, pushed.config) == (image.manifest, image.config)
            assert text_in(pushed, tmp_path) == "hello"
            # A name is taken from the image that had it.
            later = image_in(other, tmp_path, "mine:2", "later")
            registry.push(later, "team/app:1")
        assert Image.get("team/app:1", store=store).digest == later.digest
        store.collect()
        assert not store.blobs.exists(image.digest)
        assert store.blobs.exists(later.digest)

    def test_names_with_ports(
        self, store: Store, other: Store, server: RegistryServer, tmp_path: Path
    ) -> None:
        image = image_in(other, tmp_path, "app:1")
        with Registry(server.host) as registry:
            registry.push(image, "localhost__5000/app:1")
            registry.push(image, "team__x/app:1")
        assert Image.get("localhost:5000/app:1", store=store).digest == image.digest
        assert Image.get("team__x/app:1", store=store).digest == image.digest

    def test_blobs_wait_for_their_manifest(
        self, store: Store, server: RegistryServer, client: Client
    ) -> None:
        client.push_blob("app", NOTE_BLOB, lambda: io.BytesIO(NOTE))
        store.collect()
        assert client.blob_exists("app", NOTE_BLOB.digest)
        server.collect(young=3600)
        assert client.blob_exists("app", NOTE_BLOB.digest)
        server.collect(young=-1)
        assert not client.blob_exists("app", NOTE_BLOB.digest)
        assert not store.blobs.exists(NOTE_BLOB.digest)

    def test_what_is_there_by_an_image_stays_for_a_push(
        self, store: Store, client: Client, tmp_path: Path
    ) -> None:
        image = image_in(store, tmp_path, "app:1")
        for part in (image.manifest.config, *image.layers):
            assert client.blob_exists("app", part.digest)
        image.delete()
        store.collect()
        client.put_manifest("app", "2", image.manifest.encode(), image.manifest.media_type)
        assert Image.get("app:2", store=store).digest == image.digest

    def test_an_index(self, store: Store, client: Client, other: Store, tmp_path: Path) -> None:
        image = image_in(other, tmp_path, "mine:1")
        for part in (image.manifest.config, *image.layers):
            client.push_blob("app", part, lambda digest=part.digest: other.blobs.open(digest))  # type: ignore[misc]
        client.put_manifest(
            "app", str(image.digest), image.manifest.encode(), image.manifest.media_type
        )
        here = Descriptor(
            media_types.OCI_MANIFEST,
            image.digest,
            image.descriptor.size,
            platform=Platform.current(),
        )
        index = Index(manifests=(here,))
        client.put_manifest("app", "1", index.encode(), index.media_type)
        assert ImageIndex.get("app:1", store=store).digest == index.digest
        assert Image.get("app:1", store=store).digest == image.digest
        assert client.get_manifest("app", "1").digest == index.digest
        # What the index needs stays, and may not be deleted alone.
        with pytest.raises(RegistryError, match="needs"):
            client.delete_manifest("app", str(image.digest))
        client.delete_manifest("app", str(index.digest))
        assert client.tags("app") == []
        assert Image.list(store=store) == ()

    def test_artifacts_are_no_images(self, store: Store, client: Client, tmp_path: Path) -> None:
        image = image_in(store, tmp_path, "app:1")
        tagged = push_note(client, "app", "note", None)
        about = push_note(client, "app", None, image)
        assert [found.reference for found in Image.list(store=store)] == [image.reference]
        store.collect()
        assert client.get_manifest("app", "note").digest == tagged.digest
        assert [entry.digest for entry in client.referrers("app", image.digest, None)] == [
            about.digest
        ]
        assert client.tags("app") == ["1", "note"]

    def test_unnamed_manifests_stay_until_they_are_collected(
        self, store: Store, server: RegistryServer, client: Client, tmp_path: Path
    ) -> None:
        image = image_in(store, tmp_path, "app:1")
        alone = push_note(client, "app", None, None)
        about = push_note(client, "app", None, image)
        server.collect(young=-1)
        assert client.head_manifest("app", str(alone.digest)) is not None
        server.collect(young=-1, untagged=True)
        assert client.head_manifest("app", str(alone.digest)) is None
        assert client.head_manifest("app", str(about.digest)) is not None

    def test_into_a_store_that_is_collected_all_the_time(
        self, store: Store, other: Store, server: RegistryServer, tmp_path: Path
    ) -> None:
        command = [sys.executable, "-c", COLLECT, str(store.path)]
        with (
            subprocess.Popen(command, stdin=subprocess.PIPE) as process,
            Registry(server.host) as registry,
        ):
            try:
                for n in range(10):
                    image = image_in(other, tmp_path, "mine:1", f"text {n}")
                    registry.push(image, f"app:{n}")
            finally:
                process.kill()
        for n in range(10):
            assert text_in(Image.get(f"app:{n}", store=store), tmp_path) == f"text {n}"


COLLECT = """
import sys
from pycontainer.content import Store
with Store.open(sys.argv[1]) as store:
    while True:
        store.collect()
"""


class TestDeletions:
    def test_a_tag_takes_the_name_from_the_image(
        self, store: Store, client: Client, tmp_path: Path
    ) -> None:
        image = image_in(store, tmp_path, "app:1")
        image_in(store, tmp_path, "app:2")
        client.delete_manifest("app", "1")
        assert client.tags("app") == ["2"]
        assert Image.get("app:2", store=store).digest == image.digest
        with pytest.raises(ManifestNotFound):
            client.delete_manifest("app", "1")

    def test_a_digest_takes_all_names_of_its_repository(
        self, store: Store, client: Client, tmp_path: Path
    ) -> None:
        for name in ("app:1", "app:2", "kept:1"):
            image = image_in(store, tmp_path, name)
        client.delete_manifest("app", str(image.digest))
        assert [str(found.reference) for found in Image.list(store=store)] == [
            "docker.io/library/kept:1"
        ]
        with pytest.raises(ManifestNotFound):
            client.tags("app")

    def test_a_blob_that_an_image_needs_stays(
        self, store: Store, client: Client, tmp_path: Path
    ) -> None:
        image = image_in(store, tmp_path, "app:1")
        with pytest.raises(RegistryError, match="needs"):
            client.delete_blob("app", image.layers[0].digest)
        client.push_blob("app", NOTE_BLOB, lambda: io.BytesIO(NOTE))
        client.delete_blob("app", NOTE_BLOB.digest)
        assert not client.blob_exists("app", NOTE_BLOB.digest)


def test_mount_from_another_repository(store: Store, client: Client, tmp_path: Path) -> None:
    image = image_in(store, tmp_path, "app:1")
    opened: list[str] = []

    def note() -> io.BytesIO:
        opened.append("note")
        return io.BytesIO(NOTE)

    layer = image.layers[0]
    assert not client.push_blob("copy", layer, lambda: pytest.fail("sent"), mount_from="app")
    assert client.push_blob("copy", NOTE_BLOB, note, mount_from="app")
    assert opened == ["note"]
    image.delete()
    store.collect()
    assert client.blob_exists("copy", layer.digest)


def test_on_the_command_line(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Store.open(home) as store:
        image = image_in(store, tmp_path, "app:1")
    command = [sys.executable, "-m", "pycontainer", "registry", "--store", str(home), "--address"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "127.0.0.1:0"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            host = process.stdout.readline().strip().rpartition("http://")[2]
            with pc.Registry(host) as registry, pc.Store.open(tmp_path / "other") as other:
                assert registry.pull("app:1", store=other).digest == image.digest
        finally:
            process.terminate()
        assert process.wait(30) == 0
