"""nf_tables by netlink (linux/netfilter/nf_tables.h): tables, chains, rules, sets and their elements.

A rule is a list of expressions, each of which puts something into registers or compares, looks up or
decides by them. A register number from 1 to 4 names 16 bytes; from 8 on, the same memory by four.
"""

from __future__ import annotations

import struct

from pycontainer._linux import netlink
from pycontainer._linux.netlink import CREATE, EXCL, Message

__all__ = [
    "ACCEPT",
    "CONCAT_REGISTER",
    "DATA_TYPES",
    "DROP",
    "EQUAL",
    "GOTO",
    "INTERVAL",
    "MAP",
    "NETWORK_HEADER",
    "NOT_EQUAL",
    "RETURN",
    "TRANSPORT_HEADER",
    "Chain",
    "Element",
    "Table",
    "bitwise",
    "compare",
    "ct",
    "dnat",
    "fib_type",
    "load",
    "lookup",
    "masquerade",
    "meta",
    "overwrite",
    "payload",
    "transact",
    "verdict",
]

_SUBSYSTEM = 10 << 8
_BATCH_BEGIN, _BATCH_END, _BATCH_GENERATION = 0x10, 0x11, 1
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _NEWSET = 0, 1, 2, 3, 6, 9
_NEWSETELEM, _GETSETELEM, _DELSETELEM, _GETGEN = 12, 13, 14, 16
_INET = 1  # NFPROTO_INET: IPv4 and IPv6
_LIST_ELEMENT = 1
_RULE_APPEND = 0x800

ACCEPT, DROP, GOTO, RETURN = 1, 0, -4, -5
"""Verdicts (NF_*, NFT_*)."""

INTERVAL, MAP = 4, 8
"""Flags of a set: its elements are the bounds of ranges; they lead to data."""

NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
EQUAL, NOT_EQUAL = 0, 1
CONCAT_REGISTER = 8
"""The first register by the numbering that counts four bytes each."""

META_KEYS = {"iifname": 6, "oifname": 7, "nfproto": 15, "l4proto": 16}
CT_KEYS = {"state": 0, "status": 2}

DATA_TYPES = {
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "inet_proto": (12, 1),
    "inet_service": (13, 2),
    "ifname": (41, 16),
}
"""Number by which nft(8) knows a type, and its size. The kernel itself asks for sizes only."""


class Element:
    """A member of a set.

    Args:
        key: In network order; each part of a concatenation padded to four bytes.
        data: What a map leads to.
        end: Whether it is the bound behind a range, in a set of ranges.
        comment: Text kept with it, for whoever reads it; at most 120 bytes.
    """

    __slots__ = ("comment", "data", "end", "key")

    def __init__(
        self, key: bytes, data: bytes | None = None, *, end: bool = False, comment: str = ""
    ) -> None:
        self.key = key
        self.data = data
        self.end = end
        self.comment = comment

    def encode(self, *, name_only: bool = False) -> bytes:
        """The element as an attribute; only what names it where it is to be found or deleted."""
        parts = [netlink.nested(1, netlink.attribute(1, self.key))]
        if self.data is not None and not name_only:
            parts.append(netlink.nested(2, netlink.attribute(1, self.data)))
        if self.end:
            parts.append(netlink.network_order(3, 1))
        if self.comment and not name_only:
            # As nft(8) keeps comments: type 0, length, C string.
            said = self.comment.encode() + b"\0"
            parts.append(netlink.attribute(6, bytes((0, len(said))) + said))
        return netlink.nested(_LIST_ELEMENT, *parts)


class Chain:
    """A chain of rules.

    Args:
        name: Its name.
        rules: Each a list of expressions.
        kind: ``filter`` or ``nat``; empty for one that others jump to.
        hook: Where the kernel calls it (NF_INET_*).
        priority: Which of that hook's chains come first.
    """

    __slots__ = ("hook", "kind", "name", "priority", "rules")

    def __init__(
        self,
        name: str,
        rules: list[list[bytes]],
        *,
        kind: str = "",
        hook: int = 0,
        priority: int = 0,
    ) -> None:
        self.name = name
        self.rules = rules
        self.kind = kind
        self.hook = hook
        self.priority = priority


