"""When bridges come and go: up with the first container, down when their store is closed and none is left."""

from __future__ import annotations

import json
import logging
import weakref
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from attrs import evolve

from pycontainer.errors import NoFreeAddress, StoreError, SubnetInUse
from pycontainer.network import _bridge, _names
from pycontainer.network._records import SCHEMA, EndpointRecord, NetworkRecord, Records
from pycontainer.network._subnets import candidates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontainer.content import Store

__all__ = ["bring_up", "free_subnet", "release_dead", "take_down_unused", "watch_store"]

_log = logging.getLogger("pycontainer.network")
_watched: weakref.WeakSet[Store] = weakref.WeakSet()


def bring_up(store: Store, records: Records, network: NetworkRecord) -> tuple[int, NetworkRecord]:
    """See to it that a network's bridge is there; in a writing transaction, so by one at a time.

    Returns:
        The bridge's index, and the network: with another subnet if we had chosen the one that
            somebody else has taken since.

    Raises:
        SubnetInUse: The subnet that its maker chose is taken.
        OSError: The kernel refused something.
    """
    endpoints = records.endpoints(network=network.id)
    tried: list[IPv4Network] = []
    while True:
        try:
            return _bridge.up_index(network, store.path, endpoints), network
        except SubnetInUse:
            if not network.chosen or endpoints:
                raise
            tried.append(network.subnet)
            subnet = free_subnet(records, store, network.id, besides=tried)
            network = evolve(network, subnet=subnet, gateway=subnet.network_address + 1, last=0)
            records.put_network(network)


def free_subnet(
    records: Records, store: Store, seed: str, *, besides: Iterable[IPv4Network] = ()
) -> IPv4Network:
    """A subnet that neither this host's routes nor the store's networks have.

    Raises:
        NoFreeAddress: There is none.
    """
    taken = [*_bridge.host_subnets(), *(n.subnet for n in records.networks()), *besides]
    known = [subnet for subnet in taken if isinstance(subnet, IPv4Network)]
    for subnet in candidates(f"{store.path} {seed}"):
        if not any(subnet.overlaps(other) for other in known):
            return subnet
    raise NoFreeAddress(
        "no subnet is free on this host", remedy="give one: Network.create(name, subnet=...)"
    )


def release_dead(store: Store, records: Records, network: NetworkRecord) -> None:
    """Give back the places of containers that have ended or are gone."""
    for endpoint in records.endpoints(network=network.id):
        if _is_dead(store, endpoint):
            _names.forget(store, endpoint)
            _bridge.remove_endpoint(endpoint)
            records.remove_endpoint(endpoint.id)


def _is_dead(store: Store, endpoint: EndpointRecord) -> bool:
    home = store.path / "containers" / endpoint.container
    try:
        ended = json.loads((home / "exit.json").read_bytes())
    except FileNotFoundError:
        return not home.exists()
    return ended.get("next") is None  # else it is about to be started again


def watch_store(store: Store) -> None:
    """Remove bridges that nobody uses when the handle of the store is closed."""
    if store not in _watched:
        _watched.add(store)
        store.before_close(take_down_unused)


def take_down_unused(store: Store) -> None:
    """Remove the bridges of networks in which no container is; the networks stay, as rows."""
    try:
        store.db.ensure(SCHEMA)
        with store.db.transaction() as connection:
            records = Records(connection)
            for network in records.networks():
                release_dead(store, records, network)
                if not records.endpoints(network=network.id):
                    _bridge.take_down(network)
    except (OSError, StoreError) as error:  # the next to open or close a store tries again
        _log.debug("bridges of %s stay: %s", store.path, error)
