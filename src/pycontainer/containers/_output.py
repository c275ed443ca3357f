"""What a container writes as those who are attached read it: from its log, or live where it keeps none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
from typing import TYPE_CHECKING, Final, Literal, Protocol

from pycontainer._linux import inotify
from pycontainer.containers._logs import HEADER, STREAMS, LogReader, Watch
from pycontainer.errors import ContainerStateError
from pycontainer.runtime import AUDIENCE, open_control, request_audience

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Live", "Logged", "Output"]

_PIPE_BYTES: Final = 1 << 20  # the most that an ordinary user may have
_PIECE: Final = 1 << 16
_SECONDS: Final = 10.0
_RECHECK_SECONDS: Final = 0.5


class Output(Protocol):
    """Where it is read from."""

    def look(self) -> None:
        """Note what comes from now on."""

    def chunks(self) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]:
        """What has come since the last time."""

    def wait(self, seconds: float | None) -> None:
        """Return when more may have come or the container may have ended, or after a while."""

    def close(self) -> None:
        """Let go of it."""


class Logged:
    """The output of a container with a log."""

    def __init__(self, home: Path, *, from_the_beginning: bool) -> None:
        self._reader = LogReader(home / "log")
        self._watch = Watch()
        if not from_the_beginning:
            for _ in self._reader.chunks():
                pass

    def look(self) -> None:
        """Note what comes from now on."""
        self._watch.look_at(self._reader.path)

    def chunks(self) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]:
        """What has come since the last time."""
        yield from self._reader.chunks()

    def wait(self, seconds: float | None) -> None:
        """Return when more may have come, or after a while."""
        self._watch.wait(self._reader.path, seconds)

    def close(self) -> None:
        """Let go of it."""
        self._reader.close()
        self._watch.close()


class Live:
    """The output of a container without a log, from now on.

    Args:
        name: What the container is called.
        home: Its directory.

    Raises:
        ContainerStateError: It is gone.
    """

    def __init__(self, name: str, home: Path) -> None:
        self._path = home / f"{AUDIENCE}{secrets.token_hex(8)}"
        making = home / f".{self._path.name}"  # nobody is to see it before somebody reads it
        try:
            os.mkfifo(making, 0o600)
            # Open for writing, too, it has no end between two runs, or two monitors.
            self._fd = os.open(making, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._ends = inotify.watch(str(home), inotify.MOVED_TO)
        except FileNotFoundError as error:
            raise ContainerStateError(f"container {name} is gone") from error
        with contextlib.suppress(OSError):  # where that is too much, the usual size will do
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        making.rename(self._path)
        self._rest = b""
        control = open_control(home)
        if control is not None:  # else its next run finds the FIFO
            with control:
                request_audience(control, _SECONDS)

    def look(self) -> None:
        """Nothing is to be noted: the kernel keeps what comes."""

    def chunks(self) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]:
        """What has come since the last time."""
        while True:
            try:
                self._rest += os.read(self._fd, _PIECE)
            except BlockingIOError:
                return
            while len(self._rest) >= HEADER.size:
                _, stream, length = HEADER.unpack_from(self._rest)
                if len(self._rest) < HEADER.size + length:
                    break
                data = self._rest[HEADER.size : HEADER.size + length]
                self._rest = self._rest[HEADER.size + length :]
                yield STREAMS[stream], data

    def wait(self, seconds: float | None) -> None:
        """Return when more has come or a run has ended, or after a while."""
        waiter = select.poll()
        waiter.register(self._fd, select.POLLIN)
        waiter.register(self._ends, select.POLLIN)
        longest = _RECHECK_SECONDS if seconds is None else min(seconds, _RECHECK_SECONDS)
        waiter.poll(longest * 1000)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._ends, _PIECE):
                pass

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            os.close(self._ends)
            self._fd = -1
