"""What goes on in a container: its files, its streams, commands beside its own."""

from __future__ import annotations

import os
import secrets
import shlex
import time
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from attrs import evolve

from pycontainer.containers import _home
from pycontainer.containers._attach import Attachment
from pycontainer.containers._files import ContainerFiles
from pycontainer.containers._life import Life
from pycontainer.containers._logs import LogLine, LogReader, read_log
from pycontainer.containers._options import words
from pycontainer.containers._process import Process, start_process
from pycontainer.containers._processes import ProcessInfo, Usage, list_processes, measure
from pycontainer.containers._security import privileged_process
from pycontainer.containers._upkeep import Upkeep
from pycontainer.containers._view import running_state
from pycontainer.errors import ContainerError, ContainerStateError, TimeoutExpired
from pycontainer.oci.runtime import Capabilities, RuntimeSpec
from pycontainer.oci.runtime import Process as OciProcess
from pycontainer.runtime import (
    default_process,
    execute,
    open_control,
    request_resize,
    resolve_user,
    socket_inside,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Inside", "close_descriptor"]


class Inside(Life):
    """The part of `Container` that reaches into it."""

    @property
    def fs(self) -> ContainerFiles:
        """Its files, to be read, written and copied, whether it runs or not."""
        return ContainerFiles(self.name, self._directory, self._plan)

    def _socket_inside(self) -> socket.socket:
        return socket_inside(self._state())

    def _log_reader(self) -> LogReader:
        return LogReader(self._directory / "log")

    def write(self, data: bytes) -> None:
        """Write to its standard input, which must have been asked for.

        Raises:
            ContainerStateError: It has none, or reads no more.
        """
        if self._stdin < 0:
            raise ContainerStateError(
                f"container {self.name} has no standard input here",
                remedy="start it with stdin=True or tty=True and write through that handle",
            )
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._stdin, view) :]
        except BrokenPipeError as error:
            raise ContainerStateError(f"container {self.name} reads no more input") from error

    def close_stdin(self) -> None:
        """End its standard input."""
        stdin, self._stdin = self._stdin, -1
        close_descriptor(stdin)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal; without one there is nothing to set."""
        control = open_control(self._directory)
        if control is not None:
            with control:
                request_resize(control, rows, columns)

    def attach(self, *, logs: bool = False) -> Attachment:
        """Be at its streams: read what it writes from now on, and write to its standard input.

        Several may be at once, each gets all. One that does not run can be attached to as well: before
        its start. One without a log waits for who is attached and does not read.

        Args:
            logs: Whether what it has written before comes first.

        Raises:
            ContainerStateError: It is gone; or `logs` is set, and it was started with ``log="none"``.
        """
        kept = Upkeep.from_json(self._record.upkeep).log.kept
        if logs and not kept:
            raise ContainerStateError(
                f"container {self.name} has no log of what it has written before",
                remedy="attach without logs=True; or start it without log='none'",
            )
        spec = RuntimeSpec.parse((self._directory / "config.json").read_bytes())
        return Attachment(
            self.name,
            self._directory,
            tty=spec.process.terminal,
            stdin=self._record.stdin,
            logs=logs,
            live=not kept,
        )

    def logs(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        stream: Literal["stdout", "stderr"] | None = None,
    ) -> Iterator[LogLine]:
        """Its output, line by line, from the beginning.

        Args:
            follow: Wait for more until it has ended.
            tail: Of the lines that are there, only so many of the last.
            since: Only lines from that time on, seconds since the epoch.
            until: Only lines before that time, at which `follow` ends.
            stream: Only lines of that stream.

        Raises:
            ContainerStateError: It was started with ``log="none"``.
        """
        if not Upkeep.from_json(self._record.upkeep).log.kept:
            raise ContainerStateError(
                f"container {self.name} has no log", remedy="start it without log='none'"
            )

        def in_time(line: LogLine) -> bool:
            return until is None or line.time < until

        lines = read_log(
            self._directory / "log",
            follow=follow,
            tail=tail,
            ended=lambda: self._has_ended() or (until is not None and time.time() >= until),
            wanted=lambda line: (
                stream in (None, line.stream)
                and (since is None or line.time >= since)
                and (follow or in_time(line))
            ),
        )
        return takewhile(in_time, lines) if follow else lines

    def top(self) -> tuple[ProcessInfo, ...]:
        """Its processes, by their numbers on the host.

        Raises:
            ContainerStateError: It does not run.
        """
        return list_processes(self._state())

    def stats(self) -> Usage:
        """What it uses now.

        Raises:
            ContainerStateError: It does not run.
        """
        return measure(self._state())

    def watch_stats(self, interval: float = 1.0) -> Iterator[Usage]:
        """What it uses, at once and then every so many seconds, until it has ended."""
        while (state := running_state(self._directory)) is not None:
            yield measure(state)
            if _home.wait_for_end(self._directory, interval):
                return

    def exec(
        self,
        args: Sequence[str] | str,
        *,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
        input: bytes | None = None,
        stdin: bool = False,
        tty: bool = False,
        privileged: bool = False,
        detach: bool = False,
        wait: bool = True,
        check: bool = False,
        timeout: float | None = None,
    ) -> Process:
        """Run another command in it.

        Args:
            args: Command and arguments; a string is split as a shell would, but no shell runs.
            env: Environment beside the container's.
            workdir: Working directory, in place of the container's.
            user: Who it runs as, in place of the container's.
            input: Written to its standard input.
            stdin: Whether its standard input stays open for `Process.write`.
            tty: Whether it has a terminal.
            privileged: Whether it has all capabilities that this program has and no system call filter,
                whatever the container has.
            detach: Whether it outlives this program. Its output then is thrown away, and it is returned
                as it runs.
            wait: Whether to wait for its end, capturing its output. Otherwise it is returned as it
                runs: read it with `Process.stream` or `Process.wait`, and close it.
            check: Whether another exit code than 0 raises, where it is waited for.
            timeout: Seconds to wait; after them it is killed with all that it has started.

        Raises:
            ContainerError: There is nothing to run.
            ContainerStateError: The container does not run.
            CommandNotFound: There is no such command in the container.
            ProcessFailed: It failed, and `check` is set.
            TimeoutExpired: It took too long and was killed.
        """
        state = self._state()
        spec = RuntimeSpec.parse((self._directory / "config.json").read_bytes())
        process = self._another_process(
            spec.process, words(args), env=env or {}, workdir=workdir, user=user, tty=tty
        )
        seccomp = spec.seccomp
        if privileged:
            process, seccomp = privileged_process(process)
        which = {"execID": secrets.token_hex(32), "command": shlex.join(process.args)}
        self._record_event("exec_start", **which)
        if detach:
            running = execute(state, process, detach=True, seccomp_profile=seccomp)
            return Process(process.args, running, -1, {})
        started = start_process(
            process.args,
            lambda i, o, e: execute(
                state, process, stdin=i, stdout=o, stderr=e, seccomp_profile=seccomp
            ),
            stdin=stdin or input is not None,
            tty=tty,
        )
        if wait:
            with started:
                try:
                    started.wait(timeout, input=input, check=check)
                except TimeoutExpired:
                    started.kill()
                    raise
                finally:
                    self._record_event("exec_die", **which, exitCode=str(started.exit_code))
        return started

    def _another_process(
        self,
        own: OciProcess,
        args: tuple[str, ...],
        *,
        env: Mapping[str, str],
        workdir: str | None,
        user: str | None,
        tty: bool,
    ) -> OciProcess:
        """A process like the container's own, but for what is given here."""
        if not args:
            raise ContainerError("nothing to run: no command", remedy="give one")
        values = dict(entry.partition("=")[::2] for entry in own.env)
        who = resolve_user(
            f"{own.user.uid}:{own.user.gid}" if user is None else user,
            _home.reader(self._directory, self._record),
        )
        if user is None:
            who = evolve(who, groups=own.user.additional_gids, home=values.get("HOME", "/"))
        else:
            values.pop("HOME", None)
        process = default_process(
            args,
            env={**values, **env},
            cwd=workdir or own.cwd,
            user=who,
            tty=tty,
            no_new_privileges=own.no_new_privileges,
        )
        return evolve(
            process,
            rlimits=own.rlimits,
            capabilities=_same(own, who.uid),
            oom_score_adj=own.oom_score_adj,
            apparmor_profile=own.apparmor_profile,
            selinux_label=own.selinux_label,
        )


def _same(own: OciProcess, uid: int) -> Capabilities:
    """The capabilities of the container's own process, for another one: in effect for root alone."""
    names = own.capabilities.bounding
    active = names if uid == 0 else ()
    return Capabilities(bounding=names, effective=active, permitted=active)


def close_descriptor(fd: int) -> None:
    """Close a descriptor; -1 stands for none."""
    if fd >= 0:
        os.close(fd)