class Table:
    """The messages about one table of the family ``inet``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def create(self) -> Message:
        """Make it; it must not be there."""
        return _message(_NEWTABLE, CREATE | EXCL, f"make the table {self.name}", self._name())

    def delete(self) -> Message:
        """Remove it with all that is in it."""
        return _message(_DELTABLE, 0, f"remove the table {self.name}", self._name())

    def exists(self, socket: netlink.Socket) -> bool:
        """Whether it is there."""
        wanted = _message(_GETTABLE, 0, f"look for the table {self.name}", self._name())
        return bool(_ask(socket, wanted))

    def add_set(
        self,
        name: str,
        number: int,
        key: tuple[str, ...],
        data: tuple[str, ...] = (),
        flags: int = 0,
    ) -> Message:
        """Make a set, or with `data` a map.

        Args:
            name: Its name.
            number: Names it within the transaction.
            key: Names of `DATA_TYPES`; several are a concatenation.
            data: Likewise.
            flags: `INTERVAL`.
        """
        kind, size = _concatenated(key)
        parts = [
            self._name(),
            netlink.text(2, name),
            netlink.network_order(3, flags | (MAP if data else 0)),
            netlink.network_order(4, kind),
            netlink.network_order(5, size),
            netlink.network_order(10, number),
        ]
        if key[0] == "ifname":
            # For nft(8), which else shows them back to front: type 0, length, BYTEORDER_HOST_ENDIAN.
            parts.append(netlink.attribute(13, struct.pack("=BBI", 0, 4, 1)))
        if data:
            kind, size = _concatenated(data)
            parts += [netlink.network_order(6, kind), netlink.network_order(7, size)]
        return _message(_NEWSET, CREATE | EXCL, f"make the set {name}", *parts)

    def add_chain(self, chain: Chain) -> list[Message]:
        """Make a chain, as yet without its rules."""
        parts = [self._name(), netlink.text(3, chain.name)]
        if chain.kind:
            hook = netlink.network_order(1, chain.hook) + netlink.network_order(
                2, chain.priority & 0xFFFFFFFF
            )
            parts += [netlink.nested(4, hook), netlink.text(7, chain.kind)]
        return [_message(_NEWCHAIN, CREATE | EXCL, f"make the chain {chain.name}", *parts)]

    def add_rules(self, chain: Chain) -> list[Message]:
        """Put a chain's rules into it."""
        return [
            _message(
                _NEWRULE,
                CREATE | _RULE_APPEND,
                f"add rule {number} to the chain {chain.name}",
                self._name(),
                netlink.text(2, chain.name),
                netlink.nested(4, *rule),
            )
            for number, rule in enumerate(chain.rules, 1)
        ]

    def add_elements(self, name: str, *elements: Element, exclusive: bool = False) -> Message:
        """Put elements into a set.

        Args:
            name: The set.
            elements: What to put there.
            exclusive: Fail with EEXIST where one is there already.
        """
        flags = CREATE | (EXCL if exclusive else 0)
        return self._elements(_NEWSETELEM, flags, name, [e.encode() for e in elements], "add to")

    def delete_elements(self, name: str, *elements: Element) -> Message:
        """Take elements out of a set; all of them must be there."""
        encoded = [e.encode(name_only=True) for e in elements]
        return self._elements(_DELSETELEM, 0, name, encoded, "take from")

    def find_element(self, socket: netlink.Socket, name: str, element: Element) -> Element | None:
        """An element as it is in a set, with data and comment; None if it is not, or no such set."""
        encoded = [element.encode(name_only=True)]
        answers = _ask(socket, self._elements(_GETSETELEM, 0, name, encoded, "look into"))
        if not answers:
            return None
        return _elements_of(answers[0])[0]

    def elements(self, socket: netlink.Socket, name: str) -> list[Element]:
        """All elements of a set; none if there is no such set."""
        answers = _ask(socket, self._elements(_GETSETELEM, netlink.DUMP, name, None, "look into"))
        return [element for answer in answers for element in _elements_of(answer)]

    def _elements(
        self, kind: int, flags: int, name: str, encoded: list[bytes] | None, doing: str
    ) -> Message:
        parts = [self._name(), netlink.text(2, name)]
        if encoded is not None:
            parts.append(netlink.nested(3, *encoded))
        return _message(kind, flags, f"{doing} the set {name}", *parts)

    def _name(self) -> bytes:
        return netlink.text(1, self.name)


def transact(
    socket: netlink.Socket, messages: list[Message], *, generation: int | None = None
) -> None:
    """Carry out all of the messages or none.

    Args:
        socket: Of the protocol `netlink.NETFILTER`.
        messages: What to do.
        generation: Only if the rules of this network namespace are still of this generation.

    Raises:
        OSError: The kernel refused; ERESTART where the generation is another.
    """
    header = struct.pack(">BBH", 0, 0, _SUBSYSTEM >> 8)
    begin = header
    if generation is not None:
        begin += netlink.network_order(_BATCH_GENERATION, generation)
    socket.send_transaction(
        Message(_BATCH_BEGIN, 0, begin, "begin a transaction of nf_tables"),
        messages,
        Message(_BATCH_END, 0, header, "end a transaction of nf_tables"),
    )


def generation(socket: netlink.Socket) -> int:
    """Which generation of rules this is: it changes with each transaction."""
    answer = socket.ask(_message(_GETGEN, 0, "ask for the generation of nf_tables"))[0]
    return int.from_bytes(netlink.attributes(answer[4:])[1], "big")


def _ask(socket: netlink.Socket, message: Message) -> list[bytes]:
    try:
        return socket.ask(message)
    except FileNotFoundError:
        return []


