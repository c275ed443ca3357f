"""A network in the kernel: its bridge, its elements in the table, the switches it needs.

A bridge is complete once its name is in the set ``bridges``; that comes last when it is made, and is taken
away first. So whoever is killed in between leaves something that the next to come completes or removes.
The set of subnets is what keeps two stores apart: the kernel refuses a range that overlaps another.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pycontainer._linux import netlink, rtnetlink
from pycontainer._linux import nftables as nft
from pycontainer.errors import SubnetInUse, UnsupportedFeature
from pycontainer.network._ruleset import TABLE, interface_name, make_table, remove_unused_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pycontainer._linux.netlink import Message
    from pycontainer.network._records import EndpointRecord, NetworkRecord

__all__ = ["host_subnets", "naming_refusals", "remove_endpoint", "take_down", "up_index"]

_SYSCTL: Final = Path("/proc/sys/net")
_ALIAS: Final = "pycontainer "
_MOST_ALIAS: Final = 255


@contextlib.contextmanager
def naming_refusals(what: str) -> Iterator[None]:
    """Say of a refusal of the kernel what could not be done.

    Raises:
        UnsupportedFeature: This user may not change the network, or the kernel cannot do it.
    """
    try:
        yield
    except OSError as error:
        step = f"cannot {error.filename}: " if error.filename else ""
        raise UnsupportedFeature(
            what,
            f"{step}{error.strerror}",
            remedy="run as root, on a kernel with bridges, veth and nf_tables; without, reach a "
            "container by Container.connect, or have it share the host's network",
        ) from error


def host_subnets() -> list[IPv4Network | IPv6Network]:
    """The subnets that this host's routes lead to, but for the default ones."""
    found: list[IPv4Network | IPv6Network] = []
    with netlink.Socket(netlink.ROUTE) as links:
        for ipv6 in (False, True):
            for destination, prefix, _ in rtnetlink.routes(links, ipv6=ipv6):
                if prefix and not destination.startswith(b"\xfe\x80"):
                    kind = IPv6Network if ipv6 else IPv4Network
                    found.append(kind((destination, prefix), strict=False))
    return found


def up_index(
    network: NetworkRecord, home: Path, endpoints: Callable[[], Sequence[EndpointRecord]]
) -> int:
    """The index of a network's bridge, which is made if it is not there.

    Args:
        network: The network.
        home: The directory of its store.
        endpoints: Gives those that it has. Their ports are published again if somebody flushed the rules.

    Raises:
        SubnetInUse: Another store's network, or this host, has its subnet.
        OSError: The kernel refused something.
    """
    with netlink.Socket(netlink.ROUTE) as links, netlink.Socket(netlink.NETFILTER) as filters:
        found = rtnetlink.find_link(links, network.bridge)
        element = nft.Element(interface_name(network.bridge))
        if found is not None and found.up and TABLE.find_element(filters, "bridges", element):
            return found.index
        make_table(filters)
        _forget_abandoned(links, filters)
        if found is None:
            found = _make(links, network, home)
        _claim_subnets(links, filters, network)
        _switch_on(links, network, found.index)
        _enable_forwarding(links, filters, network)
        _complete(filters, network, endpoints())
        return found.index


def take_down(network: NetworkRecord) -> None:
    """Remove a network's bridge and elements, and the table with the last network of all stores."""
    with netlink.Socket(netlink.ROUTE) as links, netlink.Socket(netlink.NETFILTER) as filters:
        _forget_elements(filters, network.bridge)
        with contextlib.suppress(OSError):  # it is not there
            links.send(rtnetlink.delete_link(network.bridge))
        remove_unused_table(filters)


