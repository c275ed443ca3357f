"""Messages of the Domain Name System (RFC 1035), as far as a resolver of containers' names needs them."""

from __future__ import annotations

import _socket
import struct

__all__ = ["Question", "answer", "canonical", "failure", "parse", "unknown"]

_HEADER = struct.Struct(">HHHHHH")
_RESPONSE, _AUTHORITATIVE, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0100, 0x0080
_OPCODE = 0x7800
_SERVER_FAILURE, _NO_SUCH_NAME = 2, 3
_A, _PTR, _AAAA, _ANY, _INTERNET = 1, 12, 28, 255, 1
_SECONDS_VALID = 5
_NAME_OF_QUESTION = 0xC00C  # a pointer to where the question's name begins
_LONGEST_LABEL = 63


class Question:
    """What a query asks: `name` in lower case, `kind`; where it asks for the name of an `address`, that.

    `end` is where it ends in the query.
    """

    __slots__ = ("address", "end", "kind", "name")

    def __init__(self, name: str, kind: int, end: int) -> None:
        self.name = name
        self.kind = kind
        self.end = end
        self.address = _asked_address(name) if kind in (_PTR, _ANY) else None


def parse(query: bytes) -> Question | None:
    """The one question of a query; None if it is no query that has one."""
    if len(query) < _HEADER.size:
        return None
    _, flags, questions, _, _, _ = _HEADER.unpack_from(query)
    if flags & (_RESPONSE | _OPCODE) or questions != 1:
        return None
    labels, at = [], _HEADER.size
    while at < len(query) and (length := query[at]):
        if length > _LONGEST_LABEL:
            return None
        labels.append(query[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    if at + 5 > len(query):
        return None
    kind, group = struct.unpack_from(">HH", query, at + 1)
    return Question(".".join(labels), kind, at + 5) if group == _INTERNET else None


def answer(query: bytes, question: Question, values: list[str]) -> bytes:
    """What we know ourselves: addresses of a name, or the name of an address."""
    records = []
    for value in values:
        if question.address is not None:
            records.append(_record(_PTR, _encode_name(value)))
        elif ":" in value and question.kind in (_AAAA, _ANY):
            records.append(_record(_AAAA, _socket.inet_pton(_socket.AF_INET6, value)))
        elif ":" not in value and question.kind in (_A, _ANY):
            records.append(_record(_A, _socket.inet_aton(value)))
    return _message(query, question, _AUTHORITATIVE, records)


def unknown(query: bytes, question: Question) -> bytes:
    """That there is no such name."""
    return _message(query, question, _NO_SUCH_NAME, [])


def failure(query: bytes) -> bytes:
    """That nobody could be asked."""
    question = parse(query)
    assert question is not None
    return _message(query, question, _SERVER_FAILURE, [])


def canonical(address: str) -> str:
    """An address in the one form in which it is compared."""
    if ":" not in address:
        return address
    return _socket.inet_ntop(_socket.AF_INET6, _socket.inet_pton(_socket.AF_INET6, address))


def _message(query: bytes, question: Question, flags: int, records: list[bytes]) -> bytes:
    number, asked, *_ = _HEADER.unpack_from(query)
    flags |= _RESPONSE | _RECURSION_AVAILABLE | asked & _RECURSION_DESIRED
    header = _HEADER.pack(number, flags, 1, len(records), 0, 0)
    return header + query[_HEADER.size : question.end] + b"".join(records)


def _record(kind: int, data: bytes) -> bytes:
    head = struct.pack(">HHHIH", _NAME_OF_QUESTION, kind, _INTERNET, _SECONDS_VALID, len(data))
    return head + data


def _encode_name(name: str) -> bytes:
    labels = [label.encode()[:_LONGEST_LABEL] for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def _asked_address(name: str) -> str | None:
    """The address that a name of ``in-addr.arpa`` or ``ip6.arpa`` stands for."""
    labels = name.split(".")[::-1]
    if labels[:2] == ["arpa", "in-addr"]:
        return ".".join(labels[2:])
    if labels[:2] == ["arpa", "ip6"] and len(labels) == 34:
        digits = "".join(labels[2:])
        try:
            return _socket.inet_ntop(_socket.AF_INET6, bytes.fromhex(digits))
        except ValueError:
            return None
    return None
