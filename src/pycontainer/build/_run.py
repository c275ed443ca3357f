"""RUN: a command is executed on the files so far, and what it changes becomes a layer."""

from __future__ import annotations

import json
import secrets
import shlex
from contextlib import ExitStack
from functools import partial
from signal import SIGKILL
from typing import TYPE_CHECKING, Final, Literal

from attrs import asdict, astuple, frozen
from typing_extensions import override

from pycontainer.build._changes import changes_of_run
from pycontainer.build._configure import command_line
from pycontainer.build._destination import read_file
from pycontainer.build._entries import store_layer, tree_of
from pycontainer.build._foreign import check_runnable
from pycontainer.build._graph import Layer, Result, State, Step, Task
from pycontainer.build._insecure import with_all_rights
from pycontainer.build._mounts import Place, RunMount
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
    from collections.abc import Iterator, Mapping, Sequence
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
        mounts: What it sees beside the image's files.
        insecure: Whether it has all rights of root on this machine.
        shown: The command as the history has it, where that is not what is executed.
    """

    command: tuple[str, ...] | str
    network: Literal["none", "host"] = "host"
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[RunMount, ...] = ()
    insecure: bool = False
    shown: str = ""

    @override
    def definition(self) -> object:
        """The fields, of each mount with its kind."""
        kinds = [(type(each).__name__, asdict(each)) for each in self.mounts]
        return [*astuple(self, recurse=False)[:3], kinds, self.insecure, self.shown]

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        network = "" if self.network == "host" else f"--network={self.network} "
        text = self.command if isinstance(self.command, str) else json.dumps(self.command)
        text = self.shown or text
        return f"RUN {network}{text}"

    @override
    def task(self, base: State, others: Sequence[Result], work: Work) -> Task:
        return _RunTask(self, base, others, work)

    @override
    def apply(self, base: State, layer: Layer | None, work: Work) -> State:
        # As Docker's builders write it, with the variables that the image does not keep in front.
        words = command_line(self.shown or self.command, base.config.config)
        given = [f"|{len(self.env)}", *(f"{k}={v}" for k, v in self.env)] if self.env else []
        return base.after(work.history(" ".join(["RUN", *given, *words])), layer=layer)


@frozen
class _RunTask(Task):
    step: Run
    base: State
    others: Sequence[Result]
    work: Work

    @property
    def _words(self) -> tuple[str, ...]:
        return command_line(self.step.command, self.base.config.config)

    @override
    def cache_keys(self) -> Iterator[object]:
        config, step = self.base.config.config, self.step
        surroundings: list[object] = [
            config.env,
            step.env,
            config.user,
            config.working_dir,
            step.network,
        ]
        if step.mounts or step.insecure:
            mounts = [
                (type(each).__name__, asdict(each), each.depends(self.others))
                for each in step.mounts
            ]
            surroundings += [mounts, step.insecure]
        yield [self.base.chain_id, self._words, *surroundings]

    @override
    def execute(self) -> Layer | None:
        tree = tree_of(self.base, self.work)
        check_runnable(self.base.config.platform, tree, self.step.title)
        if self.step.insecure and not self.work.insecure:
            raise BuildError(
                f"{self.step.title}: --security=insecure has to be allowed",
                remedy="if you trust what is built, build with insecure=True",
            )
        with ExitStack() as stack:
            directory = stack.enter_context(self.work.store.temporary("build"))
            place = Place(self.work, self.others, directory, stack)
            mounts = [mount for each in self._ordered() for mount in each.mounts(place)]
            snapshot = prepare(
                self.work.store, self.base.diff_ids, directory / "snapshot", volatile=True
            )
            output = Output(self.work.log)
            spec = self._spec(tree, self._network_files(directory, tree) + mounts, place.env)
            exit_code = self._run(spec, snapshot, directory, output)
            if exit_code:
                raise self._failed(exit_code, output.tail())
            targets = [mount.destination for mount in mounts]
            entries = changes_of_run(snapshot, tree, self.work.epoch, targets)
            return store_layer(entries, self.work)

    def _ordered(self) -> list[RunMount]:
        """The mounts, those above others first, so that none hides another."""
        return sorted(self.step.mounts, key=lambda mount: mount.target.count("/"))

    def _network_files(self, directory: Path, tree: TreeView) -> list[Mount]:
        return [*network_files(directory, tree, self.step.network, _HOSTNAME)]

    def _run(self, spec: RuntimeSpec, snapshot: Snapshot, directory: Path, output: Output) -> int:
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

    def _spec(
        self, tree: TreeView, mounts: Sequence[Mount], extra: Mapping[str, str]
    ) -> RuntimeSpec:
        config = self.base.config.config
        env = dict(each.partition("=")[::2] for each in config.env)
        process = default_process(
            self._words,
            env={**self.work.proxies, **env, **dict(self.step.env), **extra},
            cwd=config.working_dir or "/",
            user=self._user(tree),
        )
        network = self.step.network
        spec = default_spec(process, hostname=_HOSTNAME, network=network, mounts=mounts)
        return with_all_rights(spec) if self.step.insecure else spec

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
