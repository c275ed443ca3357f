"""A bounded pipe of chunks between two threads, which knows how long each end waited."""

from __future__ import annotations

import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Abandoned", "Pipe"]

T = TypeVar("T")
_END: Final = object()
_now = time.perf_counter


class Abandoned(Exception):
    """Nobody reads any more."""


class Pipe(Generic[T]):
    """At most `depth` items on their way.

    Two queues, one of items and one of leave to put more, both in C: a semaphore or a bounded
    `queue.Queue` takes and gives the interpreter's lock several times an item.

    Attributes:
        put_wait: Seconds that the writing end waited for room.
        get_wait: Seconds that the reading end waited for items.
    """

    def __init__(self, depth: int) -> None:
        self._items: SimpleQueue[T | object] = SimpleQueue()
        self._leave: SimpleQueue[None] = SimpleQueue()
        for _ in range(depth):
            self._leave.put(None)
        self._abandoned = False
        self._error: BaseException | None = None
        self.put_wait = 0.0
        self.get_wait = 0.0

    def put(self, item: T) -> None:
        """Add an item, waiting for room.

        Raises:
            Abandoned: The reader has gone.
        """
        begun = _now()
        self._leave.get()
        self.put_wait += _now() - begun
        if self._abandoned:
            self._leave.put(None)  # for the next one who asks
            raise Abandoned
        self._items.put(item)

    def close(self, error: BaseException | None = None) -> None:
        """End the stream; `error` is raised at the reading end."""
        self._error = error
        self._items.put(_END)

    def abandon(self) -> None:
        """Read no more: the writer is woken and told by `put`."""
        self._abandoned = True
        self._leave.put(None)

    def __iter__(self) -> Iterator[T]:
        while True:
            begun = _now()
            item = self._items.get()
            self.get_wait += _now() - begun
            if item is _END:
                self._items.put(_END)  # so that a second reading ends as well
                if self._error is not None:
                    raise self._error
                return
            yield cast("T", item)
            self._leave.put(None)
