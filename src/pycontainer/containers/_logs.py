"""A container's log: frames that its monitor appended, read back as lines."""

from __future__ import annotations

import os
import select
import struct
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal, Self

from attrs import frozen

from pycontainer._linux import inotify
from pycontainer.errors import ContainerError
from pycontainer.runtime import name_of, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["HEADER", "STREAMS", "LogLine", "LogReader", "Watch", "read_log"]

HEADER: Final = struct.Struct("<QB3xI")  # as pycontainer.runtime._inside.streams writes it
STREAMS: Final[dict[int, Literal["stdout", "stderr"]]] = {1: "stdout", 2: "stderr"}
_RECHECK_SECONDS: Final = 0.5
_FIRST_SECONDS: Final = 0.01


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

    @property
    def stamped(self) -> str:
        """The line after its time, as ``docker logs --timestamps`` writes it."""
        moment = datetime.fromtimestamp(self.time, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z {self}"


@frozen(kw_only=True)
class LogOptions:
    """What becomes of a container's output.

    Attributes:
        max_size: Bytes that a file of the log may have; None for no limit.
        max_files: How many files there are, where they are limited; the oldest go.
        kept: Whether there is a log at all.
    """

    max_size: int | None = None
    max_files: int = 1
    kept: bool = True

    @classmethod
    def of(cls, wanted: LogOptions | Literal["none"] | None) -> LogOptions:
        """The options as a caller gives them.

        Raises:
            ContainerError: A number makes no sense.
        """
        if wanted == "none":
            return cls(kept=False)
        options = wanted or cls()
        if options.max_files < 1 or (options.max_size is not None and options.max_size < 1):
            raise ContainerError(
                f"a log of {options.max_files} files of {options.max_size} bytes is none",
                remedy="give positive numbers, or log='none'",
            )
        return options


class LogReader:
    """Reads a log bit by bit, from its beginning; closed by the end of a with block.

    Args:
        path: The log; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._directory = path.parent
        self._number = -1
        self._fd = -1
        self._parts: dict[int, tuple[float, bytes]] = {}

    @property
    def path(self) -> Path:
        """The file that was read last: the newest, as far as that was there."""
        return self._directory / name_of(max(self._number, 0))

    def read(self) -> Iterator[LogLine]:
        """The lines that have been completed since the last time."""
        for moment, number, data in self._frames():
            yield from _lines(self._parts, moment, number, data)

    def chunks(self) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]:
        """What has been written since the last time, as it was."""
        for _, number, data in self._frames():
            yield STREAMS[number], data

    def _frames(self) -> Iterator[tuple[float, int, bytes]]:
        if self._fd < 0 and not self._open_next():
            return
        while True:
            yield from _frames(self._fd)
            if not self._is_followed():
                return
            yield from _frames(self._fd)  # what came before the next file was made
            if not self._open_next():
                return

    def _is_followed(self) -> bool:
        """Whether there is a next file, or this one was removed because there is."""
        if (self._directory / name_of(self._number + 1)).exists():
            return True
        return os.fstat(self._fd).st_nlink == 0 and self._directory.exists()

    def _open_next(self) -> bool:
        """Open the oldest file that is newer than this one; False if there is none."""
        while True:
            try:
                newer = [n for n in numbers(str(self._directory)) if n > self._number]
                fd = os.open(self._directory / name_of(newer[0]), os.O_RDONLY | os.O_CLOEXEC)
            except IndexError:
                return False
            except FileNotFoundError:  # it has just been removed
                if not self._directory.exists():
                    return False
                continue
            self.close()
            self._fd, self._number = fd, newer[0]
            return True

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def rest(self) -> Iterator[LogLine]:
        """What has been written since the last line's end; it will be read again with its line."""
        for stream, (moment, data) in self._parts.items():
            if data:
                yield LogLine(STREAMS[stream], moment, data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


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
    with LogReader(path) as reader, Watch() as watch:
        while True:
            over = not follow or ended()  # asked before reading: what came until then is read
            if not over:
                watch.look_at(reader.path)
            lines = filter(wanted, chain(reader.read(), reader.rest() if over else ()))
            yield from lines if tail is None else deque(lines, maxlen=tail)
            if over:
                return
            tail = None
            watch.wait(reader.path)


class Watch:
    """Waits for what is appended to the file that is being read."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._fd = -1

    def look_at(self, path: Path) -> None:
        """Note changes of that file from now on."""
        if path == self._path:
            return
        self.close()
        with suppress(FileNotFoundError):
            self._fd = inotify.watch(str(path), inotify.MODIFIED)
            self._path = path

    def wait(self, path: Path, seconds: float | None = None) -> None:
        """Return when a file that has been looked at has changed; at once if it is another one."""
        if path != self._path:
            if self._path is None:
                time.sleep(_FIRST_SECONDS)
            return
        waiter = select.poll()  # select(2) takes no descriptor above 1023
        waiter.register(self._fd, select.POLLIN)
        longest = _RECHECK_SECONDS if seconds is None else min(seconds, _RECHECK_SECONDS)
        waiter.poll(longest * 1000)
        _drain(self._fd)

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._path = -1, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _frames(fd: int) -> Iterator[tuple[float, int, bytes]]:
    """The whole frames from the file's position on; a frame being written is left for the next time."""
    while True:
        at = os.lseek(fd, 0, os.SEEK_CUR)
        header = os.read(fd, HEADER.size)
        if len(header) == HEADER.size:
            moment, stream, length = HEADER.unpack(header)
            data = os.read(fd, length)
            if len(data) == length and stream in STREAMS:
                yield moment / 1e9, stream, data
                continue
        os.lseek(fd, at, os.SEEK_SET)
        return


def _lines(
    parts: dict[int, tuple[float, bytes]], moment: float, stream: int, data: bytes
) -> Iterator[LogLine]:
    begun, rest = parts.get(stream, (moment, b""))
    if not rest:
        begun = moment
    *lines, rest = (rest + data).split(b"\n")
    for line in lines:
        yield LogLine(STREAMS[stream], begun, line.removesuffix(b"\r"))
        begun = moment
    parts[stream] = (begun, rest)


def _drain(watch: int) -> None:
    try:
        while os.read(watch, 4096):
            pass
    except BlockingIOError:
        return
