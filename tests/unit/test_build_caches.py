"""Build caches in directories, their records, and what is pruned."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from pycontainer.build import (
    BuildCache,
    Builder,
    Event,
    InlineCache,
    LocalCache,
    VertexCached,
)
from pycontainer.build._cache_records import INLINE, Record, Records
from pycontainer.build._graph import Layer
from pycontainer.content import Store
from pycontainer.errors import BuildError, SpecError
from pycontainer.images import Image
from pycontainer.oci import Descriptor, Digest, media_types

TITLES = ["COPY a /", "WORKDIR /w", "COPY b /"]


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/a").write_text("A")
    (tmp_path / "context/b").write_text("B")
    return Builder.scratch(context=tmp_path / "context").copy("a", "/").workdir("/w").copy("b", "/")


@pytest.fixture
def place(tmp_path: Path) -> LocalCache:
    return LocalCache(tmp_path / "cache")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """Another machine's store."""
    return Store.open(tmp_path / "other")


def build(
    builder: Builder, store: Store, *, cache_from: LocalCache | None = None
) -> tuple[Image, dict[str, bool]]:
    """The image, and which steps came from a cache: whether from elsewhere."""
    events: list[Event] = []
    image = builder.build(
        store=store,
        cache_from=() if cache_from is None else cache_from,
        progress=events.append,
    )
    return image, {e.title: e.imported for e in events if isinstance(e, VertexCached)}


def test_another_machine_goes_on_from_a_directory(
    store: Store, other: Store, builder: Builder, place: LocalCache
) -> None:
    first = builder.build(store=store, cache_to=place)
    with other:
        second, cached = build(builder, other, cache_from=place)
        assert cached == dict.fromkeys(TITLES, True)
        assert second.digest == first.digest
        # From now on its own cache knows.
        _, cached = build(builder, other)
        assert cached == dict.fromkeys(TITLES, False)


def test_a_cache_passes_on_what_it_was_taken_from(
    store: Store, other: Store, builder: Builder, place: LocalCache, tmp_path: Path
) -> None:
    builder.build(store=store, cache_to=place)
    further = LocalCache(tmp_path / "further")
    with other:
        builder.build(store=other, cache_from=place, cache_to=further)
    with Store.open(tmp_path / "third") as third:
        _, cached = build(builder, third, cache_from=further)
        assert cached == dict.fromkeys(TITLES, True)


def test_only_what_is_the_same_is_taken(
    store: Store, other: Store, builder: Builder, place: LocalCache, tmp_path: Path
) -> None:
    builder.build(store=store, cache_to=place)
    (tmp_path / "context/b").write_text("new")
    with other:
        _, cached = build(builder, other, cache_from=place)
    assert cached == dict.fromkeys(TITLES[:2], True)


def test_a_directory_holds_what_the_last_build_needed(
    store: Store, builder: Builder, place: LocalCache, tmp_path: Path
) -> None:
    builder.build(store=store, cache_to=place)
    before = {path.name for path in (place.path / "blobs/sha256").iterdir()}
    builder.build(store=store, cache_to=place)
    assert {path.name for path in (place.path / "blobs/sha256").iterdir()} == before
    (tmp_path / "context/b").write_text("new")
    builder.build(store=store, cache_to=place)
    after = {path.name for path in (place.path / "blobs/sha256").iterdir()}
    assert len(after) == len(before)
    assert after != before
    assert json.loads((place.path / "index.json").read_bytes())["schemaVersion"] == 2


def test_the_same_build_gives_the_same_cache(
    store: Store, other: Store, builder: Builder, place: LocalCache, tmp_path: Path
) -> None:
    twin = LocalCache(tmp_path / "twin")
    builder.build(store=store, cache_to=place)
    with other:
        builder.build(store=other, cache_to=twin)
    assert (twin.path / "index.json").read_bytes() == (place.path / "index.json").read_bytes()


def test_a_cache_that_is_not_there_costs_nothing(
    store: Store, builder: Builder, place: LocalCache
) -> None:
    _, cached = build(builder, store, cache_from=place)
    assert cached == {}


