"""When a failed request is worth another attempt, and how long to wait before it."""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.registry._deadline import current_deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.errors import RegistryError

__all__ = ["PASSING", "Failed", "Retry", "retry_after"]

PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of trouble that may pass."""


class Failed(Exception):
    """An attempt that failed in a way that may pass.

    Args:
        error: What to raise if no other attempt is made.
        untouched: Whether the registry certainly did not carry the request out.
        wait: Seconds that the registry asked to wait, or None.
    """

    def __init__(
        self, error: RegistryError, *, untouched: bool = False, wait: float | None = None
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.untouched = untouched
        self.wait = wait


@frozen
class Retry:
    """How often and how patiently.

    Attributes:
        attempts: Of all, the first included.
        first: Seconds before the second attempt; doubled each time, with jitter.
        longest: Seconds that are waited at most; a registry that asks for more is not asked again.
    """

    attempts: int = 4
    first: float = 0.25
    longest: float = 30.0
    _sleep: Callable[[float], None] = field(
        default=lambda seconds: current_deadline().sleep(seconds), repr=False, eq=False
    )

    def again(self, attempt: int, failed: Failed, *, repeatable: bool) -> bool:
        """Wait for the next attempt and return True, or return False if there should be none.

        Args:
            attempt: How many there have been.
            failed: How the last one ended.
            repeatable: Whether the request may be carried out twice.
        """
        if attempt >= self.attempts or not repeatable:
            return False
        backoff = self.first * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311
        wait = max(backoff, failed.wait or 0.0)
        if (failed.wait or 0.0) > self.longest:
            return False
        self._sleep(min(wait, self.longest))
        return True


def retry_after(header: str | None, *, now: float | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for: it has a count of seconds or a date."""
    if not header:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, moment - (time.time() if now is None else now))
