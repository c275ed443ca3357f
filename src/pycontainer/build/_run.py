"""RUN: a command is executed on the files so far, and what it changes becomes a layer."""

from __future__ import annotations

import json
import secrets
import shlex
from functools import partial
from signal import SIGKILL
from typing import TYPE_CHECKING, Final, Literal

from attrs import frozen
from typing_extensions import override

from pycontainer.build._changes import changes_of_run
from pycontainer.build._configure import command_line
from pycontainer.build._destination import read_file
from pycontainer.build._entries import store_layer, tree_of
from pycontainer.build._foreign import check_runnable
from pycontainer.build._graph import Layer, Result, State, Step, Task
from pycontainer.build._network import network_files
from pycontainer.build._output import Output
from pycontainer.errors import (
    BuildError,
    BuildStepFailed,
    CommandNotExecutable,
    CommandNotFound,
    ContainerError,
    UnknownUser,
)
from pycontainer.runtime import default_process, default_spec, launch, resolve_user
from pycontainer.snapshots import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pycontainer.build._work import Work
    from pycontainer.oci.runtime import Mount, RuntimeSpec
    from pycontainer.runtime import ResolvedUser
    from pycontainer.snapshots import Snapshot, TreeView

__all__ = ["Run"]

_HOSTNAME: Final = "build"
"""The same on all machines, as a command may write it into a file."""


@frozen
class Run(Step):
    """Executes a command as the image's user, in its environment and working directory.

    Attributes:
        command: Words to execute, or a text for the image's shell.
        network: ``host`` shares this machine's network, ``none`` has only a loopback interface.
        env: Variables for this command alone.
    """

    command: tuple[str, ...] | str
    network: Literal["none", "host"] = "host"
    env: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        network = "" if self.network == "host" else f"--network={self.network} "
        text = self.command if isinstance(self.command, str) else json.dumps(self.command)
        return f"RUN {network}{text}"

    @override
    def task(self, base: State, others: Sequence[Result], work: Work) -> Task:
        return _RunTask(self, base, work)

    @override
    def apply(self, base: State, layer: Layer | None, work: Work) -> State:
        # As Docker's builders write it, with the variables that the image does not keep in front.
        words = command_line(self.command, base.config.config)
        given = [f"|{len(self.env)}", *(f"{k}={v}" for k, v in self.env)] if self.env else []
        return base.after(work.history(" ".join(["RUN", *given, *words])), layer=layer)


@frozen
class _RunTask(Task):
    step: Run
    base: State
    work: Work

    @property
    def _words(self) -> tuple[str, ...]:
        return command_line(self.step.command, self.base.config.config)

    @override
    def cache_keys(self) -> Iterator[object]:
        config, step = self.base.config.config, self.step
        surroundings = [config.env, step.env, config.user, config.working_dir, step.network]
        yield [self.base.chain_id, self._words, *surroundings]

    @override
    def execute(self) -> Layer | None:
        tree = tree_of(self.base, self.work)
        check_runnable(self.base.config.platform, tree, self.step.title)
        with self.work.store.temporary("build") as directory:
            snapshot = prepare(
                self.work.store, self.base.diff_ids, directory / "snapshot", volatile=True
            )
            output = Output(self.work.log)
            exit_code = self._run(snapshot, directory, tree, output)
            if exit_code:
                raise self._failed(exit_code, output.tail())
            entries = changes_of_run(snapshot, tree, self.work.epoch)
            return store_layer(entries, self.work)

    def _run(self, snapshot: Snapshot, directory: Path, tree: TreeView, output: Output) -> int:
        spec = self._spec(tree, network_files(directory, tree, self.step.network, _HOSTNAME))
        place = directory / "container"
        place.mkdir()
        name = f"build-{secrets.token_hex(8)}"
        try:
            with (
                output.pipes() as (stdout, stderr),
                launch(spec, snapshot.plan, place, name=name, stdout=stdout, stderr=stderr) as it,
                self.work.cancellation.calling(partial(it.signal, SIGKILL)),
            ):
                output.pump()
                return it.wait()
        except (CommandNotFound, CommandNotExecutable) as error:
            # The exit codes that a shell gives for these.
            exit_code = 127 if isinstance(error, CommandNotFound) else 126
            message = f"{self.step.title}: {error}"
            raise BuildStepFailed(message, exit_code=exit_code, command=self._words) from error
        except ContainerError as error:
            raise BuildError(f"{self.step.title}: {error.message}", remedy=error.remedy) from error

    def _spec(self, tree: TreeView, mounts: Sequence[Mount]) -> RuntimeSpec:
        config = self.base.config.config
        env = dict(each.partition("=")[::2] for each in config.env)
        process = default_process(
            self._words,
            env={**env, **dict(self.step.env)},
            cwd=config.working_dir or "/",
            user=self._user(tree),
        )
        network = self.step.network
        return default_spec(process, hostname=_HOSTNAME, network=network, mounts=mounts)

    def _user(self, tree: TreeView) -> ResolvedUser:
        user = self.base.config.config.user
        try:
            return resolve_user(user, lambda path: read_file(tree, path))
        except UnknownUser as error:
            raise BuildError(f"{self.step.title}: {error.message}", remedy=error.remedy) from error

    def _failed(self, exit_code: int, output: str) -> BuildStepFailed:
        message = f"{shlex.join(self._words)} ended with exit code {exit_code}"
        if output:
            message += ", its last output was:\n" + output
        return BuildStepFailed(message, exit_code=exit_code, output=output, command=self._words)
