"""The checks: what in a Dockerfile is most often a mistake."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pycontainer.build.dockerfile import Dockerfile, check
from pycontainer.errors import DockerfileError


def rules(text: str, *, ignore: Sequence[str] = ()) -> list[tuple[str, int]]:
    found = check(Dockerfile.parse(text), ignore=ignore)
    return [(each.rule, each.location.first) for each in found]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("FROM scratch AS Base", "StageNameCasing"),
        ("FROM scratch as base", "FromAsCasing"),
        ("FROM scratch AS context", "ReservedStageName"),
        ("FROM --platform=$TARGETPLATFORM x", "RedundantTargetPlatform"),
        ("FROM --platform=linux/amd64 x", "FromPlatformFlagConstDisallowed"),
        ("FROM x:$TAG", "UndefinedArgInFrom"),
        ("FROM --platform=$BUILDPLATFROM x", "UndefinedArgInFrom"),
    ],
)
def test_of_from(text: str, rule: str) -> None:
    assert rules(text + "\n") == [(rule, 1)]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("run true", "ConsistentInstructionCasing"),
        ("MAINTAINER me", "MaintainerDeprecated"),
        ("CMD serve", "JSONArgsRecommended"),
        ("ENTRYPOINT serve", "JSONArgsRecommended"),
        ("ENV A b", "LegacyKeyValueFormat"),
        ("ENV DB_PASSWORD=x", "SecretsUsedInArgOrEnv"),
        ("ARG GITHUB_TOKEN", "SecretsUsedInArgOrEnv"),
        ("ARG AWS_ACCESS_KEY_ID", "SecretsUsedInArgOrEnv"),
        ("ARG AWS_SECRET_ACCESS_KEY", "SecretsUsedInArgOrEnv"),
        ("EXPOSE 80/TCP", "ExposeProtoCasing"),
        ("EXPOSE 8080:80", "ExposeInvalidFormat"),
        ("EXPOSE 127.0.0.1:80:80", "ExposeInvalidFormat"),
        ("WORKDIR app", "WorkdirRelativePath"),
        ("COPY $SRC /", "UndefinedVar"),
        ("COPY a.key /", "CopyIgnoredFile"),
        ("RUN a \\\n\n  b", "NoEmptyContinuation"),
    ],
)
def test_of_instructions(line: str, rule: str) -> None:
    found = rules(f"FROM scratch\n{line}\nLABEL x=y\n", ignore=["*.key"])
    assert [name for name, _ in found] == [rule]


@pytest.mark.parametrize(
    ("arg", "image", "sound"),
    [
        ("TAG", "busybox:${TAG}", False),
        ("TAG=", "busybox:${TAG}", False),
        ("TAG", "$TAG", False),
        ("TAG=latest", "busybox:${TAG}", True),
        ("TAG", "busybox:stable${TAG}", True),
        ("TAG", "busybox:${TAG:-3.14}", True),
    ],
)
def test_of_default_arguments(arg: str, image: str, sound: bool) -> None:
    found = rules(f"ARG {arg}\nFROM {image}\n")
    assert found == ([] if sound else [("InvalidDefaultArgInFrom", 2)])


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("FROM nginx\nWORKDIR usr/share\nWORKDIR html\n", [2]),
        ("FROM nginx\nWORKDIR /usr\nWORKDIR share\n", []),
        ("FROM nginx AS web\nWORKDIR /usr\nFROM web AS more\nFROM more\nWORKDIR share\n", []),
        ("FROM nginx AS web\nFROM web\nWORKDIR share\n", [3]),
    ],
)
def test_of_relative_directories(text: str, lines: list[int]) -> None:
    assert rules(text) == [("WorkdirRelativePath", line) for line in lines]


@pytest.mark.parametrize(
    "text",
    [
        "FROM --platform=linux/amd64 alpine AS build_amd64\n",
        "FROM --platform=${BUILDPLATFORM} alpine AS base\n",
        'FROM alpine\nSHELL ["bash", "-c"]\nENTRYPOINT run\n',
        "FROM alpine\nENV PUBLIC_KEY=x\n",
        "from alpine as base\nrun true\n",
    ],
)
def test_of_what_is_as_it_should_be(text: str) -> None:
    assert rules(text) == []


def test_of_whole_files() -> None:
    text = "FROM scratch AS a\nFROM scratch AS a\nCMD []\nCMD []\n"
    assert rules(text) == [("DuplicateStageName", 2), ("MultipleInstructionsDisallowed", 4)]


GOOD = """\
ARG TAG=1
FROM --platform=$BUILDPLATFORM x:$TAG AS build
ARG TAG
ENV A=$TAG PUBLIC_KEY=x
WORKDIR /a
WORKDIR b
COPY $A /$HOME
EXPOSE 80 ${PORT:-81}
CMD ["a"]
"""


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "from scratch as a\ncopy . /\n",
        "# check=skip=StageNameCasing,JSONArgsRecommended\nFROM scratch AS Base\nCMD a\n",
        "# check=skip=all\nFROM scratch AS Base\nENV A b\n",
    ],
)
def test_nothing_to_find(text: str) -> None:
    assert rules(text) == []


def test_a_warning_says_where_and_what() -> None:
    (found,) = check(Dockerfile.parse("ARG VERSION=1\nFROM x:$VERSON\n", file="F"))
    assert str(found) == (
        "F:2: UndefinedArgInFrom: no ARG before the first FROM gives VERSON a value; "
        "did you mean VERSION?"
    )


DESCRIBED = """\
# check=%s
# syntax of old
ARG TAG=1
# TAG is not this one

ARG OTHER
# about nothing
FROM x:$TAG AS build
# build has one:
# MODE says how
ARG MODE=fast WAY
# no name, no matter
RUN true
# a remark
ARG LAST
"""


@pytest.mark.parametrize(
    "option", ["experimental=all", "experimental=InvalidDefinitionDescription"]
)
def test_descriptions_are_checked_where_wanted(option: str) -> None:
    rule = "InvalidDefinitionDescription"
    assert rules(DESCRIBED % option) == [(rule, 3), (rule, 8), (rule, 15)]
    assert rules(DESCRIBED % "error=false") == []
    assert rules(DESCRIBED % f"{option};skip={rule}") == []


def test_options_may_be_given() -> None:
    text = "# check=skip=all\nFROM scratch AS Base\n"
    found = check(Dockerfile.parse(text), options="skip=JSONArgsRecommended")
    assert [each.rule for each in found] == ["StageNameCasing"]


@pytest.mark.parametrize("option", ["skip", "error=perhaps", "ignore=StageNameCasing"])
def test_options_that_mean_nothing(option: str) -> None:
    with pytest.raises(DockerfileError, match="check"):
        check(Dockerfile.parse(f"# check={option}\nFROM scratch\n"))
