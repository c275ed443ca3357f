"""What is known of a container, and how it is waited for, asked to end and paused."""

from __future__ import annotations

import os
import signal as signals
import time
from typing import TYPE_CHECKING, Final, Literal

from pycontainer.containers import _home
from pycontainer.containers._details import Details, look
from pycontainer.containers._view import exclusive_files
from pycontainer.errors import ContainerStateError, TimeoutExpired
from pycontainer.runtime import (
    State,
    freeze,
    is_frozen,
    is_watched,
    read_exit,
    read_state,
    thaw,
)
from pycontainer.snapshots import RootfsPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainer.content import Store
    from pycontainer.runtime import Exit, Running

__all__ = ["DELETE_SECONDS", "Life", "Status"]

_LOOK_SECONDS: Final = 0.01
_GRACE_SECONDS: Final = 10.0
DELETE_SECONDS: Final = 30.0
Status = Literal["creating", "running", "paused", "stopped"]


class Life:
    """The part of `Container` that looks at it from outside."""

    def __init__(
        self, store: Store, record: _home.Record, running: Running | None = None, stdin: int = -1
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
        self._attached = running is not None and not record.detached
        self._owner = os.getpid()

    @property
    def _ends_with_handle(self) -> bool:
        """Whether it is attached, and this is not a forked child of the program that started it."""
        return self._attached and self._owner == os.getpid()

    # --- what it is --------------------------------------------------------------------------

    @property
    def state(self) -> Status:
        """``creating``, ``running``, ``paused`` or ``stopped``, as it is now."""
        state = read_state(self._directory)
        if state is None:
            return "creating" if is_watched(self._directory) else "stopped"
        if self._exit() is not None or not state.alive:
            return "stopped"
        return "paused" if is_frozen(state) else "running"

    @property
    def pid(self) -> int | None:
        """The process id of its first process on the host; None when it does not run."""
        state = read_state(self._directory)
        return state.pid if state is not None and state.alive else None

    @property
    def exit_code(self) -> int | None:
        """How it ended: 128 + n after signal n; None while it runs, or if nobody saw it end."""
        if self._running is not None:
            try:
                return self._running.exit_code
            except ContainerStateError:
                return None
        ended = self._exit()
        return None if ended is None else ended.exit_code

    @property
    def oom_killed(self) -> bool:
        """Whether the kernel killed some of it for want of memory."""
        ended = self._exit()
        return ended is not None and ended.oom_killed

    @property
    def _plan(self) -> RootfsPlan:
        return RootfsPlan.from_wire(self._record.rootfs)

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
        return look(self._directory, self._record, self.name, self.state)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code.

        Raises:
            TimeoutExpired: It still runs after that many seconds.
            ContainerStateError: Its monitor was killed, so that nobody saw how it ended.
        """
        if self._running is not None:
            return self._running.wait(timeout)
        if not _home.wait_for_end(self._directory, timeout):
            raise TimeoutExpired(f"container {self.name} still runs after {timeout} seconds")
        ended = self._exit()
        if ended is None:
            raise ContainerStateError(
                f"nobody knows how container {self.name} ended: its monitor was killed"
            )
        return ended.exit_code

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
        number = signal if isinstance(signal, int) else signals.Signals[signal].value
        pidfd = self._state().open_pidfd()
        try:
            signals.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return
        finally:
            os.close(pidfd)

    def pause(self) -> None:
        """Stop all its processes until `unpause`; one that is paused stays so.

        Raises:
            ContainerStateError: It does not run.
            UnsupportedFeature: It has no control group, as an ordinary user's may not have.
        """
        with exclusive_files(self._directory):
            freeze(self._state())

    def unpause(self) -> None:
        """Let its processes go on; those of one that is not paused do.

        Raises:
            ContainerStateError: It does not run.
        """
        with exclusive_files(self._directory):
            state = self._state()
            if is_frozen(state):
                thaw(state)

    def stop(self, grace: float = _GRACE_SECONDS) -> int | None:
        """Ask it to end, and end it after a grace.

        Args:
            grace: Seconds between the image's stop signal, or SIGTERM, and SIGKILL.

        Returns:
            Its exit code; None if nobody saw it end.
        """
        try:
            self.unpause()  # a paused one would not hear of it
            self.kill(self._record.stop_signal)
            self.wait(grace)
        except TimeoutExpired:
            self.kill()
            self.wait(DELETE_SECONDS)
        except ContainerStateError:  # it has ended already
            pass
        return self.exit_code

    def rename(self, name: str) -> None:
        """Give it another name.

        Raises:
            NameInUse: Another container has that name.
            ContainerStateError: It is gone.
        """
        _home.rename(self._store, self.id, name)
        self.name = name

    def __repr__(self) -> str:
        return f"<Container {self.name} of {self.image}>"
