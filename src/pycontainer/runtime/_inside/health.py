"""The health check of a container: a command that its monitor runs in it again and again.

The times are Docker's (HEALTHCHECK in the reference of Dockerfiles) with one addition: until the first
success the command is also run in between, at once and then after pauses that double. These
attempts tell sooner that the container is healthy; a failure among them does not count.
"""

from __future__ import annotations

import _json
import _socket
import os
import select
import time

from pycontainer._linux import process
from pycontainer.runtime._inside import cgroup, execution, files, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.runtime._inside.monitor import Monitor

__all__ = ["Health"]

_KILL = 9
_FIRST_PAUSE = 0.05
_PATIENCE = 2.0
_MOST_OUTPUT = 4096
_KEPT = 5


class Health:
    """The state of a container's health, its checks, and the one that is being made."""

    def __init__(self, check: dict[str, object]) -> None:
        self._exec = check["exec"]
        self._interval, self._timeout, self._start_period, self._start_interval = (
            float(str(check[name]))
            for name in ("interval", "timeout", "start_period", "start_interval")
        )
        self._retries = int(str(check["retries"]))
        self.status = "starting"
        self._streak = 0
        self._log: list[tuple[float, float, int, bytes]] = []
        self._probe: _Probe | None = None
        self._begun = self._counts_from = self._pause = 0.0
        self.due: float | None = None

    def begin(self) -> None:
        """Start afresh with a run of the container."""
        self.status, self._streak, self._log = "starting", 0, []
        self._begun = self.due = time.time()
        self._counts_from = self._begun + max(self._interval, self._start_period)
        self._pause = _FIRST_PAUSE
        self._write()

    def act(self, monitor: Monitor, poll: select.poll) -> None:
        """Begin a check that is due, or end one that takes too long."""
        if self.due is None or time.time() < self.due:
            return
        if self._probe is not None:
            self.due = self._probe.hurry()
        elif cgroup.is_frozen(monitor.cgroup):
            self.due = time.time() + min(self._interval, 1.0)
        else:
            self._probe = _Probe(self._exec, monitor.pidfd, poll)
            self.due = self._probe.begun + self._timeout

    def handles(self, fd: int, poll: select.poll, monitor: Monitor) -> bool:
        """Take what a check has to say; tells whether the descriptor is one of a check."""
        if self._probe is None or not self._probe.owns(fd):
            return False
        if self._probe.handle(fd, poll):
            if self._result(self._probe):
                monitor.events.of_container(f"health_status: {self.status}")
            self._probe = None
        return True

    def end(self, poll: select.poll) -> None:
        """Make no more checks: the container has ended."""
        if self._probe is not None:
            self._probe.abandon(poll)
        self._probe = self.due = None

    def _result(self, probe: _Probe) -> bool:
        """Take a result; tells whether the status is another one now."""
        before = self.status
        now = time.time()
        output = probe.output
        if probe.late:
            output = b"Health check exceeded timeout (%gs)%s" % (
                self._timeout,
                b": " + output if output else b"",
            )
        self._log = [*self._log, (probe.begun, now, probe.exit_code, output)][-_KEPT:]
        if probe.exit_code == 0:
            self.status, self._streak = "healthy", 0
            pause = self._interval
        else:
            pause = self._failed(probe.begun, now)
        self.due = now + pause
        self._write()
        return self.status != before

    def _failed(self, begun: float, now: float) -> float:
        """Count a failure if it counts; give the pause before the next check."""
        if self.status != "starting":
            self._streak += 1
        elif begun >= self._counts_from:
            self._streak += 1
            self._counts_from = now + self._interval
        if self._streak >= self._retries:
            self.status = "unhealthy"
        if self.status != "starting":
            return self._interval
        longest = self._interval
        if now < self._begun + self._start_period:
            longest = min(self._start_interval, self._begun + self._start_period - now)
        self._pause = 2 * self._pause
        until_counted = max(self._counts_from - now, 0.0)
        return min(self._pause, longest, until_counted or longest)

    def _write(self) -> None:
        text = _json.encode_basestring_ascii
        entries = ", ".join(
            f'{{"begun": {begun:.6f}, "ended": {ended:.6f}, "exit_code": {code}, '
            f'"output": {text(output.decode("utf-8", "replace"))}}}'
            for begun, ended, code, output in self._log
        )
        document = (
            f'{{"status": "{self.status}", "failing_streak": {self._streak}, "log": [{entries}]}}\n'
        )
        try:
            files.write_atomically("health.json", document.encode())
        except OSError:  # a full disk: the next result may find room
            pass


class _Probe:
    """One run of the command, by a process that enters the container for it."""

    def __init__(self, request: object, container: int, poll: select.poll) -> None:
        assert isinstance(request, dict)
        self.begun = time.time()
        self.exit_code = -1
        self.late = False
        self.output = b""
        self._channel, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._out, out = os.pipe()
        os.set_blocking(self._out, False)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        own = os.pidfd_open(os.getpid())
        self._pid, self._pidfd = process.clone3(0)
        if self._pid == 0:
            try:
                os.setsid()
                fds = [os.dup(container), null, out, os.dup(out)]
                _close_others({theirs.fileno(), *fds, own})
                execution.main(request, theirs, fds, own)
            finally:
                os._exit(0)
        theirs.close()
        for fd in (out, null, own):
            os.close(fd)
        for fd in (self._channel.fileno(), self._out):
            poll.register(fd, select.POLLIN)

    def owns(self, fd: int) -> bool:
        return fd in (self._channel.fileno(), self._out)

    def handle(self, fd: int, poll: select.poll) -> bool:
        """Take a packet or some output; tells whether that was the last."""
        if fd == self._out:
            if not self._read():
                poll.unregister(self._out)
            return False
        packet = wire.receive(self._channel)
        if packet is None:
            self._read()
            self._close(poll)
            os.waitpid(self._pid, 0)
            return True
        if packet[0] == "exit" and not self.late:
            assert isinstance(packet[1], int)
            self.exit_code = packet[1]
        elif packet[0] == "failed":
            self.output = f"cannot {packet[1]}: {packet[3]}".encode()[:_MOST_OUTPUT]
        return False

    def hurry(self) -> float:
        """Kill what takes too long: the command first, then who looks after it; give the next time."""
        if self.late:
            process.kill_by_pidfd(self._pidfd, _KILL)
        self.late = True
        wire.send(self._channel, "kill")
        return time.time() + _PATIENCE

    def abandon(self, poll: select.poll) -> None:
        wire.send(self._channel, "kill")
        self._channel.shutdown(_socket.SHUT_WR)
        waiter = select.poll()
        waiter.register(self._pidfd, select.POLLIN)
        if not waiter.poll(_PATIENCE * 1000):
            process.kill_by_pidfd(self._pidfd, _KILL)
        self._close(poll)
        os.waitpid(self._pid, 0)

    def _read(self) -> bool:
        """Keep the beginning of the output; False at its end."""
        try:
            while data := os.read(self._out, 1 << 16):
                self.output = (self.output + data)[:_MOST_OUTPUT]
        except BlockingIOError:
            return True
        return False

    def _close(self, poll: select.poll) -> None:
        for fd in (self._channel.fileno(), self._out):
            try:
                poll.unregister(fd)
            except KeyError:  # the output had ended before
                pass
        self._channel.close()
        os.close(self._out)
        os.close(self._pidfd)


def _close_others(kept: set[int]) -> None:
    """Let go of what the monitor holds, its lock above all."""
    first = 3
    for fd in sorted(kept):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
