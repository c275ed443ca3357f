"""Being at a container's streams from anywhere: several at once, in whichever program."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Final, Literal, Self

from pycontainer.containers._output import Live, Logged, Output
from pycontainer.errors import ContainerStateError, TimeoutExpired
from pycontainer.runtime import (
    is_watched,
    last_exit,
    open_control,
    read_state,
    request_input,
    request_resize,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Attachment"]

_PIECE: Final = 1 << 15


class Attachment:
    """A container's streams: what it writes from the attachment on, and its standard input.

    Made by `Container.attach`. As a context manager it lets go of both; the container goes on.
    """

    def __init__(
        self, name: str, home: Path, *, tty: bool, stdin: bool, logs: bool, live: bool
    ) -> None:
        self._name = name
        self._home = home
        self._tty = tty
        self._open = stdin
        self._pipe = -1
        self._control: socket.socket | None = None
        ended = last_exit(home)
        self._before = 0 if ended is None else ended.run
        self._output: Output = Live(name, home) if live else Logged(home, from_the_beginning=logs)

    def stream(
        self, timeout: float | None = None
    ) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]:
        """Give the output as it comes, until the end of the run, or of the next one if none is.

        With a terminal all of it is ``stdout``.

        Raises:
            TimeoutExpired: The run has not ended after that many seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            over = self._has_ended()  # asked before reading: what came until then is read
            self._output.look()
            yield from self._output.chunks()
            if over:
                return
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutExpired(f"container {self._name} runs after {timeout} seconds")
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._output.wait(left)

    def _has_ended(self) -> bool:
        ended, state = last_exit(self._home), read_state(self._home)
        if ended is not None and ended.run > self._before:
            return True
        if state is None or state.run <= self._before:  # it is still to be started
            return not self._home.exists()
        return not state.alive and not is_watched(self._home)

    def write(self, data: bytes) -> None:
        """Write to its standard input, beside whoever else does.

        Raises:
            ContainerStateError: It has none, does not run, or reads no more.
        """
        if not self._open:
            raise ContainerStateError(
                f"container {self._name} has no standard input",
                remedy="start it with stdin=True or tty=True",
            )
        if self._tty:
            self._type(data)
            return
        if self._pipe < 0:
            self._pipe = self._open_pipe()
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._pipe, view) :]
        except BrokenPipeError as error:
            raise ContainerStateError(f"container {self._name} reads no more input") from error

    def _type(self, data: bytes) -> None:
        if self._control is None:
            self._control = open_control(self._home)
        if self._control is None:
            raise ContainerStateError(f"container {self._name} does not run")
        for at in range(0, len(data), _PIECE):
            request_input(self._control, data[at : at + _PIECE])

    def _open_pipe(self) -> int:
        """The writing end of the pipe that its first process has as standard input."""
        state = read_state(self._home)
        if state is None or not state.alive:
            raise ContainerStateError(f"container {self._name} does not run")
        path = f"/proc/{state.pid}/fd/0"
        # What is there is the container's choice: anything but a pipe is left alone.
        try:
            if stat.S_ISFIFO(os.stat(path).st_mode):
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
                os.set_blocking(fd, True)
                return fd
        except OSError:
            pass
        raise ContainerStateError(f"container {self._name} reads no more input")

    def close_stdin(self) -> None:
        """Let go of its standard input, which ends once nobody has it any more."""
        self._open = False
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal."""
        control = open_control(self._home)
        if control is not None:
            with control:
                request_resize(control, rows, columns)

    def close(self) -> None:
        """Let go of all of it."""
        self.close_stdin()
        self._output.close()
        if self._control is not None:
            self._control.close()
            self._control = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
