"""Builders print themselves as Dockerfiles that build the same image, or say which step cannot be one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from property.strategies_builder import builders, commanding_builders, texts
from property.strategies_dockerfile import dockerfile_texts, dockerfiles
from pycontainer.build import Builder
from pycontainer.build import dockerfile as df
from pycontainer.build._configure import command_line
from pycontainer.build._graph import depth_first
from pycontainer.build._run import Run
from pycontainer.build.dockerfile import Dockerfile, PrintedDockerfile
from pycontainer.build.dockerfile._expand import expand
from pycontainer.build.dockerfile._lowering import config_of
from pycontainer.build.dockerfile._quoting import written_word
from pycontainer.content import Store
from pycontainer.errors import BuildError
from pycontainer.oci import Digest, Platform

Bench = tuple[Store, Path, Builder]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    path = tmp_path_factory.mktemp("printing")
    context = path / "context"
    (context / "dir").mkdir(parents=True)
    for name in ("file", "a b", "dir/deep", "f2", "$q'"):
        (context / name).write_text(name)
    with Store.open(path / "store") as store:
        base = Builder.scratch(context=context).env({"BASE": "1"}).cmd(["x"]).copy("dir", "/dir")
        base.build("base:1", store=store)
        yield store, context, Builder("base:1", context=context)


def printed_or_refused(builder: Builder) -> PrintedDockerfile | None:
    """What is printed; None where no Dockerfile can say it, which the error does."""
    try:
        return builder.to_dockerfile()
    except BuildError as error:
        refused = str(error)
    assert "cannot be written in a Dockerfile" in refused or "ONBUILD" in refused
    return None


def read(printed: PrintedDockerfile, store: Store, context: Path) -> Builder:
    """What `print` wrote, read again from its text."""
    return Builder.from_dockerfile(
        Dockerfile.parse(str(printed)),
        context=context if printed.context is None else printed.context,
        contexts=printed.contexts,
        store=store,
    )


@given(texts)
def test_a_written_word_stands_for_its_text(text: str) -> None:
    assert expand(written_word(text), {"A": "x", "D": "y"}) == text


@given(data=st.data())
def test_a_printed_builder_builds_the_same_image(bench: Bench, data: st.DataObject) -> None:
    store, context, base = bench
    builder = data.draw(builders(base, context))
    printed = printed_or_refused(builder)
    if printed is None:
        return
    again = read(printed, store, context)
    assert again.build(store=store).digest == builder.build(store=store).digest
    assert str(again.to_dockerfile()) == str(printed)


def commands(builder: Builder, store: Store) -> list[object]:
    """What is executed, with all that makes a difference to it."""
    return [
        (
            command_line(step.command, config_of(vertex.inputs[0], store)),
            step.network,
            step.env,
            step.mounts,
            [each.digest for each in vertex.inputs[1:]],
        )
        for vertex in depth_first(builder.target)
        if isinstance(step := vertex.operation, Run)
    ]


@given(data=st.data())
def test_printed_commands_are_the_same(bench: Bench, data: st.DataObject) -> None:
    store, context, _ = bench
    builder = data.draw(commanding_builders(context))
    printed = printed_or_refused(builder)
    if printed is None:
        return
    again = read(printed, store, context)
    assert commands(again, store) == commands(builder, store)
    assert again.to_dockerfile() == printed


# --- from Dockerfiles ----------------------------------------------------------------------------


def graph_of(text: str | Dockerfile, bench: Bench) -> Builder | None:
    """The graph of a Dockerfile whose images are empty stages; None if it is none."""
    store, context, _ = bench
    try:
        parsed = Dockerfile.parse(text) if isinstance(text, str) else text
        empty = Builder.scratch(platform=Platform.current())
        named = {stage.base.image: empty for stage in parsed.stages}
        for each in parsed:
            if isinstance(each, df.Copy) and each.from_:
                named.setdefault(each.from_, empty)
        return Builder.from_dockerfile(parsed, context=context, store=store, contexts=named)
    except BuildError:
        return None


def printed_graph(builder: Builder, bench: Bench) -> tuple[Digest, str] | None:
    """The graph of what a Builder prints; None if it says that there is no Dockerfile for it."""
    printed = printed_or_refused(builder)
    if printed is None:
        return None
    again = read(printed, bench[0], bench[1])
    return again.target.digest, str(again.to_dockerfile())


@given(text=dockerfile_texts | dockerfiles.map(str))
def test_the_graph_of_a_dockerfile_survives_printing(bench: Bench, text: str) -> None:
    builder = graph_of(text, bench)
    if builder is not None:
        found = printed_graph(builder, bench)
        assert found is None or found == (builder.target.digest, str(builder.to_dockerfile()))
