"""Messages of the Domain Name System, against what RFC 1035 says of them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.runtime._inside import dns

A, PTR, AAAA, ANY = 1, 12, 28, 255


def query(name: str, kind: int = A, *, flags: int = 0x0100, questions: int = 1) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label)
    header = struct.pack(">HHHHHH", 0x1234, flags, questions, 0, 0, 0)
    return header + labels + b"\0" + struct.pack(">HH", kind, 1)


def records(message: bytes, end: int) -> list[tuple[int, bytes]]:
    count = int.from_bytes(message[6:8], "big")
    found, at = [], end
    for _ in range(count):
        pointer, kind, group, ttl, size = struct.unpack_from(">HHHIH", message, at)
        assert (pointer, group) == (0xC00C, 1)
        assert 0 < ttl < 60
        found.append((kind, message[at + 12 : at + 12 + size]))
        at += 12 + size
    assert at == len(message)
    return found


def ask(name: str, kind: int, values: list[str]) -> list[tuple[int, bytes]]:
    asked = query(name, kind)
    question = dns.parse(asked)
    assert question is not None
    reply = dns.answer(asked, question, values)
    number, flags = struct.unpack_from(">HH", reply)
    assert (number, flags) == (
        0x1234,
        0x8580,
    )  # response, authoritative, recursion wanted and there
    assert reply[12 : question.end] == asked[12:]
    return records(reply, question.end)


def test_addresses_of_a_name() -> None:
    values = ["10.0.0.2", "fd00::2", "10.0.0.3"]
    assert ask("web", A, values) == [(A, b"\n\0\0\2"), (A, b"\n\0\0\3")]
    assert ask("web", AAAA, values) == [(AAAA, b"\xfd" + bytes(14) + b"\2")]
    assert len(ask("web", ANY, values)) == 3
    assert ask("web", AAAA, ["10.0.0.2"]) == []  # there is such a name, but no such address


def test_the_name_of_an_address() -> None:
    assert ask("2.0.0.10.in-addr.arpa", PTR, ["web.net"]) == [(PTR, b"\3web\3net\0")]
    question = dns.parse(query("2.0.0.10.in-addr.arpa", PTR))
    assert question is not None
    assert question.address == "10.0.0.2"
    question = dns.parse(query("2" + ".0" * 29 + ".d.f.ip6.arpa", PTR))
    assert question is not None
    assert question.address == dns.canonical("fd00:0::0:2") == "fd00::2"


def test_names_are_compared_without_case() -> None:
    question = dns.parse(query("WEB.Net"))
    assert question is not None
    assert question.name == "web.net"


def test_failures_say_what_they_are() -> None:
    asked = query("web")
    question = dns.parse(asked)
    assert question is not None
    assert dns.unknown(asked, question)[3] & 0xF == 3
    assert dns.failure(asked)[3] & 0xF == 2


@pytest.mark.parametrize(
    "message",
    [
        b"",
        query("a")[:-1],
        query("a", flags=0x8000),
        query("a", flags=0x2800),
        query("a", questions=2),
        query("a")[:12] + b"\xc0\x0c\0\1\0\1",
    ],
)
def test_what_is_no_query(message: bytes) -> None:
    assert dns.parse(message) is None


@given(st.binary(max_size=80))
def test_no_bytes_break_it(data: bytes) -> None:
    question = dns.parse(data)
    if question is not None:
        assert dns.failure(data)[:2] == data[:2]
        dns.answer(data, question, ["10.0.0.1", "fd00::1"])
