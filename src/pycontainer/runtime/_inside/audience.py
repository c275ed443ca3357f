"""Who is attached to a container that keeps no log: each gets what it writes through a FIFO.

Whoever attaches makes a FIFO in the container's directory, holds it open and says so; a next run, or a
next monitor, finds it there. What goes through are the frames of a log. One that does not read what was
written to it holds the container up; one that has gone is forgotten with its FIFO.
"""

from __future__ import annotations

import os
import select
import time

__all__ = ["AUDIENCE", "Audience"]

AUDIENCE = "attached-"
_PATIENCE = 1.0


class Audience:
    """The monitor's ends of the FIFOs of those who are attached."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._waiting: dict[int, bytes] = {}  # what a full FIFO has not taken yet

    @property
    def is_behind(self) -> bool:
        """Whether somebody has to read before more can be sent."""
        return bool(self._waiting)

    def gather(self) -> None:
        """Find those who have come since the last time."""
        for name in os.listdir("."):
            if not name.startswith(AUDIENCE) or name in self._names.values():
                continue
            try:
                fd = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:  # gone again
                continue
            except OSError:  # ENXIO: it has died
                _remove(name)
            else:
                self._names[fd] = name

    def send(self, frame: bytes, poll: select.poll) -> None:
        """Send a frame to all; who is behind gets it when `poll` tells that there is room."""
        for fd in list(self._names):
            if fd in self._waiting:
                self._waiting[fd] += frame
                continue
            rest = _write(fd, frame)
            if rest is None:
                self._forget(fd)
            elif rest:
                self._waiting[fd] = rest
                poll.register(fd, select.POLLOUT)

    def handles(self, fd: int, poll: select.poll) -> bool:
        """Send more to one who may have read, if `fd` is of one."""
        if fd not in self._waiting:
            return False
        rest = _write(fd, self._waiting[fd])
        if rest:
            self._waiting[fd] = rest
            return True
        poll.unregister(fd)
        del self._waiting[fd]
        if rest is None:
            self._forget(fd)
        return True

    def finish(self, poll: select.poll) -> None:
        """Have the last sent, as long as somebody goes on reading."""
        deadline = time.monotonic() + _PATIENCE
        while self._waiting and time.monotonic() < deadline:
            waiter = select.poll()
            for fd in self._waiting:
                waiter.register(fd, select.POLLOUT)
            for fd, _ in waiter.poll(_PATIENCE * 1000):
                self.handles(fd, poll)
                deadline = time.monotonic() + _PATIENCE

    def close(self, poll: select.poll) -> None:
        """Let go of all; their FIFOs stay for a next run."""
        for fd in self._names:
            if fd in self._waiting:
                poll.unregister(fd)
            os.close(fd)
        self._names, self._waiting = {}, {}

    def _forget(self, fd: int) -> None:
        os.close(fd)
        _remove(self._names.pop(fd))


def _write(fd: int, data: bytes) -> bytes | None:
    """Write what a FIFO takes and give back the rest; None if nobody reads it any more."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            break
        except BrokenPipeError:
            return None
    return data


def _remove(name: str) -> None:
    try:
        os.unlink(name)
    except FileNotFoundError:
        pass