def test_a_damaged_cache_is_passed_over(
    store: Store,
    other: Store,
    builder: Builder,
    place: LocalCache,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = builder.build(store=store, cache_to=place)
    for layer in first.layers[:1]:
        path = place.path / "blobs/sha256" / layer.digest.hex
        path.write_bytes(b"x" * layer.size)
    with other, caplog.at_level(logging.WARNING):
        second, cached = build(builder, other, cache_from=place)
    assert cached == dict.fromkeys(TITLES[1:], True)
    assert second.digest == first.digest
    assert "a layer of the build cache" in caplog.text
    (place.path / "index.json").write_text("{}")
    with Store.open(other.path) as again:
        BuildCache(again).prune()
        _, cached = build(builder, again, cache_from=place)
    assert cached == {}


def test_a_directory_of_something_else_is_left_alone(store: Store, builder: Builder) -> None:
    directory = store.path.parent / "precious"
    directory.mkdir(exist_ok=True)
    (directory / "file").touch()
    with pytest.raises(BuildError, match="no build cache"):
        builder.build(store=store, cache_to=LocalCache(directory))
    assert [path.name for path in directory.iterdir()] == ["file"]


def test_a_layout_of_images_is_no_cache(
    store: Store, builder: Builder, place: LocalCache, caplog: pytest.LogCaptureFixture
) -> None:
    builder.build("app:1", store=store).save(place.path, format="oci-layout")
    BuildCache(store).prune()
    _, cached = build(builder, store, cache_from=place)
    assert cached == {}
    assert "no build cache" in caplog.text


def test_an_image_tells_the_keys_of_its_layers(store: Store, builder: Builder) -> None:
    plain = builder.build(store=store)
    image = builder.build(store=store, cache_to=InlineCache())
    assert image.layers == plain.layers
    assert image.digest != plain.digest
    records = Records.of_image(image.manifest, image.config)
    layers = {record.title: record.layer for record in records.by_key.values()}
    assert sorted(layers) == sorted(TITLES)
    assert Records.of_image(plain.manifest, plain.config).by_key == {}


def test_documents_of_records_are_read_back() -> None:
    layer = Layer(Descriptor(media_types.OCI_LAYER, Digest.of(b"l"), 1), Digest.of(b"t"))
    records = [Record(Digest.of(b"a"), "A", layer), Record(Digest.of(b"b"), "B", None)]
    data = Records.encode(records)
    assert list(Records.parse(data).by_key.values()) == sorted(records, key=lambda r: r.key)
    assert Records.encode(records[::-1]) == data


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"records":[1]}', b'{"records":[{"key":"x","title":"","layer":0}]}'],
)
def test_damaged_documents_are_told(data: bytes) -> None:
    with pytest.raises(SpecError):
        Records.parse(data)


@pytest.mark.parametrize("said", [1, [1], [["sha256:1", "", 0]], [[str(Digest.of(b"")), "", 9]]])
def test_damaged_inline_caches_are_told(store: Store, builder: Builder, said: object) -> None:
    image = builder.build(store=store)
    with pytest.raises(SpecError):
        Records.of_image(image.manifest, image.config.evolve(extra={INLINE: said}))


# --- pruning -------------------------------------------------------------------------------------


def test_the_longest_unused_go_until_it_is_small_enough(
    store: Store, builder: Builder, tmp_path: Path
) -> None:
    builder.build(store=store)
    cache = BuildCache(store)
    sizes = [entry.size for entry in cache.entries()]
    assert cache.size == sum(sizes)
    assert cache.prune(keep_bytes=cache.size) == ()
    (gone,) = cache.prune(keep_bytes=cache.size - 1)
    assert gone.title == TITLES[0]
    assert cache.size == sum(sizes) - gone.size
    assert cache.prune(keep_bytes=0, unused_for=3600) == ()
    assert [entry.title for entry in cache.prune(keep_bytes=0)] == TITLES[1:]
    assert cache.size == 0


def test_layers_that_several_steps_made_count_once(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A")
    base = Builder.scratch(context=tmp_path)
    for _ in range(2):
        base = base.copy("a", "/")
        base.build(store=store)
    cache = BuildCache(store)
    first, second = cache.entries()
    assert first.layer == second.layer
    assert cache.size == first.size
    assert len(cache.prune(keep_bytes=first.size - 1)) == 2
