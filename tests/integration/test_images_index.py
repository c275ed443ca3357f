"""Indexes between stores and registries: whole, as they are, and safe from collection."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from fronts import Asked, Front, Reply
from pycontainer.content import Store
from pycontainer.errors import (
    ContentError,
    ImageError,
    ImageInUse,
    ImageNotFound,
    ManifestNotFound,
    PlatformNotFound,
    SignatureError,
)
from pycontainer.images import (
    Event,
    Image,
    ImageIndex,
    LayerDone,
    Registry,
    SigningKey,
    TransferDone,
    TransferStarted,
    create,
)
from pycontainer.oci import (
    Compression,
    Descriptor,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    media_types,
)
from pycontainer.registry import Client, RegistryServer, serve
from pycontainer.snapshots import has_layer
from stacks import packed, pair

HERE = Platform.current()
FOREIGN = Platform.parse("linux/s390x")
FAR = Platform.parse("linux/riscv64")
UNKNOWN = Platform("unknown", "unknown")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with serve(tmp_path / "served") as server:
        yield server


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other") as store:
        yield store


def image_for(store: Store, platform: Platform, text: bytes = b"") -> Image:
    """An image of a layer that all have and one of its own."""
    config = ImageConfig(
        os=platform.os, architecture=platform.architecture, variant=platform.variant
    )
    layers = [packed(store, {"etc": {"all": b"x" * 5000}}), packed(store, {str(platform): text})]
    return create(store, [pair(layer) for layer in layers], config)


def put_blob(client: Client, repository: str, data: bytes, media_type: str) -> Descriptor:

    blob = Descriptor(media_type, Digest.of(data), len(data))
    client.push_blob(repository, blob, lambda: io.BytesIO(data))
    return blob


def attestation(client: Client, repository: str, about: Image) -> Descriptor:
    """What BuildKit puts beside an image: a config like an image's, and a layer that is no tar."""
    layer = put_blob(client, repository, b'{"_type": "x"}', "application/vnd.in-toto+json")
    config = ImageConfig(os="unknown", architecture="unknown", diff_ids=(layer.digest,))
    described = put_blob(client, repository, config.encode(), media_types.OCI_CONFIG)
    manifest = Manifest(config=described, layers=(layer,))
    client.put_manifest(repository, str(manifest.digest), manifest.encode(), manifest.media_type)
    return evolve(
        manifest.descriptor(),
        platform=UNKNOWN,
        annotations={"vnd.docker.reference.digest": str(about.digest)},
    )


def put_index(
    server: RegistryServer, name: str, images: list[Image], media_type: str = media_types.OCI_INDEX
) -> Index:
    """An index in a registry, in bytes that this library would not write so, with an attestation."""
    repository, _, tag = name.partition(":")
    with Registry(server.host) as registry, Client(server.host) as client:
        entries = []
        for each in images:
            registry.push(each, f"{repository}:{each.platform.architecture}")
            entries.append(evolve(each.descriptor, platform=each.platform))
        entries.append(attestation(client, repository, images[0]))
        plain = Index(manifests=tuple(entries), media_type=media_type)
        data = plain.encode().replace(b'{"schemaVersion":', b'{\n "schemaVersion" : ', 1)
        client.put_manifest(repository, tag, data, media_type)
        return Index.parse(data)


@pytest.fixture
def images(store: Store) -> list[Image]:
    return [image_for(store, platform) for platform in (FOREIGN, HERE, FAR)]


@pytest.fixture
def index(server: RegistryServer, images: list[Image]) -> Index:
    return put_index(server, "multi:1", images)


# --- pulls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [media_types.OCI_INDEX, media_types.DOCKER_LIST])
def test_all_platforms_come_and_go_as_they_are(
    server: RegistryServer, images: list[Image], other: Store, kind: str
) -> None:
    index = put_index(server, "multi:1", images, kind)
    name = f"{server.host}/multi:1"
    pulled = ImageIndex.pull(name, store=other)
    assert pulled.digest == index.digest
    assert pulled.platforms == (FOREIGN, HERE, FAR)
    for each in images:
        assert pulled.image(each.platform) == each
    assert pulled.attestations(pulled.image(FOREIGN))
    assert Image.get(name, store=other).platform == HERE
    # And on, with nothing but the store, to another registry.
    other.collect()
    with serve(other.path / "elsewhere") as elsewhere, Client(elsewhere.host) as client:
        sent = pulled.push(f"{elsewhere.host}/team/copy:2")
        assert sent.digest == index.digest
        fetched = client.get_manifest("team/copy", "2")
        assert (fetched.data, fetched.media_type) == (index.encode(), kind)
        assert (
            ImageIndex.get(name, store=other).push(f"{elsewhere.host}/b:1").digest == index.digest
        )
        for each in images:
            assert client.head_manifest("team/copy", str(each.digest)) is not None


