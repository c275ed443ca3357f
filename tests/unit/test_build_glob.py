from __future__ import annotations

import pytest

from pycontainer.build._glob import PatternError, compile_name, literal


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "", True),
        ("*", ".hidden", True),
        ("*.py", "main.py", True),
        ("*.py", "main.pyc", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("[a-c]x", "bx", True),
        ("[a-c]x", "dx", False),
        ("[^a-c]x", "dx", True),
        ("[^a-c]x", "ax", False),
        ("[!a]", "!", True),  # Go negates with ^ alone
        ("[\\]a]", "]", True),
        ("[\\-a]", "-", True),
        ("[c-a]", "b", False),
        ("\\*", "*", True),
        ("\\*", "x", False),
        ("a+b(c)", "a+b(c)", True),
        ("*", "line\nbreak", True),
    ],
)
def test_names_match_as_in_go(pattern: str, name: str, matches: bool) -> None:
    assert bool(compile_name(pattern).fullmatch(name)) is matches


@pytest.mark.parametrize("pattern", ["[", "[]", "[a", "[a-", "[-a]", "[a-]", "a\\", "[^]"])
def test_broken_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_name(pattern)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("plain", "plain"), ("a\\*b", "a*b"), ("\\[x]", "[x]"), ("a*", None), ("[a]", None)],
)
def test_literal_names(pattern: str, name: str | None) -> None:
    assert literal(pattern) == name
