"""Links, addresses and routes (rtnetlink(7)): each function makes one message for a `netlink.Socket`.

Links are named rather than numbered where the kernel takes names. Addresses are packed, as
`socket.inet_pton` gives them: four bytes or sixteen.
"""

from __future__ import annotations

import errno
import struct

from pycontainer._linux import netlink
from pycontainer._linux.netlink import CREATE, DUMP, EXCL, Message

__all__ = [
    "Link",
    "add_address",
    "add_bridge",
    "add_route",
    "add_veth",
    "delete_link",
    "find_link",
    "links",
    "routes",
    "set_alias",
    "set_hairpin",
    "set_link",
    "set_no_automatic_address",
]

_NEWLINK, _DELLINK, _GETLINK, _SETLINK, _NEWADDR, _NEWROUTE, _GETROUTE = 16, 17, 18, 19, 20, 24, 26
_AF_INET, _AF_INET6 = 2, 10
_UP, _RUNNING = 0x01, 0x40

# linux/if_link.h: IFLA_*
_ADDRESS, _IFNAME, _MTU, _MASTER, _LINKINFO, _IFALIAS = 1, 3, 4, 10, 18, 20
_AF_SPEC, _NET_NS_FD, _EXT_MASK = 26, 28, 29
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_BRPORT_MODE = 4
_INET6_ADDR_GEN_MODE = 8
_GEN_MODE_NONE = 1

# linux/if_addr.h and linux/rtnetlink.h: IFA_*, RTA_*
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_NO_DAD, _PERMANENT = 0x02, 0x80
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTOCOL_BOOT, _UNIVERSE, _UNICAST = 254, 3, 0, 1

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg


class Link:
    """A network interface: `index`, `name`, `alias`; whether it is switched on, and has a carrier.

    A bridge has a carrier if any of its ports has one.
    """

    __slots__ = ("alias", "index", "name", "running", "up")

    index: int

    def __init__(self, body: bytes) -> None:
        _, _, self.index, flags, _ = _LINK.unpack_from(body)
        found = netlink.attributes(body[_LINK.size :])
        self.name = _string(found.get(_IFNAME, b""))
        self.alias = _string(found.get(_IFALIAS, b""))
        self.up = bool(flags & _UP)
        self.running = bool(flags & _RUNNING)


