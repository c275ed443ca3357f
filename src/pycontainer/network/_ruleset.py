"""The one nftables table of pycontainer on a machine, shared by all its stores and processes.

Its chains never change. A network is a few elements in its sets, a published port is one element of a map.
In the language of nft(8)::

    table inet pycontainer {
        set bridges  { type ifname; }               # of all networks
        set within   { type ifname . ifname; }      # each bridge with itself
        set internal { type ifname; }               # those that lead nowhere else
        set uplinks  { type ifname; }               # see the chain forward
        set subnets4 { type ipv4_addr; flags interval; }
        set subnets6 { type ipv6_addr; flags interval; }
        map ports4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
        map bound4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
        map ports6, bound6: likewise for ipv6_addr

        chain guard {      # 127.0.0.0/8 stays unreachable from outside despite route_localnet
            type filter hook prerouting priority raw;
            iifname != "lo" ip daddr 127.0.0.0/8 drop
        }
        chain arriving { type nat hook prerouting priority dstnat; fib daddr type local goto publish; }
        chain local    { type nat hook output priority dstnat; fib daddr type local goto publish; }
        chain publish {
            dnat ip to ip daddr . meta l4proto . th dport map @bound4
            dnat ip to meta l4proto . th dport map @ports4
            ip6 daddr ::1 return                    # there is no route_localnet for IPv6
            dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound6
            dnat ip6 to meta l4proto . th dport map @ports6
        }
        chain forward {
            type filter hook forward priority filter;
            iifname @uplinks oifname != @bridges ct status ! dnat ct state new drop
            ct state established,related accept
            iifname . oifname @within accept
            oifname @bridges ct status dnat accept
            iifname @internal drop
            oifname @bridges drop
        }
        chain leaving {
            type nat hook postrouting priority srcnat;
            oifname != @bridges ip saddr @subnets4 masquerade
            oifname != @bridges ip6 saddr @subnets6 masquerade
            oifname @bridges ct status dnat ip saddr @subnets4 masquerade   # hairpin
            oifname @bridges ct status dnat ip saddr 127.0.0.0/8 masquerade
            oifname @bridges ct status dnat ip6 saddr @subnets6 masquerade
        }
    }
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Final

from pycontainer._linux import nftables as nft

if TYPE_CHECKING:
    from pycontainer._linux import netlink

__all__ = ["TABLE", "interface_name", "make_table", "remove_unused_table"]

TABLE: Final = nft.Table("pycontainer")

_IPV4, _IPV6 = 2, 10
_PREROUTING, _FORWARD, _OUTPUT, _POSTROUTING = 0, 2, 3, 4
_RAW, _DESTINATION, _FILTER, _SOURCE = -300, -100, 0, 100
_RTN_LOCAL: Final = (2).to_bytes(4, sys.byteorder)
_KNOWN: Final = (0x06).to_bytes(4, sys.byteorder)  # established, related
_NEW: Final = (0x08).to_bytes(4, sys.byteorder)
_WAS_DNAT: Final = (0x20).to_bytes(4, sys.byteorder)  # IPS_DST_NAT
_NOTHING: Final = bytes(4)
_TRIES: Final = 20

_SETS: Final[tuple[tuple[str, tuple[str, ...], tuple[str, ...], int], ...]] = (
    ("bridges", ("ifname",), (), 0),
    ("within", ("ifname", "ifname"), (), 0),
    ("internal", ("ifname",), (), 0),
    ("uplinks", ("ifname",), (), 0),
    ("subnets4", ("ipv4_addr",), (), nft.INTERVAL),
    ("subnets6", ("ipv6_addr",), (), nft.INTERVAL),
    ("ports4", ("inet_proto", "inet_service"), ("ipv4_addr", "inet_service"), 0),
    ("bound4", ("ipv4_addr", "inet_proto", "inet_service"), ("ipv4_addr", "inet_service"), 0),
    ("ports6", ("inet_proto", "inet_service"), ("ipv6_addr", "inet_service"), 0),
    ("bound6", ("ipv6_addr", "inet_proto", "inet_service"), ("ipv6_addr", "inet_service"), 0),
)


def interface_name(name: str) -> bytes:
    """An interface's name as sets have it."""
    return name.encode().ljust(16, b"\0")


def make_table(socket: netlink.Socket) -> None:
    """Make the table unless it is there; another process may be about to do the same."""
    if TABLE.exists(socket):
        return
    chains = _chains()
    messages = [TABLE.create()]
    messages += [TABLE.add_set(name, n, *rest) for n, (name, *rest) in enumerate(_SETS, 1)]  # type: ignore[arg-type]
    for chain in chains:
        messages += TABLE.add_chain(chain)
    for chain in chains:
        messages += TABLE.add_rules(chain)
    try:
        nft.transact(socket, messages)
    except FileExistsError:
        return