def remove_endpoint(endpoint: EndpointRecord) -> None:
    """Remove what a killed monitor left of an endpoint: its interfaces, its published ports."""
    with netlink.Socket(netlink.ROUTE) as links:
        found = rtnetlink.find_link(links, endpoint.link)
        # One that is down was left to the kernel, which removes it with the container's namespace.
        if found is not None and found.up:
            with contextlib.suppress(OSError):
                links.send(rtnetlink.delete_link(endpoint.link))
    if not endpoint.elements:
        return
    with netlink.Socket(netlink.NETFILTER) as filters:
        for name, key, data in endpoint.elements:
            wanted = nft.Element(key)
            while True:
                generation = nft.generation(filters)
                found_element = TABLE.find_element(filters, name, wanted)
                if (
                    found_element is None or found_element.data != data
                ):  # another container's by now
                    break
                try:
                    deletion = [TABLE.delete_elements(name, wanted)]
                    nft.transact(filters, deletion, generation=generation)
                except OSError as error:
                    if error.errno not in (errno.ERESTART, errno.ENOENT):
                        raise


# --- making ----------------------------------------------------------------------------------


def _make(links: netlink.Socket, network: NetworkRecord, home: Path) -> rtnetlink.Link:
    mac = b"\x02\x50" + network.gateway.packed
    with contextlib.suppress(FileExistsError):
        links.send(rtnetlink.add_bridge(network.bridge, mac))
    links.send(rtnetlink.set_alias(network.bridge, _alias(home)))
    if network.subnet6 is None:
        with contextlib.suppress(OSError):  # a kernel without IPv6
            links.send(rtnetlink.set_no_automatic_address(network.bridge))
    found = rtnetlink.find_link(links, network.bridge)
    if found is None:
        raise OSError(errno.ENODEV, "it vanished", f"make the bridge {network.bridge}")
    return found


def _alias(home: Path) -> str:
    return f"{_ALIAS}{home}"


def _switch_on(links: netlink.Socket, network: NetworkRecord, index: int) -> None:
    addresses = [rtnetlink.add_address(index, network.gateway.packed, network.subnet.prefixlen)]
    if network.subnet6 is not None and network.gateway6 is not None:
        gateway, prefix = network.gateway6.packed, network.subnet6.prefixlen
        addresses.append(rtnetlink.add_address(index, gateway, prefix))
    for message in addresses:
        with contextlib.suppress(FileExistsError):
            links.send(message)
    # Packets from 127.0.0.1 may be sent to containers: so localhost reaches published ports.
    _write_sysctl(f"ipv4/conf/{network.bridge}/route_localnet", "1")
    links.send(rtnetlink.set_link(network.bridge, up=True))


def _claim_subnets(links: netlink.Socket, filters: netlink.Socket, network: NetworkRecord) -> None:
    for name, bounds in _subnet_elements(network):
        with contextlib.suppress(FileExistsError):
            nft.transact(filters, [TABLE.add_elements(name, *bounds, exclusive=True)])
            continue
        ours = TABLE.find_element(filters, name, bounds[0])
        if ours is None or ours.comment != network.bridge:
            _forget_elements(filters, network.bridge)
            with contextlib.suppress(OSError):
                links.send(rtnetlink.delete_link(network.bridge))
            raise SubnetInUse(
                f"the subnet {network.subnet} of network {network.name!r} overlaps that of "
                "another store's network",
                remedy="give it another, or delete that network",
            )


def _complete(
    filters: netlink.Socket, network: NetworkRecord, endpoints: Sequence[EndpointRecord]
) -> None:
    bridge = interface_name(network.bridge)
    messages = [TABLE.add_elements("within", nft.Element(bridge + bridge))]
    if network.internal:
        messages.append(TABLE.add_elements("internal", nft.Element(bridge)))
    for endpoint in endpoints:
        messages += [
            TABLE.add_elements(name, nft.Element(key, data))
            for name, key, data in endpoint.elements
        ]
    messages.append(TABLE.add_elements("bridges", nft.Element(bridge)))
    nft.transact(filters, messages)


def _subnet_elements(network: NetworkRecord) -> list[tuple[str, list[nft.Element]]]:
    subnets: list[tuple[str, IPv4Network | IPv6Network | None]] = [
        ("subnets4", network.subnet),
        ("subnets6", network.subnet6),
    ]
    return [(name, _bounds(subnet, network.bridge)) for name, subnet in subnets if subnet]


