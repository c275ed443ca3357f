"""Networks as programs use them."""

from __future__ import annotations

import os
import re
import secrets
import time
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from attrs import evolve, field, frozen

from pycontainer.content import Store
from pycontainer.errors import (
    NameInUse,
    NetworkError,
    NetworkInUse,
    NetworkNotFound,
    SubnetInUse,
    UnsupportedFeature,
)
from pycontainer.network import _bridge, _names
from pycontainer.network._membership import Endpoint, Membership, join, leave, to_endpoint
from pycontainer.network._records import SCHEMA, NetworkRecord, Records
from pycontainer.network._subnets import parse_gateway, parse_subnet, unique_local
from pycontainer.network._upkeep import free_subnet, release_dead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DEFAULT", "Member", "Network"]

DEFAULT: Final = "bridge"
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_RESERVED: Final = ("default", "host", "none")


class Member(Protocol):
    """What `Network.connect` asks of a container."""

    id: str
    name: str

    def plug(self, plan: Mapping[str, Any], endpoint: Endpoint, membership: Membership) -> None:
        """Have the container's monitor make the interface that the plan describes, and keep it so."""

    def unplug(self, endpoint_id: str, network: Network) -> None:
        """Have the container's monitor remove an interface, and keep it so."""


@frozen
class Network:
    """A network of containers: a bridge with a subnet of its own on this host.

    Its containers reach each other by address and by name, and what is outside through the host, whose
    address they then have. Other networks' containers and what is outside reach only published ports.
    The default network is named ``bridge`` and made when it is first used. As a context manager a network is
    deleted at the end.

    Attributes:
        id: 64 hexadecimal digits.
        name: Its name, unique in the store.
        subnet: Its IPv4 addresses.
        gateway: The host's address in it.
        ipv6_subnet: Its IPv6 addresses, if it has any.
        ipv6_gateway: The host's address among those.
        internal: Whether nothing outside is reached from it.
        labels: What the caller wrote on it.
        created_at: Seconds since the epoch.
        interface: Name of its bridge on the host, which exists while containers use it.
    """

    id: str
    name: str
    subnet: str
    gateway: str
    ipv6_subnet: str | None
    ipv6_gateway: str | None
    internal: bool
    labels: Mapping[str, str]
    created_at: float
    interface: str
    _store: Store = field(repr=False, eq=False, alias="_store")

    # --- making and finding ------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        name: str,
        *,
        subnet: str | None = None,
        gateway: str | None = None,
        ipv6: bool | str = False,
        ipv6_gateway: str | None = None,
        internal: bool = False,
        labels: Mapping[str, str] | None = None,
        store: Store | None = None,
    ) -> Network:
        """Make a network.

        Args:
            name: Its name.
            subnet: IPv4 addresses, such as ``10.5.0.0/24``; None for some that nobody uses here.
            gateway: The host's address in it; None for the first.
            ipv6: Whether it has IPv6, too; a text is its subnet, True a unique local one (RFC 4193).
            ipv6_gateway: The host's address there; None for the first.
            internal: Whether its containers reach only each other and the host.
            labels: To find it by.
            store: Where; None for the default store.

        Raises:
            NameInUse: There is a network of that name.
            SubnetInUse: A route of this host, or another network of the store, has some of the subnet.
            NetworkError: The name or one of the addresses is none.
            UnsupportedFeature: This user is not root.
        """
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise NetworkError(
                f"{name!r} cannot name a network",
                remedy="use letters, digits, '_', '.' and '-', a letter or digit first; "
                f"{', '.join(_RESERVED)} mean something else",
            )
        if os.geteuid() != 0 and name != DEFAULT:
            raise UnsupportedFeature(
                "a network of its own for an ordinary user's containers",
                "only root may make bridges",
                remedy="run as root; or put containers that are to find each other into one network: "
                "network='container:<name>'",
            )
        store = store or Store.default()
        store.db.ensure(SCHEMA)
        network_id = secrets.token_hex(32)
        subnet6 = None
        if ipv6:
            subnet6 = unique_local(network_id) if ipv6 is True else parse_subnet(ipv6, 6)
        with store.db.transaction() as connection:
            records = Records(connection)
            if records.named(name) is not None:
                raise NameInUse(f"there is a network {name!r} already")
            if subnet is None:
                chosen = free_subnet(records, store, network_id)
            else:
                given = parse_subnet(subnet, 4)
                assert isinstance(given, IPv4Network)
                chosen = given
                _refuse_overlap(records, chosen)
            record = _record(network_id, name, chosen, gateway, subnet6, ipv6_gateway)
            record = evolve(
                record, chosen=subnet is None, internal=internal, labels=dict(labels or {})
            )
            records.put_network(record)
        store.record("network", "create", network_id, {"name": name})
        return _to_network(store, record)

    @classmethod
    def get(cls, name_or_id: str, *, store: Store | None = None) -> Network:
        """Find a network by its name, its id, or an unambiguous beginning of that.

        Raises:
            NetworkNotFound: There is none, or more than one.
        """
        found = [n for n in cls.list(store=store) if name_or_id in (n.name, n.id)]
        if not found and len(name_or_id) >= 4:
            found = [n for n in cls.list(store=store) if n.id.startswith(name_or_id)]
        if not found and name_or_id == DEFAULT:
            return cls.default(store=store)
        if len(found) != 1:
            what = "no network" if not found else f"{len(found)} networks that match"
            raise NetworkNotFound(f"{what} {name_or_id!r}")
        return found[0]

    @classmethod
    def default(cls, *, store: Store | None = None) -> Network:
        """The network ``bridge``, in which containers are unless told otherwise."""
        store = store or Store.default()
        store.db.ensure(SCHEMA)
        with store.db.transaction(write=False) as connection:
            record = Records(connection).named(DEFAULT)
        if record is not None:
            return _to_network(store, record)
        try:
            return cls.create(DEFAULT, store=store)
        except NameInUse:  # by another thread or process meanwhile
            return cls.get(DEFAULT, store=store)

    @classmethod
    def list(
        cls, *, labels: Mapping[str, str] | None = None, store: Store | None = None
    ) -> tuple[Network, ...]:
        """The networks of a store, oldest first.

        Args:
            labels: Only those that carry these.
            store: None for the default store.
        """
        store = store or Store.default()
        store.db.ensure(SCHEMA)
        with store.db.transaction(write=False) as connection:
            found = Records(connection).networks()
        wanted = dict(labels or {}).items()
        return tuple(_to_network(store, r) for r in found if wanted <= r.labels.items())

    @classmethod
    def prune(
        cls, *, labels: Mapping[str, str] | None = None, store: Store | None = None
    ) -> tuple[str, ...]:
        """Delete the networks in which no container is, but for the default one.

        Returns:
            The names of those deleted.
        """
        deleted = []
        for network in cls.list(labels=labels, store=store):
            if network.name == DEFAULT:
                continue
            try:
                network.delete()
            except NetworkInUse:
                continue
            deleted.append(network.name)
        return tuple(deleted)

    # --- what it is and does -----------------------------------------------------------------

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The places of the containers in it, oldest first; reads the database."""
        with self._store.db.transaction(write=False) as connection:
            records = Records(connection)
            record = records.network(self.id)
            if record is None:
                return ()
            return tuple(to_endpoint(record, e) for e in records.endpoints(network=self.id))

    def connect(
        self,
        container: Member,
        *,
        aliases: Sequence[str] = (),
        address: str | None = None,
        ipv6_address: str | None = None,
    ) -> Endpoint:
        """Put a running container into the network, too, and keep it there through later starts.

        Args:
            container: The container.
            aliases: Further names by which the others of the network find it.
            address: The IPv4 address it is to have.
            ipv6_address: The IPv6 address it is to have.

        Raises:
            NetworkError: It is in the network already.
            AddressInUse: Another container has the address.
            ContainerStateError: It does not run, or has no network namespace of its own.
        """
        membership = Membership(self.id, tuple(aliases), address, ipv6_address)
        names = [container.name, container.id[:12]]
        attachment = join(self._store, container.id, [membership], names=names)
        endpoint = attachment.endpoints[0]
        try:
            container.plug(attachment.plan["endpoints"][0], endpoint, membership)
        except BaseException:
            leave(self._store, container.id, network_id=self.id)
            raise
        self._record("connect", container)
        return endpoint

    def disconnect(self, container: Member) -> None:
        """Take a container out of the network, for later starts as well; its connections there break.

        Raises:
            NetworkError: It is not in the network.
        """
        with self._store.db.transaction(write=False) as connection:
            found = Records(connection).endpoints(network=self.id, container=container.id)
        if not found:
            raise NetworkError(f"container {container.name} is not in network {self.name!r}")
        container.unplug(found[0].id, self)
        leave(self._store, container.id, network_id=self.id)
        self._record("disconnect", container)

    def _record(self, action: str, container: Member) -> None:
        about = {"name": self.name, "container": container.id}
        self._store.record("network", action, self.id, about)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.delete()

    def delete(self) -> None:
        """Remove the network; one that is gone is removed.

        Raises:
            NetworkInUse: Containers are in it.
        """
        with (
            self._store.db.transaction() as connection,
            _bridge.naming_refusals("removing a network"),
        ):
            records = Records(connection)
            record = records.network(self.id)
            if record is None:
                return
            release_dead(self._store, records, record)
            users = records.endpoints(network=self.id)
            if users:
                raise NetworkInUse(
                    f"{len(users)} containers are in network {self.name!r}, such as "
                    f"{users[0].names[0]}",
                    remedy="delete or disconnect them first",
                )
            if os.geteuid() == 0:  # else it never had a bridge
                _bridge.take_down(record)
            records.remove_network(self.id)
            _names.forget_network(self._store, self.id)
        self._store.record("network", "destroy", self.id, {"name": self.name})


def _refuse_overlap(records: Records, subnet: IPv4Network) -> None:
    for other in records.networks():
        if subnet.overlaps(other.subnet):
            raise SubnetInUse(f"the subnet {subnet} overlaps {other.subnet} of {other.name!r}")
    for route in _bridge.host_subnets():
        if isinstance(route, IPv4Network) and subnet.overlaps(route):
            raise SubnetInUse(
                f"the subnet {subnet} overlaps {route}, to which this host has a route",
                remedy="choose another, or leave it out",
            )


def _record(
    network_id: str,
    name: str,
    subnet: IPv4Network,
    gateway: str | None,
    subnet6: IPv4Network | IPv6Network | None,
    ipv6_gateway: str | None,
) -> NetworkRecord:
    first = parse_gateway(gateway, subnet)
    assert isinstance(first, IPv4Address)
    gateway6: IPv6Address | None = None
    if isinstance(subnet6, IPv6Network):
        given = parse_gateway(ipv6_gateway, subnet6)
        assert isinstance(given, IPv6Address)
        gateway6 = given
    six = subnet6 if isinstance(subnet6, IPv6Network) else None
    return NetworkRecord(
        network_id, name, subnet, first, six, gateway6, False, False, {}, time.time()
    )


def _to_network(store: Store, record: NetworkRecord) -> Network:
    return Network(
        record.id,
        record.name,
        str(record.subnet),
        str(record.gateway),
        None if record.subnet6 is None else str(record.subnet6),
        None if record.gateway6 is None else str(record.gateway6),
        record.internal,
        dict(record.labels),
        record.created,
        record.bridge,
        _store=store,
    )
