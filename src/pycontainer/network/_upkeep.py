"""When bridges come and go: up with the first container, down when their store is closed and none is left."""

from __future__ import annotations

import functools
import json
import logging
import weakref
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pycontainer.errors import NoFreeAddress, StoreError, SubnetInUse
from pycontainer.network import _bridge, _names
from pycontainer.network._records import SCHEMA, EndpointRecord, NetworkRecord, Records
from pycontainer.network._subnets import candidates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontainer.content import Store

__all__ = ["bring_up", "free_subnet", "recover", "release_dead", "take_down_unused", "watch_store"]

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

    def living() -> list[EndpointRecord]:
        return [e for e in records.endpoints(network=network.id) if not _is_dead(store, e)]

    tried: list[IPv4Network] = []
    while True:
        try:
            return _bridge.up_index(network, store.path, living), network
        except SubnetInUse:
            if not network.chosen or living():
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
    """Give back the places of containers that have ended or are gone; in a writing transaction."""
    for stray in _strays(store, records, network):
        stray.unlink(missing_ok=True)
    for endpoint in records.endpoints(network=network.id):
        if _is_dead(store, endpoint):
            _names.forget(store, endpoint)
            _bridge.remove_endpoint(endpoint)
            records.remove_endpoint(endpoint.id)


def _strays(store: Store, records: Records, network: NetworkRecord) -> list[Path]:
    known = {endpoint.id for endpoint in records.endpoints(network=network.id)}
    return _names.strays(store, network.id, known)


def _is_dead(store: Store, endpoint: EndpointRecord) -> bool:
    home = store.path / "containers" / endpoint.container
    ended, state = _read(home / "exit.json"), _read(home / "state.json")
    if ended is not None:
        return not ended.get("next")  # else it is about to be started again
    if state is None:
        return not home.exists()
    return bool(state["boot_id"] != _boot_id())


@functools.cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return found


def recover(store: Store) -> None:
    """Give back what containers had that a crash of their monitors kept from giving it back."""
    store.db.ensure(SCHEMA)
    watch_store(store)
    with store.db.transaction(write=False) as connection:
        records = Records(connection)
        if not any(_is_dead(store, endpoint) for endpoint in records.endpoints()) and not any(
            _strays(store, records, network) for network in records.networks()
        ):
            return
    try:
        with store.db.transaction() as connection:
            records = Records(connection)
            for network in records.networks():
                release_dead(store, records, network)
    except OSError as error:  # an ordinary user opens a store of root's, say
        _log.debug("places in networks of %s stay: %s", store.path, error)


def watch_store(store: Store) -> None:
    """Remove bridges that nobody uses when the handle of the store is closed."""
    if store not in _watched:
        _watched.add(store)
        # Before there is a bridge: who opens the store next sees by it that one may have to be removed.
        store.directory("networks")
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
