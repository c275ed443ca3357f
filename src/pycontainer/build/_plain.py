"""A build's events as lines of text, for logs and for terminals that show nothing else."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from attrs import define, field

from pycontainer.build._events import VertexCached, VertexFinished, VertexLog, VertexStarted

if TYPE_CHECKING:
    from typing import TextIO

    from pycontainer.build._events import Event
    from pycontainer.oci import Digest

__all__ = ["PlainProgress"]


@define
class _Step:
    """A step that was begun: its number in the output, since when, and unfinished lines."""

    number: int
    begun: float
    pending: dict[str, str] = field(factory=dict)


class PlainProgress:
    """Writes what a build tells as ``docker build --progress=plain`` does: steps numbered, lines whole.

    Steps that run at the same time take turns; each line says whose it is.

    Args:
        file: Where to; None for standard error.

    Example:
        >>> image = builder.build("app:1", progress=PlainProgress())  # doctest: +SKIP
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = sys.stderr if file is None else file
        self._steps: dict[Digest, _Step] = {}
        self._last = 0

    def __call__(self, event: Event) -> None:
        """Take an event."""
        step = self._steps.get(event.vertex)
        if step is None:
            step = _Step(len(self._steps) + 1, time.monotonic())
            self._steps[event.vertex] = step
        if isinstance(event, VertexStarted):
            self._say(step, event.title)
        elif isinstance(event, VertexCached):
            self._say(step, "CACHED" + (" (from elsewhere)" if event.imported else ""))
        elif isinstance(event, VertexLog):
            self._log(step, event)
        elif isinstance(event, VertexFinished):
            self._finish(step, event)
        self._file.flush()

    def _log(self, step: _Step, event: VertexLog) -> None:
        text = step.pending.pop(event.stream, "") + event.text
        *lines, rest = text.split("\n")
        for line in lines:
            self._say_line(step, line)
        if rest:
            step.pending[event.stream] = rest

    def _finish(self, step: _Step, event: VertexFinished) -> None:
        for rest in step.pending.values():
            self._say_line(step, rest)
        step.pending.clear()
        if event.error is None:
            self._say(step, f"DONE {event.seconds:.1f}s")
        else:
            self._say(step, f"ERROR {event.seconds:.1f}s: {event.error}")

    def _say_line(self, step: _Step, line: str) -> None:
        # What a program that draws bars writes before a carriage return is gone by the next one.
        shown = line.rstrip("\r").rpartition("\r")[2]
        self._say(step, f"{time.monotonic() - step.begun:.3f} {shown}")

    def _say(self, step: _Step, text: str) -> None:
        if self._last not in (0, step.number):
            self._file.write("\n")
        self._last = step.number
        first, *more = text.split("\n")
        self._file.write(f"#{step.number} {first}\n")
        self._file.writelines(f"#{step.number}   {line}\n" for line in more)
