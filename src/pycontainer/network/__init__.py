"""Networks of containers: bridges, addresses, published ports, names."""

from __future__ import annotations

from pycontainer.network._membership import (
    Attachment,
    Endpoint,
    Membership,
    endpoints_of,
    join,
    leave,
    rejoin,
    rename,
)
from pycontainer.network._network import DEFAULT, Member, Network
from pycontainer.network._ports import (
    PortRequest,
    Ports,
    PublishedPort,
    parse_exposed,
    parse_ports,
)
from pycontainer.network._upkeep import recover

__all__ = [
    "DEFAULT",
    "Attachment",
    "Endpoint",
    "Member",
    "Membership",
    "Network",
    "PortRequest",
    "Ports",
    "PublishedPort",
    "endpoints_of",
    "join",
    "leave",
    "parse_exposed",
    "parse_ports",
    "recover",
    "rejoin",
    "rename",
]
