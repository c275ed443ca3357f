"""Indexes of Dockerfiles: instructions mean something else for each platform."""

from __future__ import annotations

from pathlib import Path

import pytest

from built_images import contents_of
from pycontainer.build import Builder
from pycontainer.build.dockerfile import Dockerfile
from pycontainer.content import Store
from pycontainer.errors import BuildError, DockerfileError
from pycontainer.oci import Platform

HERE = Platform.current()
OTHER = Platform.parse("linux/s390x")
BOTH = [HERE, OTHER]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    place.mkdir()
    (place / f"program-{HERE.architecture}").write_text("for here")
    (place / "program-s390x").write_text("for there")
    return place


def read(text: str, context: Path, store: Store, **contexts: Builder) -> Builder:
    return Builder.from_dockerfile(
        Dockerfile.parse(text), context=context, store=store, contexts=contexts
    )


CROSS = """\
FROM --platform=$BUILDPLATFORM tools:1 AS build
ARG TARGETARCH
COPY program-$TARGETARCH /out/program
FROM base:1 AS release
ARG TARGETPLATFORM
ARG BUILDPLATFORM
LABEL for=$TARGETPLATFORM on=$BUILDPLATFORM
COPY --from=build /out /app
"""


@pytest.fixture
def based(context: Path, store: Store) -> Store:
    """A store with a base for each platform, and tools for this machine alone."""
    Builder.scratch().env({"TOOL": "1"}).build("tools:1", store=store)
    base = Builder.scratch(context=context).copy(".", "/base/")
    base.env({"BASE": "1"}).build_index("base:1", platforms=BOTH, store=store)
    return store


def test_arguments_and_bases_are_those_of_each_platform(based: Store, context: Path) -> None:
    builder = read(CROSS, context, based)
    index = builder.build_index("app:1", platforms=BOTH)
    assert index.platforms == (HERE, OTHER)
    for platform, content in zip(BOTH, (b"for here", b"for there"), strict=True):
        image = index.image(platform)
        assert contents_of(image)["app/program"] == content
        assert image.config.config.env == ("BASE=1",)
        assert dict(image.config.config.labels) == {"for": str(platform), "on": str(HERE)}
        single = Builder.from_dockerfile(
            Dockerfile.parse(CROSS), context=context, store=based, platform=platform
        )
        assert single.build().digest == image.digest


def test_further_steps_go_on_from_each(based: Store, context: Path) -> None:
    builder = read(CROSS, context, based)
    inspected = Builder.scratch().copy("/app", "/seen", from_=builder)
    further = Builder(builder.env({"A": "1"})).copy("/seen", "/copied", from_=inspected)
    index = further.build_index(platforms=BOTH)
    for platform, content in zip(BOTH, (b"for here", b"for there"), strict=True):
        image = index.image(platform)
        assert contents_of(image)["copied/program"] == content
        assert image.config.config.env == ("BASE=1", "A=1")


def test_this_machines_alone_without_platforms(based: Store, context: Path) -> None:
    builder = read(CROSS, context, based)
    index = builder.build_index()
    assert index.platforms == (HERE,)
    assert index.image(HERE).digest == builder.build().digest


def test_an_instruction_that_is_wrong_for_a_platform(based: Store, context: Path) -> None:
    builder = read(
        f"FROM base:1\nARG TARGETARCH\nENV A=${{TARGETARCH#{HERE.architecture}}}\n"
        "ENV B=${A:+x}\nEXPOSE 8${A:+x}\n",
        context,
        based,
    )
    with pytest.raises(DockerfileError, match="not a port: '8x'"):
        builder.build_index(platforms=BOTH)


def test_a_stage_of_a_dockerfile_is_for_its_platform(based: Store, context: Path) -> None:
    stage = read(CROSS, context, based)
    with pytest.raises(BuildError, match=f"is for {HERE}, the build for {OTHER}"):
        Builder.scratch().copy("/app", "/", from_=stage).build_index(platforms=BOTH, store=based)
