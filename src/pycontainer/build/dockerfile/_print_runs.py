"""Commands of the build graph as RUN: the reverse of `_runs` and `_run_mounts`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from pycontainer.build._configure import command_line
from pycontainer.build._mounts import (
    BindMount,
    CacheMount,
    ScriptMount,
    SecretMount,
    SshMount,
    TmpfsMount,
)
from pycontainer.build.dockerfile import _instructions as ins
from pycontainer.build.dockerfile._print_steps import parsed, refusal
from pycontainer.build.dockerfile._quoting import option_list
from pycontainer.build.dockerfile._runs import command_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.build._mounts import RunMount
    from pycontainer.build._run import Run
    from pycontainer.oci import ContainerConfig

__all__ = ["run_instruction"]

_Options = list[tuple[str, str]]


def run_instruction(
    step: Run, config: ContainerConfig, named: Callable[[int], str]
) -> ins.Instruction:
    """The instruction of a command; ARG has to set its variables.

    Args:
        step: The command.
        config: What the image says at that point.
        named: How the Dockerfile calls what the mounts of an input show; empty for the context.

    Raises:
        BuildError: There is no such instruction.
    """
    mounts = [
        option_list(_options(step, mount, named))
        for mount in step.mounts
        if not isinstance(mount, ScriptMount)  # it belongs to the text that is shown
    ]
    plain = ins.Run(
        "",
        mounts=tuple(mounts),
        network="none" if step.network == "none" else "default",
        security="insecure" if step.insecure else "sandbox",
    )
    # A text that is no line is written as the words that its shell gets: to the image it is the same.
    for command in (step.shown or step.command, command_line(step.command, config)):
        found = parsed(str(evolve(plain, command=command)))
        if isinstance(found, ins.Run) and _does(found, step, config):
            same = evolve(found, command="", heredocs=()) == plain
            if same:
                return found
    raise refusal(step, "its command would be read otherwise")


def _does(instruction: ins.Run, step: Run, config: ContainerConfig) -> bool:
    """Whether an instruction executes, and notes in the history, what a step does."""
    command, script = command_of(instruction)
    scripts = tuple(each for each in step.mounts if isinstance(each, ScriptMount))
    if isinstance(step.command, str) and not isinstance(command, str):
        return command == command_line(step.command, config) and not step.shown
    return command == step.command and scripts == (() if script is None else (script,))


def _options(step: Run, mount: RunMount, named: Callable[[int], str]) -> _Options:
    if isinstance(mount, BindMount):
        options = [("type", "bind"), ("source", mount.source), *_from(named(mount.origin))]
        return [*options, ("target", mount.target), *([("readwrite", "")] * mount.writable)]
    if isinstance(mount, CacheMount):
        return _cache(mount, named)
    if isinstance(mount, TmpfsMount):
        size = [("size", str(mount.size))] if mount.size else []
        return [("type", "tmpfs"), ("target", mount.target), *size]
    if isinstance(mount, SecretMount):
        return _secret(step, mount)
    assert isinstance(mount, SshMount), f"an unknown kind of mount: {mount}"
    options = [("type", "ssh"), ("id", mount.id), ("target", mount.target)]
    options += [("required", "")] * mount.required
    return options + _ownership(mount.mode, 0o600, mount.owner)


def _cache(mount: CacheMount, named: Callable[[int], str]) -> _Options:
    options = [("type", "cache"), ("target", mount.target)]
    if mount.id and mount.id != mount.target:
        options.append(("id", mount.id))
    if mount.origin is not None:
        options += [*_from(named(mount.origin)), ("source", mount.source)]
    if mount.sharing != "shared":
        options.append(("sharing", mount.sharing))
    if not mount.writable:
        options.append(("readonly", ""))
    return options + _ownership(mount.mode, 0o755, mount.owner)


def _secret(step: Run, mount: SecretMount) -> _Options:
    if not mount.target and not mount.env:
        raise refusal(step, f"the secret {mount.id} is seen neither as a file nor as a variable")
    options = [("type", "secret"), ("id", mount.id)]
    options += [
        (name, text) for name, text in (("target", mount.target), ("env", mount.env)) if text
    ]
    options += [("required", "")] * mount.required
    return options + _ownership(mount.mode, 0o400, mount.owner)


def _from(name: str) -> _Options:
    return [("from", name)] if name else []


def _ownership(mode: int, usual: int, owner: tuple[int, int]) -> _Options:
    options = [("mode", f"{mode:04o}")] if mode != usual else []
    return options + [(k, str(v)) for k, v in zip(("uid", "gid"), owner, strict=True) if v]
