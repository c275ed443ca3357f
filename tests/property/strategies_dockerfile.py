"""Strategies for Dockerfiles: texts that resemble one, and instructions as values."""

from __future__ import annotations

from hypothesis import strategies as st

from pycontainer.build import dockerfile as df

__all__ = ["dockerfile_texts", "dockerfiles", "words"]

_WORD = st.characters(exclude_characters="\0\n\r<#[\\`\"'", exclude_categories=["Cs", "Z", "Cc"])
words = st.text(_WORD, min_size=1, max_size=8).filter(lambda word: not word.startswith("--"))
_names = st.from_regex(r"[A-Z_][A-Z0-9_]{0,6}", fullmatch=True)
_paths = st.text(
    st.characters(exclude_characters="\0<", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda path: path.strip() == path)
_lines = st.lists(words, min_size=1, max_size=4).map(" ".join)
_execs = st.lists(st.text(_WORD | st.sampled_from(" \n\t\"'\\<$"), max_size=6), max_size=3)
_commands = _lines | _execs.filter(bool).map(tuple)
_bodies = st.lists(st.text(_WORD | st.sampled_from("\t \\\"'$<#["), max_size=10), max_size=3).map(
    lambda lines: "".join(f"{line}x\n" for line in lines)
)
_heredocs = st.builds(
    df.Heredoc, _names, _bodies, st.booleans(), st.booleans(), st.sampled_from(["", "3"])
)
_values = words.filter(lambda word: "=" not in word)
_times = st.integers(10**6, 10**13) | st.just(0)

_settings = st.one_of(
    st.builds(df.Workdir, words),
    st.builds(df.User, words),
    st.builds(df.StopSignal, words),
    st.builds(df.Maintainer, _lines),
    st.builds(df.Expose, st.lists(words, min_size=1, max_size=3).map(tuple)),
    st.builds(df.Volume, st.lists(_paths, min_size=1, max_size=3).map(tuple)),
    st.builds(df.Shell, _execs.filter(bool).map(tuple)),
    st.builds(df.Cmd, _commands | st.just(())),
    st.builds(df.Entrypoint, _commands | st.just(())),
    st.builds(
        df.Env,
        st.lists(st.tuples(_names, words), min_size=1, max_size=3).map(tuple),
        st.just(False),
    ),
    st.builds(df.Env, st.tuples(st.tuples(_names, _lines)), st.just(True)),
    st.builds(
        df.Label,
        st.lists(st.tuples(_names, words), min_size=1, max_size=3).map(tuple),
        st.just(False),
    ),
    st.builds(
        df.Arg,
        st.lists(st.tuples(_names, st.none() | words), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(
        df.Healthcheck,
        _commands,
        _times,
        _times,
        _times,
        _times,
        st.integers(0, 100),
    ),
    st.just(df.Healthcheck(None)),
)


@st.composite
def _runs(draw: st.DrawFn) -> df.Run:
    heredocs = tuple(draw(st.lists(_heredocs, max_size=2)))
    command: str | tuple[str, ...] = draw(_commands)
    if heredocs:
        command = " ".join([draw(_lines), *(heredoc.mark for heredoc in heredocs)])
    return df.Run(
        command,
        heredocs,
        tuple(draw(st.lists(_flag_values, max_size=2))),
        draw(st.sampled_from(["default", "none", "host"])),
        draw(st.sampled_from(["sandbox", "insecure"])),
    )


_flag_values = st.text(_WORD | st.sampled_from(" \t\"'\\"), min_size=1, max_size=8)
_sources = st.lists(words | _heredocs, min_size=1, max_size=3).map(tuple) | st.lists(
    _paths, min_size=1, max_size=3
).map(tuple)
_copies = st.one_of(
    st.builds(
        df.Copy,
        _sources,
        words,
        _flag_values,
        _flag_values,
        _flag_values,
        st.booleans(),
        st.booleans(),
        st.lists(_flag_values, max_size=2).map(tuple),
    ),
    st.builds(df.Copy, st.lists(_paths, min_size=1, max_size=2).map(tuple), _paths),
    st.builds(
        df.Add,
        _sources,
        words,
        chown=_flag_values,
        checksum=_flag_values,
        keep_git_dir=st.booleans(),
        unpack=st.none() | st.booleans(),
    ),
)
_plain = st.one_of(_settings, _runs(), _copies)
_triggers = st.builds(df.Onbuild, _plain.filter(lambda each: each.name != "MAINTAINER"))
_froms = st.builds(
    df.From,
    words,
    st.just("") | _flag_values,
    st.just("") | st.from_regex(r"[a-z][a-z0-9._-]{0,6}", fullmatch=True),
)
dockerfiles = st.builds(
    df.Dockerfile,
    st.lists(
        st.builds(df.Stage, _froms, st.lists(_plain | _triggers, max_size=4).map(tuple)),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.just(()),
    st.builds(df.Directives, st.sampled_from(["", "docker/dockerfile:1"]), st.sampled_from("\\`")),
)
"""Dockerfiles as values that a text can hold."""

_PIECES = (
    "FROM RUN COPY ADD ENV LABEL ARG CMD ENTRYPOINT ONBUILD HEALTHCHECK SHELL VOLUME EXPOSE USER "
    "WORKDIR MAINTAINER STOPSIGNAL from AS as scratch a b /x --from=0 --chown=1 --link -- NONE "
    "--mount=type=bind,target=/x --interval=1s --retries=2 A=b \"a 'b <<EOF <<-EOF <<'E' EOF E \\\\ "
    '\\ ` # ["a"] ["a",1] [] ${A:-b} $ {A #syntax=x #escape=` #check=skip=all'
)
_pieces = st.sampled_from(_PIECES.split())
dockerfile_texts = st.one_of(
    st.text(),
    st.lists(
        st.one_of(_pieces, st.sampled_from([" ", "\n", "\\\n", "`\n", "\t", "\r\n", "\xa0"])),
        max_size=30,
    ).map("".join),
    st.lists(_pieces | st.just("\n") | st.just("\\\n"), max_size=30).map(" ".join),
    st.lists(_pieces | st.just("\n") | st.just("\\\n"), max_size=30).map(
        lambda pieces: "FROM x\n" + " ".join(pieces)
    ),
)
"""Texts, many of which are nearly Dockerfiles."""
