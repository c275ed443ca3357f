"""Instructions that become one step each, and need no files."""

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
from pycontainer.build._ports import each_port
from pycontainer.build._workdir import Workdir
from pycontainer.build.dockerfile import _instructions as ins

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.build._graph import Step
    from pycontainer.build.dockerfile._steps import StageSteps

__all__ = ["setting"]


def setting(steps: StageSteps, instruction: ins.Instruction) -> Step:
    """The step of an instruction.

    Raises:
        ValueError: It cannot be carried out.
    """
    return _MAKERS[type(instruction)](steps, instruction)


def _word(steps: StageSteps, text: str, what: str) -> str:
    value = steps.scope.word(text)
    if not value:
        raise ValueError(f"{text!r} is empty here, which is no {what}")
    return value


def _pairs(steps: StageSteps, pairs: tuple[ins.Pair, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((_word(steps, name, "name"), steps.scope.word(value)) for name, value in pairs)


def _env(steps: StageSteps, instruction: ins.Env) -> Step:
    pairs = _pairs(steps, instruction.pairs)
    for name, _ in pairs:
        if "=" in name:
            raise ValueError(f"not the name of a variable: {name!r}")
    return SetEnv(pairs)


def _label(steps: StageSteps, instruction: ins.Label) -> Step:
    return SetLabels(_pairs(steps, instruction.pairs))


def _workdir(steps: StageSteps, instruction: ins.Workdir) -> Step:
    return Workdir(_word(steps, instruction.value, "directory"))


def _user(steps: StageSteps, instruction: ins.User) -> Step:
    return SetUser(_word(steps, instruction.value, "user"))


def _expose(steps: StageSteps, instruction: ins.Expose) -> Step:
    ports = [
        each
        for text in instruction.ports
        for word in steps.scope.expander().words(text)
        for each in each_port(word.rpartition(":")[2])  # Docker reads no more of 127.0.0.1:80:80
    ]
    if not ports:
        raise ValueError("there is no port")
    return Expose(tuple(ports))


def _volume(steps: StageSteps, instruction: ins.Volume) -> Step:
    return AddVolumes(tuple(_word(steps, path, "directory") for path in instruction.paths))


def _cmd(steps: StageSteps, instruction: ins.Cmd) -> Step:
    steps.has_cmd = True
    return SetCmd(instruction.command)


def _entrypoint(steps: StageSteps, instruction: ins.Entrypoint) -> Step:
    return SetEntrypoint(instruction.command, keep_cmd=steps.has_cmd)


def _shell(_: StageSteps, instruction: ins.Shell) -> Step:
    return SetShell(instruction.words)


def _stop_signal(steps: StageSteps, instruction: ins.StopSignal) -> Step:
    return SetStopSignal(_word(steps, instruction.value, "signal"))


def _healthcheck(_: StageSteps, instruction: ins.Healthcheck) -> Step:
    return SetHealthcheck(
        instruction.command,
        instruction.interval,
        instruction.timeout,
        instruction.start_period,
        instruction.start_interval,
        instruction.retries,
    )


def _onbuild(_: StageSteps, instruction: ins.Onbuild) -> Step:
    return AddTrigger(str(instruction.trigger))


def _maintainer(steps: StageSteps, instruction: ins.Maintainer) -> Step:
    return SetAuthor(steps.scope.word(instruction.value))


_MAKERS: Final[dict[type[ins.Instruction], Callable[[StageSteps, Any], Step]]] = {
    ins.Cmd: _cmd,
    ins.Entrypoint: _entrypoint,
    ins.Env: _env,
    ins.Expose: _expose,
    ins.Healthcheck: _healthcheck,
    ins.Label: _label,
    ins.Maintainer: _maintainer,
    ins.Onbuild: _onbuild,
    ins.Shell: _shell,
    ins.StopSignal: _stop_signal,
    ins.User: _user,
    ins.Volume: _volume,
    ins.Workdir: _workdir,
}
