"""A container's way out by a program of an ordinary user, as its monitor starts it: pasta or slirp4netns.

The plan is made by `pycontainer.network.user_mode.join`; `guard` keeps the program. Loaded only by the
monitors of containers that are connected so.
"""

from __future__ import annotations

import errno
import os
import select
import time

from pycontainer._linux import process
from pycontainer.runtime._inside import files, guard

__all__ = ["UserMode"]

_KILL = 9
_PATIENCE = 20.0
_PAUSE = 1.0
_BUFFER = 1 << 12


class UserMode:
    """The program that connects a container; its place in the monitor is that of `network.Interfaces`.

    Args:
        plan: ``programs``: what to run, the first that works; each has ``arguments``, and ``requests`` to
            be sent to its socket when it is ready.
    """

    def __init__(self, plan: dict[str, object]) -> None:
        programs = plan["programs"]
        assert isinstance(programs, list)
        self._programs: list[guard.Program] = programs
        self._guard = self._pidfd = -1
        self._container = 0
        self._begun = 0.0

    @property
    def networks(self) -> list[object]:
        """None that anything is known of."""
        return []

    def connect(self, pid: int) -> None:
        """Start the program for the network namespace of a process, and wait until it is ready."""
        self.down()  # that of a start that then failed
        self._container = pid
        answer = _read_in_time(self._start())
        if answer == b"ready" or (not answer and _has_ended(pid)):  # init then says itself why
            return
        self.down()
        text = answer.decode(errors="replace").strip() or "its guard was killed"
        raise OSError(errno.ENETUNREACH, text)

    def adopt(self, pid: int) -> None:
        """Find the guard that a monitor which was killed had started for a process."""
        self._container = pid
        self._pidfd = guard.find(".")

    def down(self, poll: select.poll | None = None) -> None:
        """End the program, and wait for that, since the host's ports are free only then."""
        if self._pidfd < 0:
            return
        if poll is not None:
            _unregister(poll, self._pidfd)
        try:
            process.kill_by_pidfd(self._pidfd, _KILL)
        except ProcessLookupError:
            pass
        waiter = select.poll()
        waiter.register(self._pidfd, select.POLLIN)
        waiter.poll(_PATIENCE * 1000)
        self._forget()

    def register(self, poll: select.poll) -> None:
        """Have the guard's end noticed."""
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)

    def handle(self, fd: int, poll: select.poll) -> bool:
        """Start a guard again that was killed; False if the descriptor is another's."""
        if fd != self._pidfd or fd < 0:
            return False
        _unregister(poll, fd)
        began, own = self._begun, self._guard > 0
        self._forget()
        # An adopted container may be in a user namespace that this monitor has no rights in.
        if own and time.monotonic() - began > _PAUSE:
            os.close(self._start())
            self.register(poll)
        return True

    def _start(self) -> int:
        """Clone a guard; give the pipe on which it tells that the program is ready, or why not."""
        told, tell = os.pipe()
        init = os.pidfd_open(self._container)
        flags = process.NAMESPACE_FLAGS["pid"] | process.NAMESPACE_FLAGS["mount"]
        try:
            self._guard, self._pidfd = process.clone3(flags)
        except OSError:
            os.close(told)
            os.close(tell)
            raise
        finally:
            if self._guard:
                os.close(init)
        if self._guard == 0:
            try:
                guard.main(self._programs, self._container, init, tell)
            finally:
                os._exit(1)
        os.close(tell)
        self._begun = time.monotonic()
        begun = process.start_time(self._guard)
        files.write_atomically(guard.NAME, b"%d %d" % (self._guard, begun))
        return told

    def _forget(self) -> None:
        os.close(self._pidfd)
        if self._guard > 0:
            os.waitpid(self._guard, 0)
        self._guard = self._pidfd = -1


def _read_in_time(fd: int) -> bytes:
    """Read what comes until the end of a pipe, or until patience does, and close it."""
    poll, parts = select.poll(), []
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + _PATIENCE
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        part = os.read(fd, _BUFFER)
        if not part:
            break
        parts.append(part)
    else:
        parts = [b"it was not ready in time"]
    os.close(fd)
    return b"".join(parts)


def _has_ended(pid: int) -> bool:
    """Whether a child has ended that nobody has waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _unregister(poll: select.poll, fd: int) -> None:
    try:
        poll.unregister(fd)
    except KeyError:
        pass
