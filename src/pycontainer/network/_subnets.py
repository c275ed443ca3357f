"""Which subnets and addresses are free: arithmetic only."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Final

from pycontainer.errors import NetworkError, NoFreeAddress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["candidates", "first_free", "parse_gateway", "parse_subnet", "unique_local", "within"]

_POOL: Final = IPv4Network("10.192.0.0/10")
_PREFIX: Final = 22  # 1021 containers; the kernel has at most 1023 ports on a bridge
_LONGEST: Final = 30
_SHORTEST: Final = 8


def candidates(seed: str) -> Iterator[IPv4Network]:
    """All subnets of the pool, beginning where `seed` says, so that stores seldom meet."""
    count = 1 << (_PREFIX - _POOL.prefixlen)
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
    first, size = int(_POOL.network_address), 1 << (32 - _PREFIX)
    for number in range(count):
        yield IPv4Network((first + (start + number) % count * size, _PREFIX))


def unique_local(seed: str) -> IPv6Network:
    """A subnet of IPv6 addresses that nobody else is likely to use (RFC 4193)."""
    identifier = hashlib.sha256(seed.encode()).digest()[:7]
    return IPv6Network((b"\xfd" + identifier + bytes(8), 64))


def parse_subnet(text: str, version: int) -> IPv4Network | IPv6Network:
    """A subnet as a user writes it.

    Raises:
        NetworkError: It is none, or too small or large for a network.
    """
    try:
        subnet = IPv4Network(text) if version == 4 else IPv6Network(text)
    except ValueError as error:
        raise NetworkError(
            f"{text!r} is not a subnet of IPv{version}: {error}",
            remedy="write it like 10.5.0.0/24" if version == 4 else "write it like fd00:5::/64",
        ) from error
    if version == 4 and not _SHORTEST <= subnet.prefixlen <= _LONGEST:
        raise NetworkError(
            f"the subnet {text} has no place for containers"
            if subnet.prefixlen > _LONGEST
            else f"the subnet {text} is too large",
            remedy=f"use a prefix length from {_SHORTEST} to {_LONGEST}",
        )
    if version == 6 and not 48 <= subnet.prefixlen <= 112:
        raise NetworkError(f"cannot use the subnet {text}", remedy="use a prefix length of 64")
    return subnet


def parse_gateway(text: str | None, subnet: IPv4Network | IPv6Network) -> IPv4Address | IPv6Address:
    """The gateway's address as a user writes it; the first of the subnet unless given.

    Raises:
        NetworkError: It is no address of the subnet.
    """
    if text is None:
        return subnet.network_address + 1
    return within(text, subnet)


def within(text: str, subnet: IPv4Network | IPv6Network) -> IPv4Address | IPv6Address:
    """An address that a host of the subnet may have.

    Raises:
        NetworkError: It is none.
    """
    kind = IPv4Address if subnet.version == 4 else IPv6Address
    try:
        address = kind(text)
    except ValueError as error:
        raise NetworkError(f"{text!r} is not an address of IPv{subnet.version}") from error
    reserved = {subnet.network_address}
    if subnet.version == 4:
        reserved.add(subnet.broadcast_address)
    if address not in subnet or address in reserved:
        raise NetworkError(f"{text} is not an address that a host of {subnet} may have")
    return address


def first_free(subnet: IPv4Network, taken: Collection[int], last: int) -> IPv4Address:
    """The first address behind `last`, going round, that is not taken.

    Raises:
        NoFreeAddress: All are.
    """
    lowest, highest = int(subnet.network_address) + 1, int(subnet.broadcast_address) - 1
    start = last + 1 if lowest <= last < highest else lowest
    for numbers in (range(start, highest + 1), range(lowest, start)):
        for number in numbers:
            if number not in taken:
                return IPv4Address(number)
    raise NoFreeAddress(
        f"all addresses of {subnet} are in use",
        remedy="delete containers, or make a network with a larger subnet",
    )
