"""Containers in networks: addresses given and taken back, and what a monitor is to do about them."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from pycontainer.errors import AddressInUse, NetworkError, NetworkNotFound
from pycontainer.network import _bridge, _names
from pycontainer.network._ports import PortRequest, PublishedPort, Reservation, elements
from pycontainer.network._records import SCHEMA, EndpointRecord, NetworkRecord, Records
from pycontainer.network._subnets import first_free, within
from pycontainer.network._upkeep import bring_up, release_dead, watch_store

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from pycontainer.content import Store
    from pycontainer.network._network import Network

__all__ = [
    "Attachment",
    "Endpoint",
    "Membership",
    "endpoints_of",
    "join",
    "leave",
    "rejoin",
    "rename",
    "to_endpoint",
]


@frozen
class Membership:
    """That a container is to be in a network.

    Attributes:
        network: The network, or its name or id.
        aliases: Further names by which the others of the network find it.
        address: The IPv4 address it is to have; None for any that is free.
        ipv6_address: Likewise.
    """

    network: str | Network
    aliases: tuple[str, ...] = ()
    address: str | None = None
    ipv6_address: str | None = None


@frozen
class Endpoint:
    """A container's place in a network.

    Attributes:
        network: Name of the network.
        container_id: The container's id.
        interface: Name of the interface in the container.
        address: Its IPv4 address.
        ipv6_address: Its IPv6 address, in networks that have one.
        mac_address: Of the interface.
        gateway: The network's.
        names: By which the others of the network find it.
    """

    network: str
    container_id: str
    interface: str
    address: str
    ipv6_address: str | None
    mac_address: str
    gateway: str
    names: tuple[str, ...]


@frozen
class Attachment:
    """What a container's start needs to be in its networks.

    Attributes:
        endpoints: Its places, in the order in which they were asked for.
        ports: Its published ports.
        keeper: Keeps the host ports as long as somebody has it open; None without ports.
        plan: What the monitor is to do.
    """

    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    keeper: socket.socket | None = None
    plan: dict[str, Any] = field(factory=dict)

    def fds(self) -> list[int]:
        """What the container's monitor has to keep open."""
        return [] if self.keeper is None else [self.keeper.fileno()]

    def close(self) -> None:
        """Let the host ports go, as far as this process has them."""
        if self.keeper is not None:
            self.keeper.close()


def join(
    store: Store,
    container_id: str,
    wanted: Sequence[Membership],
    *,
    names: Sequence[str],
    ports: Sequence[PortRequest] = (),
) -> Attachment:
    """Give a container its places in networks, and what its ports need.

    Args:
        store: Where the networks are.
        container_id: The container's.
        wanted: Its networks. Published ports, and the default route, are those of the first that leads
            out.
        names: By which it is found in all of them.
        ports: To be published.

    Raises:
        NetworkNotFound: There is no such network.
        AddressInUse: Another container has the address asked for.
        NoFreeAddress: A network is full.
        PortInUse: A port of the host is taken.
        NetworkError: The container is in that network already, or the address is not one of it.
        UnsupportedFeature: This user or kernel cannot have networks.
    """
    store.db.ensure(SCHEMA)
    watch_store(store)
    reservation = Reservation() if ports else None
    made: list[EndpointRecord] = []
    try:
        with store.db.transaction() as connection, _bridge.naming_refusals("a bridge network"):
            records = Records(connection)
            steps, endpoints = [], []
            for membership in wanted:
                network = _find(records, membership.network)
                index, network = bring_up(store, records, network)
                endpoint = _allocate(store, records, network, container_id, membership, names)
                if reservation is not None and not network.internal and not reservation.ports:
                    for request in ports:
                        reservation.take(request, ipv6=endpoint.address6 is not None)
                    endpoint = evolve(endpoint, elements=elements(reservation.ports, endpoint))
                _put(records, network, endpoint)
                made.append(endpoint)
                names_file = _names.publish(store, endpoint)
                steps.append(_step(network, endpoint, index, names_file))
                endpoints.append(to_endpoint(network, endpoint))
            if reservation is not None and not reservation.ports:
                raise NetworkError(
                    "cannot publish ports of a container that is in internal networks only",
                    remedy="add a network that leads out",
                )
    except BaseException:
        if reservation is not None:
            reservation.close()
        for endpoint in made:
            _names.forget(store, endpoint)
        raise
    published = tuple(reservation.ports) if reservation is not None else ()
    keeper = reservation.detach() if reservation is not None else None
    return Attachment(tuple(endpoints), published, keeper, {"endpoints": steps})


