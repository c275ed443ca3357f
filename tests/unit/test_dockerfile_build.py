"""Dockerfiles without RUN: what they make of scratch, of images and of files."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from build_bench import TAR, Bench, bench
from built_images import contents_of, files_of
from pycontainer.build import Builder
from pycontainer.build._ignore import IgnorePatterns, read_patterns
from pycontainer.errors import BuildError, Error
from pycontainer.images import Image
from pycontainer.layers import Kind

__all__ = ["bench"]  # fixtures


# --- settings ----------------------------------------------------------------------------------


def test_all_settings(bench: Bench) -> None:
    image = bench.build(
        """\
# syntax=docker/dockerfile:1
FROM scratch
MAINTAINER somebody
ENV A=1 B="two words" C=${A:-none}
ENV LEGACY some text
LABEL version="1.0" "b c"=d
WORKDIR /srv
WORKDIR $A/x
USER app:staff
EXPOSE 80 53/udp $A
VOLUME /data [not json
VOLUME ["/a b"]
STOPSIGNAL SIGINT
SHELL ["/bin/ash", "-ec"]
HEALTHCHECK --interval=5s --timeout=100ms --retries=3 CMD curl -f http://localhost/
ENTRYPOINT ["/app", "--flag"]
CMD serve
ONBUILD COPY . /src
"""
    )
    config = image.config.config
    assert config.env == ("A=1", "B=two words", "C=none", "LEGACY=some text")
    assert dict(config.labels) == {"version": "1.0", "b c": "d"}
    assert config.working_dir == "/srv/1/x"
    assert config.user == "app:staff"
    assert set(config.exposed_ports) == {"80/tcp", "53/udp", "1/tcp"}
    assert set(config.volumes) == {"/data", "[not", "json", "/a b"}
    assert config.stop_signal == "SIGINT"
    assert config.healthcheck is not None
    assert config.healthcheck.test == ("CMD-SHELL", "curl -f http://localhost/")
    assert (config.healthcheck.interval, config.healthcheck.timeout) == (5 * 10**9, 10**8)
    assert config.healthcheck.retries == 3
    assert config.entrypoint == ("/app", "--flag")
    assert config.cmd == ("/bin/ash", "-ec", "serve")
    assert config.on_build == ("COPY . /src",)
    assert image.config.author == "somebody"


def test_a_healthcheck_can_be_switched_off(bench: Bench) -> None:
    healthcheck = bench.config("FROM scratch\nHEALTHCHECK NONE\n").healthcheck
    assert healthcheck is not None
    assert healthcheck.test == ("NONE",)


@pytest.mark.parametrize(
    ("text", "cmd"),
    [
        ('CMD ["a"]\nENTRYPOINT ["b"]', ("a",)),
        ('ENTRYPOINT ["b"]\nCMD ["a"]', ("a",)),
        ('ENTRYPOINT ["b"]', None),
    ],
)
def test_an_entry_point_drops_the_arguments_of_the_base(
    bench: Bench, text: str, cmd: tuple[str, ...] | None
) -> None:
    stage = 'FROM scratch AS base\nCMD ["old"]\nFROM base\n'
    assert bench.config(stage + text).cmd == cmd


# --- arguments -----------------------------------------------------------------------------------


def test_scopes_of_arguments(bench: Bench) -> None:
    text = """\
ARG VERSION=1
ARG NAME=app-$VERSION
FROM scratch AS base
ENV SEEN=[$VERSION]
ARG VERSION
ARG NAME=own
ARG GIVEN
ARG LOCAL=$VERSION-x
ENV VERSION_SEEN=$VERSION NAME_SEEN=$NAME GIVEN_SEEN=${GIVEN:-nothing} LOCAL=$LOCAL
FROM base AS child
ARG GIVEN
WORKDIR /made
ENV INHERITED=[$VERSION-$NAME-$GIVEN]
FROM scratch
COPY --from=child / /
ENV GONE=[$VERSION]
"""
    child = dict(each.split("=", 1) for each in bench.config(text, target="child").env)
    assert child["INHERITED"] == "[1-own-]"
    assert [*bench.config(text).env] == ["GONE=[]"]
    text = text.partition("FROM base")[0]
    env = dict(each.split("=", 1) for each in bench.config(text).env)
    assert env["SEEN"] == "[]"
    assert env["VERSION_SEEN"] == "1"
    assert env["NAME_SEEN"] == "own"
    assert env["GIVEN_SEEN"] == "nothing"
    assert env["LOCAL"] == "1-x"
    given = {"VERSION": "2", "GIVEN": "yes", "NAME": "mine"}
    env = dict(each.split("=", 1) for each in bench.config(text, args=given).env)
    assert env["VERSION_SEEN"] == "2"
    assert env["NAME_SEEN"] == "mine"
    assert env["GIVEN_SEEN"] == "yes"


def test_an_environment_variable_hides_an_argument(bench: Bench) -> None:
    text = "FROM scratch\nENV A=env\nARG A=arg\nENV SEEN=$A\n"
    assert "SEEN=env" in bench.config(text, args={"A": "given"}).env


def test_platform_arguments(bench: Bench) -> None:
    text = """\
FROM --platform=$BUILDPLATFORM scratch AS build
FROM scratch
ARG TARGETPLATFORM
ARG TARGETOS
ARG TARGETARCH
ARG TARGETVARIANT
ENV P=$TARGETPLATFORM O=$TARGETOS A=$TARGETARCH V=$TARGETVARIANT
"""
    image = bench.build(text, platform="linux/arm/v7")
    assert image.config.config.env == ("P=linux/arm/v7", "O=linux", "A=arm", "V=v7")
    assert str(image.platform) == "linux/arm/v7"


def test_an_argument_that_nobody_declares(bench: Bench) -> None:
    text = "FROM scratch\nARG VERSION\n"
    error = bench.error(text, args={"VERISON": "1"})
    assert error.remedy == "did you mean VERSION?"
    bench.build(text, args={"HTTP_PROXY": "http://proxy", "VERSION": "1"})


def test_a_base_that_is_named_by_nothing(bench: Bench) -> None:
    error = bench.error("ARG BASE_IMAGE=scratch\nFROM $BASEIMAGE\n")
    assert "BASEIMAGE has no value" in error.message
    assert error.remedy == "did you mean BASE_IMAGE?"
    assert (error.line, error.column) == (2, 6)


# --- stages --------------------------------------------------------------------------------------


def test_only_needed_stages_count(bench: Bench) -> None:
    bench.write({"a": "a"})
    text = """\
FROM scratch AS Base
COPY a /a
FROM no.such.registry.invalid/image AS unused
COPY missing /
FROM base AS wanted
COPY --from=BASE /a /b
FROM unused
"""
    assert bench.files(text, target="wanted") == {"a": b"a", "b": b"a"}
    assert bench.files(text, target="0") == {"a": b"a"}


def test_stages_by_number_and_later_ones(bench: Bench) -> None:
    bench.write({"a": "a"})
    text = """\
FROM scratch AS one
COPY --from=two /x /y
FROM scratch AS two
COPY a /x
FROM scratch
COPY --from=0 /y /z
"""
    assert bench.files(text) == {"z": b"a"}


def test_stages_that_need_each_other(bench: Bench) -> None:
    text = "FROM scratch AS one\nCOPY --from=two / /\nFROM scratch AS two\nCOPY --from=one / /\n"
    assert "needs itself" in bench.error(text).message


def test_unknown_stages_are_met_with_near_names(bench: Bench) -> None:
    error = bench.error("FROM scratch AS build\nFROM scratch AS release\n", target="biuld")
    assert error.remedy == "did you mean build?"
    error = bench.error("FROM scratch\nCOPY --from=7 / /\n")
    assert "stage 7" in error.message
    assert error.line == 2


def test_named_contexts(bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("other")
    (other / "left").write_text("out")
    (other / ".dockerignore").write_text("left\n.dockerignore\n")
    image = bench.build("FROM scratch\nENV A=1\n", tag="base:1")
    stage = Builder.scratch().env({"B": "2"})
    contexts = {"more": other, "alpine": image, "stage": stage}
    text = "FROM alpine\nCOPY --from=more / /\nENV C=$A\n"
    built = bench.build(text, contexts=contexts)
    assert contents_of(built) == {"file": b"other"}
    assert built.config.config.env == ("A=1", "C=1")
    assert bench.config("FROM stage\nENV C=$B\n", contexts=contexts).env == ("B=2", "C=2")
    text = "FROM named\n"
    assert bench.config(text, contexts={"named": "docker-image://base:1"}).env == ("A=1",)
    assert "cannot be built on" in bench.error("FROM more\n", contexts=contexts).message


def test_triggers_of_images_and_stages(bench: Bench) -> None:
    bench.write({"a": "a"})
    base = "FROM scratch\nONBUILD ARG WHAT=b\nONBUILD COPY a /$WHAT\n"
    image = bench.build(base, tag="onbuild:1")
    assert image.layers == ()
    built = bench.build("FROM onbuild:1\n", args={"WHAT": "c"})
    assert contents_of(built) == {"c": b"a"}
    assert built.config.config.on_build == ()
    text = "FROM scratch AS base\nONBUILD COPY a /x\nFROM base\nENV A=1\n"
    built = bench.build(text)
    assert contents_of(built) == {"x": b"a"}
    assert built.config.config.on_build == ()


def test_a_builder_goes_on_from_a_dockerfile(bench: Bench) -> None:
    bench.write({"a": "a"})
    builder = bench.builder("FROM scratch\nCOPY a /a\n").copy("a", "/b").cmd(["x"])
    image = builder.build("mine:1")
    assert contents_of(image) == {"a": b"a", "b": b"a"}
    assert Image.get("mine:1", store=bench.store).digest == image.digest


def test_a_dockerfile_and_a_builder_share_the_cache(bench: Bench) -> None:
    bench.write({"d/a": "a"})
    first = bench.build("FROM scratch\nCOPY --chmod=600 d /x\n")
    titles: list[str] = []
    second = (
        Builder.scratch()
        .copy("d", "/x", mode=0o600)
        .build(
            context=bench.context,
            store=bench.store,
            progress=lambda event: titles.append(type(event).__name__),
        )
    )
    assert second.diff_ids == first.diff_ids
    assert "VertexCached" in titles


# --- copies --------------------------------------------------------------------------------------


def test_copies_with_flags(bench: Bench) -> None:
    bench.write({"d/a.txt": "a", "d/b.md": "b", "d/e/c.md": "c"})
    (bench.context / "d/a.txt").chmod(0o640)
    files = files_of(
        bench.build(
            """\
FROM scratch
COPY --chown=5:6 --chmod=u=rwX,go=rX d /one
COPY --exclude=*.md --exclude=e d /two
COPY --parents d/*.txt d/./e /three
COPY --link d/a.txt /four/
COPY d/[ab].* d/nothing* /five/
COPY "d/a.txt" /a
COPY ["d/b.md", "/b c"]
"""
        )
    )
    assert files["one/a.txt"].mode == 0o644
    assert files["one/e"].mode == 0o755
    assert files["one/e/c.md"].owner == (5, 6)
    kinds = {path for path in files if files[path].kind is Kind.FILE}
    assert kinds == {
        "one/a.txt",
        "one/b.md",
        "one/e/c.md",
        "two/a.txt",
        "three/d/a.txt",
        "three/e/c.md",
        "four/a.txt",
        "five/a.txt",
        "five/b.md",
        "a",
        "b c",
    }


def test_paths_that_lead_out_of_the_context_begin_at_its_root(bench: Bench) -> None:
    bench.write({"a": "a"})
    assert bench.files("FROM scratch\nCOPY ../../a /x\n") == {"x": b"a"}


def test_a_linked_layer_is_the_same_on_any_base(bench: Bench) -> None:
    bench.write({"a": "a"})
    one = bench.build("FROM scratch\nCOPY --link a /x/a\n")
    two = bench.build("FROM scratch\nCOPY --chmod=700 a /other\nCOPY --link a /x/a\n")
    assert one.diff_ids[-1] == two.diff_ids[-1]


def test_heredocs_become_files(bench: Bench) -> None:
    files = bench.build(
        """\
FROM scratch
ARG NAME=world
COPY <<plain <<-"quoted" /d/
hello $NAME
plain
\tas $NAME is
quoted
COPY --chmod=755 <<EOF /script
#!/bin/sh
EOF
"""
    )
    assert contents_of(files) == {
        "d/plain": b"hello world\n",
        "d/quoted": b"as $NAME is\n",
        "script": b"#!/bin/sh\n",
    }
    assert files_of(files)["script"].mode == 0o755


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("COPY a b /c", "end it with a slash"),
        ("COPY --chmod=9 a /c", "not a file mode"),
        ("COPY --exclude=[ a /c", "--exclude"),
        ("COPY a $NOTHING", "destination is empty"),
        ("COPY --from=scratch a /c", "holds nothing"),
        ("ADD --checksum=sha256:00 a /c", "--checksum"),
        ("ADD --keep-git-dir=true a /c", "--keep-git-dir"),
        ("WORKDIR $NOTHING", "is empty here"),
        ("ENV A=${", "ENV"),
        ("EXPOSE http", "not a port"),
        ("COPY missing /", "there is no such file"),
        ("RUN --mount=type=chache,target=/x true", "did you mean cache?"),
        ("RUN --mount=type=cache,target=/x,sharing=share true", "did you mean shared?"),
        ("RUN --mount=type=cache,taget=/x true", "did you mean target?"),
        ("RUN --mount=type=cache true", "needs a target"),
        ("RUN --mount=type=secret true", "needs an id"),
        ("RUN --mount=type=tmpfs,target=/x,size=much true", "not a number of bytes"),
    ],
)
def test_errors_show_the_line(bench: Bench, line: str, message: str) -> None:
    bench.write({"a": "a", "b": "b"})
    error = bench.error(f"FROM scratch\n{line}\n")
    assert message in str(error)
    assert error.line == 2
    assert error.source == line


def test_an_image_that_cannot_be_pulled_is_shown_where_it_is_named(bench: Bench) -> None:
    with pytest.raises(Error) as caught:
        bench.build("FROM scratch AS build\nFROM scratch\nCOPY --from=localhost:1/bild / /\n")
    (note,) = caught.value.__notes__
    assert note.startswith(f"{bench.context / 'Dockerfile'}:3: ")
    line = "    COPY --from=localhost:1/bild / /"
    assert note.endswith(f"\n{line}\n{' ' * line.index('localhost')}^")


# --- ignored files -------------------------------------------------------------------------------


def test_ignored_files_are_not_seen(bench: Bench) -> None:
    bench.write(
        {
            ".dockerignore": "# secrets\n*.key\n/build/*\n!build/keep.txt\n**/*.pyc\n"
            ".dockerignore\nDockerfile\n",
            "a.key": "k",
            "build/out": "o",
            "build/keep.txt": "kept",
            "src/m.py": "m",
            "src/m.pyc": "c",
        }
    )
    assert bench.files("FROM scratch\nCOPY . /\n") == {"build/keep.txt": b"kept", "src/m.py": b"m"}
    error = bench.error("FROM scratch\nCOPY a.key /\n")
    assert ".dockerignore leaves it out" in error.message


