"""A build's events as a picture that changes: needs the extra ``progress`` (rich)."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from attrs import define, field

from pycontainer.build._events import VertexCached, VertexFinished, VertexLog, VertexStarted
from pycontainer.errors import UnsupportedFeature

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console, RenderableType

    from pycontainer.build._events import Event
    from pycontainer.oci import Digest

__all__ = ["LiveProgress"]

_TAIL: Final = 5
"""Lines of a running step's output that are shown."""

_KEPT: Final = 30
"""Lines that are kept, to be shown should it fail."""


@define
class _Step:
    title: str
    begun: float
    lines: deque[str] = field(factory=lambda: deque(maxlen=_KEPT))
    pending: str = ""
    seconds: float | None = None
    is_cached: bool = False
    error: str | None = None

    def add(self, text: str) -> None:
        *lines, self.pending = (self.pending + text).split("\n")
        self.lines.extend(line.rstrip("\r").rpartition("\r")[2] for line in lines)

    def tail(self, most: int) -> list[str]:
        shown = [*self.lines, *([self.pending.rpartition("\r")[2]] if self.pending else [])]
        return shown[-most:]


class LiveProgress:
    """Draws what a build does on a terminal: each step with its time, running ones with their last lines.

    A context manager; the picture changes while it is open, and its last state stays.

    Args:
        console: Where to; None for standard error.

    Raises:
        UnsupportedFeature: `rich` is not installed.

    Example:
        >>> with LiveProgress() as progress:  # doctest: +SKIP
        ...     builder.build("app:1", progress=progress)
    """

    def __init__(self, console: Console | None = None) -> None:
        try:
            from rich.console import Console as RichConsole
            from rich.live import Live
        except ImportError as error:
            raise UnsupportedFeature(
                "a live view of builds",
                "the package rich is not installed",
                remedy="pip install 'pycontainer[progress]', or use PlainProgress",
            ) from error
        self._steps: dict[Digest, _Step] = {}
        self._begun = time.monotonic()
        self._live = Live(
            console=console or RichConsole(stderr=True),
            get_renderable=self._picture,
            refresh_per_second=8,
        )

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        now = time.monotonic()
        # The drawing thread reads while this writes: a step is complete before it can be seen.
        step = self._steps.get(event.vertex) or _Step(event.title, now)
        if isinstance(event, VertexStarted):
            self._steps = {**self._steps, event.vertex: step}
        elif isinstance(event, VertexCached):
            step.is_cached = True
        elif isinstance(event, VertexLog):
            step.add(event.text)
        elif isinstance(event, VertexFinished):
            step.error = event.error
            step.seconds = event.seconds

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        steps = list(self._steps.values())
        done = sum(step.seconds is not None for step in steps)
        head = f"[+] Building {time.monotonic() - self._begun:.1f}s ({done}/{len(steps)})"
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        for step in steps:
            seconds = time.monotonic() - step.begun if step.seconds is None else step.seconds
            title = Text(("CACHED " if step.is_cached else "") + step.title.split("\n")[0])
            table.add_row(Text("=>"), title, Text(f"{seconds:.1f}s"), style=_style(step))
            most = _KEPT if step.error else _TAIL if step.seconds is None else 0
            for line in step.tail(most) if most else ():
                table.add_row("", Text(f"  {line}", style="dim"), "")
        return Group(Text(head, style="bold"), table)


def _style(step: _Step) -> str:
    if step.error is not None:
        return "red"
    return "" if step.seconds is None else "blue"
