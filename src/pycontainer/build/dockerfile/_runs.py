"""RUN as a step: its script, its arguments, its mounts."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final

from pycontainer.build._mounts import RunMount, ScriptMount
from pycontainer.build._run import Run as Execute
from pycontainer.build.dockerfile._heredocs import parse_heredoc
from pycontainer.build.dockerfile._run_mounts import MountMaker

if TYPE_CHECKING:
    from pycontainer.build.dockerfile._instructions import Run
    from pycontainer.build.dockerfile._steps import StageSteps

__all__ = ["command_of", "run"]

_SCRIPTS: Final = "/dev/pipes"
"""Where BuildKit shows scripts."""


def run(steps: StageSteps, instruction: Run) -> None:
    """Add the step of RUN."""
    maker = MountMaker(steps)
    mounts: list[RunMount] = [maker.make(text) for text in instruction.mounts]
    command, script = command_of(instruction)
    if script is not None:
        mounts.append(script)
    shown = instruction.arguments() if command != instruction.command else ""
    steps.then(
        Execute(
            command,
            network="none" if instruction.network == "none" else "host",
            env=steps.scope.for_command(),
            mounts=tuple(mounts),
            insecure=instruction.security == "insecure",
            shown="\n".join([shown, *(each.body for each in instruction.heredocs)])
            if shown
            else "",
        ),
        *maker.origins,
    )


def command_of(instruction: Run) -> tuple[tuple[str, ...] | str, ScriptMount | None]:
    """What is executed: a lone heredoc is the shell's text, or a script if it begins with ``#!``."""
    command = instruction.command
    if not instruction.heredocs or not isinstance(command, str):
        return command, None
    first = instruction.heredocs[0]
    if parse_heredoc(command) is None:
        bodies = (heredoc.body for heredoc in instruction.heredocs)
        return "\n".join([command, *bodies]), None
    if not first.content.startswith("#!"):
        return first.text, None
    name = first.delimiter.replace("/", "_")
    path = posixpath.join(_SCRIPTS, "script" if name in (".", "..") else name)
    return (path,), ScriptMount(path, first.text)
