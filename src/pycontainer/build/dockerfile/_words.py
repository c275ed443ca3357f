"""How the arguments of instructions are split: flags, words, JSON (BuildKit's line parsers)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NoReturn

from pycontainer.build.dockerfile._lines import SPACE

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BLANKS",
    "json_list",
    "json_text",
    "quoted_flag",
    "split_flags",
    "split_quoted",
]

BLANKS: Final = re.compile(r"[\t\v\f\r ]+")
"""What separates words where quotes mean nothing."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_FLAG_SPECIAL: Final = re.compile(rf"([\\'\"{re.escape(SPACE)}])")


def split_flags(text: str) -> tuple[list[str], str]:
    """The words in front that begin with ``--``, unquoted, and the rest."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at] in SPACE:
            at += 1
        if not text.startswith("--", at):
            return flags, text[at:]
        word, at = _flag(text, at)
        if word == "--":
            return flags, text[at:].strip(SPACE)
        flags.append(word)


def _flag(text: str, at: int) -> tuple[str, int]:
    word: list[str] = []
    quote = ""
    while at < len(text):
        character = text[at]
        at += 1
        if character == "\\":
            word.append(text[at : at + 1])
            at += 1
        elif quote:
            if character == quote:
                quote = ""
            else:
                word.append(character)
        elif character in "'\"":
            quote = character
        elif character in SPACE:
            break
        else:
            word.append(character)
    return "".join(word), min(at, len(text))


def quoted_flag(name: str, value: str) -> str:
    """A flag as `split_flags` takes it apart."""
    escaped = _FLAG_SPECIAL.sub(r"\\\1", value)
    return f"--{name}={escaped}"


def split_quoted(text: str, escape: str) -> list[str]:
    """Words that may hold white space in quotes or after an escape; quotes and escapes stay."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if not quote and character in SPACE:
            if word:
                words.append("".join(word))
                word = []
            continue
        if character == escape and quote != "'":
            if at == len(text):
                break
            word += [character, text[at]]
            at += 1
            continue
        if quote and character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        word.append(character)
    if word:
        words.append("".join(word))
    return words


def json_list(text: str) -> list[str] | None:
    """The texts of a JSON array; None if it is none.

    Raises:
        ValueError: It is an array that holds other things.
    """
    if not text.lstrip(SPACE).startswith("["):
        return None
    try:
        values = json.loads(text.lstrip(SPACE), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in values):
        raise ValueError("a JSON array of a command or of paths holds texts and nothing else")
    # Go reads an unpaired surrogate as U+FFFD; there is no way to write one in UTF-8.
    return [_SURROGATE.sub("\ufffd", value) for value in values]


def _refuse(name: str) -> NoReturn:
    """NaN and Infinity are not JSON."""
    raise ValueError(name)


def json_text(words: Iterable[str]) -> str:
    """The JSON array of texts, on one line."""
    return json.dumps(list(words), ensure_ascii=False)
