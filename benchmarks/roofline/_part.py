"""What the machine has to do at least for some work."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

__all__ = ["Part", "critical_path", "total"]


@frozen
class Part:
    """One thing that has to be done, measured alone.

    Attributes:
        name: What it is.
        seconds: How long it takes.
        ways: In how many equal pieces it can be done at the same time.
    """

    name: str
    seconds: float
    ways: int = 1


def total(parts: Sequence[Part]) -> float:
    """Seconds of all parts, one after another."""
    return sum(part.seconds for part in parts)


def critical_path(parts: Sequence[Part], cores: int = 2) -> float:
    """Seconds below which no schedule on so many cores can come."""
    longest = max((part.seconds / part.ways for part in parts), default=0.0)
    return max(longest, total(parts) / cores)