def remove_unused_table(socket: netlink.Socket) -> None:
    """Remove the table if no network is in it, of any store, and it has nothing to guard."""
    for _ in range(_TRIES):
        generation = nft.generation(socket)
        if not TABLE.exists(socket):
            return
        # Where forwarding had to be switched on, it stays on, and what guards it stays too.
        if any(TABLE.elements(socket, name) for name in ("bridges", "subnets4", "uplinks")):
            return
        try:
            nft.transact(socket, [TABLE.delete()], generation=generation)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ERESTART:  # somebody changed something meanwhile: look again
                raise
        else:
            return


# --- the rules, as expressions ---------------------------------------------------------------


def _chains() -> list[nft.Chain]:
    local = [[nft.fib_type(), nft.compare(nft.EQUAL, _RTN_LOCAL), nft.verdict(nft.GOTO, "publish")]]
    return [
        nft.Chain("publish", _publish()),
        nft.Chain("guard", _guard(), kind="filter", hook=_PREROUTING, priority=_RAW),
        nft.Chain("arriving", local, kind="nat", hook=_PREROUTING, priority=_DESTINATION),
        nft.Chain("local", local, kind="nat", hook=_OUTPUT, priority=_DESTINATION),
        nft.Chain("forward", _forward(), kind="filter", hook=_FORWARD, priority=_FILTER),
        nft.Chain("leaving", _leaving(), kind="nat", hook=_POSTROUTING, priority=_SOURCE),
    ]


def _family(number: int) -> list[bytes]:
    return [nft.meta("nfproto"), nft.compare(nft.EQUAL, bytes((number,)))]


def _loopback(offset: int) -> list[bytes]:
    """The IPv4 address at that place of the header is of 127.0.0.0/8."""
    return [
        *_family(_IPV4),
        nft.payload(nft.NETWORK_HEADER, offset, 1),
        nft.compare(nft.EQUAL, b"\x7f"),
    ]


def _guard() -> list[list[bytes]]:
    outside = [nft.meta("iifname"), nft.compare(nft.NOT_EQUAL, interface_name("lo"))]
    return [[*outside, *_loopback(16), nft.verdict(nft.DROP)]]


def _publish() -> list[list[bytes]]:
    rules = []
    for family, suffix, offset, size in ((_IPV4, "4", 16, 4), (_IPV6, "6", 24, 16)):
        words, first = size // 4, nft.CONCAT_REGISTER
        to = nft.dnat(family, 1, first + words)
        destination = nft.payload(nft.NETWORK_HEADER, offset, size)
        if family == _IPV6:
            is_loopback = nft.compare(nft.EQUAL, (1).to_bytes(16, "big"))
            rules.append([*_family(family), destination, is_loopback, nft.verdict(nft.RETURN)])
        service = [
            [nft.meta("l4proto", at), nft.payload(nft.TRANSPORT_HEADER, 2, 2, at + 1)]
            for at in (first + words, first)
        ]
        found = [nft.lookup(name + suffix, into=1) for name in ("bound", "ports")]
        rules.append([*_family(family), destination, *service[0], found[0], to])
        rules.append([*_family(family), *service[1], found[1], to])
    return rules


def _with(name: str, value: bytes, operator: int) -> list[bytes]:
    """Some of these bits of the connection's state or status are set, or (EQUAL) none is."""
    return [nft.ct(name), nft.bitwise(value), nft.compare(operator, _NOTHING)]


def _forward() -> list[list[bytes]]:
    to_bridge = [nft.meta("oifname"), nft.lookup("bridges")]
    return [
        [
            *(nft.meta("iifname"), nft.lookup("uplinks")),
            *(nft.meta("oifname"), nft.lookup("bridges", absent=True)),
            *_with("status", _WAS_DNAT, nft.EQUAL),
            *_with("state", _NEW, nft.NOT_EQUAL),
            nft.verdict(nft.DROP),
        ],
        [*_with("state", _KNOWN, nft.NOT_EQUAL), nft.verdict(nft.ACCEPT)],
        [
            *(nft.meta("iifname", 1), nft.meta("oifname", 2), nft.lookup("within")),
            nft.verdict(nft.ACCEPT),
        ],
        [*to_bridge, *_with("status", _WAS_DNAT, nft.NOT_EQUAL), nft.verdict(nft.ACCEPT)],
        [nft.meta("iifname"), nft.lookup("internal"), nft.verdict(nft.DROP)],
        [*to_bridge, nft.verdict(nft.DROP)],
    ]


def _leaving() -> list[list[bytes]]:
    rules: list[list[bytes]] = []
    subnets = [
        [*_family(family), nft.payload(nft.NETWORK_HEADER, offset, size), nft.lookup(name)]
        for family, offset, size, name in ((_IPV4, 12, 4, "subnets4"), (_IPV6, 8, 16, "subnets6"))
    ]
    outside = [nft.meta("oifname"), nft.lookup("bridges", absent=True)]
    rules += [[*outside, *subnet, nft.masquerade()] for subnet in subnets]
    hairpin = [
        *(nft.meta("oifname"), nft.lookup("bridges")),
        *_with("status", _WAS_DNAT, nft.NOT_EQUAL),
    ]
    sources = [subnets[0], _loopback(12), subnets[1]]
    rules += [[*hairpin, *source, nft.masquerade()] for source in sources]
    return rules
