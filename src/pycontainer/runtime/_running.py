"""The host program's handle on a process that was started in a container."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from typing import Self

from pycontainer._linux import process as linux
from pycontainer.errors import ContainerStateError, TimeoutExpired
from pycontainer.runtime._inside import wire

__all__ = ["Running"]


class Running:
    """A process that was started in a container: its init, or a command beside it.

    Attributes:
        pid: Its process id on the host.
        start_time: When it began, in clock ticks since boot.
        out_of_memory: Whether the kernel killed some of the container for want of memory.
        lost: Whether the process that would have told the exit code was found to be gone.

    It ends with this handle: `close` kills what still runs, and waits until nothing is left of it.
    Detached ones are only let go.
    """

    def __init__(self, channel: socket.socket, *, detached: bool) -> None:
        self._channel = channel
        self._detached = detached
        self._lock = threading.Lock()
        self._closed = False
        self._owner = os.getpid()
        self._exit_code: int | None = None
        self.lost = False
        self.pid = 0
        self.start_time = 0
        self.out_of_memory = False

    @property
    def exit_code(self) -> int | None:
        """The exit code, 128 + n after signal n; None while it runs."""
        if self._exit_code is None:
            self._receive(0.0)
        return self._exit_code

    @property
    def has_ended(self) -> bool:
        """Whether it has, or whoever would tell is gone."""
        try:
            return self.exit_code is not None
        except ContainerStateError:
            return True

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
            TimeoutExpired: It still runs after that many seconds.
            ContainerStateError: Its monitor was killed, so that nobody knows.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._exit_code is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left < 0:
                raise TimeoutExpired(f"process {self.pid} still runs after {timeout} seconds")
            self._receive(left)
        return self._exit_code

    def signal(self, number: int) -> None:
        """Send a signal; to a process that has ended it is none.

        Raises:
            ContainerStateError: It may not be signalled.
        """
        if self.exit_code is not None:
            return
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # The number may be another process's by now; its start time would be another too.
            if linux.start_time(self.pid) == self.start_time:
                linux.kill_by_pidfd(pidfd, number)
        except (ProcessLookupError, FileNotFoundError):
            return
        finally:
            os.close(pidfd)

    def kill(self) -> None:
        """Kill it with all that it has started; with a container's first process the container."""
        wire.send(self._channel, "kill")

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal."""
        wire.send(self._channel, "resize", rows, columns)

    def let_go(self) -> None:
        """Close the handle and nothing else: somebody else looks after the container from now on."""
        with self._lock:
            self._closed = True
        self._channel.close()

    def close(self) -> None:
        """Kill it unless it is detached or has ended, and wait until all of it is gone."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if not self._detached and self._owner == os.getpid():  # a forked child only lets go
            wire.send(self._channel, "delete")
            self._channel.shutdown(socket.SHUT_WR)
            self._channel.settimeout(30)
            try:
                while (packet := wire.receive(self._channel)) is not None:
                    self._take(packet)
            except TimeoutError:
                pass
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def fileno(self) -> int:
        """A descriptor that is readable when the process has ended."""
        return self._channel.fileno()

    def _receive(self, timeout: float | None) -> None:
        waiter = select.poll()
        try:
            waiter.register(self._channel, select.POLLIN)
        except ValueError as error:  # closed, and no exit code had come by then
            raise ContainerStateError(f"nobody knows how process {self.pid} ended") from error
        if not waiter.poll(None if timeout is None else max(0, timeout) * 1000):
            return
        with self._lock:
            if self._exit_code is not None or self._closed:
                return
            if not waiter.poll(0):  # another thread took it
                return
            packet = wire.receive(self._channel)
            if packet is None:
                self.lost = True
                raise ContainerStateError(
                    f"nobody knows how process {self.pid} ended: its monitor was killed"
                )
            self._take(packet)

    def _take(self, packet: wire.Packet) -> None:
        if packet[0] == "exit":
            assert isinstance(packet[1], int)
            self._exit_code, self.out_of_memory = packet[1], bool(packet[2])
        elif packet[0] == "running":  # again, by its restart policy
            assert isinstance(packet[1], int)
            assert isinstance(packet[2], int)
            self.pid, self.start_time = packet[1], packet[2]
