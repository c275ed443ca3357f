"""From logical lines to instructions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from pycontainer.build.dockerfile import _instructions as ins
from pycontainer.build.dockerfile._duration import parse_duration
from pycontainer.build.dockerfile._heredocs import Heredoc, announced, parse_heredoc
from pycontainer.build.dockerfile._lines import SPACE, Line, LineReader
from pycontainer.build.dockerfile._location import nearest
from pycontainer.build.dockerfile._words import BLANKS, json_list, split_flags, split_quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pycontainer.build.dockerfile._instructions import Instruction
    from pycontainer.errors import DockerfileError

__all__ = ["parse_instruction", "parse_instructions"]

_STAGE_NAME: Final = re.compile(r"[a-z][a-z0-9\-_.]*")
_COPY_FLAGS: Final = ("from", "chown", "chmod", "link", "parents", "exclude")
_ADD_FLAGS: Final = (*_COPY_FLAGS[1:], "checksum", "keep-git-dir", "unpack")
_FLAGS: Final = {
    "FROM": ("platform",),
    "RUN": ("mount", "network", "security"),
    "COPY": _COPY_FLAGS,
    "ADD": _ADD_FLAGS,
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
_SWITCHES: Final = ("link", "parents", "keep-git-dir", "unpack")
_REPEATED: Final = ("mount", "exclude")
_RETRIES: Final = re.compile("[0-9]{1,9}")


def parse_instructions(reader: LineReader) -> Iterator[tuple[Instruction, int]]:
    """The instructions of a file, each with the number of an empty line within it, or 0.

    Raises:
        DockerfileError: One cannot be read.
    """
    for line in reader:
        instruction = parse_instruction(line, reader)
        yield evolve(instruction, location=reader.extended(line)), line.gap


def parse_instruction(line: Line, reader: LineReader) -> Instruction:
    """Read one instruction, and its heredocs from the lines that follow."""
    spelled, *rest = BLANKS.split(line.text, maxsplit=1)
    name = spelled.upper()
    parse = _PARSERS.get(name)
    if parse is None:
        raise line.location.error(
            f"there is no instruction {spelled!r}", near=spelled, remedy=nearest(spelled, _PARSERS)
        )
    try:
        flags, text = split_flags(rest[0] if rest else "")
        call = _Call(name, line, reader, text.strip(SPACE), _flag_values(name, flags, line))
        return evolve(parse(call), location=line.location, spelled=spelled)
    except ValueError as error:
        raise line.location.error(f"{name}: {error}") from error


def _flag_values(name: str, words: Sequence[str], line: Line) -> dict[str, tuple[str, ...]]:
    known = _FLAGS.get(name, ())
    values: dict[str, tuple[str, ...]] = {}
    for word in words:
        flag, equals, value = word.removeprefix("--").partition("=")
        near = f"--{flag}"
        if flag not in known:
            remedy = nearest(flag, known)
            raise line.location.error(
                f"{name} has no flag --{flag}",
                near=near,
                remedy=remedy and remedy.replace("mean ", "mean --"),
            )
        if flag in values and flag not in _REPEATED:
            raise line.location.error(f"{name}: --{flag} is there twice", near=near)
        if flag in _SWITCHES:
            value = value.lower() if equals else "true"
            if value not in ("true", "false"):
                raise line.location.error(f"{name}: --{flag} is either true or false", near=near)
        elif not equals:
            raise line.location.error(
                f"{name}: --{flag} needs a value", near=near, remedy=f"write --{flag}=VALUE"
            )
        values[flag] = (*values.get(flag, ()), value)
    return values


@frozen
class _Call:
    """What the parser of one kind of instruction works on."""

    name: str
    line: Line
    reader: LineReader = field(repr=False)
    text: str
    _values: dict[str, tuple[str, ...]]

    def flag(self, name: str, default: str = "") -> str:
        """The value of a flag."""
        return self._values.get(name, (default,))[0]

    def switch(self, name: str) -> bool:
        """Whether a flag is set."""
        return self.flag(name) == "true"

    def each(self, name: str) -> tuple[str, ...]:
        """The values of a flag that may be there several times."""
        return self._values.get(name, ())

    def has(self, name: str) -> bool:
        """Whether a flag is there."""
        return name in self._values

    @property
    def escape(self) -> str:
        """The character that escapes others."""
        return self.reader.directives.escape

    def needed(self, what: str) -> str:
        """The arguments; an error if there are none."""
        if not self.text:
            raise self.error(f"needs {what}")
        return self.text

    def command(self, text: str) -> ins.Command:
        """A command in either form."""
        words = json_list(text)
        return text if words is None else tuple(words)

    def words(self) -> list[str]:
        """A list of paths in either form."""
        words = json_list(self.text)
        return BLANKS.split(self.text) if words is None else words

    def error(self, what: str, *, near: str = "", remedy: str | None = None) -> DockerfileError:
        """An error at this instruction."""
        return self.line.location.error(f"{self.name} {what}", near=near, remedy=remedy)

    def filled(self, heredoc: Heredoc) -> Heredoc:
        """The heredoc with its content, which is taken from the lines that follow."""
        content = self.reader.heredoc(self.line, heredoc.delimiter, chomp=heredoc.chomp)
        return evolve(heredoc, content=content)


# --- stages ------------------------------------------------------------------------------------


def _from(call: _Call) -> ins.From:
    words = BLANKS.split(call.needed("an image"))
    platform = call.flag("platform")
    if len(words) == 1:
        return ins.From(words[0], platform)
    if len(words) != 3 or words[1].lower() != "as":
        raise call.error(
            "has one argument or three", near=words[1], remedy="write FROM image [AS name]"
        )
    if not _STAGE_NAME.fullmatch(words[2].lower()):
        raise call.error(
            f"cannot name a stage {words[2]!r}",
            near=words[2],
            remedy="begin with a letter; letters, digits, '-', '_' and '.' may follow",
        )
    return ins.From(words[0], platform, words[2], joint=words[1])


def _arg(call: _Call) -> ins.Arg:
    pairs: list[tuple[str, str | None]] = []
    for word in split_quoted(call.needed("a name"), call.escape):
        name, equals, value = word.partition("=")
        if not name:
            raise call.error("needs a name before '='", near=word)
        pairs.append((name, value if equals else None))
    if not pairs:
        raise call.error("needs a name")
    return ins.Arg(tuple(pairs))


def _pairs(call: _Call) -> tuple[tuple[ins.Pair, ...], bool]:
    words = split_quoted(call.needed("a name and a value"), call.escape)
    if not words or "=" not in words[0]:
        name, *value = BLANKS.split(call.text, maxsplit=1)
        if not value:
            raise call.error(
                "needs a name and a value", near=name, remedy=f"write {call.name} {name}=VALUE"
            )
        return ((name, value[0]),), True
    pairs = []
    for word in words:
        name, equals, content = word.partition("=")
        if not equals:
            raise call.error(
                f"has no '=' in {word!r}", near=word, remedy="quote values that hold spaces"
            )
        if not name:
            raise call.error("needs a name before '='", near=word)
        pairs.append((name, content))
    return tuple(pairs), False


def _env(call: _Call) -> ins.Env:
    return ins.Env(*_pairs(call))


def _label(call: _Call) -> ins.Label:
    return ins.Label(*_pairs(call))


# --- commands ----------------------------------------------------------------------------------


def _run(call: _Call) -> ins.Run:
    command = call.command(call.needed("a command"))
    if not command:
        raise call.error("needs a command")
    found = announced(command) if isinstance(command, str) else []
    network, security = call.flag("network", "default"), call.flag("security", "sandbox")
    _choose(call, "network", network, ("default", "none", "host"))
    _choose(call, "security", security, ("sandbox", "insecure"))
    heredocs = tuple(call.filled(heredoc) for heredoc in found)
    return ins.Run(command, heredocs, call.each("mount"), network, security)


def _choose(call: _Call, flag: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise call.error(
            f"has no --{flag}={value}",
            near=f"--{flag}",
            remedy=nearest(value, known) or f"choose from {', '.join(known)}",
        )


def _cmd(call: _Call) -> ins.Cmd:
    return ins.Cmd(call.command(call.needed("a command")))


def _entrypoint(call: _Call) -> ins.Entrypoint:
    return ins.Entrypoint(call.command(call.needed("a command")))


def _shell(call: _Call) -> ins.Shell:
    words = json_list(call.text)
    if not words:
        raise call.error("needs a JSON array of words", remedy='write SHELL ["/bin/sh", "-c"]')
    return ins.Shell(tuple(words))


def _healthcheck(call: _Call) -> ins.Healthcheck:
    kind, *rest = re.split(rf"[{re.escape(SPACE)}]+", call.needed("CMD or NONE"), maxsplit=1)
    if kind.upper() == "NONE":
        if rest:
            raise call.error("NONE has no arguments", near=rest[0])
        return ins.Healthcheck(None)
    if kind.upper() != "CMD":
        raise call.error(f"has no {kind!r}", near=kind, remedy="write CMD or NONE")
    command = call.command(rest[0] if rest else "")
    if not command:
        raise call.error("CMD needs a command")
    retries = call.flag("retries", "0")
    if not _RETRIES.fullmatch(retries):
        raise call.error(f"cannot retry {retries[:40]!r} times", near="--retries")
    return ins.Healthcheck(
        command,
        interval=parse_duration(call.flag("interval")),
        timeout=parse_duration(call.flag("timeout")),
        start_period=parse_duration(call.flag("start-period")),
        start_interval=parse_duration(call.flag("start-interval")),
        retries=int(retries),
    )


def _onbuild(call: _Call) -> ins.Onbuild:
    line = evolve(call.line, text=call.needed("an instruction"))
    trigger = parse_instruction(line, call.reader)
    if trigger.name in ("ONBUILD", "FROM", "MAINTAINER"):
        raise call.error(f"cannot hold {trigger.name}", near=trigger.spelled)
    return ins.Onbuild(trigger)


# --- files -------------------------------------------------------------------------------------


def _sources(call: _Call) -> tuple[tuple[str | Heredoc, ...], str]:
    words = call.words()
    if len(words) < 2:
        raise call.error("needs a source and a destination")
    *sources, destination = words
    if json_list(call.text) is not None:
        return tuple(sources), destination
    if parse_heredoc(destination):
        raise call.error("cannot copy into a heredoc", near=destination)
    found: list[str | Heredoc] = []
    for source in sources:
        heredoc = parse_heredoc(source)
        found.append(source if heredoc is None else call.filled(heredoc))
    return tuple(found), destination


def _copy(call: _Call) -> ins.Copy:
    sources, destination = _sources(call)
    return ins.Copy(
        sources,
        destination,
        call.flag("from"),
        call.flag("chown"),
        call.flag("chmod"),
        call.switch("link"),
        call.switch("parents"),
        call.each("exclude"),
    )


def _add(call: _Call) -> ins.Add:
    sources, destination = _sources(call)
    return ins.Add(
        sources,
        destination,
        "",
        call.flag("chown"),
        call.flag("chmod"),
        call.switch("link"),
        call.switch("parents"),
        call.each("exclude"),
        call.flag("checksum"),
        call.switch("keep-git-dir"),
        call.switch("unpack") if call.has("unpack") else None,
    )


def _volume(call: _Call) -> ins.Volume:
    call.needed("a directory")
    paths = tuple(path.strip(SPACE) for path in call.words())
    if not paths or not all(paths):
        raise call.error("needs a directory")
    return ins.Volume(paths)


# --- settings ----------------------------------------------------------------------------------


def _workdir(call: _Call) -> ins.Workdir:
    return ins.Workdir(call.needed("a directory"))


def _user(call: _Call) -> ins.User:
    return ins.User(call.needed("a user"))


def _stop_signal(call: _Call) -> ins.StopSignal:
    return ins.StopSignal(call.needed("a signal"))


def _maintainer(call: _Call) -> ins.Maintainer:
    return ins.Maintainer(call.needed("a name"))


def _expose(call: _Call) -> ins.Expose:
    return ins.Expose(tuple(BLANKS.split(call.needed("a port"))))


_PARSERS: Final[dict[str, Callable[[_Call], Instruction]]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
