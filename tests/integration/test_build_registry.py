"""Builds whose base image comes from a registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycontainer.build import Builder, Event, InlineCache, RegistryCache, VertexCached
from pycontainer.build.dockerfile import Dockerfile
from pycontainer.content import Store
from pycontainer.errors import PlatformNotFound, RegistryError
from pycontainer.images import Image, Registry


def test_a_base_image_is_pulled_once(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A")
    base = Builder.scratch(context=tmp_path).copy("a", "/a").build(store=store)
    with Store.open(tmp_path / "other") as other:
        with Registry.serve(tmp_path / "registry") as server:
            name = f"{server.host}/base:1"
            base.push(name)
            first = Builder(name).copy("/a", "/b", from_=name).build(store=other)
        # The registry has gone, the store has the image.
        again = Builder(name).copy("/a", "/b", from_=name).build(store=other)
    assert first.layers[:1] == base.layers
    assert again.digest == first.digest


def test_a_base_image_that_nobody_has(store: Store, tmp_path: Path) -> None:
    with (
        Registry.serve(tmp_path / "registry") as server,
        pytest.raises(RegistryError, match="base"),
    ):
        Builder(f"{server.host}/base:1").build(store=store)


# --- caches --------------------------------------------------------------------------------------


def _builder(context: Path) -> Builder:
    context.mkdir(exist_ok=True)
    (context / "a").write_text("A")
    (context / "b").write_text("B")
    stage = Builder.scratch(context=context).copy("a", "/out/a")
    return Builder.scratch(context=context).copy("/out", "/", from_=stage).copy("b", "/")


def _cached(builder: Builder, store: Store, cache: RegistryCache) -> list[str]:
    events: list[Event] = []
    builder.build(store=store, cache_from=cache, progress=events.append)
    return sorted(e.title for e in events if isinstance(e, VertexCached) and e.imported)


def test_a_cache_of_its_own_in_a_registry(store: Store, tmp_path: Path) -> None:
    builder = _builder(tmp_path / "context")
    with (
        Registry.serve(tmp_path / "registry") as server,
        Store.open(tmp_path / "other") as other,
    ):
        cache = RegistryCache(f"{server.host}/app:cache")
        builder.build(store=store, cache_to=cache)
        builder.build(store=store, cache_to=cache)
        assert _cached(builder, other, cache) == [
            "COPY --from=stage /out /",
            "COPY a /out/a",
            "COPY b /",
        ]


def test_an_image_that_is_its_own_cache(store: Store, tmp_path: Path) -> None:
    builder = _builder(tmp_path / "context")
    with (
        Registry.serve(tmp_path / "registry") as server,
        Store.open(tmp_path / "other") as other,
    ):
        name = f"{server.host}/app:1"
        image = builder.build(name, store=store, cache_to=InlineCache(), push=True)
        found = _cached(builder, other, RegistryCache(name))
        assert found == ["COPY --from=stage /out /", "COPY b /"]  # of its own layers alone
        pulled = Registry(server.host).pull("app:1", store=other)
        assert pulled.digest == image.digest


def test_a_registry_without_that_cache(store: Store, tmp_path: Path) -> None:
    builder = _builder(tmp_path / "context")
    with Registry.serve(tmp_path / "registry") as server:
        host = server.host
        assert _cached(builder, store, RegistryCache(f"{host}/app:none")) == []
    # And one that is not there at all.
    with Store.open(tmp_path / "other") as other:
        assert _cached(builder, other, RegistryCache(f"{host}/app:none", timeout=1.0)) == []


# --- several platforms ---------------------------------------------------------------------------

BOTH = ["linux/amd64", "linux/arm64"]


def test_an_index_is_pushed_and_pulled_by_platform(store: Store, tmp_path: Path) -> None:
    builder = _builder(tmp_path / "context")
    with Registry.serve(tmp_path / "registry") as server, Registry(server.host) as registry:
        name = f"{server.host}/app:1"
        index = builder.build_index(
            name, platforms=BOTH, store=store, push=True, sbom=True, provenance=True
        )
        for platform in BOTH:
            with Store.open(tmp_path / platform[-5:]) as other:
                pulled = registry.pull("app:1", platform=platform, store=other)
                assert pulled.digest == index.image(platform).digest


def test_a_base_for_other_platforms_leaves_the_name_to_this_machines(
    store: Store, tmp_path: Path
) -> None:
    builder = _builder(tmp_path / "context")
    with (
        Registry.serve(tmp_path / "registry") as server,
        Store.open(tmp_path / "other") as other,
    ):
        name = f"{server.host}/base:1"
        base = builder.build_index(name, platforms=BOTH, store=store, push=True)
        derived = Builder(name).env({"A": "1"})
        index = derived.build_index(platforms=BOTH, store=other)
        assert [str(index.image(platform).platform) for platform in BOTH] == BOTH
        assert Image.get(name, store=other).digest == base.image().digest


def test_a_dockerfile_is_built_for_platforms_of_a_registry(store: Store, tmp_path: Path) -> None:
    builder = _builder(tmp_path / "context")
    with (
        Registry.serve(tmp_path / "registry") as server,
        Store.open(tmp_path / "other") as other,
    ):
        name = f"{server.host}/base:1"
        base = builder.build_index(name, platforms=BOTH, store=store, push=True)
        text = f"FROM --platform=$BUILDPLATFORM {name} AS tools\nFROM {name}\nARG TARGETARCH\n"
        dockerfile = Dockerfile.parse(text + "ENV A=$TARGETARCH\nCOPY --from=tools / /tools\n")
        derived = Builder.from_dockerfile(dockerfile, context=tmp_path, store=other)
        index = derived.build_index(platforms=BOTH)
        for platform in BOTH:
            image = index.image(platform)
            assert image.config.config.env[-1] == f"A={image.platform.architecture}"
            assert image.layers[0] == base.image(platform).layers[0]
        assert Image.get(name, store=other).digest == base.image().digest
        with pytest.raises(PlatformNotFound, match="s390x"):
            derived.build_index(platforms=["linux/s390x"])
