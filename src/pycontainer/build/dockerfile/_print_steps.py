"""Steps of the build graph as instructions: what `_settings`, `_copies` and `_runs` make steps of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pycontainer.build._configure import (
    AddTrigger,
    AddVolumes,
    Expose,
    SetAuthor,
    SetCmd,
    SetEntrypoint,
    SetEnv,
    SetHealthcheck,
    SetLabels,
    SetShell,
    SetStopSignal,
    SetUser,
)
from pycontainer.build._git import GitSource
from pycontainer.build._inline import InlineSource
from pycontainer.build._sources import LocalSource
from pycontainer.build._url import UrlSource
from pycontainer.build._workdir import Workdir
from pycontainer.build.dockerfile import _instructions as ins
from pycontainer.build.dockerfile._heredocs import Heredoc
from pycontainer.build.dockerfile._lines import LineReader
from pycontainer.build.dockerfile._parser import parse_instructions
from pycontainer.build.dockerfile._quoting import written_word
from pycontainer.errors import BuildError, DockerfileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.build._copy import Copy
    from pycontainer.build._graph import Operation

__all__ = ["checked", "copy_instruction", "parsed", "refusal", "setting_instruction"]


def refusal(step: Operation, why: str, remedy: str | None = None) -> BuildError:
    """The error of a step that no Dockerfile can have."""
    return BuildError(f"{step.title!r} cannot be written in a Dockerfile: {why}", remedy=remedy)


def parsed(text: str) -> ins.Instruction | None:
    """The one instruction that a text is; None if it is not one."""
    try:
        text.encode()
        found = [each for each, _ in parse_instructions(LineReader(text))]
    except (DockerfileError, UnicodeEncodeError):
        return None
    return found[0] if len(found) == 1 and "\0" not in text else None


def checked(step: Operation, instruction: ins.Instruction) -> ins.Instruction:
    """The instruction, if its text is read as itself.

    Raises:
        BuildError: It is not: lines hold no line ends, for example.
    """
    if parsed(str(instruction)) != instruction:
        raise refusal(step, "there is a character in it that would be read otherwise")
    return instruction


def setting_instruction(step: Operation) -> ins.Instruction:
    """The instruction of a step that needs no files.

    Raises:
        BuildError: There is none.
    """
    make = _MAKERS.get(type(step))
    if make is None:
        raise refusal(step, "there is no such instruction")
    return make(step)


def _words(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(written_word, texts))


def _pairs(step: SetEnv | SetLabels) -> tuple[ins.Pair, ...]:
    return tuple((written_word(name), written_word(value)) for name, value in step.values)


def _healthcheck(step: SetHealthcheck) -> ins.Healthcheck:
    return ins.Healthcheck(
        step.command,
        step.interval,
        step.timeout,
        step.start_period,
        step.start_interval,
        step.retries,
    )


def _trigger(step: AddTrigger) -> ins.Instruction:
    found = parsed(step.title)
    if not isinstance(found, ins.Onbuild) or str(found.trigger) != step.instruction:
        raise refusal(step, "it would be written otherwise")
    return found


_MAKERS: Final[dict[type[Operation], Callable[[Any], ins.Instruction]]] = {
    AddTrigger: _trigger,
    AddVolumes: lambda step: ins.Volume(_words(step.paths)),
    Expose: lambda step: ins.Expose(_words(step.ports)),
    SetAuthor: lambda step: ins.Maintainer(written_word(step.author)),
    SetCmd: lambda step: ins.Cmd(step.command),
    SetEntrypoint: lambda step: ins.Entrypoint(step.command),
    SetEnv: lambda step: ins.Env(_pairs(step)),
    SetHealthcheck: _healthcheck,
    SetLabels: lambda step: ins.Label(_pairs(step)),
    SetShell: lambda step: ins.Shell(step.words),
    SetStopSignal: lambda step: ins.StopSignal(written_word(step.signal)),
    SetUser: lambda step: ins.User(written_word(step.user)),
    Workdir: lambda step: ins.Workdir(written_word(step.path)),
}


def copy_instruction(step: Copy, origin: Operation, from_: str) -> ins.Copy:
    """The instruction of a copy.

    Args:
        step: The copy.
        origin: What its files come from.
        from_: How the Dockerfile calls that; empty for the context and for what the instruction names.
    """
    mode = f"{step.mode:o}" if isinstance(step.mode, int) else step.mode
    copy = ins.Copy(
        _sources(step, origin),
        written_word(step.destination),
        from_=from_,
        chown=written_word(step.owner) if step.owner else "",
        chmod=written_word(mode) if mode else "",
        link=step.link,
        parents=step.parents,
        exclude=_words(step.exclude),
    )
    return copy if step.verb == "COPY" else _as_add(copy, step, origin)


def _sources(step: Copy, origin: Operation) -> tuple[str | Heredoc, ...]:
    if isinstance(origin, InlineSource):
        return (Heredoc(origin.name, origin.content, expand=False),) * len(step.sources)
    return _words(step.shown or step.sources)


def _as_add(copy: ins.Copy, step: Copy, origin: Operation) -> ins.Add:
    unpack: bool | None = None
    if isinstance(origin, LocalSource):
        unpack = None if step.unpack else False
    elif isinstance(origin, UrlSource):
        unpack = step.unpack or None
    checksum = origin.checksum if isinstance(origin, UrlSource | GitSource) else ""
    return ins.Add(
        copy.sources,
        copy.destination,
        chown=copy.chown,
        chmod=copy.chmod,
        link=copy.link,
        parents=copy.parents,
        exclude=copy.exclude,
        checksum=checksum,
        keep_git_dir=isinstance(origin, GitSource) and origin.keep_git_dir,
        unpack=unpack,
    )
