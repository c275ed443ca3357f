"""Networks and endpoints in the store's database.

An endpoint is a container's place in a network: while its row is there, its address is nobody else's.
Everything here runs in the caller's transaction.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, frozen

from pycontainer.content import Schema

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

__all__ = ["SCHEMA", "EndpointRecord", "NetworkRecord", "Records"]

SCHEMA: Final = Schema(
    "network",
    1,
    """
    CREATE TABLE IF NOT EXISTS network (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, subnet TEXT NOT NULL, gateway TEXT NOT NULL,
        subnet6 TEXT, gateway6 TEXT, chosen INTEGER NOT NULL, internal INTEGER NOT NULL,
        labels TEXT NOT NULL, created REAL NOT NULL, last INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS endpoint (
        id TEXT PRIMARY KEY, network TEXT NOT NULL, container TEXT NOT NULL,
        interface TEXT NOT NULL, address TEXT NOT NULL, address6 TEXT,
        names TEXT NOT NULL, elements TEXT NOT NULL, created REAL NOT NULL,
        UNIQUE (network, address), UNIQUE (network, address6), UNIQUE (network, container),
        UNIQUE (container, interface)
    ) WITHOUT ROWID
    """,
)


@frozen
class NetworkRecord:
    """A network as the database has it.

    Attributes:
        chosen: Whether we chose its subnet, and so may choose another while nothing uses it.
        last: The address given last, as a number: the next search goes on behind it, so that addresses
            are not given again while somebody may still remember them.
    """

    id: str
    name: str
    subnet: IPv4Network
    gateway: IPv4Address
    subnet6: IPv6Network | None
    gateway6: IPv6Address | None
    chosen: bool
    internal: bool
    labels: Mapping[str, str]
    created: float
    last: int = 0

    @property
    def bridge(self) -> str:
        """Name of its interface; ids are random, so no two stores meet."""
        return f"pc-{self.id[:12]}"


@frozen
class EndpointRecord:
    """An endpoint as the database has it.

    Attributes:
        names: By which other containers of the network find it.
        elements: What publishes its ports: name of the map, key, data.
    """

    id: str
    network: str
    container: str
    interface: str
    address: IPv4Address
    address6: IPv6Address | None
    names: tuple[str, ...]
    elements: tuple[tuple[str, bytes, bytes], ...]
    created: float

    @property
    def link(self) -> str:
        """Name of the host's end of its interface pair."""
        return f"pv-{self.id[:12]}"

    @property
    def mac(self) -> bytes:
        """MAC address: made of the address, so that who remembers one knows the other."""
        return b"\x02\x50" + self.address.packed


class Records:
    """The two tables, by one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # --- networks ----------------------------------------------------------------------------

    def networks(self) -> list[NetworkRecord]:
        """All networks, oldest first."""
        rows = self._connection.execute("SELECT * FROM network ORDER BY created, id")
        return [_network(row) for row in rows]

    def network(self, network_id: str) -> NetworkRecord | None:
        """The network of that id."""
        return self._one("SELECT * FROM network WHERE id = ?", network_id)

    def named(self, name: str) -> NetworkRecord | None:
        """The network of that name."""
        return self._one("SELECT * FROM network WHERE name = ?", name)

    def put_network(self, record: NetworkRecord) -> None:
        """Enter a network, in place of what was there under its id."""
        self._connection.execute(
            "INSERT OR REPLACE INTO network VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                record.name,
                str(record.subnet),
                str(record.gateway),
                _text(record.subnet6),
                _text(record.gateway6),
                record.chosen,
                record.internal,
                json.dumps(dict(record.labels)),
                record.created,
                record.last,
            ),
        )

    def remove_network(self, network_id: str) -> None:
        """Forget a network."""
        self._connection.execute("DELETE FROM network WHERE id = ?", (network_id,))

    def _one(self, query: str, value: str) -> NetworkRecord | None:
        row = self._connection.execute(query, (value,)).fetchone()
        return None if row is None else _network(row)

    # --- endpoints ---------------------------------------------------------------------------

    def endpoints(
        self, *, network: str | None = None, container: str | None = None
    ) -> list[EndpointRecord]:
        """The endpoints of a network, of a container, or all, oldest first."""
        query, values = "SELECT * FROM endpoint WHERE 1", []
        for column, value in (("network", network), ("container", container)):
            if value is not None:
                query += f" AND {column} = ?"
                values.append(value)
        rows = self._connection.execute(query + " ORDER BY created, id", values)
        return [_endpoint(row) for row in rows]

    def taken(self, network: str) -> set[int]:
        """The addresses in use in a network, as numbers."""
        query = "SELECT address FROM endpoint WHERE network = ?"
        return {int(IPv4Address(row[0])) for row in self._connection.execute(query, (network,))}

    def put_endpoint(self, record: EndpointRecord) -> None:
        """Enter an endpoint.

        Raises:
            sqlite3.IntegrityError: Its address is taken, or the container is in that network.
        """
        elements = [[name, key.hex(), data.hex()] for name, key, data in record.elements]
        self._connection.execute(
            "INSERT INTO endpoint VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                record.network,
                record.container,
                record.interface,
                str(record.address),
                _text(record.address6),
                json.dumps(record.names),
                json.dumps(elements),
                record.created,
            ),
        )

    def rename_endpoint(self, record: EndpointRecord) -> None:
        """Enter an endpoint's names in place of those that it had."""
        self._connection.execute(
            "UPDATE endpoint SET names = ? WHERE id = ?", (json.dumps(record.names), record.id)
        )

    def remove_endpoint(self, endpoint_id: str) -> None:
        """Forget an endpoint; its address is free."""
        self._connection.execute("DELETE FROM endpoint WHERE id = ?", (endpoint_id,))

    def set_last(self, record: NetworkRecord, number: int) -> None:
        """Remember which address was given last."""
        self.put_network(evolve(record, last=number))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _network(row: tuple[Any, ...]) -> NetworkRecord:
    return NetworkRecord(
        row[0],
        row[1],
        IPv4Network(row[2]),
        IPv4Address(row[3]),
        None if row[4] is None else IPv6Network(row[4]),
        None if row[5] is None else IPv6Address(row[5]),
        bool(row[6]),
        bool(row[7]),
        json.loads(row[8]),
        row[9],
        row[10],
    )


def _endpoint(row: tuple[Any, ...]) -> EndpointRecord:
    return EndpointRecord(
        row[0],
        row[1],
        row[2],
        row[3],
        IPv4Address(row[4]),
        None if row[5] is None else IPv6Address(row[5]),
        tuple(json.loads(row[6])),
        tuple((name, bytes.fromhex(k), bytes.fromhex(v)) for name, k, v in json.loads(row[7])),
        row[8],
    )