def rejoin(store: Store, container_id: str, ports: Sequence[PublishedPort]) -> Attachment:
    """What the next monitor of a container that is in networks already is to look after.

    Args:
        store: Where the networks are.
        container_id: The container's.
        ports: Its published ones; one that another program has taken meanwhile is not kept.

    Raises:
        UnsupportedFeature: This user or kernel cannot have networks.
    """
    store.db.ensure(SCHEMA)
    watch_store(store)
    reservation = Reservation()
    try:
        with store.db.transaction() as connection, _bridge.naming_refusals("a bridge network"):
            records = Records(connection)
            steps, endpoints = [], []
            for endpoint in records.endpoints(container=container_id):
                network = records.network(endpoint.network)
                assert network is not None  # as long as it has endpoints
                index, network = bring_up(store, records, network)
                steps.append(_step(network, endpoint, index, _names.publish(store, endpoint)))
                endpoints.append(to_endpoint(network, endpoint))
        has_ipv6 = any(endpoint.ipv6_address for endpoint in endpoints)
        for port in ports:
            with contextlib.suppress(NetworkError):
                reservation.take(PortRequest.of(port), ipv6=has_ipv6)
        keeper = reservation.detach()
    except BaseException:
        reservation.close()
        raise
    return Attachment(tuple(endpoints), tuple(ports), keeper, {"endpoints": steps})


def leave(store: Store, container_id: str, *, network_id: str | None = None) -> None:
    """Give a container's places back, all or that in one network, with what a killed monitor left."""
    store.db.ensure(SCHEMA)
    with store.db.transaction(write=False) as connection:
        found = Records(connection).endpoints(network=network_id, container=container_id)
    if not found:
        return
    for endpoint in found:
        _names.forget(store, endpoint)
        with _bridge.naming_refusals("removing a container's interface"):
            _bridge.remove_endpoint(endpoint)
    with store.db.transaction() as connection:
        for endpoint in found:
            Records(connection).remove_endpoint(endpoint.id)


def rename(store: Store, container_id: str, old: str, new: str) -> None:
    """Have a container found by another name in its networks, at once."""
    store.db.ensure(SCHEMA)
    with store.db.transaction() as connection:
        records = Records(connection)
        for endpoint in records.endpoints(container=container_id):
            network = records.network(endpoint.network)
            assert network is not None  # as long as it has endpoints
            domain = f".{network.name}"
            replaced = {old: new, old + domain: new + domain}
            names = dict.fromkeys(replaced.get(name, name) for name in endpoint.names)
            if old == container_id[:12]:  # which it keeps
                names |= dict.fromkeys(replaced)
            endpoint = evolve(endpoint, names=tuple(names))
            records.rename_endpoint(endpoint)
            if _names.is_known(store, endpoint):  # else it has just ended
                _names.publish(store, endpoint)


def to_endpoint(network: NetworkRecord, endpoint: EndpointRecord) -> Endpoint:
    """An endpoint as users see it."""
    return Endpoint(
        network.name,
        endpoint.container,
        endpoint.interface,
        str(endpoint.address),
        None if endpoint.address6 is None else str(endpoint.address6),
        endpoint.mac.hex(":"),
        str(network.gateway),
        endpoint.names,
    )


def endpoints_of(store: Store, container_id: str) -> tuple[Endpoint, ...]:
    """A container's places in networks, in the order in which it got them."""
    store.db.ensure(SCHEMA)
    with store.db.transaction(write=False) as connection:
        records = Records(connection)
        networks = {network.id: network for network in records.networks()}
        found = records.endpoints(container=container_id)
        return tuple(to_endpoint(networks[e.network], e) for e in found)


