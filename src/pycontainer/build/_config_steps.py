"""The steps of a Builder that change what containers of the image do, and no file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

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
from pycontainer.build.dockerfile import Dockerfile

if TYPE_CHECKING:
    from typing import Self

    from pycontainer.build._graph import Step, Vertex

__all__ = ["Command", "ConfigSteps", "checked_text", "pairs"]

Command = Sequence[str] | str
"""Words to execute, or a text for the image's shell."""

_SECOND: Final = 10**9


class ConfigSteps(ABC):
    """Something that steps can be added to; each method gives a new one."""

    __slots__ = ()

    @abstractmethod
    def _then(self, step: Step, *others: Vertex) -> Self:
        """The same with one more step."""

    @abstractmethod
    def _has_cmd(self) -> bool:
        """Whether this stage itself has set a default command."""

    def env(self, values: Mapping[str, str]) -> Self:
        """Set environment variables."""
        for name in values:
            if not name or "=" in name or "\0" in name:
                raise ValueError(f"not the name of an environment variable: {name!r}")
        return self._then(SetEnv(pairs(values))) if values else self

    def label(self, values: Mapping[str, str]) -> Self:
        """Set labels."""
        return self._then(SetLabels(pairs(values))) if values else self

    def user(self, user: str | int) -> Self:
        """Set the user (``name``, ``name:group``, ``uid``, ``uid:gid``) of commands and containers."""
        return self._then(SetUser(checked_text(str(user), "user")))

    def expose(self, *ports: int | str) -> Self:
        """Say on which ports containers listen: ``8080``, ``"8080/udp"``, ``"8000-8010/tcp"``."""
        numbers = tuple(each for port in ports for each in each_port(port))
        return self._then(Expose(numbers)) if numbers else self

    def volume(self, *paths: str) -> Self:
        """Say which directories hold data that should outlive containers."""
        checked = tuple(checked_text(path, "directory") for path in paths)
        return self._then(AddVolumes(checked)) if checked else self

    def entrypoint(self, command: Command) -> Self:
        """Set what containers execute; arguments that the base image has for its own are dropped."""
        words = command if isinstance(command, str) else tuple(command)
        return self._then(SetEntrypoint(words, keep_cmd=self._has_cmd()))

    def cmd(self, command: Command) -> Self:
        """Set the default command, or the default arguments of the entry point."""
        words = command if isinstance(command, str) else tuple(command)
        return self._then(SetCmd(words))

    def stop_signal(self, signal: str | int) -> Self:
        """Set the signal that asks containers to end, such as ``SIGINT``."""
        return self._then(SetStopSignal(checked_text(str(signal), "signal")))

    def healthcheck(
        self,
        command: Command | None,
        *,
        interval: float = 0,
        timeout: float = 0,
        start_period: float = 0,
        start_interval: float = 0,
        retries: int = 0,
    ) -> Self:
        """Say how a container is asked for its health.

        Args:
            command: Words to execute, or a text for the image's shell; None for no check at all.
            interval: Seconds from the end of one check to the next; 0 here and below: as usual.
            timeout: Seconds that a check may take.
            start_period: Seconds after the start in which failures do not count.
            start_interval: As `interval`, during that time.
            retries: How many failures in a row make it unhealthy.
        """
        words = command if command is None or isinstance(command, str) else tuple(command)
        if min(interval, timeout, start_period, start_interval, retries) < 0:
            raise ValueError("times and counts of a health check cannot be negative")
        check = SetHealthcheck(
            words,
            interval=round(interval * _SECOND),
            timeout=round(timeout * _SECOND),
            start_period=round(start_period * _SECOND),
            start_interval=round(start_interval * _SECOND),
            retries=retries,
        )
        return self._then(check)

    def on_build(self, instruction: str) -> Self:
        """Add an instruction, as a Dockerfile has it, for those who build on the image.

        Raises:
            DockerfileError: It is none, or cannot be carried out then.
        """
        return self._then(AddTrigger(_trigger(checked_text(instruction, "instruction"))))

    def author(self, author: str) -> Self:
        """Say who made the image."""
        return self._then(SetAuthor(author))

    def shell(self, words: Sequence[str]) -> Self:
        """Set the shell for commands that are given as text, such as ``["/bin/bash", "-c"]``."""
        if isinstance(words, str) or not words:
            raise ValueError("a shell is a list of words")
        return self._then(SetShell(tuple(words)))


def _trigger(instruction: str) -> str:
    """The instruction as a Dockerfile with it would have it recorded."""
    read = Dockerfile.parse(f"FROM scratch\nONBUILD {instruction}", file="on_build")
    if len(read.stages[0].instructions) != 1:
        raise ValueError(f"not one instruction: {instruction!r}")
    return read.stages[0].instructions[0].arguments()


def pairs(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Names and values as steps take them."""
    return tuple(values.items())


def checked_text(value: str, what: str) -> str:
    """A text that is not empty.

    Raises:
        ValueError: It is.
    """
    if not value:
        raise ValueError(f"an empty text is no {what}")
    return value