def _bounds(subnet: IPv4Network | IPv6Network, comment: str) -> list[nft.Element]:
    behind = int(subnet.broadcast_address) + 1
    size = len(subnet.network_address.packed)
    return [
        nft.Element(subnet.network_address.packed, comment=comment),
        nft.Element(behind.to_bytes(size, "big"), end=True),
    ]


# --- forwarding ------------------------------------------------------------------------------


def _enable_forwarding(
    links: netlink.Socket, filters: netlink.Socket, network: NetworkRecord
) -> None:
    """Let the host forward packets, but no others than it did before.

    Where it did not forward at all, new connections that come in by an interface of a default route
    and do not go to a container are dropped as they were: see the chain ``forward``.
    """
    if network.internal:
        return
    for ipv6, switch in ((False, "ipv4/ip_forward"), (True, "ipv6/conf/all/forwarding")):
        if (ipv6 and network.subnet6 is None) or _read_sysctl(switch) != "0":
            continue
        names = _uplinks(links, ipv6=ipv6)
        if names:
            elements = [nft.Element(interface_name(name)) for name in names]
            nft.transact(filters, [TABLE.add_elements("uplinks", *elements)])
        if ipv6:
            for name in names:  # a router takes no advertisements unless it is told to: 2
                if _read_sysctl(f"ipv6/conf/{name}/accept_ra") == "1":
                    _write_sysctl(f"ipv6/conf/{name}/accept_ra", "2")
        _write_sysctl(switch, "1")


def _uplinks(links: netlink.Socket, *, ipv6: bool) -> list[str]:
    indexes = {index for _, prefix, index in rtnetlink.routes(links, ipv6=ipv6) if prefix == 0}
    return [link.name for link in rtnetlink.links(links) if link.index in indexes]


def _read_sysctl(name: str) -> str:
    try:
        return (_SYSCTL / name).read_text().strip()
    except FileNotFoundError:
        return ""


def _write_sysctl(name: str, value: str) -> None:
    (_SYSCTL / name).write_text(value)


# --- removing --------------------------------------------------------------------------------


def _forget_elements(filters: netlink.Socket, bridge: str) -> None:
    """Take out all that the table has of a bridge."""
    name = interface_name(bridge)
    whole = (("bridges", name), ("within", name + name), ("internal", name))
    messages = [
        TABLE.delete_elements(where, nft.Element(key))
        for where, key in whole
        if TABLE.find_element(filters, where, nft.Element(key)) is not None
    ]
    messages += _subnet_deletions(filters, {bridge})
    if messages:
        nft.transact(filters, messages)


def _subnet_deletions(filters: netlink.Socket, bridges: set[str]) -> list[Message]:
    messages = []
    for where in ("subnets4", "subnets6"):
        ends = sorted(TABLE.elements(filters, where), key=lambda e: (e.key, not e.end))
        for first, behind in itertools.pairwise(ends):
            if not first.end and first.comment in bridges and behind.end:
                messages.append(TABLE.delete_elements(where, first, behind))
    return messages


def _forget_abandoned(links: netlink.Socket, filters: netlink.Socket) -> None:
    """Remove bridges whose store was deleted, and elements whose bridge was.

    A bridge is made before its elements, so elements without one are nobody's.
    """
    there = rtnetlink.links(links, kind="bridge")
    for link in there:
        home = link.alias.removeprefix(_ALIAS)
        if home == link.alias or link.running or len(link.alias) >= _MOST_ALIAS:
            continue
        if not Path(home).exists():
            _forget_elements(filters, link.name)
            with contextlib.suppress(OSError):
                links.send(rtnetlink.delete_link(link.name))
    names = {link.name for link in rtnetlink.links(links, kind="bridge")}
    known = {
        element.key.rstrip(b"\0").decode() for element in TABLE.elements(filters, "bridges")
    } | {element.comment for element in TABLE.elements(filters, "subnets4") if element.comment}
    for name in known - names:
        _forget_elements(filters, name)