def test_an_ignore_file_of_the_dockerfile_goes_first(bench: Bench) -> None:
    bench.write({".dockerignore": "*", "Dockerfile.dockerignore": "b\n.d*\nD*\n"})
    bench.write({"a": "a", "b": "b"})
    assert bench.files("FROM scratch\nCOPY . /\n") == {"a": b"a"}


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("**.pyc", "m.pyc", True),  # the end of any path, as **/*.pyc
        ("**.pyc", "a/b/m.pyc", True),
        ("**end", "a/b-end/file", True),
        ("**end", "a/ending", False),
        ("**/end", "a-end", False),
        ("a**", "ab/c", True),
        ("a/**", "a", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b/c", True),
        (" a ", "a", True),
        (" #a", "#a", True),
        ("#a", "#a", False),
        ("a\r\nb\r\n", "b", True),
        ("a\x0bb", "a\x0bb", True),  # lines end with line ends alone
        ("./a/../b/", "b/c", True),
        ("..", "a", False),
        ("*\n! b\nb/c", "b/d", False),
        ("*\n!b\nb/c", "b/c/d", True),
        ("[^a]", "b", True),
        ("[!a]", "b", False),
        ("\\#a", "#a", True),
        ("a\\*", "ab", False),
    ],
)
def test_ignore_patterns_are_those_of_docker(patterns: str, path: str, ignored: bool) -> None:
    assert IgnorePatterns(read_patterns(patterns)).ignores(path) is ignored


