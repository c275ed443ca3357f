"""Variables in words: every modifier, quotes and escapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.build.dockerfile._expand import Expander, expand

VARIABLES = {"A": "value", "E": "", "P": "foo/bar/baz.tar.gz", "S": "x  y", "N_1": "n"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A${A}-$N_1.", "valuevalue-n."),
        ("$NONE|${NONE}|", "||"),
        ("a$", "a$"),
        ("$ a", "$ a"),
        (r"\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A \' \\" \\$A \\x"', "value ' \" $A \\x"),
        ("${A:-x}${E:-x}${N:-x}", "valuexx"),
        ("${A-x}${E-x}${N-x}", "valuex"),
        ("${A:+x}${E:+y}${N:+z}", "x"),
        ("${A+x}${E+y}${N+z}", "xy"),
        ("${A:?x}${E?}", "value"),
        ("${N:-$A}${N:-${A}!}${N:-\"a b\"}", "valuevalue!a b"),
        ("${P#*/}", "bar/baz.tar.gz"),
        ("${P##*/}", "baz.tar.gz"),
        ("${P%.*}", "foo/bar/baz.tar"),
        ("${P%%.*}", "foo/bar/baz"),
        ("${P#?oo}", "/bar/baz.tar.gz"),
        ("${P#nope}", "foo/bar/baz.tar.gz"),
        ("${P/ba?/X}", "foo/X/baz.tar.gz"),
        ("${P//ba?/X}", "foo/X/X.tar.gz"),
        (r"${P//\//-}", "foo-bar-baz.tar.gz"),
        ("${P/bar/}", "foo//baz.tar.gz"),
    ],
)  # fmt: skip
def test_words(text: str, expected: str) -> None:
    assert expand(text, VARIABLES) == expected


def test_another_escape_character() -> None:
    assert expand("`$A \\$A", VARIABLES, escape="`") == "$A \\value"


def test_heredocs_keep_quotes() -> None:
    assert expand("'$A' \"\\$A\" \\n", VARIABLES, quotes=False) == "'value' \"$A\" \\n"


def test_splitting() -> None:
    assert Expander(VARIABLES).words("a $S '$S'  \"$S\" b\\ c") == [
        "a",
        "x",
        "y",
        "$S",
        "x  y",
        "b c",
    ]


def test_missing_names_are_noted() -> None:
    expander = Expander(VARIABLES)
    expander.word("$A $B ${C:-x}")
    assert expander.missing == {"B", "C"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${", "bad substitution"),
        ("${}", "bad substitution"),
        ("${{A}}", "bad substitution"),
        ("${A", "no modifier"),
        ("${A:x}", "no modifier ':x'"),
        ("${A:#x}", "no modifier ':#'"),
        ("${A^}", "no modifier"),
        ("${A:-x", "ends before '}'"),
        ("${A/x}", "ends before '/'"),
        ("${E:?is needed}", "E: is needed"),
        ("${N?}", "N: must be set"),
        ("'a", "single quote has no end"),
        ('"a', "double quote has no end"),
        (r"${A#\x}", "escapes 'x'"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        expand(text, VARIABLES)


@given(st.text(st.sampled_from("${}AENX:-+?#%/*\\'\" `ab@1"), max_size=30), st.booleans())
def test_any_text_expands_or_is_a_value_error(text: str, quotes: bool) -> None:
    try:
        result = expand(text, VARIABLES, quotes=quotes)
    except ValueError:
        return
    assert expand(text, VARIABLES, quotes=quotes) == result
    if not set(text) & set("$\\'\"`"):
        assert result == text


@given(st.text())
def test_a_single_quoted_text_is_itself(text: str) -> None:
    quoted = "'" + text.replace("'", "'\"'\"'") + "'"
    assert expand(quoted, VARIABLES) == text