def test_only_this_machines_image_is_unpacked(
    server: RegistryServer, index: Index, images: list[Image], other: Store
) -> None:
    foreign, here, _ = images
    pulled = ImageIndex.pull(f"{server.host}/multi:1", store=other)
    assert all(has_layer(other, diff_id) for diff_id in here.diff_ids)
    assert not has_layer(other, foreign.diff_ids[1])
    # What was kept packed is unpacked once somebody wants it.
    assert (pulled.image(FOREIGN).unpack()[1] / "linux/s390x").exists()
    other.collect()
    assert has_layer(other, foreign.diff_ids[1])
    assert pulled.digest == index.digest


def test_an_image_is_returned_where_an_image_was_asked_for(
    server: RegistryServer, index: Index, other: Store
) -> None:
    name = f"{server.host}/multi:1"
    image = Image.pull(name, platform="all", store=other)
    assert image.platform == HERE
    assert ImageIndex.get(name, store=other).digest == index.digest
    with Registry(server.host) as registry:
        assert registry.pull("multi:1", platform="all", store=other) == image
        # A name that stands for one image gives that.
        single = registry.pull("multi:s390x", platform="all", store=other)
        assert single.platform == FOREIGN
        with pytest.raises(ImageError, match="is one image, for linux/s390x"):
            ImageIndex.pull(f"{server.host}/multi:s390x", store=other)


def test_the_first_image_has_the_name_where_none_is_for_this_machine(
    server: RegistryServer, images: list[Image], other: Store
) -> None:
    put_index(server, "foreign:1", [images[0], images[2]])
    image = Image.pull(f"{server.host}/foreign:1", platform="all", store=other)
    assert image.platform == FOREIGN
    assert not has_layer(other, image.diff_ids[0])
    with pytest.raises(PlatformNotFound):
        Image.pull(f"{server.host}/foreign:1", store=other)


def test_an_index_without_images(server: RegistryServer, images: list[Image], other: Store) -> None:
    with Client(server.host) as client:
        index = Index(manifests=(attestation(client, "sbom", images[0]),))
        client.put_manifest("sbom", "1", index.encode(), index.media_type)
    with pytest.raises(ImageError, match="without any image"):
        ImageIndex.pull(f"{server.host}/sbom:1", store=other)
    assert Image.list(store=other) == ()


def test_an_index_of_indexes(server: RegistryServer, images: list[Image], other: Store) -> None:
    inner = put_index(server, "nest:in", images[:2])
    outer = Index(manifests=(inner.descriptor(), evolve(images[2].descriptor, platform=FAR)))
    with Client(server.host) as client, Registry(server.host) as registry:
        registry.push(images[2], "nest:far")
        client.put_manifest("nest", "out", outer.encode(), outer.media_type)
    pulled = ImageIndex.pull(f"{server.host}/nest:out", store=other)
    assert Image.get(f"{server.host}/nest:out", store=other).platform == HERE
    other.collect()
    with serve(other.path / "elsewhere") as elsewhere, Registry(elsewhere.host) as registry:
        assert registry.push(pulled, "nest:2").digest == outer.digest
        assert registry.pull(f"nest@{inner.digest}", store=other).platform == HERE
    pulled.save(other.path / "nest.tar")


def test_what_is_told(
    server: RegistryServer, index: Index, images: list[Image], other: Store
) -> None:
    events: list[Event] = []
    ImageIndex.pull(f"{server.host}/multi:1", store=other, progress=events.append)
    assert isinstance(events[0], TransferStarted)
    assert events[0].digest == index.digest
    done = [event.layer.digest for event in events if isinstance(event, LayerDone)]
    assert len(done) == len(set(done))
    assert set(done) == {layer.digest for layer in events[0].layers}
    assert {layer.digest for each in images for layer in each.layers} < set(done)
    assert events[-1] == TransferDone(events[0].reference, index.digest)


def test_a_damaged_image_of_another_platform_is_found(
    server: RegistryServer, index: Index, images: list[Image], other: Store
) -> None:
    layer = str(images[0].layers[1].digest)

    def damage(asked: Asked, reply: Reply) -> Reply:
        if asked.method == "GET" and asked.path.endswith(layer):
            return evolve(reply, body=reply.body[:-1] + b"\7")
        return reply

    with Front(server.host, after=damage) as front:
        with pytest.raises(ContentError):
            ImageIndex.pull(f"{front.host}/multi:1", store=other)
        assert Image.list(store=other) == ()
        assert ImageIndex.list(store=other) == ()
    assert ImageIndex.pull(f"{server.host}/multi:1", store=other).digest == index.digest


