"""Strategies for Builders: steps of all kinds, in several stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from pycontainer.build import Bound, Builder, CacheMount, SecretMount, SshMount, TmpfsMount

__all__ = ["builders", "commanding_builders", "texts"]

Change = Callable[[Builder], Builder]

_CHARACTERS = st.characters(
    exclude_categories=["Cs"], exclude_characters="\0\n\r"
) | st.sampled_from(" \t\"'\\$`#<>=,[]{}*?!&;-")
texts = st.text(_CHARACTERS, max_size=12)
"""Texts that a line can hold."""
_some = texts.filter(bool)
_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,4}", fullmatch=True)
_absolute = st.from_regex(r"/[a-z $'\"\\]{1,6}", fullmatch=True).filter(lambda path: path != "/")
_commands = st.lists(st.text(_CHARACTERS | st.just("\n"), max_size=8), min_size=1, max_size=3)
_lines = st.lists(
    st.sampled_from(["run", "a", "'b", "c'", "$D", "&&", '"e"', ";"]), min_size=1
).map(" ".join)


def _change(method: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Change]:
    return st.tuples(*arguments).map(lambda given: lambda builder: getattr(builder, method)(*given))


_settings = st.one_of(
    _change("env", st.dictionaries(_names, texts, max_size=3)),
    _change("label", st.dictionaries(_some, texts, max_size=3)),
    _change("expose", st.integers(1, 65535)),
    _change("volume", _some),
    _change("workdir", _absolute),
    _change("entrypoint", _commands | _lines),
    _change("cmd", _commands | _lines),
    _change("stop_signal", st.sampled_from(["SIGINT", "9"])),
    _change("shell", st.lists(_some, min_size=1, max_size=2)),
    _change("author", texts),
    _change("healthcheck", st.none() | _commands | _lines),
    _change("on_build", st.sampled_from(["RUN a", "env A=b", "copy . /"])),
)


def _copies(mode: int | str | None, source: str, place: str, flag: str) -> Change:
    return lambda builder: builder.copy(
        source, place, mode=mode, link=flag == "link", parents=flag == "parents"
    )


_users = _change("user", st.sampled_from(["1", "2:3", 4]))
_files = st.builds(
    _copies,
    st.sampled_from([None, 0o640, "u=rwX,go=r"]),
    st.sampled_from(["file", "a b", "dir", "f*", "$q'"]),
    st.sampled_from(["/x/", "y/", "/a b/", "/$A/"]),
    st.sampled_from(["", "link", "parents"]),
)

_stepped = st.lists(_settings | _users | _files, max_size=6)


def _carried_out(base: Builder, changes: list[Change]) -> Builder:
    for change in changes:
        base = change(base)
    return base


@st.composite
def builders(draw: st.DrawFn, base: Builder, context: Path) -> Builder:
    """Builders of several stages that need no commands; all of them can be built.

    Args:
        draw: Draws.
        base: What some of them begin with.
        context: Holds the files that are copied.
    """
    stages = [base, Builder.scratch(context=context)]
    for _ in range(draw(st.integers(1, 3))):
        kept: Builder = draw(st.sampled_from(stages))
        continued = draw(st.booleans())
        builder = kept if continued else Builder(kept, context=context)
        builder = _carried_out(builder, draw(_stepped))
        builder = builder.copy("file", "/kept")
        origin: Builder = draw(st.sampled_from(stages))
        if origin not in (base, stages[1]) and draw(st.booleans()):
            builder = builder.copy("/kept", "/from-stage", from_=origin)
        stages.append(_carried_out(builder, draw(_stepped)))
    return stages[-1]


_mounts = st.one_of(
    st.builds(CacheMount, _absolute, st.sampled_from(["", "id", "a,b"]), mode=st.just(0o700)),
    st.builds(TmpfsMount, _absolute, st.sampled_from([0, 4096])),
    st.builds(SecretMount, _absolute, _some, st.just("") | _names, required=st.booleans()),
    st.builds(SshMount, _absolute, _some, st.booleans()),
    st.builds(Bound, _absolute, st.sampled_from(["/", "/file", "/a b"]), writable=st.booleans()),
)
_runs = st.builds(
    lambda command, env, mounts, network: (
        lambda builder: builder.run(command, env=env, mounts=mounts, network=network)
    ),
    _commands | _lines | st.text(_CHARACTERS | st.just("\n"), min_size=1, max_size=20),
    st.dictionaries(_names, texts, max_size=2),
    st.lists(_mounts, max_size=2),
    st.sampled_from(["host", "none"]),
)


def commanding_builders(context: Path) -> st.SearchStrategy[Builder]:
    """Builders of one stage with commands, which are not to be built."""
    changes = st.lists(_runs | _settings | _change("user", _some), min_size=1, max_size=6)
    return changes.map(lambda each: _carried_out(Builder.scratch(context=context), each))
