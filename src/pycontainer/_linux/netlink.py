"""Netlink sockets and messages (netlink(7)): what rtnetlink and nfnetlink have in common.

Imported by the zygote, so it stays within `struct`, `os` and the C half of `socket`.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CREATE",
    "DUMP",
    "EXCL",
    "NETFILTER",
    "ROUTE",
    "Message",
    "Socket",
    "attribute",
    "attributes",
    "each",
    "flag",
    "nested",
    "network_order",
    "text",
    "u8",
    "u16",
    "u32",
]

ROUTE, NETFILTER = 0, 12
"""Protocols: NETLINK_ROUTE, NETLINK_NETFILTER."""

EXCL, CREATE, DUMP = 0x200, 0x400, 0x300
"""Flags of a message: fail if the thing is there; make it; tell of all (NLM_F_*)."""

_AF_NETLINK = 16
_REQUEST, _ACK, _CAPPED, _HAS_TEXT = 1, 4, 0x100, 0x200
_ERROR, _DONE = 2, 3
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_EXT_ACK_TEXT = 1
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER = 1 << 16
_SECONDS = 30.0


class Message:
    """One request, as yet without its place in a socket's sequence.

    Args:
        kind: Type of the message.
        flags: Beside NLM_F_REQUEST and NLM_F_ACK, which the socket sets.
        body: All after the header.
        purpose: What it is for; becomes the `filename` of an error.
    """

    __slots__ = ("body", "flags", "kind", "purpose")

    def __init__(self, kind: int, flags: int, body: bytes, purpose: str) -> None:
        self.kind = kind
        self.flags = flags
        self.body = body
        self.purpose = purpose

    def encode(self, sequence: int, flags: int) -> bytes:
        """The message as it is sent."""
        header = _HEADER.pack(
            _HEADER.size + len(self.body), self.kind, _REQUEST | self.flags | flags, sequence, 0
        )
        return header + self.body + bytes(-len(self.body) % 4)


class Socket:
    """A netlink socket of the network namespace in which it is made; a context manager.

    Args:
        protocol: `ROUTE` or `NETFILTER`.
    """

    def __init__(self, protocol: int) -> None:
        self._socket = _socket.socket(
            _AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, protocol
        )
        self._sequence = 0
        for option in (_CAP_ACK, _EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.settimeout(
            _SECONDS
        )  # the kernel answers at once; waiting for ever helps nobody

    def __enter__(self) -> Socket:  # noqa: PYI034  (typing.Self would cost the zygote its import)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, *messages: Message) -> None:
        """Have the kernel carry out requests, one after the other, whether or not one before failed.

        Raises:
            OSError: It refused one; this is about the first, whose purpose is the `filename`.
        """
        first = self._sequence + 1
        self._sequence += len(messages)
        self._transmit(m.encode(first + n, _ACK) for n, m in enumerate(messages))
        failed: OSError | None = None
        pending = len(messages)
        while pending:
            for kind, flags, sequence, body in self._receive():
                if kind == _ERROR and sequence >= first:
                    pending -= 1
                    failed = failed or _failure(flags, body, messages[sequence - first].purpose)
        if failed is not None:
            raise failed

    def send_transaction(self, begin: Message, messages: list[Message], end: Message) -> None:
        """Have nfnetlink carry out all of the requests or none.

        Raises:
            OSError: It refused; this is about the first at fault.
        """
        first = self._sequence + 1
        batch = [begin, *messages, end]
        self._sequence += len(batch)
        # One acknowledgement suffices, the last: failures are reported in any case, and before it.
        last = first + len(messages)
        self._transmit(
            m.encode(first + n, _ACK if first + n == last else 0) for n, m in enumerate(batch)
        )
        failed: OSError | None = None
        while True:
            for kind, flags, sequence, body in self._receive():
                if kind != _ERROR or sequence < first:
                    continue
                failed = failed or _failure(flags, body, batch[sequence - first].purpose)
                # The beginning is blamed for what stops a transaction before its first request.
                if sequence in (first, last):
                    if failed is not None:
                        raise failed
                    return

    def ask(self, message: Message) -> list[bytes]:
        """Send one request that is answered, and return the bodies of the answers.

        Raises:
            OSError: The kernel refused it.
        """
        self._sequence += 1
        expected = self._sequence
        # Answered by parts and a DONE where it is a dump, else by one answer and the acknowledgement.
        self._transmit([message.encode(expected, 0 if message.flags & DUMP == DUMP else _ACK)])
        answers: list[bytes] = []
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != expected:
                    continue
                if kind == _DONE:
                    return answers
                if kind != _ERROR:
                    answers.append(body)
                    continue
                failed = _failure(flags, body, message.purpose)
                if failed is not None:
                    raise failed
                return answers

    def _transmit(self, parts: Iterator[bytes] | list[bytes]) -> None:
        self._socket.send(b"".join(parts))

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """The messages of one packet: type, flags, sequence number, body."""
        data = self._socket.recv(_BUFFER)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
            yield kind, flags, sequence, data[at + _HEADER.size : at + length]
            at += length + -length % 4


def _failure(flags: int, body: bytes, purpose: str) -> OSError | None:
    code = -int.from_bytes(body[:4], "little", signed=True)
    if code == 0:
        return None
    said = os.strerror(code)
    if flags & _HAS_TEXT:
        # Behind the error and the header of the request come attributes; with them, the request's
        # own body only where it was not capped.
        request = _HEADER.size if flags & _CAPPED else int.from_bytes(body[4:8], "little")
        found = attributes(body[4 + request + -request % 4 :]).get(_EXT_ACK_TEXT)
        if found:
            said += f" ({found.rstrip(bytes(1)).decode(errors='replace')})"
    return OSError(code, said, purpose) if code in errno.errorcode else OSError(code, said)


# --- attributes ------------------------------------------------------------------------------


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds others."""
    return attribute(kind | _NESTED, b"".join(parts))


def flag(kind: int) -> bytes:
    """An attribute without a value."""
    return attribute(kind, b"")


def text(kind: int, value: str) -> bytes:
    """An attribute that is a C string."""
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    """An attribute of one byte."""
    return attribute(kind, value.to_bytes(1, "little"))


def u16(kind: int, value: int) -> bytes:
    """An attribute of two bytes, in the machine's order."""
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    """An attribute of four bytes, in the machine's order."""
    return attribute(kind, struct.pack("=I", value))


def network_order(kind: int, value: int) -> bytes:
    """An attribute of four bytes, the highest first, as nfnetlink has its numbers."""
    return attribute(kind, struct.pack(">I", value))


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in some bytes, by type; of several of one type the last."""
    return dict(_walk(data))


def each(data: bytes) -> list[bytes]:
    """The attributes in some bytes, all of one type, such as the elements of a list."""
    return [value for _, value in _walk(data)]


def _walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield kind & _TYPE_MASK, data[at + 4 : at + length]
        at += length + -length % 4
