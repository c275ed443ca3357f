"""What is known of a container, and how it is waited for, asked to end and paused."""

from __future__ import annotations

import contextlib
import os
import signal as signals
import time
from typing import TYPE_CHECKING, Final, Literal

from pycontainer.containers import _home, _record
from pycontainer.containers._details import Details, look
from pycontainer.containers._health import Health, read_health
from pycontainer.containers._upkeep import HELD, RestartPolicy, Upkeep, signal_number
from pycontainer.containers._view import exclusive_files
from pycontainer.errors import ContainerStateError, TimeoutExpired
from pycontainer.runtime import (
    State,
    await_end,
    freeze,
    is_frozen,
    is_watched,
    last_exit,
    open_control,
    read_exit,
    read_state,
    request_hold,
    thaw,
)
from pycontainer.snapshots import RootfsPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainer.content import Store
    from pycontainer.runtime import Exit, Running

__all__ = ["DELETE_SECONDS", "Life", "Status"]

_LOOK_SECONDS: Final = 0.01
_RECHECK_SECONDS: Final = 0.5
_HOLD_SECONDS: Final = 30.0
DELETE_SECONDS: Final = 30.0
Status = Literal["creating", "created", "running", "paused", "restarting", "stopped"]


class Life:
    """The part of `Container` that looks at it from outside."""

    def __init__(
        self,
        store: Store,
        record: _record.Record,
        running: Running | None = None,
        stdin: int = -1,
        *,
        owned: int = -1,
    ) -> None:
        self.id = record.id
        self.name = record.name
        self.image = record.image
        self.labels: Mapping[str, str] = record.labels
        self.created_at = record.created_at
        self._record = record
        self._store = store
        self._directory = _home.directory(store, record.id)
        self._running = running
        self._stdin = stdin
        self._owned = owned  # keeps one that is attached, and not started yet, from being collected
        self._attached = (running is not None or owned >= 0) and not record.detached
        self._owner = os.getpid()

    @property
    def _ends_with_handle(self) -> bool:
        """Whether it is attached, and this is not a forked child of the program that started it."""
        return self._attached and self._owner == os.getpid()

    # --- what it is --------------------------------------------------------------------------

    @property
    def state(self) -> Status:
        """As it is now.

        ``creating``: it is being started; ``created``: it waits for that; ``running``; ``paused``;
        ``restarting``: it has ended and waits to be started again by its restart policy; ``stopped``.
        """
        ended, state = last_exit(self._directory), read_state(self._directory)  # in this order
        if ended is not None and (state is None or state.run <= ended.run):
            waits = ended.next_start is not None and is_watched(self._directory)
            return "restarting" if waits else "stopped"
        if state is None:
            if is_watched(self._directory):
                return "creating"
            return "created" if self._record.kept and self._directory.exists() else "stopped"
        if not state.alive:  # its monitor, if there is one, is about to write that down
            policy = Upkeep.from_json(self._record.upkeep).restart.name
            return "stopped" if policy == "no" or self._has_ended() else "restarting"
        return "paused" if is_frozen(state) else "running"

    @property
    def pid(self) -> int | None:
        """The process id of its first process on the host; None when it does not run."""
        state = read_state(self._directory)
        return state.pid if state is not None and state.alive else None

    @property
    def exit_code(self) -> int | None:
        """How it ended: 128 + n after signal n; None while it runs, or if nobody saw it end."""
        running = self._current()
        if running is not None:
            try:
                return running.exit_code
            except ContainerStateError:
                return None
        ended = self._exit()
        return None if ended is None else ended.exit_code

    @property
    def health(self) -> Health | None:
        """What its health checks have told in its last run; None if it has none, or has not run."""
        return read_health(self._directory)

    @property
    def oom_killed(self) -> bool:
        """Whether the kernel killed some of it for want of memory."""
        ended = self._exit()
        return ended is not None and ended.oom_killed

    def _has_ended(self) -> bool:
        """Whether nothing will be written to its log any more."""
        ended, state = last_exit(self._directory), read_state(self._directory)
        if ended is not None and (state is None or state.run <= ended.run):
            return ended.next_start is None or not is_watched(self._directory)
        if state is not None and state.alive:
            return False
        told = self._running is not None and self._running.has_ended
        return told or not is_watched(self._directory)

    @property
    def _plan(self) -> RootfsPlan:
        return RootfsPlan.from_wire(self._record.rootfs)

    def _current(self) -> Running | None:
        """What this handle has of the last start, unless another handle has started it again since."""
        running = self._running
        if running is None or not running.has_ended:
            return running
        if running.lost:
            return None
        state = read_state(self._directory)
        if state is None or (state.pid, state.start_time) == (running.pid, running.start_time):
            return running
        return None

    def _exit(self) -> Exit | None:
        return read_exit(self._directory)

    def _state(self) -> State:
        state = read_state(self._directory)
        if state is None or not state.alive:
            raise ContainerStateError(
                f"container {self.name} does not run",
                remedy="start another; `exit_code` and `logs` tell how this one ended",
            )
        return state

    def inspect(self) -> Details:
        """All that is known of it now.

        Raises:
            ContainerStateError: It is gone, or not yet started.
        """
        try:
            return look(self._directory, self._record, self.name, self.state)
        except FileNotFoundError as error:
            raise ContainerStateError(f"container {self.name} is gone") from error

    def wait(
        self,
        timeout: float | None = None,
        *,
        condition: Literal["not-running", "next-exit", "removed"] = "not-running",
    ) -> int:
        """Wait for its end and return the exit code.

        Args:
            timeout: Seconds.
            condition: ``not-running``: until it has ended and its restart policy does not start it
                again; ``next-exit``: until a run ends that has not ended yet, be it one that is still to
                be started; ``removed``: until it is gone.

        Raises:
            TimeoutExpired: It still runs after that many seconds.
            ContainerStateError: It was never started; or its monitor was killed, so that nobody saw how
                it ended.
        """
        if condition == "next-exit":
            return self._wait_for_exit(timeout)
        running = self._current()
        if condition == "removed":
            return self._wait_for_removal(timeout)
        if running is not None:
            return running.wait(timeout)
        if self.state == "created":
            raise ContainerStateError(
                f"container {self.name} was never started", remedy="start it, or wait for next-exit"
            )
        if not _home.wait_for_end(self._directory, timeout):
            raise TimeoutExpired(f"container {self.name} still runs after {timeout} seconds")
        return self._known_exit().exit_code

    def _known_exit(self) -> Exit:
        ended = self._exit()
        if ended is None:
            raise ContainerStateError(
                f"nobody knows how container {self.name} ended: its monitor was killed"
            )
        return ended

    def _wait_for_exit(self, timeout: float | None) -> int:
        """Wait until the number of the run that is written down as ended grows."""
        deadline = None if timeout is None else time.monotonic() + timeout
        seen = last_exit(self._directory)
        before = 0 if seen is None else seen.run
        with _home.changes(self._directory) as changed:
            while (ended := last_exit(self._directory)) is None or ended.run <= before:
                left = _RECHECK_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutExpired(f"container {self.name} did not end in {timeout} seconds")
                if not self._directory.exists():
                    raise ContainerStateError(f"container {self.name} is gone")
                changed(min(left, _RECHECK_SECONDS))
        return ended.exit_code

    def _wait_for_removal(self, timeout: float | None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        control = open_control(self._directory)
        code = None
        if control is not None:
            with control:  # what is removed with its end leaves no other word of it
                control.settimeout(timeout)
                with contextlib.suppress(TimeoutError):
                    code = await_end(control)
        code = self.exit_code if code is None else code
        self.wait_removed(None if deadline is None else deadline - time.monotonic())
        if code is None:
            raise ContainerStateError(f"nobody knows how container {self.name} ended")
        return code

    def wait_removed(self, timeout: float | None = None) -> None:
        """Wait until it is gone, with its files and its log.

        Raises:
            TimeoutExpired: It is still there after that many seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._directory.exists():
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutExpired(f"container {self.name} is there after {timeout} seconds")
            time.sleep(_LOOK_SECONDS)

    def kill(self, signal: int | str = "SIGKILL") -> None:
        """Send a signal to its first process.

        Raises:
            ContainerStateError: It does not run.
        """
        number = signal_number(signal)
        if number in (signals.SIGKILL, signal_number(self._record.stop_signal)):
            self._hold()
        pidfd = self._state().open_pidfd()
        try:
            self._record_event("kill", signal=str(number))  # before what comes of it
            signals.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return
        finally:
            os.close(pidfd)

    def _record_event(self, action: str, **attributes: str) -> None:
        about = {**self._record.event_attributes(), "name": self.name, **attributes}
        self._store.record("container", action, self.id, about)

    def _hold(self) -> None:
        """Have nobody start it again by its restart policy."""
        record = _record.read_record(self._directory)
        if record is not None and Upkeep.from_json(record.upkeep).restart != RestartPolicy():
            (self._directory / HELD).touch()
        control = open_control(self._directory)
        if control is not None:
            with control, contextlib.suppress(TimeoutError):  # a monitor that hangs
                request_hold(control, _HOLD_SECONDS)

    def pause(self) -> None:
        """Stop all its processes until `unpause`; one that is paused stays so.

        Raises:
            ContainerStateError: It does not run.
            UnsupportedFeature: It has no control group, as an ordinary user's may not have.
        """
        with exclusive_files(self._directory):
            freeze(self._state())
        self._record_event("pause")

    def unpause(self) -> None:
        """Let its processes go on; those of one that is not paused do.

        Raises:
            ContainerStateError: It does not run.
        """
        with exclusive_files(self._directory):
            state = self._state()
            frozen = is_frozen(state)
            if frozen:
                thaw(state)
        if frozen:
            self._record_event("unpause")

    def stop(self, grace: float | None = None) -> int | None:
        """Ask it to end, and end it after a grace. Its restart policy does not start it again.

        Args:
            grace: Seconds between its stop signal and SIGKILL; None for its own `stop_timeout`.

        Returns:
            Its exit code; None if nobody saw it end.
        """
        if grace is None:
            grace = Upkeep.from_json(self._record.upkeep).stop_timeout
        try:
            self._hold()
            self.unpause()  # a paused one would not hear of it
            self.kill(self._record.stop_signal)
            self.wait(grace)
        except TimeoutExpired:
            with contextlib.suppress(ContainerStateError):  # nobody saw how it ended
                self.kill()
                self.wait(DELETE_SECONDS)
        except ContainerStateError:  # it has ended already, or waits for its restart no more
            with contextlib.suppress(ContainerStateError, TimeoutExpired):
                self.wait(DELETE_SECONDS)
            return self.exit_code
        self._record_event("stop")
        return self.exit_code

    def rename(self, name: str) -> None:
        """Give it another name.

        Raises:
            NameInUse: Another container has that name.
            ContainerStateError: It is gone.
        """
        old = _home.named(self._store, self._record).name
        _home.rename(self._store, self.id, old, name)
        self.name = name
        self._record_event("rename", oldName=old)

    def __repr__(self) -> str:
        return f"<Container {self.name} of {self.image}>"
