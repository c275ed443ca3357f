"""Variables in words, with the quotes and modifiers of a shell (BuildKit's frontend/dockerfile/shell)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import define, field

from pycontainer.build.dockerfile._lines import SPACE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Expander", "expand"]

_SPECIAL: Final = "@*#?-$!0"
_MODIFIERS: Final = "+-?#%"


def expand(
    text: str, variables: Mapping[str, str], *, escape: str = "\\", quotes: bool = True
) -> str:
    """A text with its variables replaced; quotes and escapes are taken away.

    Args:
        text: What is written.
        variables: What there is; others are empty.
        escape: The character that escapes others.
        quotes: Whether quotes mean something; in heredocs they do not.

    Raises:
        ValueError: A substitution is not written as one, or ``${NAME:?}`` finds nothing.
    """
    return Expander(variables, escape, quotes).word(text)


@define
class Expander:
    """Replaces variables, and notes which were not there.

    Attributes:
        missing: The names that were looked for in vain.
    """

    _variables: Mapping[str, str] = field(repr=False)
    _escape: str = "\\"
    _quotes: bool = True
    missing: set[str] = field(factory=set, init=False)
    _text: str = field(default="", init=False)
    _at: int = field(default=0, init=False)

    def word(self, text: str) -> str:
        """The text as one word."""
        return "".join(piece for piece, _ in self._begin(text))

    def words(self, text: str) -> list[str]:
        """The words of a text: split at white space that is not quoted, also within variables."""
        words: list[str] = []
        word: list[str] = []
        for piece, splits in self._begin(text):
            for character in piece if splits else (piece,):
                if splits and character in SPACE:
                    if word:
                        words.append("".join(word))
                    word = []
                elif character:
                    word.append(character)
        return [*words, "".join(word)] if word else words

    def _begin(self, text: str) -> list[tuple[str, bool]]:
        self._text, self._at = text, 0
        try:
            return self._until("", raw=False)
        except RecursionError:
            raise ValueError("substitutions are nested too deeply") from None

    def _next(self) -> str:
        character = self._text[self._at : self._at + 1]
        self._at += len(character)
        return character

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _until(self, stop: str, *, raw: bool) -> list[tuple[str, bool]]:
        """Pieces up to a character (or the end), each with whether white space in it splits words."""
        pieces: list[tuple[str, bool]] = []
        while character := self._next():
            if character == stop:
                return pieces
            if character == "$":
                pieces.append((self._dollar(), True))
            elif character == "'" and self._quotes:
                pieces.append((self._single(), False))
            elif character == '"' and self._quotes:
                pieces.append((self._double(raw=raw), False))
            elif character == self._escape:
                pieces.append(((character if raw else "") + self._escaped(), False))
            else:
                pieces.append((character, True))
        if stop:
            raise ValueError(f"{self._text!r} ends before {stop!r}")
        return pieces

    def _escaped(self) -> str:
        follows = self._next()
        if self._quotes or follows in ("$", self._escape, "}", "/", ""):
            return follows
        return self._escape + follows

    def _single(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise ValueError(f"{self._text!r}: a single quote has no end")
        content, self._at = self._text[self._at : end], end + 1
        return content

    def _double(self, *, raw: bool) -> str:
        content: list[str] = []
        while character := self._next():
            if character == '"':
                return "".join(content)
            if character == "$":
                content.append(self._dollar())
            elif character == self._escape:
                special = self._peek() in ('"', "$", self._escape) and self._peek()
                if raw or not special:
                    content.append(character)
                if special:
                    content.append(self._next())
            else:
                content.append(character)
        raise ValueError(f"{self._text!r}: a double quote has no end")

    # --- substitutions -----------------------------------------------------------------------

    def _dollar(self) -> str:
        if self._peek() != "{":
            name = self._name()
            return self._value(name)[0] if name else "$"
        self._next()
        if self._peek() in ("", "{", "}", ":"):
            raise ValueError(f"{self._text!r}: bad substitution")
        name = self._name()
        modifier = self._next()
        if modifier == "}":
            return self._value(name)[0]
        if modifier == "/":
            return self._replaced(name)
        colon = modifier == ":"
        if colon:
            modifier = self._next()
        if not modifier or modifier not in (_MODIFIERS[:3] if colon else _MODIFIERS):
            raise ValueError(f"{self._text!r}: there is no modifier {':' * colon + modifier!r}")
        return self._modified(name, modifier, colon=colon)

    def _modified(self, name: str, modifier: str, *, colon: bool) -> str:
        word = self._operand("}", raw=modifier in "#%")
        value, is_set = self._value(name)
        there = is_set and not (colon and not value)
        if modifier == "-":
            return value if there else word
        if modifier == "+":
            return word if there else ""
        if modifier == "?":
            if not there:
                raise ValueError(f"{name}: {word or 'must be set'}")
            return value
        greedy = word.startswith(modifier)
        pattern = _pattern(word[1:] if greedy else word, greedy=greedy)
        if modifier == "#":
            match = pattern.match(value)
            return value if match is None else value[match.end() :]
        starts = range(len(value) + 1) if greedy else range(len(value), -1, -1)
        return next((value[:at] for at in starts if pattern.fullmatch(value, at)), value)

    def _replaced(self, name: str) -> str:
        count = 1
        if self._peek() == "/":
            self._next()
            count = 0
        pattern = _pattern(self._operand("/", raw=True), greedy=True)
        replacement = self._operand("}", raw=False)
        return pattern.sub(lambda _: replacement, self._value(name)[0], count=count)

    def _operand(self, stop: str, *, raw: bool) -> str:
        return "".join(piece for piece, _ in self._until(stop, raw=raw))

    def _name(self) -> str:
        start = self._at
        first = self._peek()
        if first.isdecimal():
            while self._peek().isdecimal():
                self._next()
        elif first and first in _SPECIAL:
            self._next()
        else:
            while self._peek() == "_" or self._peek().isalnum():
                self._next()
        return self._text[start : self._at]

    def _value(self, name: str) -> tuple[str, bool]:
        value = self._variables.get(name)
        if value is None:
            self.missing.add(name)
            return "", False
        return value, True


def _pattern(text: str, *, greedy: bool) -> re.Pattern[str]:
    """``*`` and ``?`` as a shell has them; a backslash takes these, and itself, as they are."""
    parts: list[str] = []
    characters = iter(text)
    for character in characters:
        if character == "*":
            parts.append(".*" if greedy else ".*?")
        elif character == "?":
            parts.append(".")
        elif character == "\\":
            follows = next(characters, "")
            if not follows or follows not in "*?\\}/":
                raise ValueError(f"the pattern {text!r} escapes {follows!r}")
            parts.append(re.escape(follows))
        else:
            parts.append(re.escape(character))
    return re.compile("".join(parts), re.DOTALL)
