"""How long a whole transfer may take, and whether it is still wanted."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from pycontainer.errors import RegistryTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ENDLESS", "Deadline", "current_deadline", "within"]


class Deadline:
    """An end that all requests of a transfer share; safe for many threads.

    Args:
        seconds: From now; None for no end.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self._given_up = threading.Event()

    @property
    def is_bounded(self) -> bool:
        """Whether it ends by itself."""
        return self._end is not None

    def give_up(self) -> None:
        """Let everything that goes on under it fail at its next step; `ENDLESS` goes on."""
        if self is not ENDLESS:
            self._given_up.set()

    def check(self) -> None:
        """Do nothing before the end.

        Raises:
            RegistryTimeout: It has come.
        """
        if self._given_up.is_set():
            raise RegistryTimeout("the transfer was given up")
        if self._end is not None and time.monotonic() >= self._end:
            raise RegistryTimeout(
                f"the transfer took longer than {self._seconds:g} s",
                remedy="what has come is kept: try again, or give more time (within=)",
            )

    def bound(self, seconds: float) -> float:
        """At most so many seconds, and not beyond the end."""
        if self._end is None:
            return seconds
        return max(0.001, min(seconds, self._end - time.monotonic()))

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end.

        Raises:
            RegistryTimeout: It has come.
        """
        self._given_up.wait(self.bound(seconds))
        self.check()


ENDLESS: Final = Deadline(None)
_current: ContextVar[Deadline] = ContextVar("pycontainer_deadline", default=ENDLESS)


def current_deadline() -> Deadline:
    """The one around the running code."""
    return _current.get()


@contextmanager
def within(deadline: Deadline) -> Iterator[Deadline]:
    """Hold the requests made inside to a deadline."""
    token = _current.set(deadline)
    try:
        yield deadline
    finally:
        _current.reset(token)
