"""Steps that change what containers of the image do, and no file."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from typing_extensions import override

from pycontainer.build import dockerfile
from pycontainer.build._graph import Layer, Result, State, Step
from pycontainer.oci import Healthcheck

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.build._work import Work
    from pycontainer.oci import ContainerConfig

__all__ = [
    "AddTrigger",
    "AddVolumes",
    "Configure",
    "DropTriggers",
    "Expose",
    "SetAuthor",
    "SetCmd",
    "SetEntrypoint",
    "SetEnv",
    "SetHealthcheck",
    "SetLabels",
    "SetShell",
    "SetStopSignal",
    "SetUser",
    "command_line",
    "shell_of",
]

_DEFAULT_SHELL = ("/bin/sh", "-c")


class Configure(Step):
    """Changes the config; there is nothing to execute or to cache."""

    @abstractmethod
    def change(self, config: ContainerConfig) -> ContainerConfig:
        """The changed config."""

    @override
    def task(self, base: State, others: Sequence[Result], work: Work) -> None:
        """None: no file changes."""

    @override
    def apply(self, base: State, layer: Layer | None, work: Work) -> State:
        """The state with the changed config."""
        return base.after(work.history(self.title), config=self.change(base.config.config))


@frozen
class SetEnv(Configure):
    """Sets environment variables, in the place of former ones of the same name."""

    values: tuple[tuple[str, str], ...]

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return "ENV " + " ".join(f"{name}={_word(value)}" for name, value in self.values)

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """With the variables set."""
        env = dict(entry.partition("=")[::2] for entry in config.env)
        env.update(self.values)
        return evolve(config, env=tuple(f"{name}={value}" for name, value in env.items()))


@frozen
class SetLabels(Configure):
    """Sets labels."""

    values: tuple[tuple[str, str], ...]

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return "LABEL " + " ".join(f"{name}={_word(value)}" for name, value in self.values)

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """With the labels set."""
        return evolve(config, labels={**config.labels, **dict(self.values)})


@frozen
class SetUser(Configure):
    """Sets the user, or ``user:group``, of further commands and of containers."""

    user: str

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return f"USER {self.user}"

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """With the user set."""
        return evolve(config, user=self.user)


@frozen
class Expose(Configure):
    """Says on which ports containers listen, each as ``8080/tcp``."""

    ports: tuple[str, ...]

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return "EXPOSE " + " ".join(self.ports)

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """With the ports added."""
        return evolve(config, exposed_ports=_union(config.exposed_ports, self.ports))


@frozen
class AddVolumes(Configure):
    """Says which directories should be volumes."""

    paths: tuple[str, ...]

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return f"VOLUME {json.dumps(self.paths)}"

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """With the volumes added."""
        return evolve(config, volumes=_union(config.volumes, self.paths))


@frozen
class SetEntrypoint(Configure):
    """Sets the entry point.

    Attributes:
        command: Words to execute, or a text for the image's shell.
        keep_cmd: Whether the default arguments stay: those that the base image brought are meant for its
            own entry point, those that the same stage has set are not.
    """

    command: tuple[str, ...] | str
    keep_cmd: bool = False

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return f"ENTRYPOINT {_spelled(self.command)}"

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """With the entry point set."""
        cmd = config.cmd if self.keep_cmd else None
        return evolve(config, entrypoint=command_line(self.command, config), cmd=cmd)


@frozen
class SetCmd(Configure):
    """Sets the default command, or the default arguments of the entry point."""

    command: tuple[str, ...] | str

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return f"CMD {_spelled(self.command)}"

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """With the command set."""
        return evolve(config, cmd=command_line(self.command, config))


@frozen
class SetStopSignal(Configure):
    """Sets the signal that asks a container to end."""

    signal: str

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return f"STOPSIGNAL {self.signal}"

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """With the signal set."""
        return evolve(config, stop_signal=self.signal)


@frozen
class SetShell(Configure):
    """Sets the shell that executes commands given as text."""

    words: tuple[str, ...]

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return f"SHELL {json.dumps(self.words)}"

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """With the shell set."""
        return evolve(config, shell=self.words)


@frozen
class SetHealthcheck(Configure):
    """Says how a container is asked for its health; times are nanoseconds, 0 inherits.

    Attributes:
        command: Words to execute, or a text for the image's shell; None for no check at all.
        interval: From the end of one check to the next.
        timeout: How long a check may take.
        start_period: How long after the start failures do not count.
        start_interval: As `interval`, during that time.
        retries: How many failures in a row make it unhealthy; 0 inherits.
    """

    command: tuple[str, ...] | str | None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return str(
            dockerfile.Healthcheck(
                self.command,
                self.interval,
                self.timeout,
                self.start_period,
                self.start_interval,
                self.retries,
            )
        )

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """With the check set."""
        if self.command is None:
            test: tuple[str, ...] = ("NONE",)
        elif isinstance(self.command, str):
            test = ("CMD-SHELL", self.command)
        else:
            test = ("CMD", *self.command)
        check = Healthcheck(
            test,
            interval=self.interval,
            timeout=self.timeout,
            start_period=self.start_period,
            start_interval=self.start_interval,
            retries=self.retries,
        )
        return evolve(config, healthcheck=check)


@frozen
class AddTrigger(Configure):
    """Adds an instruction for those who build on the image."""

    instruction: str

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return f"ONBUILD {self.instruction}"

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """With the instruction added."""
        return evolve(config, on_build=(*config.on_build, self.instruction))


@frozen
class DropTriggers(Configure):
    """Forgets the triggers, once a stage that continues the image has carried them out."""

    @property
    def title(self) -> str:
        """What is done."""
        return "carry out ONBUILD"

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """Without triggers."""
        return evolve(config, on_build=())

    @override
    def apply(self, base: State, layer: Layer | None, work: Work) -> State:
        changed = base.config.evolve(config=self.change(base.config.config))
        return evolve(base, config=changed)


@frozen
class SetAuthor(Configure):
    """Says who made the image."""

    author: str

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return f"MAINTAINER {self.author}"

    def change(self, config: ContainerConfig) -> ContainerConfig:
        """The same: the author is no matter of containers."""
        return config

    @override
    def apply(self, base: State, layer: Layer | None, work: Work) -> State:
        """With the author set."""
        after = super().apply(base, layer, work)
        return evolve(after, config=after.config.evolve(author=self.author))


def shell_of(config: ContainerConfig) -> tuple[str, ...]:
    """The words before a command given as text."""
    return config.shell or _DEFAULT_SHELL


def command_line(command: tuple[str, ...] | str, config: ContainerConfig) -> tuple[str, ...]:
    """The words that are executed for a command."""
    return (*shell_of(config), command) if isinstance(command, str) else command


def _spelled(command: tuple[str, ...] | str) -> str:
    return command if isinstance(command, str) else json.dumps(command)


def _word(value: str) -> str:
    """A value as it is written after ``NAME=``: quoted where a Dockerfile's parser would split it."""
    plain = value and not any(character in " \t\n\"'\\$" for character in value)
    return value if plain else json.dumps(value)


def _union(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