def test_an_ignore_file_that_is_none(bench: Bench) -> None:
    bench.write({".dockerignore": "a\n[\n"})
    with pytest.raises(BuildError, match="line 2"):
        bench.build("FROM scratch\n")


def test_a_stage_without_files_is_an_empty_directory(bench: Bench) -> None:
    text = "FROM scratch AS nothing\nLABEL a=b\nFROM scratch\n"
    assert bench.build(f"{text}COPY --from=nothing / /\n").layers == ()
    files = files_of(bench.build(f"{text}COPY --from=nothing . /made/\n"))
    assert {name: file.kind for name, file in files.items()} == {"made": Kind.DIRECTORY}
    assert bench.build(f"{text}COPY --parents --from=nothing . /\n").layers == ()
    assert bench.build(f"{text}COPY --from=nothing *.txt /\n").layers == ()
    assert "no such file" in bench.error(f"{text}COPY --from=nothing /a /\n").message


@pytest.mark.parametrize(
    ("source", "copied"),
    [
        ("**/a.txt", {"d/a.txt"}),  # one level, as */a.txt
        ("**", {"d/top.txt", "d/a.txt", "d/y/a.txt"}),  # what is in the directories
        ("--parents **/a.txt", {"d/x/a.txt", "d/x/y/a.txt"}),
        ("--parents x/./**/a.txt", {"d/a.txt", "d/y/a.txt"}),
        ("--parents .", {"d/top.txt", "d/x/a.txt", "d/x/y/a.txt"}),
        ("x/[!a-z]/a.txt x/[^y]/a.txt x/?/a.txt", {"d/a.txt"}),  # ! is no negation
    ],
)
def test_patterns_are_those_of_docker(bench: Bench, source: str, copied: set[str]) -> None:
    bench.write({"top.txt": "t", "x/a.txt": "x", "x/y/a.txt": "y"})
    (bench.context / ".dockerignore").write_text(".dockerignore\nDockerfile\n")
    files = bench.files(f"FROM scratch\nCOPY {source} /d/\n")
    assert set(files) == copied