def _string(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def _link(kind: int, flags: int, purpose: str, *parts: bytes) -> Message:
    return Message(kind, flags, _LINK.pack(0, 0, 0, 0, 0) + b"".join(parts), purpose)


def add_bridge(name: str, mac: bytes) -> Message:
    """Make a bridge, which is down as yet.

    A fixed MAC address keeps it from changing with the lowest of its ports.

    Args:
        name: Its name.
        mac: Its address.
    """
    return _link(
        _NEWLINK,
        CREATE | EXCL,
        f"make the bridge {name}",
        netlink.text(_IFNAME, name),
        netlink.attribute(_ADDRESS, mac),
        netlink.nested(_LINKINFO, netlink.text(_INFO_KIND, "bridge")),
    )


def add_veth(name: str, bridge: int, peer: str, peer_mac: bytes, namespace: int) -> Message:
    """Make a pair of interfaces, one end on a bridge, the other in a network namespace; both down.

    Args:
        name: Of the end here.
        bridge: Index of the bridge.
        peer: Name of the end there.
        peer_mac: Its address.
        namespace: Descriptor of the network namespace.
    """
    other = _LINK.pack(0, 0, 0, 0, 0) + b"".join(
        (
            netlink.text(_IFNAME, peer),
            netlink.attribute(_ADDRESS, peer_mac),
            netlink.u32(_NET_NS_FD, namespace),
        )
    )
    return _link(
        _NEWLINK,
        CREATE | EXCL,
        f"make the interface pair {name}",
        netlink.text(_IFNAME, name),
        netlink.u32(_MASTER, bridge),
        netlink.nested(
            _LINKINFO,
            netlink.text(_INFO_KIND, "veth"),
            netlink.nested(_INFO_DATA, netlink.attribute(_VETH_PEER, other)),
        ),
    )


def set_hairpin(name: str) -> Message:
    """Let a port of a bridge send a packet back to where it came from.

    A container that calls its own published port needs that where br_netfilter is on.
    """
    return _link(
        _NEWLINK,
        0,
        f"set hairpin mode of {name}",
        netlink.text(_IFNAME, name),
        netlink.nested(
            _LINKINFO,
            netlink.text(_INFO_SLAVE_KIND, "bridge"),
            netlink.nested(_INFO_SLAVE_DATA, netlink.u8(_BRPORT_MODE, 1)),
        ),
    )


def set_alias(name: str, alias: str) -> Message:
    """Note on an interface what it is for: at most 255 bytes."""
    said = netlink.attribute(_IFALIAS, alias.encode()[:255])
    return _link(_SETLINK, 0, f"describe {name}", netlink.text(_IFNAME, name), said)


def set_no_automatic_address(name: str) -> Message:
    """Keep an interface that is down from giving itself an IPv6 address when it comes up.

    It would have to be defended by packets, and nobody uses it. Refused with EAFNOSUPPORT where there is
    no IPv6, and where the interface is only about to be made.
    """
    mode = netlink.u8(_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE)
    return _link(
        _SETLINK,
        0,
        f"leave {name} without an automatic address",
        netlink.text(_IFNAME, name),
        netlink.nested(_AF_SPEC, netlink.nested(_AF_INET6, mode)),
    )


def set_link(name: str, *, up: bool) -> Message:
    """Switch an interface on or off."""
    body = _LINK.pack(0, 0, 0, int(up), _UP) + netlink.text(_IFNAME, name)
    return Message(_SETLINK, 0, body, f"switch {name} {'on' if up else 'off'}")


def delete_link(name: str) -> Message:
    """Remove an interface; of a pair, both."""
    return _link(_DELLINK, 0, f"remove the interface {name}", netlink.text(_IFNAME, name))


def find_link(socket: netlink.Socket, name: str) -> Link | None:
    """The interface of that name, or None."""
    mask = netlink.u32(_EXT_MASK, 1 << 3)  # RTEXT_FILTER_SKIP_STATS
    wanted = _link(_GETLINK, 0, f"look for {name}", netlink.text(_IFNAME, name), mask)
    try:
        return Link(socket.ask(wanted)[0])
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def links(socket: netlink.Socket, *, kind: str = "") -> list[Link]:
    """The interfaces, or those of one kind, such as ``bridge``."""
    wanted = netlink.nested(_LINKINFO, netlink.text(_INFO_KIND, kind)) if kind else b""
    found = socket.ask(_link(_GETLINK, DUMP, "list the interfaces", wanted))
    return [Link(body) for body in found]


def add_address(index: int, address: bytes, prefix: int) -> Message:
    """Give an interface an address."""
    body = struct.pack("=BBBBI", _family(address), prefix, _PERMANENT | _NO_DAD, 0, index)
    body += netlink.attribute(_IFA_LOCAL, address) + netlink.attribute(_IFA_ADDRESS, address)
    if len(address) == 4:
        mask = (1 << (32 - prefix)) - 1
        broadcast = (int.from_bytes(address, "big") | mask).to_bytes(4, "big")
        body += netlink.attribute(_IFA_BROADCAST, broadcast)
    return Message(_NEWADDR, CREATE | EXCL, body, f"add an address to interface {index}")


def add_route(gateway: bytes) -> Message:
    """Make a gateway the way to everywhere that no other route leads to."""
    body = _ROUTE.pack(
        _family(gateway), 0, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, _UNIVERSE, _UNICAST, 0
    )
    return Message(
        _NEWROUTE, CREATE, body + netlink.attribute(_RTA_GATEWAY, gateway), "add the default route"
    )


def routes(socket: netlink.Socket, *, ipv6: bool = False) -> list[tuple[bytes, int, int]]:
    """The unicast routes of the main table: destination, prefix length, index of the interface."""
    body = _ROUTE.pack(_AF_INET6 if ipv6 else _AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    size = 16 if ipv6 else 4
    found = []
    for answer in socket.ask(Message(_GETROUTE, DUMP, body, "list the routes")):
        _, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(answer)
        if table != _TABLE_MAIN or kind != _UNICAST:
            continue
        values = netlink.attributes(answer[_ROUTE.size :])
        index = int.from_bytes(values.get(_RTA_OIF, b""), "little")
        found.append((values.get(_RTA_DST, bytes(size)), prefix, index))
    return found


def _family(address: bytes) -> int:
    return _AF_INET if len(address) == 4 else _AF_INET6
