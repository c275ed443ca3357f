"""COPY and ADD as steps: one for each place that files come from."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from pycontainer.build._copy import Copy as CopyFiles
from pycontainer.build._files import normal_parts
from pycontainer.build._git import GitSource, parse_git
from pycontainer.build._glob import PatternError, literal_pattern
from pycontainer.build._ignore import IgnorePatterns
from pycontainer.build._inline import InlineSource
from pycontainer.build._modes import check_mode
from pycontainer.build._url import UrlSource, url_source
from pycontainer.build.dockerfile._heredocs import Heredoc
from pycontainer.build.dockerfile._instructions import Add, Copy

if TYPE_CHECKING:
    from pycontainer.build._graph import Vertex
    from pycontainer.build.dockerfile._scope import Scope
    from pycontainer.build.dockerfile._steps import StageSteps

__all__ = ["copies"]

_OCTAL: Final = re.compile("[0-7]{1,5}")


@frozen
class _Part:
    """Files from one place.

    Attributes:
        origin: The place.
        source: What is taken from there.
        shown: How it is written.
        unpack: Whether archives are unpacked.
    """

    origin: Vertex
    source: str
    shown: str
    unpack: bool = False


def copies(steps: StageSteps, instruction: Copy) -> None:
    """Add the steps of COPY or ADD."""
    parts, label = _parts(steps, instruction)
    step = _template(steps.scope, instruction, label)
    if len(parts) > 1 and not step.into_directory:
        raise ValueError(f"several files cannot all become {step.destination}; end it with a slash")
    for (origin, unpack), group in groupby(parts, lambda part: (part.origin, part.unpack)):
        members = list(group)
        sources = tuple(part.source for part in members)
        shown = tuple(part.shown for part in members)
        mode = step.mode
        if mode is None and isinstance(origin.operation, UrlSource):
            mode = 0o600
        steps.then(
            evolve(
                step,
                sources=sources,
                shown=() if shown == sources else shown,
                unpack=unpack,
                mode=mode,
            ),
            origin,
        )


def _template(scope: Scope, instruction: Copy, label: str) -> CopyFiles:
    destination = scope.word(instruction.destination)
    if not destination:
        raise ValueError("the destination is empty")
    exclude = tuple(scope.word(pattern) for pattern in instruction.exclude)
    try:
        IgnorePatterns(exclude)
    except PatternError as error:
        raise ValueError(f"--exclude: {error}") from error
    return CopyFiles(
        (),
        destination,
        owner=scope.word(instruction.chown) or None,
        mode=_mode(scope.word(instruction.chmod)),
        origin=label,
        link=instruction.link,
        parents=instruction.parents,
        exclude=exclude,
        verb="ADD" if isinstance(instruction, Add) else "COPY",
        lenient=True,
    )


def _mode(text: str) -> int | str | None:
    if not text:
        return None
    check_mode(text)
    return int(text, 8) if _OCTAL.fullmatch(text) else text


def _parts(steps: StageSteps, instruction: Copy) -> tuple[list[_Part], str]:
    """What is copied, and how the history calls the stage or image that it is from."""
    origin, label = steps.lowering.context(), ""
    if instruction.from_:
        origin, label = steps.origin(instruction.from_)
    parts = []
    for source in instruction.sources:
        if isinstance(source, Heredoc):
            parts.append(_heredoc(steps, source))
            continue
        word = steps.scope.word(source)
        if isinstance(instruction, Add):
            parts.append(_added(steps, instruction, word))
        else:
            parts.append(_Part(origin, _inside(word), word))
    if isinstance(instruction, Add) and instruction.checksum:
        kinds = [part.origin.operation for part in parts]
        if len(parts) != 1 or not isinstance(kinds[0], UrlSource | GitSource):
            raise ValueError("--checksum needs one source, a URL or a git repository")
    return parts, label


def _inside(path: str) -> str:
    """A path without the ``..`` that would lead out of the root: Docker leaves these away."""
    if ".." not in path.split("/"):
        return path
    return "/".join(part for part in normal_parts(path) if part != "..") or "."


def _heredoc(steps: StageSteps, heredoc: Heredoc) -> _Part:
    name = steps.scope.word(heredoc.delimiter) if heredoc.expand else heredoc.delimiter
    if name in (".", "..") or "/" in name or not name:
        raise ValueError(f"{name!r} cannot be the name of a file")
    text = heredoc.text
    if heredoc.expand:
        text = steps.scope.expander(quotes=False).word(text)
    return _Part(steps.source(InlineSource(name, text)), literal_pattern(name), name)


def _added(steps: StageSteps, instruction: Add, word: str) -> _Part:
    checksum = steps.scope.word(instruction.checksum)
    git = parse_git(word)
    if git is not None:
        source = evolve(git, keep_git_dir=instruction.keep_git_dir, checksum=checksum)
        return _Part(steps.source(source), ".", word)
    if instruction.keep_git_dir:
        raise ValueError(f"--keep-git-dir is for git repositories, which {word} is not")
    url = url_source(word, checksum)
    if url is None:
        unpack = instruction.unpack is not False
        return _Part(steps.lowering.context(), _inside(word), word, unpack)
    return _Part(steps.source(url), literal_pattern(url.name), word, instruction.unpack is True)
