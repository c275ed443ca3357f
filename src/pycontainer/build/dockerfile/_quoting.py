"""Texts as words of a Dockerfile: what the expansion of variables gives back unchanged."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["option_list", "written_word"]

_PLAIN: Final = re.compile(r"[\w.+:/=@%^,~*?!{}()|;&>\[\]-]+")
_SPECIAL: Final = re.compile(r'(["\\$])')


def written_word(text: str) -> str:
    """The word that stands for a text; quoted where parts of it would mean something."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + _SPECIAL.sub(r"\\\1", text) + '"'


def option_list(options: Sequence[tuple[str, str]]) -> str:
    """The value of a flag such as ``--mount``: a line of CSV; an option of no value is a switch."""
    words = [f"{name}={written_word(value)}" if value else name for name, value in options]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(words)
    return line.getvalue()
