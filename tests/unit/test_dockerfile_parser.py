"""Dockerfiles as people write them, read into values; and what errors say."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycontainer.build.dockerfile import (
    Add,
    Arg,
    Cmd,
    Copy,
    Directives,
    Dockerfile,
    Entrypoint,
    Env,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Onbuild,
    Run,
    Shell,
    Volume,
)
from pycontainer.errors import DockerfileError


def parse(text: str) -> list[Instruction]:
    """The instructions of one stage, without its FROM."""
    dockerfile = Dockerfile.parse(f"FROM scratch\n{text}")
    return list(dockerfile.stages[0].instructions)


def one(text: str) -> Instruction:
    (instruction,) = parse(text)
    return instruction


def fails(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        Dockerfile.parse(text)
    return caught.value


# --- the file --------------------------------------------------------------------------------


def test_a_file_with_all_its_parts() -> None:
    dockerfile = Dockerfile.parse(
        b"\xef\xbb\xbf#  Syntax = docker/dockerfile:1\r\n# escape=`\r\n# check=skip=all\r\n\r\n"
        b"# a remark\r\nARG V=1\r\n  from --platform=$BUILDPLATFORM a:$V As Base\r\nRUN one `\r\n  # no\r\n"
        b"\r\n  && two\r\nFROM base\r\n"
    )
    assert dockerfile.directives == Directives("docker/dockerfile:1", "`", "skip=all")
    assert dockerfile.args == (Arg((("V", "1"),)),)
    base, last = dockerfile.stages
    assert base.base == From("a:$V", "$BUILDPLATFORM", "Base")
    assert (base.base.spelled, base.base.joint, base.name) == ("from", "As", "base")
    assert base.instructions == (Run("one   && two"),)
    assert dockerfile.gaps == (10,)
    location = base.instructions[0].location
    assert location is not None
    assert (location.first, location.last) == (8, 11)
    assert last.base.image == "base"


def test_an_empty_line_ends_directives() -> None:
    assert Dockerfile.parse("\n# escape=`\nFROM a").directives == Directives()
    assert Dockerfile.parse("# hello\n# escape=`\nFROM a").directives == Directives()


def test_reading_files(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM a\nRUN\n")
    with pytest.raises(DockerfileError, match=f"{path}:2: RUN needs a command"):
        Dockerfile.read(path)
    with pytest.raises(DockerfileError, match="No such file"):
        Dockerfile.read(tmp_path / "other")


# --- instructions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run echo  a", Run("echo  a")),
        ('RUN ["a", "b c"]', Run(("a", "b c"))),
        ("RUN [a]", Run("[a]")),
        ("RUN a \\\n b", Run("a  b")),
        ("RUN a \\", Run("a")),
        ("RUN a \\\\\nUSER b", Run("a \\\\")),
        ("RUN --network=none --mount=type=ssh y", Run("y", (), ("type=ssh",), "none")),
        ("RUN -- --x", Run("--x")),
        ("CMD []", Cmd(())),
        ('ENTRYPOINT [ "x" ] ', Entrypoint(("x",))),
        ("ENV a b c", Env((("a", "b c"),), legacy=True)),
        ("ENV a=b\\ c d=\"e f\" g='h'", Env((("a", "b\\ c"), ("d", '"e f"'), ("g", "'h'")))),
        ("LABEL x=", Label((("x", ""),))),
        ("ARG a b=c", Arg((("a", None), ("b", "c")))),
        ("VOLUME /a /b", Volume(("/a", "/b"))),
        ('SHELL ["a"]', Shell(("a",))),
        ("COPY a b /c/", Copy(("a", "b"), "/c/")),
        ('COPY --link --chown=1:2 ["a b", "c"]', Copy(("a b",), "c", chown="1:2", link=True)),
        ("COPY --exclude=*.o --exclude='a b' x y", Copy(("x",), "y", exclude=("*.o", "a b"))),
        ("COPY --chmod=u=rwX --parents x y", Copy(("x",), "y", chmod="u=rwX", parents=True)),
        ("ADD --unpack=false --keep-git-dir a b", Add(("a",), "b", keep_git_dir=True, unpack=False)),
        ("HEALTHCHECK none", Healthcheck(None)),
        ("HEALTHCHECK --interval=1m30s --retries=3 CMD a b", Healthcheck("a b", 90 * 10**9, retries=3)),
        ("ONBUILD RUN x", Onbuild(Run("x"))),
    ],
)  # fmt: skip
def test_instructions(text: str, expected: Instruction) -> None:
    assert parse(text)[0] == expected


def test_heredocs() -> None:
    assert one("RUN <<EOF\n# a\n  b\nEOF\n") == Run("<<EOF", (Heredoc("EOF", "# a\n  b\n"),))
    run = one("RUN cat <<-'A' 3<< B\n\tx\n\tA\ny\nB\n")
    assert isinstance(run, Run)
    assert run.heredocs == (Heredoc("A", "\tx\n", True, False), Heredoc("B", "y\n", descriptor="3"))
    assert run.heredocs[0].text == "x\n"
    copy = one('COPY <<a.txt b <<"c" /to/\n$x\na.txt\n$y\nc\n')
    assert copy == Copy((Heredoc("a.txt", "$x\n"), "b", Heredoc("c", "$y\n", expand=False)), "/to/")
    assert one("ONBUILD RUN <<E\nx\nE") == Onbuild(Run("<<E", (Heredoc("E", "x\n"),)))


@pytest.mark.parametrize("text", ["echo '<<EOF'", "cat <<<x", "echo $((1 << 2))", "a<<EOF", "<<"])
def test_what_is_no_heredoc(text: str) -> None:
    assert one(f"RUN {text}") == Run(text)


# --- errors ----------------------------------------------------------------------------------


def test_an_error_shows_the_place() -> None:
    error = fails("FROM a\nRUN x && \\\n  y\n  CPY --from=b c d\n")
    assert (error.file, error.line, error.source, error.column) == (
        "Dockerfile",
        4,
        "  CPY --from=b c d",
        3,
    )
    assert str(error) == (
        "Dockerfile:4: there is no instruction 'CPY' (remedy: did you mean COPY?)\n\n"
        "      CPY --from=b c d\n"
        "      ^"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FORM a", r":1: .*did you mean FROM\?"),
        ("FROM a\nCOPY --chwon=1 a b", r":2: COPY has no flag --chwon .*did you mean --chown\?"),
        ("FROM a\nRUN --network=non x", "did you mean none"),
        ("FROM a\nCOPY --chown=1 --chown=2 a b", "--chown is there twice"),
        ("FROM a\nCOPY --link=2 a b", "--link is either true or false"),
        ("FROM a\nCOPY --from a b", "--from needs a value"),
        ("FROM a b", "one argument or three"),
        ("FROM a AS 1b", "cannot name a stage '1b'"),
        ("RUN x", "before the first FROM"),
        ("ARG x", "there is no FROM"),
        ("", "there is no FROM"),
        ("FROM a\nCOPY x", "needs a source and a destination"),
        ("FROM a\nCOPY <<E /x\n", "the heredoc 'E' has no end"),
        ("FROM a\nCOPY a <<E\nE", "cannot copy into a heredoc"),
        ("FROM a\nENV x", "needs a name and a value"),
        ("FROM a\nENV x=1 y", "no '=' in 'y'"),
        ("FROM a\nENV =1", "needs a name before"),
        ("FROM a\nARG =1", "needs a name before"),
        ("FROM a\nRUN [1]", "texts and nothing else"),
        ("FROM a\nSHELL x", "JSON array"),
        ("FROM a\nHEALTHCHECK x", "has no 'x'"),
        ("FROM a\nHEALTHCHECK CMD", "CMD needs a command"),
        ("FROM a\nHEALTHCHECK --interval=5x CMD a", "no duration"),
        ("FROM a\nHEALTHCHECK --interval=5us CMD a", "too short"),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD a", "cannot retry '-1' times"),
        ("FROM a\nONBUILD ONBUILD RUN x", "cannot hold ONBUILD"),
        ("# escape=x\nFROM a", "cannot be the escape character"),
        ("# escape=`\n# escape=`\nFROM a", ":2: the directive escape is there twice"),
        ("FROM a\nRUN \0", ":2: a NUL byte"),
        ("FROM a\n\ud800", ":2: not Unicode"),
    ],
)
def test_errors(text: str, message: str) -> None:
    error = fails(text)
    with pytest.raises(DockerfileError, match=message):
        raise error
    assert error.line == 0 or error.line <= text.count("\n") + 1


def test_bytes_that_are_not_utf_8() -> None:
    with pytest.raises(DockerfileError, match=":2: not UTF-8"):
        Dockerfile.parse(b"FROM a\nRUN \xff")
