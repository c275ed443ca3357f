"""Starting a container that is there: one that was created, or has ended."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, TypeVar, overload

from attrs import evolve

from pycontainer.containers import _home, _record
from pycontainer.containers._inside import close_descriptor
from pycontainer.containers._networking import attach, keep_attached
from pycontainer.containers._options import lift, limited, without_lifted
from pycontainer.containers._reachable import Reachable
from pycontainer.containers._upkeep import HELD, RestartPolicy, Upkeep
from pycontainer.containers._view import exclusive_files, running_state
from pycontainer.containers.ready import Ready, wait_until_ready
from pycontainer.errors import ContainerStateError
from pycontainer.oci.runtime import RuntimeSpec
from pycontainer.runtime import (
    NO_LIMIT,
    adopt,
    change_limits,
    change_policy,
    clear,
    is_watched,
    launch,
    open_control,
    request_release,
    write_spec,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pycontainer.containers._limits import Limits
    from pycontainer.content import Store
    from pycontainer.runtime import Running, State

__all__ = ["ClassOrInstance", "Startable", "start_of", "taken_over"]

_RELEASE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.002

OfClass = ParamSpec("OfClass")
OfInstance = ParamSpec("OfInstance")
Made = TypeVar("Made")
Done = TypeVar("Done")
T = TypeVar("T", int, float)


class ClassOrInstance(Generic[OfClass, Made, OfInstance, Done]):
    """A method that is one thing of the class and another of an instance."""

    def __init__(
        self,
        of_class: Callable[Concatenate[Any, OfClass], Made],
        of_instance: Callable[Concatenate[Any, OfInstance], Done],
    ) -> None:
        self._of_class = of_class
        self._of_instance = of_instance
        self.__doc__ = of_class.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[OfClass, Made]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Callable[OfInstance, Done]: ...

    def __get__(
        self, instance: object | None, owner: type
    ) -> Callable[OfClass, Made] | Callable[OfInstance, Done]:
        if instance is None:
            return self._of_class.__get__(owner)  # type: ignore[no-any-return]
        return self._of_instance.__get__(instance)  # type: ignore[no-any-return]


class Startable(Reachable):
    """The part of `Container` that starts it again."""

    def start_again(self, *, ready: Ready | None = None, timeout: float | None = 30.0) -> None:
        """Start it: with the files, the volumes and the options that it has. One that runs is let run.

        Of a handle ``c`` this is ``c.start()``. One that is attached can only be started by the
        program that made it.

        Args:
            ready: What to wait for, as for a new container.
            timeout: Seconds to wait for the start and until it is ready.

        Raises:
            ContainerStateError: It is gone, paused, or attached to another program.
            CommandNotFound: There is no such command in the image; the container stays as it was.
            StartError: Something else kept it from starting.
            TimeoutExpired: The start took too long; it was undone.
            NotReadyInTime: It was not ready within the time; it goes on running.
            NotReady: It ended before it was ready.
        """
        begun = time.monotonic()
        with exclusive_files(self._directory):
            state = self.state
            if state == "paused":
                raise ContainerStateError(
                    f"container {self.name} is paused", remedy="let it go on with unpause()"
                )
            if state != "running":
                self._launch_again(timeout)
        if ready is not None:
            left = None if timeout is None else max(0.0, begun + timeout - time.monotonic())
            wait_until_ready(self, ready, left)  # type: ignore[arg-type]

    def restart(
        self,
        grace: float | None = None,
        *,
        ready: Ready | None = None,
        timeout: float | None = 30.0,
    ) -> None:
        """Stop it if it runs, and start it again.

        Args:
            grace: As for `stop`.
            ready: As for `start`.
            timeout: As for `start`.

        Raises:
            ContainerStateError: As `start` does.
        """
        self.stop(grace)
        self.start_again(ready=ready, timeout=timeout)
        self._record_event("restart")

    def update(
        self,
        *,
        memory: int | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        limits: Limits | None = None,
        restart: str | None = None,
    ) -> None:
        """Change its limits and restart policy, now if it runs and for all later starts.

        Args:
            memory: Limit in bytes; None leaves it as it is, like all others. -1 lifts it, with that of
                swap.
            cpus: Limit in processors; -1 lifts it.
            pids: Limit of processes and threads; -1 lifts it.
            limits: Further limits; those that are not given stay. ``shm_size``, ``cgroup_parent`` and
                ``oom_score_adj`` cannot be changed.
            restart: As for a new container.

        Raises:
            ContainerError: A limit makes no sense, or the kernel refuses it.
            ContainerStateError: It is gone.
            UnsupportedFeature: The kernel or this user's rights lack something.
        """
        policy = None if restart is None else RestartPolicy.parse(restart)
        with exclusive_files(self._directory):
            record = _record.read_record(self._directory)
            if record is None:
                raise ContainerStateError(f"container {self.name} is gone")
            spec = RuntimeSpec.parse((self._directory / "config.json").read_bytes())
            lifted = lift(spec.resources, memory=memory, cpus=cpus, pids=pids)
            resources = limited(lifted, memory=_above(memory), cpus=_above(cpus), pids=_above(pids))
            spec = spec.evolve(resources=resources)
            spec = spec if limits is None else limits.change(spec)
            state = running_state(self._directory)
            if state is not None:
                change_limits(state, spec, self._directory, name=self.id)
            write_spec(spec.evolve(resources=without_lifted(spec.resources)), self._directory)
            if policy is not None:
                upkeep = evolve(Upkeep.from_json(record.upkeep), restart=policy)
                self._record = evolve(record, upkeep=upkeep.to_json())
                _record.write_record(self._directory, self._record)
                change_policy(self._directory, policy.name, policy.most)
        self._record_event("update")

    def _launch_again(self, timeout: float | None, *, checkpoint: Path | None = None) -> None:
        record = _record.read_record(self._directory)
        if record is None:
            raise ContainerStateError(f"container {self.name} is gone")
        if not record.detached and not self._ends_with_handle:
            raise ContainerStateError(
                f"container {self.name} is attached to the program that made it",
                remedy="start it there, or make it with detach=True",
            )
        self._relieve_monitor()
        (self._directory / HELD).unlink(missing_ok=True)
        spec = RuntimeSpec.parse((self._directory / "config.json").read_bytes())
        self._record = record
        _home.restore_layers(self._store, record)
        new = _record.New(_home.named(self._store, record), self._directory, spec, self._plan)
        try:
            self._running, self._stdin = start_of(
                self._store, new, timeout=timeout, again=True, checkpoint=checkpoint
            )
        except BaseException:
            self._await_no_monitor()
            raise

    def _relieve_monitor(self) -> None:
        """Let the monitor of the last run go, or do what it could not do because it was killed."""
        control = open_control(self._directory)
        if control is not None:
            with control, contextlib.suppress(TimeoutError):
                request_release(control, _RELEASE_SECONDS)
        self.close_stdin()
        if self._running is not None:
            self._running.let_go()
            self._running = None
        self._await_no_monitor()
        if control is None:
            clear(self._directory)

    def _await_no_monitor(self) -> None:
        """Wait for the end of a monitor that is about to go: it holds its lock to the last."""
        deadline = time.monotonic() + _RELEASE_SECONDS
        while is_watched(self._directory):
            if time.monotonic() > deadline:
                raise ContainerStateError(f"the monitor of container {self.name} does not go")
            time.sleep(_POLL_SECONDS)


def _above(limit: T | None) -> T | None:
    """A limit that is to be set, not lifted."""
    return None if limit == NO_LIMIT else limit


def taken_over(store: Store, new: _record.New, state: State) -> Running:
    """Give a container that runs a new monitor, since its own was killed."""
    upkeep = Upkeep.from_json(new.record.upkeep)
    with keep_attached(store, new) as attached:
        return adopt(
            state,
            new.spec,
            new.rootfs,
            new.directory,
            name=new.record.id,
            log=upkeep.log.kept,
            live=not upkeep.log.kept,
            remove=new.record.remove,
            upkeep=upkeep.to_wire(),
            events=new.events,
            network=attached.plan,
            kept_open=attached.fds,
            timeout=_RELEASE_SECONDS,
        )


def start_of(
    store: Store,
    new: _record.New,
    *,
    timeout: float | None,
    again: bool = False,
    checkpoint: Path | None = None,
) -> tuple[Running, int]:
    """Launch a container with its log; give the handle and its standard input, -1 for none."""
    upkeep = Upkeep.from_json(new.record.upkeep)
    in_r, in_w = os.pipe() if new.record.stdin else (-1, -1)
    try:
        with attach(store, new, again=again) as attached:
            running = launch(
                new.spec,
                new.rootfs,
                new.directory,
                name=new.record.id,
                stdin=in_r if in_r >= 0 else None,
                log=upkeep.log.kept,
                live=not upkeep.log.kept,
                detach=new.record.detached,
                remove=new.record.remove,
                keep=again,
                upkeep=upkeep.to_wire(),
                events=new.events,
                network=attached.plan,
                kept_open=attached.fds,
                checkpoint=checkpoint,
                complete=new.complete,
                write_down=None if again else new.write_down,
                timeout=timeout,
            )
    except BaseException:
        close_descriptor(in_w)
        raise
    finally:
        close_descriptor(in_r)
    return running, in_w
