"""Dockerfiles of any kind become a graph or a `BuildError`; patterns ignore what Docker's do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from property.strategies_dockerfile import dockerfile_texts, dockerfiles
from pycontainer.build import Builder
from pycontainer.build import dockerfile as df
from pycontainer.build._glob import PatternError
from pycontainer.build._ignore import IgnorePatterns, read_patterns
from pycontainer.build._modes import change_mode, check_mode
from pycontainer.build.dockerfile import Dockerfile, check
from pycontainer.content import Store
from pycontainer.errors import BuildError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    path = tmp_path_factory.mktemp("lowering")
    (path / "context").mkdir()
    (path / "context/file").write_text("content")
    with Store.open(path / "store") as store:
        yield store, path / "context"


def lowered(text: str | Dockerfile, place: tuple[Store, Path], args: dict[str, str]) -> None:
    """Lower it; images and stages that it names are the empty stage."""
    store, context = place
    try:
        parsed = Dockerfile.parse(text) if isinstance(text, str) else text
        assert all(each.rule and each.message for each in check(parsed))
        named = {stage.base.image: Builder.scratch() for stage in parsed.stages}
        for each in parsed:
            if isinstance(each, df.Copy) and each.from_:
                named.setdefault(each.from_, Builder.scratch())
        builder = Builder.from_dockerfile(
            parsed, context=context, store=store, args=args, contexts=named
        )
    except BuildError:
        return
    assert builder.target.digest.algorithm == "sha256"
    assert isinstance(builder.target.title, str)


_args = st.dictionaries(
    st.from_regex(r"[A-Z]{1,2}", fullmatch=True), st.text(max_size=4), max_size=2
)


@given(text=dockerfile_texts, args=_args)
def test_any_text_gives_a_graph_or_a_build_error(
    place: tuple[Store, Path], text: str, args: dict[str, str]
) -> None:
    lowered(text, place, args)


_WORDS = """
    a $A ${A:-b} ${A " ' / . .. * [ \\ = : , --from=x --mount=type= cache bind secret ssh tmpfs target= id=
    <<E http://x --chown= --chmod= u+x git@h:x --link --parents 7 scratch # x.git
"""
_NAMES = """
    ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL ONBUILD RUN SHELL STOPSIGNAL USER VOLUME
    WORKDIR
"""
_words = st.sampled_from(_WORDS.split())
_lines = st.builds(
    lambda name, words: f"{name} {words}",
    st.sampled_from(_NAMES.split()),
    st.lists(st.tuples(_words, st.sampled_from(["", " "])), min_size=1, max_size=8).map(
        lambda pairs: "".join(word + gap for word, gap in pairs)
    ),
)


@given(lines=st.lists(_lines, max_size=6), args=_args)
def test_any_instructions_give_a_graph_or_a_build_error(
    place: tuple[Store, Path], lines: list[str], args: dict[str, str]
) -> None:
    lowered("\n".join(["FROM scratch AS x", *lines, "E", ""]), place, args)


@given(dockerfile=dockerfiles, args=_args)
def test_any_value_that_is_a_dockerfile_gives_a_graph_or_a_build_error(
    place: tuple[Store, Path], dockerfile: Dockerfile, args: dict[str, str]
) -> None:
    try:
        parsed = Dockerfile.parse(str(dockerfile))
    except BuildError:
        return
    lowered(parsed, place, args)


# --- patterns ------------------------------------------------------------------------------------

_names = st.sampled_from(["a", "b", "ab", "a.b", ".a"])
_paths = st.lists(_names, min_size=1, max_size=4).map("/".join)
_parts = _names | st.sampled_from(["*", "?", "**", "a*", "*.b", "[ab]", "[^a]"])
_patterns = st.builds(
    lambda negated, parts: ("!" if negated else "") + "/".join(parts),
    st.booleans(),
    st.lists(_parts, min_size=1, max_size=3),
)


def matches(pattern: list[str], path: list[str]) -> bool:
    """Whether a pattern matches a path or one above it, part by part."""
    if not pattern:
        return True  # what is left of the path is below what matched
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(path)
        return any(matches(pattern[1:], path[at:]) for at in range(len(path) + 1))
    if not path:
        return False
    expression = pattern[0].replace(".", r"\.").replace("*", ".*").replace("?", ".")
    return bool(re.fullmatch(expression, path[0])) and matches(pattern[1:], path[1:])


@given(patterns=st.lists(_patterns, max_size=4), path=_paths)
def test_the_last_pattern_that_matches_decides(patterns: list[str], path: str) -> None:
    wanted = False
    for pattern in patterns:
        if matches(pattern.removeprefix("!").split("/"), path.split("/")):
            wanted = not pattern.startswith("!")
    assert IgnorePatterns(tuple(patterns)).ignores(path) is wanted


@given(text=st.text(st.sampled_from("ab*?[]!/.\\#-^ \n"), max_size=12), path=_paths)
def test_any_ignore_file_is_read_or_refused(text: str, path: str) -> None:
    try:
        patterns = IgnorePatterns(read_patterns(text))
    except PatternError:
        return
    assert patterns.ignores(path) in (True, False)


# --- modes ---------------------------------------------------------------------------------------


@given(
    text=st.from_regex(r"[ugoa]{0,2}([-+=][rwxXst]{0,3}){1,2}(,[ugo][-+=][rwx]?)?", fullmatch=True),
    mode=st.integers(0, 0o7777),
    is_directory=st.booleans(),
)
def test_changed_modes_stay_modes(text: str, mode: int, is_directory: bool) -> None:
    check_mode(text)
    changed = change_mode(text, mode, is_directory=is_directory)
    assert 0 <= changed <= 0o7777
    if "+" in text and "-" not in text and "=" not in text:
        assert changed & mode == mode
