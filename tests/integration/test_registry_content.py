"""Content discovery and management, and copies between registries."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from fronts import Asked, Front, Reply
from pycontainer.content import Store
from pycontainer.errors import (
    ImageNotFound,
    ManifestNotFound,
    PlatformNotFound,
    RegistryBlobNotFound,
    RegistryError,
    SpecError,
)
from pycontainer.images import Event, Image, LayerDone, Registry, create
from pycontainer.oci import Descriptor, Digest, ImageConfig, Index, Manifest, media_types
from pycontainer.registry import Client, RegistryServer, serve
from stacks import packed, pair

EMPTY = b"{}"
EMPTY_BLOB = Descriptor(media_types.EMPTY, Digest.of(EMPTY), len(EMPTY))


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with serve(tmp_path / "served") as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Iterator[RegistryServer]:
    with serve(tmp_path / "target") as server:
        yield server


@pytest.fixture
def images(store: Store) -> list[Image]:
    """One for each of two platforms, with a layer in common."""
    shared = pair(packed(store, {"shared": b"x" * 100_000}))
    return [
        create(
            store,
            [shared, pair(packed(store, {arch: arch.encode()}))],
            ImageConfig(os="linux", architecture=arch),
        )
        for arch in ("amd64", "arm64")
    ]


def push_index(server: RegistryServer, images: list[Image]) -> Index:
    with Registry(server.host) as registry:
        entries = []
        for image in images:
            registry.push(image, f"multi:{image.platform.architecture}")
            entries.append(evolve(image.descriptor, platform=image.platform))
        index = Index(manifests=tuple(entries), annotations={"a": "b"})
        registry._client.put_manifest("multi", "latest", index.encode(), index.media_type)
    return index


def artifact(subject: Descriptor, kind: str, **annotations: str) -> Manifest:
    return Manifest(config=EMPTY_BLOB, artifact_type=kind, subject=subject, annotations=annotations)


def without_referrers(asked: Asked) -> Reply | None:
    return Reply(404) if "/referrers/" in asked.path else None


def without_subjects(asked: Asked, reply: Reply) -> Reply:
    headers = {k: v for k, v in reply.headers.items() if k.lower() != "oci-subject"}
    return evolve(reply, headers=headers)


@pytest.fixture(params=["api", "tag"])
def client(request: pytest.FixtureRequest, server: RegistryServer) -> Iterator[Client]:
    """Of a registry that knows referrers, and of one that does not."""
    if request.param == "api":
        with Client(server.host) as client:
            yield client
    else:
        with (
            Front(server.host, without_referrers, without_subjects) as front,
            Client(front.host) as client,
        ):
            yield client


class TestReferrers:
    def test_listed_filtered_and_deleted(self, client: Client) -> None:
        client.push_blob("a", EMPTY_BLOB, lambda: io.BytesIO(EMPTY))
        subject = Manifest(config=EMPTY_BLOB)
        client.put_manifest("a", "v1", subject.encode(), subject.media_type)
        assert client.referrers("a", subject.digest) == []
        about = [artifact(subject.descriptor(), kind, n=kind) for kind in ("x/1", "x/2", "x/1")]
        about[2] = about[2].evolve(annotations={"another": "one"})
        for each in about:
            client.put_manifest("a", str(each.digest), each.encode(), each.media_type)
        client.put_manifest("a", str(about[0].digest), about[0].encode(), about[0].media_type)
        found = client.referrers("a", subject.digest)
        assert {entry.digest for entry in found} == {each.digest for each in about}
        assert {entry.artifact_type for entry in found} == {"x/1", "x/2"}
        assert found[0].annotations
        assert len(client.referrers("a", subject.digest, "x/1")) == 2
        client.delete_manifest("a", str(about[1].digest))
        assert client.referrers("a", subject.digest, "x/2") == []
        with pytest.raises(ManifestNotFound):
            client.delete_manifest("a", str(about[1].digest))

    def test_of_an_image(self, server: RegistryServer, images: list[Image]) -> None:
        with Registry(server.host) as registry:
            registry.push(images[0], "app:1")
            registry._client.push_blob("app", EMPTY_BLOB, lambda: io.BytesIO(EMPTY))
            note = artifact(images[0].descriptor, "x/note")
            registry._client.put_manifest("app", "note", note.encode(), note.media_type)
            assert [entry.digest for entry in registry.referrers("app:1")] == [note.digest]
            assert registry.referrers(f"app@{images[0].digest}", artifact_type="x/other") == []
            with pytest.raises(ManifestNotFound):
                registry.referrers("app:2")

    def test_over_pages_without_a_filter(self, server: RegistryServer) -> None:
        subject = Digest.of(b"subject")
        entries = [
            Descriptor(
                media_types.OCI_MANIFEST, Digest.of(bytes([i])), 1, artifact_type=f"x/{i % 2}"
            )
            for i in range(4)
        ]

        def pages(asked: Asked) -> Reply | None:
            if "/referrers/" not in asked.path:
                return None
            second = "last" in asked.query
            link = {} if second else {"Link": f"<{asked.path}?last=x>; rel=next"}
            index = Index(manifests=tuple(entries[2:] if second else entries[:2]))
            return Reply(200, link, index.encode())

        with Front(server.host, before=pages) as front, Client(front.host) as client:
            assert client.referrers("a", subject) == entries
            assert client.referrers("a", subject, "x/1") == entries[1::2]

    def test_in_a_circle(self, server: RegistryServer) -> None:
        def circle(asked: Asked) -> Reply:
            return Reply(200, {"Link": f"<{asked.target}>; rel=next"}, Index().encode())

        with (
            Front(server.host, before=circle) as front,
            Client(front.host) as client,
            pytest.raises(RegistryError, match="circle"),
        ):
            client.referrers("a", Digest.of(b""))


class TestManagement:
    def test_tags_images_and_blobs_go(self, server: RegistryServer, images: list[Image]) -> None:
        image = images[0]
        with Registry(server.host) as registry:
            for tag in ("1", "2", "3"):
                registry.push(image, f"app:{tag}")
            registry.delete("app:1")
            assert registry.tags("app") == ["2", "3"]
            with pytest.raises(ManifestNotFound):
                registry.delete("app:1")
            registry.delete(f"app@{image.digest}")
            assert registry.tags("app") == []
            client = registry._client
            client.delete_blob("app", image.layers[0].digest)
            assert not client.blob_exists("app", image.layers[0].digest)
            with pytest.raises(RegistryBlobNotFound):
                client.delete_blob("app", image.layers[0].digest)

    def test_pages_of_tags(self, server: RegistryServer, images: list[Image]) -> None:
        with Registry(server.host) as registry, Front(server.host) as front:
            for tag in "abcde":
                registry.push(images[0], f"app:{tag}")
            with Client(front.host) as client:
                assert client.tags("app", page=2) == list("abcde")
                assert len(front.asked) == 3
                assert client.tags("app", after="c") == ["d", "e"]


class TestCopies:
    def test_all_platforms(
        self, server: RegistryServer, target: RegistryServer, images: list[Image], tmp_path: Path
    ) -> None:
        index = push_index(server, images)
        events: list[Event] = []
        with Registry(server.host) as source, Registry(target.host) as goal:
            copied = source.copy("multi:latest", "team/multi:1", to=goal, progress=events.append)
            assert copied.digest == index.digest
            assert str(copied) == f"{target.host}/team/multi:1@{index.digest}"
            fetched = goal._client.get_manifest("team/multi", "1")
            assert fetched.data == index.encode()
            moved = [e.layer.digest for e in events if isinstance(e, LayerDone) and not e.reused]
            assert len(moved) == len(set(moved)) == 5
            with Store.open(tmp_path / "other") as other:
                pulled = goal.pull("team/multi:1", platform="linux/arm64", store=other)
                assert pulled == images[1]
            events.clear()
            source.copy("multi:latest", "team/multi:2", to=goal, progress=events.append)
            assert not any(isinstance(e, LayerDone) and not e.reused for e in events)

    def test_one_platform(
        self, server: RegistryServer, target: RegistryServer, images: list[Image]
    ) -> None:
        push_index(server, images)
        with Registry(server.host) as source, Registry(target.host) as goal:
            copied = source.copy("multi", "multi:arm", to=goal, platform="linux/arm64")
            assert copied.digest == images[1].digest
            with pytest.raises(PlatformNotFound):
                source.copy("multi", "multi:arm", to=goal, platform="linux/riscv64")

    def test_within_one_registry_by_mounts(
        self, server: RegistryServer, images: list[Image]
    ) -> None:
        push_index(server, images)
        with Front(server.host) as front, Registry(front.host) as registry:
            registry.copy("multi", "elsewhere:1")
            assert not [a for a in front.requests("GET") if "/blobs/" in a.path]
            assert registry.tags("elsewhere") == ["1"]

    def test_over_lines_that_break(
        self, server: RegistryServer, target: RegistryServer, images: list[Image]
    ) -> None:
        push_index(server, images)
        cuts = [100]

        def cut(asked: Asked, reply: Reply) -> Reply:
            if "/blobs/" in asked.path and cuts and len(reply.body) > cuts[0]:
                return evolve(reply, cut=cuts.pop())
            return reply

        with (
            Front(server.host, after=cut) as front,
            Registry(front.host) as source,
            Registry(target.host) as goal,
        ):
            source.copy("multi", "multi:1", to=goal)
        assert not cuts


class TestPolicies:
    def test_never(self, server: RegistryServer, images: list[Image], tmp_path: Path) -> None:
        push_index(server, images)
        name = f"{server.host}/multi"
        with Store.open(tmp_path / "other") as other:
            with pytest.raises(ImageNotFound):
                Image.pull(name, policy="never", store=other)
            pulled = Image.pull(name, platform="linux/amd64", store=other)
            assert Image.pull(name, policy="never", store=other) == pulled
            with pytest.raises(PlatformNotFound):
                Image.pull(name, platform="linux/arm64", policy="never", store=other)


@pytest.mark.parametrize("digest", [None, str(Digest.of(b"without its signatures"))])
def test_schema_1_is_refused_clearly(
    server: RegistryServer, store: Store, digest: str | None
) -> None:
    old = b'{"schemaVersion": 1, "name": "a", "tag": "1", "fsLayers": [], "history": []}'

    def answer(asked: Asked) -> Reply | None:
        kind = {"Content-Type": media_types.DOCKER_SCHEMA_1[1]}
        if digest is not None:
            kind["Docker-Content-Digest"] = digest
        return Reply(200, kind, old) if "/manifests/" in asked.path else None

    with (
        Front(server.host, before=answer) as front,
        pytest.raises(SpecError, match="schema 1"),
    ):
        Image.pull(f"{front.host}/a:1", store=store)
