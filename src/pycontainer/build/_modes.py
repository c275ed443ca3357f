"""Permissions as ``chmod`` takes them: octal, or symbolic changes of those that are there."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["change_mode", "check_mode"]

_OCTAL: Final = re.compile("[0-7]{1,5}")
_CLAUSE: Final = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION: Final = re.compile(r"([-+=])([ugo](?![rwxXst])|[rwxXst]*)")
_SHIFTS: Final = {"u": 6, "g": 3, "o": 0}
_ALL: Final = 0o7777


def check_mode(text: str) -> None:
    """Refuse what is no mode.

    Raises:
        ValueError: It is none.
    """
    octal = _OCTAL.fullmatch(text) is not None and int(text, 8) <= _ALL
    if not octal and not all(_CLAUSE.fullmatch(clause) for clause in text.split(",")):
        raise ValueError(f"not a file mode: {text!r}; write it like 755 or u=rwX,go=rX")


def change_mode(text: str, mode: int, *, is_directory: bool) -> int:
    """The permissions that a mode makes of others."""
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        assert match is not None, f"{text!r} was checked"
        who = match[1].replace("a", "ugo") or "ugo"
        for operator, rights in _ACTION.findall(match[2]):
            mode = _act(mode, who, operator, rights, is_directory=is_directory)
    return mode


def _act(mode: int, who: str, operator: str, rights: str, *, is_directory: bool) -> int:
    bits = 0
    classes = 0
    for one in who:
        shift = _SHIFTS[one]
        classes |= 0o7 << shift
        bits |= _bits(mode, rights, is_directory=is_directory) << shift
    special = (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0)
    if "s" in rights:
        bits |= special
    if "t" in rights and "o" in who:
        bits |= 0o1000
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    cleared = classes | (0 if is_directory else special) | (0o1000 if "o" in who else 0)
    return (mode & ~cleared) | bits


def _bits(mode: int, rights: str, *, is_directory: bool) -> int:
    if rights in _SHIFTS:
        return mode >> _SHIFTS[rights] & 0o7
    bits = 0
    for right in rights:
        if right == "X":
            bits |= 1 if is_directory or mode & 0o111 else 0
        else:
            bits |= {"r": 4, "w": 2, "x": 1}.get(right, 0)
    return bits
