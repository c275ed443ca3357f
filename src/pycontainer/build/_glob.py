"""Patterns of file names as Dockerfiles have them (Go's path.Match)."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["PatternError", "Scanner", "class_of", "compile_name", "literal", "literal_pattern"]

_SPECIAL = re.compile(r"[*?\[\\]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class PatternError(ValueError):
    """A pattern breaks Go's grammar."""


@lru_cache(maxsize=256)
def compile_name(pattern: str) -> re.Pattern[str]:
    """The regular expression that matches the names of one directory level.

    ``*`` is any text (names with a leading dot too), ``?`` any character, ``[a-z]`` one of a class,
    ``[^a-z]`` one not of it, and a backslash takes the next character as it is.

    Raises:
        PatternError: A class is empty or open, a range has no end, or a backslash stands last.
    """
    scanner = Scanner(pattern)
    parts: list[str] = []
    while scanner.more:
        character = scanner.take()
        if character == "*":
            parts.append(".*")
        elif character == "?":
            parts.append(".")
        elif character == "[":
            parts.append(class_of(scanner))
        elif character == "\\":
            parts.append(re.escape(scanner.take()))
        else:
            parts.append(re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


def literal(pattern: str) -> str | None:
    """The one name that a pattern can match; None if there may be several."""
    if _SPECIAL.search(_ESCAPED.sub("", pattern)):
        return None
    return _ESCAPED.sub(r"\1", pattern)


def literal_pattern(name: str) -> str:
    """The pattern that matches a name and no other."""
    return _SPECIAL.sub(r"\\\g<0>", name)


def class_of(scanner: Scanner) -> str:
    """The expression of a class whose ``[`` has been taken.

    Raises:
        PatternError: It is empty or open, or a range in it has no end.
    """
    negated = scanner.skip("^")
    ranges: list[str] = []
    while not ranges or not scanner.skip("]"):
        low = _class_character(scanner)
        high = _class_character(scanner) if scanner.skip("-") else low
        # Go lets a range run backwards: it matches nothing.
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")
    inside = "".join(ranges)
    if not inside:
        return "." if negated else "(?!)"
    return f"[{'^' if negated else ''}{inside}]"


def _class_character(scanner: Scanner) -> str:
    character = scanner.take()
    if character in "-]":
        raise PatternError(f"{character!r} stands where a character of a class belongs")
    return scanner.take() if character == "\\" else character


class Scanner:
    """Takes a pattern character by character."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether something is left."""
        return self._at < len(self._pattern)

    def take(self) -> str:
        """The next character.

        Raises:
            PatternError: There is none.
        """
        if not self.more:
            raise PatternError(f"{self._pattern!r} ends too early")
        self._at += 1
        return self._pattern[self._at - 1]

    def skip(self, character: str) -> bool:
        """Take the next character if it is this one."""
        found = self._pattern.startswith(character, self._at)
        self._at += found
        return found