def test_an_image_that_the_registry_lacks(
    server: RegistryServer, index: Index, images: list[Image], other: Store
) -> None:
    def lacks(asked: Asked) -> Reply | None:
        return Reply(404) if asked.path.endswith(str(images[2].digest)) else None

    with (
        Front(server.host, before=lacks) as front,
        pytest.raises(ManifestNotFound, match=str(images[2].digest)),
    ):
        ImageIndex.pull(f"{front.host}/multi:1", store=other)


# --- variants --------------------------------------------------------------------------------


def put_variants(server: RegistryServer, store: Store, *entries: tuple[str, str]) -> list[Image]:
    """An index whose entries say other than their configs, as many do that leave the variant out."""
    made, described = [], []
    with Registry(server.host) as registry, Client(server.host) as client:
        for said, real in entries:
            image = image_for(store, Platform.parse(real), said.encode())
            registry.push(image, f"arm:{said.replace('/', '-')}")
            described.append(evolve(image.descriptor, platform=Platform.parse(said)))
            made.append(image)
        index = Index(manifests=tuple(described))
        client.put_manifest("arm", "1", index.encode(), index.media_type)
    return made


def test_the_next_older_variant_is_taken(
    server: RegistryServer, store: Store, other: Store
) -> None:
    v6, v7 = put_variants(
        server, store, ("linux/arm/v6", "linux/arm/v6"), ("linux/arm/v7", "linux/arm/v7")
    )
    name = f"{server.host}/arm:1"
    for wanted, image in [("v6", v6), ("v7", v7), ("v8", v7)]:
        assert Image.pull(name, platform=f"linux/arm/{wanted}", store=other) == image
    assert Image.pull(name, platform="linux/arm/v8", policy="never", store=other) == v7
    # Of a single image, too: what is older runs, what is newer does not.
    single = f"{server.host}/arm:linux-arm-v6"
    assert Image.pull(single, platform="linux/arm/v7", store=other) == v6
    with pytest.raises(PlatformNotFound, match=r"linux/arm/v7, wanted was linux/arm/v6"):
        Image.pull(f"{server.host}/arm:linux-arm-v7", platform="linux/arm/v6", store=other)


def test_the_index_is_believed_about_the_variant(
    server: RegistryServer, store: Store, other: Store
) -> None:
    """Many configs leave it out: taken for the usual one, v7, this image would not run there."""
    (image,) = put_variants(server, store, ("linux/arm/v6", "linux/arm"))
    assert Image.pull(f"{server.host}/arm:1", platform="linux/arm/v6", store=other) == image


# --- names -----------------------------------------------------------------------------------


def test_asking_again_for_the_image_keeps_the_index(
    server: RegistryServer, index: Index, other: Store
) -> None:
    name = f"{server.host}/multi:1"
    ImageIndex.pull(name, store=other)
    Image.pull(name, store=other)
    Image.pull(name, policy="missing", store=other)
    assert ImageIndex.get(name, store=other).digest == index.digest


def test_a_name_that_stands_for_something_else_has_no_index_any_more(
    server: RegistryServer, index: Index, images: list[Image], other: Store
) -> None:
    name = f"{server.host}/multi:1"
    ImageIndex.pull(name, store=other)
    changed = put_index(server, "multi:1", [image_for(images[0].store, HERE, b"new"), images[0]])
    image = Image.pull(name, store=other)
    with pytest.raises(ImageNotFound, match="no index"):
        ImageIndex.get(name, store=other)
    assert ImageIndex.pull(name, store=other).digest == changed.digest
    image.tag(name)
    assert ImageIndex.list(store=other) == ()
    other.collect()
    assert not other.blobs.exists(images[2].digest)
    assert not other.blobs.exists(index.digest)


def test_policies(server: RegistryServer, index: Index, other: Store) -> None:
    name = f"{server.host}/multi:1"
    Image.pull(name, store=other)
    with pytest.raises(PlatformNotFound, match="not for all"):
        Image.pull(name, platform="all", policy="never", store=other)
    Image.pull(name, platform="all", policy="missing", store=other)
    assert Image.pull(name, platform="all", policy="never", store=other).platform == HERE
    # What the index has for other platforms is there, too, and leaves the name alone.
    assert Image.pull(name, platform=FOREIGN, policy="never", store=other).platform == FOREIGN
    assert Image.get(name, store=other).platform == HERE
    assert ImageIndex.get(name, store=other).digest == index.digest


