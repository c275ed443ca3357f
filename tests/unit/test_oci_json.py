"""Documents are read strictly, and complaints carry the path inside the document."""

from __future__ import annotations

import pytest

from pycontainer.errors import SpecError
from pycontainer.oci._json import Fields, decode, encode, merge, refuse_twice


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not a JSON document"),
        (b"{", "not a JSON document"),
        (b"{} {}", "not a JSON document"),
        (b'\xef\xbb\xbf{"a": 1}', "not a JSON document"),
        (b"[]", "expected an object, found a list"),
        (b"null", "expected an object, found null"),
        (b"true", "expected an object, found a boolean"),
        (b'"text"', "expected an object, found a string"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": -Infinity}', "-Infinity is no JSON"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not a JSON document"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at 7"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": "\x00"}', "not a JSON document"),
    ],
)
def test_what_is_no_document_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint) as caught:
        decode(data)
    assert caught.value.path == ""


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b'{"a": 1, "a": 1}', "a"),
        (b'{"a": {"b": [{}, {"c": 1, "d": 2, "c": 3}]}}', "a.b[1].c"),
        (b'{"a": {"x": 1, "x": 2}, "a": {}}', "a"),
        (b'{"org.a/b": {"c.d": 1, "c.d": 1}}', '["org.a/b"]["c.d"]'),
    ],
)
def test_a_name_given_twice_is_refused_with_its_path(data: bytes, path: str) -> None:
    with pytest.raises(SpecError, match="there twice") as caught:
        decode(data)
    assert caught.value.path == path


def test_surrogate_pairs_are_text() -> None:
    assert decode(b'{"a": "\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}


def test_documents_are_encoded_compactly_and_in_order() -> None:
    assert encode({"b": 1, "a": ["é", None]}) == '{"b":1,"a":["é",null]}'.encode()


def test_merging_drops_none_and_sorts_the_rest_after_what_is_known() -> None:
    merged = merge({"z": 1, "y": None, "x": 2}, {"c": 3, "b": None, "z": "other"})
    assert list(merged.items()) == [("z", 1), ("x", 2), ("b", None), ("c", 3)]


def test_a_list_says_which_name_is_there_twice() -> None:
    refuse_twice(["a", "b"], "names")
    with pytest.raises(SpecError, match=r"names\[2\]: 'a' is there twice"):
        refuse_twice(["a", "b", "a"], "names")


# --- fields ----------------------------------------------------------------------------------


def test_absent_and_null_fields_read_alike() -> None:
    fields = Fields({"null": None}, "doc")
    for name in ("null", "absent"):
        assert fields.text(name, "default") == "default"
        assert fields.optional_text(name) is None
        assert fields.integer(name, 7) == 7
        assert fields.optional_integer(name) is None
        assert fields.flag(name) is False
        assert fields.texts(name) == ()
        assert fields.optional_texts(name) is None
        assert fields.integers(name) == ()
        assert fields.members(name) == {}
        assert fields.optional_members(name) is None
        assert fields.texts_by_name(name) == {}
        assert fields.optional(name, lambda value, path: path) is None
        assert not fields.has(name)
        with pytest.raises(SpecError, match=f"^doc.{name}: missing$"):
            fields.require(name)


def test_an_empty_list_differs_from_none() -> None:
    assert Fields({"a": []}).optional_texts("a") == ()


def test_what_nobody_asked_for_is_left() -> None:
    fields = Fields({"a": "x", "b": 1, "c": None, "d": None})
    fields.text("a")
    fields.text("d")
    assert fields.rest() == {"b": 1, "c": None}


@pytest.mark.parametrize(
    ("value", "method", "complaint"),
    [
        (1, "text", "doc.f: expected a string, found an integer"),
        ("1", "integer", "doc.f: expected an integer, found a string"),
        (True, "integer", "doc.f: expected an integer, found a boolean"),
        (1.0, "integer", "doc.f: expected an integer, found a number with a fraction"),
        (1 << 64, "integer", "doc.f: a number of more than 64 bits is not in"),
        (-(1 << 63) - 1, "integer", "doc.f: -9223372036854775809 is not in"),
        (1, "flag", "doc.f: expected a boolean, found an integer"),
        ({}, "texts", "doc.f: expected a list, found an object"),
        (["a", 1], "texts", r"doc.f\[1\]: expected a string, found an integer"),
        ([1, None], "integers", r"doc.f\[1\]: expected an integer, found null"),
        ([], "members", "doc.f: expected an object, found a list"),
        ({"k": None}, "texts_by_name", "doc.f.k: expected a string, found null"),
        ({"k.l": 1}, "texts_by_name", r'doc.f\["k.l"\]: expected a string, found an integer'),
        ([], "child", "doc.f: expected an object, found a list"),
    ],
)
def test_a_wrong_type_is_named_with_its_path(value: object, method: str, complaint: str) -> None:
    with pytest.raises(SpecError, match=f"^{complaint}"):
        getattr(Fields({"f": value}, "doc"), method)("f")
