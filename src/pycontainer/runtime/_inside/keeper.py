"""What a monitor does for a container beside its streams: restarts by its policy, health checks.

Loaded only by the monitors of containers that ask for such things.
"""

from __future__ import annotations

import os
import time

from pycontainer._linux import erofs
from pycontainer.runtime._inside import cgroup, init
from pycontainer.runtime._inside.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select

    from pycontainer.runtime._inside.health import Health
    from pycontainer.runtime._inside.monitor import Monitor

__all__ = ["Keeper"]

# Docker's (restart policies in the reference of `docker run`).
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 60.0
_LONG_RUN = 10.0
_CANNOT_START = 128
_CODES = {
    2: 127,
    20: 127,
    8: 126,
    13: 126,
}  # of ENOENT, ENOTDIR, ENOEXEC, EACCES, as a shell has them


class Keeper:
    """When a container is started again, and what has become due."""

    def __init__(self, upkeep: object, stdio: list[int]) -> None:
        """Read what `pycontainer.runtime.upkeep` wrote.

        Args:
            upkeep: ``restart``: policy and the most restarts, 0 for any number; ``health``: the check,
                or None; ``log``: bytes of a file and the number of files, or nothing for no limit.
            stdio: What the first start gets; standard input stays open for the next ones.
        """
        assert isinstance(upkeep, dict)
        self._policy, self._most = upkeep["restart"]
        self._stdin = os.dup(stdio[0]) if stdio and self._policy != "no" else -1
        self._pause = 0.0
        self._held = False
        self._started = time.monotonic()
        self._health: Health | None = None
        if upkeep["health"]:
            from pycontainer.runtime._inside.health import Health

            self._health = Health(upkeep["health"])
        self.log_limit: tuple[int, ...] = tuple(upkeep["log"])
        self.restarts = 0
        self.start_due: float | None = None

    def milliseconds(self) -> float | None:
        """How long nothing is due; None for as long as nothing happens."""
        due = self.start_due
        if self._health is not None and self._health.due is not None:
            due = self._health.due
        return None if due is None else max(0.0, due - time.time()) * 1000 + 1

    def act(self, monitor: Monitor, poll: select.poll) -> None:
        """Do what is due."""
        if self.start_due is not None and time.time() >= self.start_due:
            self.start_due = None
            self._start_again(monitor, poll)
        if self._health is not None:
            self._health.act(monitor, poll)

    def handles(self, fd: int, poll: select.poll, monitor: Monitor) -> bool:
        """Do what a ready descriptor asks for, if it is one of this module's."""
        return self._health is not None and self._health.handles(fd, poll, monitor)

    def began(self) -> None:
        """Note that a run has begun."""
        self._started = time.monotonic()
        if self._health is not None:
            self._health.begin()

    def ended(self, code: int, poll: select.poll, *, may_go_on: bool) -> None:
        """Decide whether and when there is a next run."""
        if self._health is not None:
            self._health.end(poll)
        if not may_go_on or self._held or not self._wants(code):
            return
        if not self._pause or time.monotonic() - self._started >= _LONG_RUN:
            self._pause = _FIRST_PAUSE
        else:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self.start_due = time.time() + self._pause

    def hold(self) -> bool:
        """Start the container no more; tells whether that was about to be done."""
        self._held = True
        waiting, self.start_due = self.start_due is not None, None
        return waiting

    def change_policy(self, policy: str, most: int) -> None:
        """Go by another policy from the next end on."""
        self._policy, self._most, self._held = policy, most, False

    def _wants(self, code: int) -> bool:
        if self._policy == "on-failure":
            return code != 0 and (not self._most or self.restarts < self._most)
        return self._policy in ("always", "unless-stopped")

    def _start_again(self, monitor: Monitor, poll: select.poll) -> None:
        self.restarts += 1
        monitor.run_number += 1
        monitor.streams.close(poll)
        if monitor.pidfd >= 0:
            os.close(monitor.pidfd)
        monitor.pid, monitor.pidfd, monitor.streams = 0, -1, Streams()
        cgroup.kill(monitor.cgroup)  # commands that `exec` runs may be outside its pid namespace
        cgroup.destroy(monitor.cgroup)
        lowers = monitor.plan["rootfs"]["lowers"]  # type: ignore[index]
        erofs.keep([lower for lower in lowers if lower.endswith(erofs.SUFFIX)])
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        stdin = os.dup(self._stdin if self._stdin >= 0 else null)
        code = 0
        try:
            monitor.bring_to_life([stdin, null, os.dup(null)])
        except init.StepFailed as error:
            code = _CODES.get(error.errno, _CANNOT_START)
        except OSError:
            code = _CANNOT_START
        if not code:
            monitor.exit = None
            monitor.look_after(poll)
            return
        monitor.bury()
        self.ended(code, poll, may_go_on=True)
        monitor.record_exit(code, False)