def _elements_of(answer: bytes) -> list[Element]:
    found = []
    for listed in netlink.each(netlink.attributes(answer[4:]).get(3, b"")):
        parts = netlink.attributes(listed)
        data = netlink.attributes(parts[2])[1] if 2 in parts else None
        end = bool(int.from_bytes(parts.get(3, b""), "big") & 1)
        comment = parts.get(6, b"")[2:].rstrip(b"\0").decode(errors="replace")
        # The element that stands for all before the first range has no key.
        key = netlink.attributes(parts[1])[1] if 1 in parts else b""
        found.append(Element(key, data, end=end, comment=comment))
    return found


def _message(kind: int, flags: int, purpose: str, *parts: bytes) -> Message:
    body = struct.pack(">BBH", _INET, 0, 0) + b"".join(parts)
    return Message(_SUBSYSTEM | kind, flags, body, purpose)


def _concatenated(types: tuple[str, ...]) -> tuple[int, int]:
    """Type number and size of a concatenation."""
    kind, size = 0, 0
    for name in types:
        number, length = DATA_TYPES[name]
        kind = kind << 6 | number
        size += length + (-length % 4 if len(types) > 1 else 0)
    return kind, size


# --- expressions -----------------------------------------------------------------------------


def _expression(name: str, *parts: bytes) -> bytes:
    return netlink.nested(_LIST_ELEMENT, netlink.text(1, name), netlink.nested(2, *parts))


def _value(kind: int, data: bytes) -> bytes:
    return netlink.nested(kind, netlink.attribute(1, data))


def meta(key: str, register: int = 1) -> bytes:
    """Load what the kernel knows beside the packet: ``iifname``, ``oifname``, ``l4proto``."""
    return _expression(
        "meta", netlink.network_order(2, META_KEYS[key]), netlink.network_order(1, register)
    )


def ct(key: str, register: int = 1) -> bytes:
    """Load ``state`` or ``status`` of the packet's connection."""
    return _expression(
        "ct", netlink.network_order(2, CT_KEYS[key]), netlink.network_order(1, register)
    )


def fib_type(register: int = 1) -> bytes:
    """Load what the destination is to this host: local, unicast, … (RTN_*)."""
    by_destination, address_type = 2, 3
    return _expression(
        "fib",
        netlink.network_order(3, by_destination),
        netlink.network_order(2, address_type),
        netlink.network_order(1, register),
    )


def payload(base: int, offset: int, size: int, register: int = 1) -> bytes:
    """Load bytes of the packet."""
    return _expression(
        "payload",
        netlink.network_order(1, register),
        netlink.network_order(2, base),
        netlink.network_order(3, offset),
        netlink.network_order(4, size),
    )


def bitwise(mask: bytes, register: int = 1) -> bytes:
    """Keep only the bits of `mask`."""
    return _expression(
        "bitwise",
        netlink.network_order(1, register),
        netlink.network_order(2, register),
        netlink.network_order(3, len(mask)),
        _value(4, mask),
        _value(5, bytes(len(mask))),
    )


def compare(operator: int, data: bytes, register: int = 1) -> bytes:
    """Go on with the rule only if the register is, or is not, this."""
    return _expression(
        "cmp",
        netlink.network_order(1, register),
        netlink.network_order(2, operator),
        _value(3, data),
    )


def lookup(name: str, *, into: int | None = None, absent: bool = False) -> bytes:
    """Go on only if what begins in the first register is in a set, or is `absent` from it.

    Args:
        name: The set.
        into: Register for what a map leads to.
        absent: Turn the condition round.
    """
    parts = [netlink.text(1, name), netlink.network_order(2, 1)]
    if into is not None:
        parts.append(netlink.network_order(3, into))
    if absent:
        parts.append(netlink.network_order(5, 1))
    return _expression("lookup", *parts)


def verdict(code: int, chain: str = "") -> bytes:
    """End the rule with a verdict."""
    parts = [netlink.network_order(1, code & 0xFFFFFFFF)]
    if chain:
        parts.append(netlink.text(2, chain))
    data = netlink.nested(2, netlink.nested(2, *parts))
    return _expression("immediate", netlink.network_order(1, 0), data)


def load(value: bytes, register: int = 1) -> bytes:
    """Load constant bytes."""
    return _expression("immediate", netlink.network_order(1, register), _value(2, value))


def overwrite(base: int, offset: int, size: int, checksum: int, register: int = 1) -> bytes:
    """Write a register to the packet, and have the checksum at that place of the same header follow."""
    internet_checksum = 1
    return _expression(
        "payload",
        netlink.network_order(2, base),
        netlink.network_order(3, offset),
        netlink.network_order(4, size),
        netlink.network_order(5, register),
        netlink.network_order(6, internet_checksum),
        netlink.network_order(7, checksum),
    )


def dnat(family: int, address: int, port: int) -> bytes:
    """Send the connection to the address and port in these registers."""
    return _expression(
        "nat",
        netlink.network_order(1, 1),
        netlink.network_order(2, family),
        netlink.network_order(3, address),
        netlink.network_order(5, port),
    )


def masquerade() -> bytes:
    """Give the connection the address of the interface that it leaves by."""
    return _expression("masq")