def test_more_names_and_none(server: RegistryServer, index: Index, other: Store) -> None:
    pulled = ImageIndex.pull(f"{server.host}/multi:1", store=other)
    named = pulled.tag("team/app:9")
    assert named == pulled
    assert str(named.reference) == "docker.io/team/app:9"
    assert Image.get("team/app:9", store=other).platform == HERE
    assert len(ImageIndex.list(store=other)) == 2
    pulled.delete()
    pulled.delete()
    other.collect()
    assert [str(each.reference) for each in ImageIndex.list(store=other)] == [
        "docker.io/team/app:9"
    ]
    for platform in named.platforms:
        named.image(platform).unpack()
    Image.get("team/app:9", store=other).delete()
    assert ImageIndex.list(store=other) == ()
    other.collect()
    assert list(other.blobs.digests()) == []
    assert index.digest == pulled.digest


def test_a_name_that_moved_on_is_not_taken_from_its_new_owner(
    server: RegistryServer, index: Index, images: list[Image], other: Store
) -> None:
    name = f"{server.host}/multi:1"
    first = ImageIndex.pull(name, store=other)
    put_index(server, "multi:1", images[:2])
    second = ImageIndex.pull(name, store=other)
    first.delete()
    assert ImageIndex.get(name, store=other) == second
    assert index.digest == first.digest


def test_what_a_container_runs_on_stays(server: RegistryServer, index: Index, other: Store) -> None:
    pulled = ImageIndex.pull(f"{server.host}/multi:1", store=other)
    other.add_root("container", "busy", [("blob", str(pulled.image().digest))])
    with pytest.raises(ImageInUse, match="busy"):
        pulled.delete()
    assert ImageIndex.list(store=other) == (pulled,)
    pulled.delete(force=True)
    assert ImageIndex.list(store=other) == ()
    assert index.digest == pulled.digest


# --- trust -----------------------------------------------------------------------------------


def test_a_signature_of_the_index_counts(
    server: RegistryServer, index: Index, other: Store
) -> None:
    name = f"{server.host}/multi:1"
    key, stranger = SigningKey.generate(), SigningKey.generate()
    with Registry(server.host) as registry:
        registry.sign("multi:1", key)
    from pycontainer.images import PublicKey

    seen: list[str] = []
    public = PublicKey(key.public_pem())
    with pytest.raises(SignatureError):
        ImageIndex.pull(name, store=other, signed_by=PublicKey(stranger.public_pem()))
    assert ImageIndex.list(store=other) == ()
    pulled = ImageIndex.pull(
        name,
        store=other,
        signed_by=public,
        accept=lambda reference, digest: seen.append(f"{reference} {digest}"),
    )
    assert seen == [f"{name} {index.digest}"]
    assert pulled.digest == index.digest
    assert Image.pull(name, store=other, signed_by=public).platform == HERE
    with pytest.raises(ValueError, match="policy='missing'"):
        Image.pull(name, policy="missing", store=other, signed_by=public)


# --- Docker's schema 2 -----------------------------------------------------------------------


def test_an_image_in_the_words_of_schema_2_and_back(
    server: RegistryServer, store: Store, other: Store
) -> None:
    image = image_for(store, HERE)
    name = f"{server.host}/old:1"
    sent = image.push(name, schema="docker")
    with Client(server.host) as client:
        data, kind, digest = client.get_manifest("old", "1")
    assert kind == media_types.DOCKER_MANIFEST
    assert sent.digest == digest != image.digest
    document = Manifest.parse(data)
    assert document.config.media_type == media_types.DOCKER_CONFIG
    assert {each.media_type for each in document.layers} == {media_types.DOCKER_LAYER_GZIP}
    pulled = Image.pull(name, store=other)
    assert (pulled.id, pulled.diff_ids, pulled.digest) == (image.id, image.diff_ids, digest)
    # As it is, the digest stays; in OCI's words it is what it was.
    assert pulled.push(f"{server.host}/old:2").digest == digest
    with Registry(server.host) as registry:
        assert registry.push(pulled, "old:3", schema="oci").digest == image.digest
        assert registry.push(image, "old:4", schema="docker").digest == digest


def test_what_schema_2_cannot_say(server: RegistryServer, store: Store) -> None:
    layer = packed(store, {"a": b""}, Compression.ZSTD)
    image = create(store, [pair(layer)], ImageConfig(os="linux", architecture="amd64"))
    with pytest.raises(ImageError, match=r"zstd.*schema 2 does not know"):
        image.push(f"{server.host}/old:1", schema="docker")
    with pytest.raises(ValueError, match="unknown schema"):
        image.push(f"{server.host}/old:1", schema="v1")  # type: ignore[arg-type]
