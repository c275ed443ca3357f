"""What a step's command writes, on its way to the progress callback."""

from __future__ import annotations

import codecs
import os
import selectors
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontainer.build._work import Log

__all__ = ["Output"]

_CHUNK: Final = 1 << 16
_TAIL_LINES: Final = 20
_TAIL_CHARACTERS: Final = 8192


class Output:
    """Reads both streams of a command, passes them on as text and keeps their end.

    Args:
        log: Takes each piece.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._tail: deque[str] = deque()
        self._kept = 0
        self._reading: dict[int, Literal["stdout", "stderr"]] = {}
        self._writing: list[int] = []

    @contextmanager
    def pipes(self) -> Iterator[tuple[int, int]]:
        """The descriptors that the command writes to; closed at the end."""
        try:
            for name in ("stdout", "stderr"):
                reading, writing = os.pipe2(os.O_CLOEXEC)
                self._reading[reading] = name
                self._writing.append(writing)
            yield self._writing[0], self._writing[1]
        finally:
            self._close_writing()
            for fd in self._reading:
                os.close(fd)
            self._reading.clear()

    def pump(self) -> None:
        """Pass on what comes until nobody writes any more; the command must have been started."""
        self._close_writing()
        decoders = {fd: codecs.getincrementaldecoder("utf-8")("replace") for fd in self._reading}
        with selectors.DefaultSelector() as selector:
            for fd in self._reading:
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, _CHUNK)
                    text = decoders[key.fd].decode(data, final=not data)
                    if text:
                        self._keep(text)
                        self._log(self._reading[key.fd], text)
                    if not data:
                        selector.unregister(key.fd)

    def tail(self) -> str:
        """The last lines of both streams, as they came."""
        lines = "".join(self._tail)[-_TAIL_CHARACTERS:].splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def _keep(self, text: str) -> None:
        self._tail.append(text)
        self._kept += len(text)
        while self._kept - len(self._tail[0]) > _TAIL_CHARACTERS:
            self._kept -= len(self._tail.popleft())

    def _close_writing(self) -> None:
        while self._writing:
            os.close(self._writing.pop())