# --- ADD -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress]
)
def test_archives_are_unpacked(bench: Bench, compress: Callable[[bytes], bytes]) -> None:
    bench.write({"x.tar": compress(TAR), "plain.gz": gzip.compress(b"no tar")})
    files = bench.files(
        "FROM scratch\nADD x.tar /to\nADD plain.gz /\nADD --unpack=false x.tar /raw/\n"
    )
    assert set(files) == {"to/d/a", "plain.gz", "raw/x.tar"}
    assert files["to/d/a"] == b"in"
    assert files["plain.gz"].startswith(b"\x1f\x8b")


# --- the same by methods -------------------------------------------------------------------------


def test_methods_refuse_what_makes_no_sense() -> None:
    builder = Builder.scratch()
    with pytest.raises(ValueError, match="not a file mode"):
        builder.copy("a", "/", mode="u=?")
    with pytest.raises(ValueError, match="checksum"):
        builder.add("a", "/", checksum="sha256:00")
    with pytest.raises(ValueError, match="negative"):
        builder.healthcheck("true", interval=-1)


def test_a_dockerfile_is_read_for_any_platform(bench: Bench) -> None:
    builder = bench.builder(
        "FROM scratch\nARG TARGETARCH\nENV A=$TARGETARCH\n", platform="linux/arm64"
    )
    index = builder.build_index("i:1")
    assert [str(platform) for platform in index.platforms] == ["linux/arm64"]
    index = builder.build_index(platforms=["linux/amd64"])
    assert index.image("linux/amd64").config.config.env == ("A=amd64",)