def _find(records: Records, wanted: str | Network) -> NetworkRecord:
    name_or_id = wanted if isinstance(wanted, str) else wanted.id
    found = records.named(name_or_id) or records.network(name_or_id)
    if found is None:
        raise NetworkNotFound(
            f"no network {name_or_id!r}", remedy="make it with Network.create, or see Network.list"
        )
    return found


def _allocate(
    store: Store,
    records: Records,
    network: NetworkRecord,
    container_id: str,
    membership: Membership,
    names: Sequence[str],
) -> EndpointRecord:
    present = {e.interface for e in records.endpoints(container=container_id)}
    interface = next(f"eth{n}" for n in range(len(present) + 1) if f"eth{n}" not in present)
    address = _address(store, records, network, membership)
    address6 = None
    if membership.ipv6_address is not None and network.subnet6 is None:
        raise NetworkError(
            f"network {network.name!r} has no IPv6", remedy="create it with ipv6=True"
        )
    if network.subnet6 is not None:
        # The same number behind the other prefix: what is free in one is free in the other.
        number = int(address) - int(network.subnet.network_address)
        address6 = network.subnet6.network_address + number
        if membership.ipv6_address is not None:
            given = within(membership.ipv6_address, network.subnet6)
            assert isinstance(given, IPv6Address)
            address6 = given
    everywhere = dict.fromkeys((*names, *membership.aliases))
    return EndpointRecord(
        secrets.token_hex(16),
        network.id,
        container_id,
        interface,
        address,
        address6,
        (*everywhere, *(f"{name}.{network.name}" for name in everywhere)),
        (),
        time.time(),
    )


def _address(
    store: Store, records: Records, network: NetworkRecord, membership: Membership
) -> IPv4Address:
    gateway = int(network.gateway)
    if membership.address is not None:
        wanted = within(membership.address, network.subnet)
        assert isinstance(wanted, IPv4Address)
        if int(wanted) in records.taken(network.id):
            release_dead(store, records, network)
        if int(wanted) == gateway or int(wanted) in records.taken(network.id):
            whose = "the gateway" if int(wanted) == gateway else "another container"
            raise AddressInUse(f"{whose} of network {network.name!r} has the address {wanted}")
        return wanted
    taken = records.taken(network.id) | {gateway}
    if len(taken) >= network.subnet.num_addresses - 2:
        release_dead(store, records, network)
        taken = records.taken(network.id) | {gateway}
    found = first_free(network.subnet, taken, network.last)
    records.set_last(network, int(found))
    return found


def _put(records: Records, network: NetworkRecord, endpoint: EndpointRecord) -> None:
    try:
        records.put_endpoint(endpoint)
    except sqlite3.IntegrityError as error:
        if records.endpoints(network=network.id, container=endpoint.container):
            raise NetworkError(
                f"container {endpoint.container[:12]} is in network {network.name!r} already"
            ) from error
        raise AddressInUse(
            f"a container of network {network.name!r} has the address {endpoint.address6}"
        ) from error


def _step(
    network: NetworkRecord, endpoint: EndpointRecord, index: int, names_file: Path
) -> dict[str, Any]:
    """What a monitor needs to make an endpoint; see `pycontainer.runtime._inside.network`."""
    addresses = [(endpoint.address.packed, network.subnet.prefixlen)]
    gateways = [network.gateway.packed]
    if endpoint.address6 is not None and network.subnet6 is not None:
        assert network.gateway6 is not None
        addresses.append((endpoint.address6.packed, network.subnet6.prefixlen))
        gateways.append(network.gateway6.packed)
    return {
        "id": endpoint.id,
        "network": (network.id, network.name),
        "bridge": index,
        "link": endpoint.link,
        "interface": endpoint.interface,
        "mac": endpoint.mac,
        "addresses": addresses,
        "gateways": [] if network.internal else gateways,
        "elements": list(endpoint.elements),
        "names": str(names_file),
    }
