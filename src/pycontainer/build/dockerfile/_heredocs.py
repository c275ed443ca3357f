"""Heredocs: where an instruction's line announces them, and what they are called."""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from pycontainer.build.dockerfile._lines import SPACE

__all__ = ["Heredoc", "announced", "parse_heredoc"]

_MARK: Final = re.compile(rf"([0-9]*)<<(-?)([{re.escape(SPACE)}]*)([^<]+)", re.DOTALL)
_LEADING_TABS: Final = re.compile(r"^\t+", re.MULTILINE)
_PLAIN: Final = re.compile(r"[\w.+:/=@%^,~-]+")


@frozen
class Heredoc:
    """A text within a Dockerfile.

    Attributes:
        delimiter: The line that ends it; names the file that it becomes.
        content: The text as it is written, with line ends.
        chomp: Whether tabs at the beginnings of its lines are dropped (``<<-``).
        expand: Whether variables in it are replaced: not if the delimiter is quoted.
        descriptor: The number before ``<<``, as the shell has it; empty if there is none.
    """

    delimiter: str
    content: str = ""
    chomp: bool = False
    expand: bool = True
    descriptor: str = ""

    @property
    def text(self) -> str:
        """The content without what is dropped of it."""
        return _LEADING_TABS.sub("", self.content) if self.chomp else self.content

    @property
    def mark(self) -> str:
        """What announces it."""
        name = self.delimiter
        if not self.expand:
            name = '"' + re.sub(r'(["\\$])', r"\\\1", name) + '"'
        elif not _PLAIN.fullmatch(name):
            name = re.sub(r"(\W)", r"\\\1", name)
        return f"{self.descriptor}<<{'-' if self.chomp else ''}{name}"

    @property
    def body(self) -> str:
        """What stands below the line that announces it."""
        return f"{self.content}{self.delimiter}"


def parse_heredoc(word: str) -> Heredoc | None:
    """What a word announces, with no content yet; None if it announces nothing."""
    match = _MARK.fullmatch(word)
    if match is None:
        return None
    descriptor, dash, gap, word = match.groups()
    unquoted = _unquoted(word)
    if unquoted is None or (gap and not re.match(r"[A-Za-z_'\"\\$]", word)):  # 1 << 2 is none
        return None
    name, quoted = unquoted
    return Heredoc(name, "", dash == "-", not quoted, descriptor)


def announced(line: str) -> list[Heredoc]:
    """The heredocs that a command's line announces, outside of its quotes."""
    found = (parse_heredoc(word) for word in _shell_words(line))
    return [heredoc for heredoc in found if heredoc is not None]


def _unquoted(word: str) -> tuple[str, bool] | None:
    """A word without its quotes and escapes, and whether it had quotes; None if it is not one word."""
    name: list[str] = []
    quote = ""
    quoted = False
    at = 0
    while at < len(word):
        character = word[at]
        at += 1
        if quote == "'" and character != "'":
            name.append(character)
        elif character == "\\":
            follows = word[at : at + 1]
            at += 1
            if quote and follows not in ('"', "$", "\\"):
                name.append(character)
            name.append(follows)
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote, quoted = character, True
        elif not quote and character in SPACE:
            return None
        else:
            name.append(character)
    return None if quote or not name else ("".join(name), quoted)


def _shell_words(line: str) -> list[str]:
    """The words of a line with their quotes; white space after ``<<`` belongs to the word.

    A line whose quotes do not end announces nothing, so it has no words.
    """
    words: list[str] = []
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(line):
        character = line[at]
        at += 1
        if not quote and character in SPACE:
            if not "".join(word).rstrip(SPACE).endswith("<<"):
                words.append("".join(word))
                word = []
                continue
        elif character == "\\" and quote != "'":
            word.append(character)
            character = line[at : at + 1]
            at += 1
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        word.append(character)
    return [] if quote else [*words, "".join(word)]