def test_working_directories_belong_to_the_user(bench: Bench) -> None:
    (bench.context / "passwd").write_text("app:x:7:8::/:/bin/sh\n")
    text = """\
FROM scratch
COPY passwd /etc/
WORKDIR /root
USER app
WORKDIR /srv/app
USER 9
WORKDIR /srv/nine
USER app:10
WORKDIR /ten
"""
    files = files_of(bench.build(text))
    owners = {path: files[path].owner for path in ("root", "srv", "srv/app", "srv/nine", "ten")}
    assert owners == {
        "root": (0, 0),
        "srv": (7, 8),
        "srv/app": (7, 8),
        "srv/nine": (9, 9),
        "ten": (7, 10),
    }


def test_warnings_are_errors_where_the_file_says_so(bench: Bench) -> None:
    text = "# check=%serror=true\nFROM scratch AS App\nENV A b\n"
    error = bench.error(text % "")
    assert "StageNameCasing" in str(error)
    assert "LegacyKeyValueFormat" in str(error)
    assert error.line == 2
    bench.builder(text % "skip=StageNameCasing,LegacyKeyValueFormat;")
    given = {"BUILDKIT_DOCKERFILE_CHECK": "error=false"}
    assert len(bench.builder(text % "", args=given).check()) == 2
    given = {"BUILDKIT_DOCKERFILE_CHECK": "error=true"}
    assert "StageNameCasing" in str(bench.error("FROM scratch AS App\n", args=given))


def test_of_a_published_port_the_containers_is_exposed(bench: Bench) -> None:
    config = bench.config("FROM scratch\nEXPOSE 127.0.0.1:8080:80/udp 90:91\n")
    assert [*config.exposed_ports] == ["80/udp", "91/tcp"]
