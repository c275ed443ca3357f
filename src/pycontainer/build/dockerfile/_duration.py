"""Durations as Go writes them, such as ``1m30s``."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

__all__ = ["parse_duration"]

_PART: Final = re.compile(r"(\d{1,19}(?:\.\d{0,19})?|\.\d{1,19})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_LEAST: Final = 10**6
_MOST: Final = (1 << 63) - 1


def parse_duration(text: str) -> int:
    """The nanoseconds of a duration; 0 where it is empty.

    Raises:
        ValueError: It is none, or shorter than a millisecond, which Docker refuses.
    """
    if text in ("", "0"):
        return 0
    total, at = Fraction(0), 0
    while match := _PART.match(text, at):
        total += Fraction(match[1]) * _UNITS[match[2]]
        at = match.end()
    if at != len(text):
        raise ValueError(f"{text[:40]!r} is no duration; write it like 30s or 1m30s")
    value = int(total)
    if value and not _LEAST <= value <= _MOST:
        raise ValueError(f"a duration of {text[:40]} is too short or too long")
    return value
