"""A Dockerfile's text and its values hold the same; no text does worse than an error."""

from __future__ import annotations

from hypothesis import given

from property.strategies_dockerfile import dockerfile_texts, dockerfiles
from pycontainer.build.dockerfile import Dockerfile
from pycontainer.errors import BuildError, DockerfileError


@given(dockerfiles)
def test_what_is_printed_parses_to_the_same(dockerfile: Dockerfile) -> None:
    assert Dockerfile.parse(str(dockerfile)) == dockerfile


@given(dockerfile_texts)
def test_a_text_is_a_dockerfile_or_an_error(text: str) -> None:
    refused: BuildError | None = None
    try:
        dockerfile = Dockerfile.parse(text)
    except BuildError as error:
        refused = error
    if refused is None:
        assert Dockerfile.parse(str(dockerfile)) == dockerfile
    else:
        assert isinstance(refused, DockerfileError)
        assert refused.line <= text.count("\n") + 1


@given(dockerfiles)
def test_positions_lead_to_the_instructions(dockerfile: Dockerfile) -> None:
    text = str(dockerfile)
    lines = tuple(text.split("\n"))
    after = len(str(dockerfile.directives).splitlines())
    for instruction in Dockerfile.parse(text):
        location = instruction.location
        assert location is not None
        assert location.first == after + 1
        assert location.lines == lines[after : location.last]
        assert location.lines[0].startswith(instruction.spelled)
        after = location.last
    assert lines[after:] == ("",)
