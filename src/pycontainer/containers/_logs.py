"""A container's log: frames that its monitor appended, read back as lines."""

from __future__ import annotations

import os
import select
import struct
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal, Self

from attrs import frozen

from pycontainer._linux import inotify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["LogLine", "LogReader", "read_log"]

_HEADER: Final = struct.Struct("<QB3xI")  # as pycontainer.runtime._inside.streams writes it
_STREAMS: Final[dict[int, Literal["stdout", "stderr"]]] = {1: "stdout", 2: "stderr"}
_RECHECK_SECONDS: Final = 0.5


@frozen
class LogLine:
    """One line of a container's output.

    Attributes:
        stream: ``stdout`` or ``stderr``.
        time: When its first bytes came, seconds since the epoch.
        data: Its bytes, without the line's end.
    """

    stream: Literal["stdout", "stderr"]
    time: float
    data: bytes

    def __str__(self) -> str:
        return self.data.decode("utf-8", "replace")


class LogReader:
    """Reads a log bit by bit, from its beginning; closed by the end of a with block.

    Args:
        path: The log; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._parts: dict[int, tuple[float, bytes]] = {}

    def read(self) -> Iterator[LogLine]:
        """The lines that have been completed since the last time."""
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return
        for time, stream, data in _frames(self._fd):
            yield from _lines(self._parts, time, stream, data)

    def rest(self) -> Iterator[LogLine]:
        """What has been written since the last line's end; it will be read again with its line."""
        for stream, (time, data) in self._parts.items():
            if data:
                yield LogLine(_STREAMS[stream], time, data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_log(
    path: Path,
    *,
    follow: bool,
    ended: Callable[[], bool],
    tail: int | None = None,
    wanted: Callable[[LogLine], bool] = lambda line: True,  # noqa: ARG005  (all of them)
) -> Iterator[LogLine]:
    """Read the log from its beginning.

    Args:
        path: The log.
        follow: Wait for more until the container has ended.
        ended: Tells whether it has: whether nothing will be appended any more.
        tail: Of the lines that are there at first, only so many of the last.
        wanted: Tells whether a line is.
    """
    if not path.exists():
        return
    watch = inotify.watch(str(path), inotify.MODIFIED) if follow else -1
    waiter = select.poll()  # select(2) takes no descriptor above 1023
    if follow:
        waiter.register(watch, select.POLLIN)
    try:
        with LogReader(path) as reader:
            while True:
                over = not follow or ended()  # asked before reading: what came until then is read
                lines = filter(wanted, chain(reader.read(), reader.rest() if over else ()))
                yield from lines if tail is None else deque(lines, maxlen=tail)
                if over:
                    return
                tail = None
                waiter.poll(_RECHECK_SECONDS * 1000)
                _drain(watch)
    finally:
        if watch >= 0:
            os.close(watch)


def _frames(fd: int) -> Iterator[tuple[float, int, bytes]]:
    """The whole frames from the file's position on; a frame being written is left for the next time."""
    while True:
        at = os.lseek(fd, 0, os.SEEK_CUR)
        header = os.read(fd, _HEADER.size)
        if len(header) == _HEADER.size:
            time, stream, length = _HEADER.unpack(header)
            data = os.read(fd, length)
            if len(data) == length and stream in _STREAMS:
                yield time / 1e9, stream, data
                continue
        os.lseek(fd, at, os.SEEK_SET)
        return


def _lines(
    parts: dict[int, tuple[float, bytes]], time: float, stream: int, data: bytes
) -> Iterator[LogLine]:
    begun, rest = parts.get(stream, (time, b""))
    if not rest:
        begun = time
    *lines, rest = (rest + data).split(b"\n")
    for line in lines:
        yield LogLine(_STREAMS[stream], begun, line.removesuffix(b"\r"))
        begun = time
    parts[stream] = (begun, rest)


def _drain(watch: int) -> None:
    try:
        while os.read(watch, 4096):
            pass
    except BlockingIOError:
        return
