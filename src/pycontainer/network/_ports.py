"""Published ports: what callers write, host ports that are really free, elements of the port maps."""

from __future__ import annotations

import array
import errno
import re
import socket
import struct
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, Literal, cast

from attrs import frozen

from pycontainer.errors import NetworkError, PortInUse, UnsupportedFeature

if TYPE_CHECKING:
    from pycontainer.network._records import EndpointRecord

__all__ = [
    "PortRequest",
    "Ports",
    "PublishedPort",
    "Reservation",
    "elements",
    "parse_exposed",
    "parse_ports",
]

Protocol = Literal["tcp", "udp"]
HostPort = int | str | tuple[str, int] | None
Ports = Sequence[int | str] | Mapping[int | str, HostPort | Sequence[HostPort]]
"""What callers write; see `parse_ports`."""

_NUMBERS: Final = {"tcp": 6, "udp": 17}
_KINDS: Final = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_TEXT: Final = re.compile(
    r"(?:(?:(?P<address>\[[0-9a-fA-F:.]*\]|[0-9.]*):)?(?P<host>[0-9]*(?:-[0-9]+)?):)?"
    r"(?P<port>[0-9]+(?:-[0-9]+)?)(?:/(?P<protocol>[a-z]+))?"
)
_EXPOSED: Final = re.compile(r"(?P<port>[0-9]+(?:-[0-9]+)?)(?:/(?P<protocol>tcp|udp|sctp))?")
_MOST_DESCRIPTORS: Final = 250  # the kernel takes 253 in one message
_TRIES: Final = 50


@frozen
class PublishedPort:
    """A port of a container that is reached by a port of the host.

    Attributes:
        container_port: The container's.
        protocol: ``tcp`` or ``udp``.
        host_address: The host's address it is bound to; ``0.0.0.0`` for all.
        host_port: The host's.
    """

    container_port: int
    protocol: Protocol
    host_address: str
    host_port: int


@frozen
class PortRequest:
    """A port to be published.

    Attributes:
        container_port: The container's.
        protocol: ``tcp`` or ``udp``.
        host_address: To bind to; None for all addresses.
        host_ports: Of which the first that is free is taken; empty for any that is free.
    """

    container_port: int
    protocol: Protocol
    host_address: IPv4Address | IPv6Address | None
    host_ports: range

    @classmethod
    def of(cls, port: PublishedPort) -> PortRequest:
        """The request for a port as it is published."""
        address = ip_address(port.host_address)
        hosts = range(port.host_port, port.host_port + 1)
        bound = None if address.is_unspecified else address
        return cls(port.container_port, port.protocol, bound, hosts)

    def to_text(self) -> str:
        """As `parse_ports` reads it."""
        address = "" if self.host_address is None else f"{self.host_address}"
        address = f"[{address}]" if ":" in address else address
        hosts = self.host_ports
        ports = "" if not hosts else f"{hosts[0]}" if len(hosts) == 1 else f"{hosts[0]}-{hosts[-1]}"
        before = f"{address}:{ports}:" if address else f"{ports}:" if ports else ""
        return f"{before}{self.container_port}/{self.protocol}"


# --- what callers write ----------------------------------------------------------------------


def parse_ports(
    ports: Ports,
) -> tuple[PortRequest, ...]:
    """Read the ports that a caller wants published.

    Args:
        ports: Each of a sequence is a port of the container, or a text of Docker's form
            ``[[address:][host port]:]port[/protocol]`` in which ports may be ranges. A mapping leads
            from the container's port to the host's: a number, an address with a number, None for any
            that is free, or several of these.

    Raises:
        NetworkError: One cannot be read.
    """
    found: list[PortRequest] = []
    if not isinstance(ports, Mapping):
        for entry in [ports] if isinstance(ports, str) else ports:
            found += _parse_text(str(entry))
        return tuple(found)
    for port, targets in ports.items():
        for target in _as_list(targets):
            found += _parse_text(_as_text(port, target))
    return tuple(found)


def parse_exposed(ports: Sequence[int | str]) -> tuple[str, ...]:
    """Read the ports on which a container is said to listen: each as ``port/protocol``.

    Args:
        ports: Numbers, or texts like ``53/udp`` and ``8000-8009``.

    Raises:
        NetworkError: One cannot be read.
    """
    found: list[str] = []
    for entry in [ports] if isinstance(ports, str) else ports:
        matched = _EXPOSED.fullmatch(str(entry).strip())
        if matched is None:
            raise NetworkError(
                f"cannot read the port {entry!r} that is to be exposed",
                remedy="write a number or a range with a protocol, like 80, '53/udp' or "
                "'8000-8009/tcp'; what the host publishes goes into `ports`",
            )
        numbers = _range(matched["port"], str(entry))
        found += [f"{number}/{matched['protocol'] or 'tcp'}" for number in numbers]
    return tuple(dict.fromkeys(found))


def _as_list(targets: HostPort | Sequence[HostPort]) -> Sequence[HostPort]:
    return (
        cast("list[HostPort]", targets)
        if isinstance(targets, list)
        else [cast("HostPort", targets)]
    )


def _as_text(port: int | str, target: HostPort) -> str:
    if target is None:
        return str(port)
    if isinstance(target, tuple):
        address, number = target
        return f"{f'[{address}]' if ':' in address else address}:{number or ''}:{port}"
    return f"{target}:{port}"


def _parse_text(text: str) -> list[PortRequest]:
    matched = _TEXT.fullmatch(text.strip())
    if matched is None:
        raise NetworkError(
            f"cannot read the port {text!r}",
            remedy="write a number, or [[address:][host port]:]port[/protocol] like "
            "'8080:80' or '127.0.0.1:5353:53/udp'",
        )
    protocol = matched["protocol"] or "tcp"
    if protocol not in _NUMBERS:
        raise UnsupportedFeature(f"publishing {protocol} ports", "only tcp and udp are published")
    inner, outer = _range(matched["port"], text), _range(matched["host"] or "", text)
    address = _address(matched["address"] or "", text)
    if len(inner) > 1 and outer and len(inner) != len(outer):
        raise NetworkError(f"the ranges of {text!r} differ in length")
    requests = []
    for number, port in enumerate(inner):
        host = outer if len(inner) == 1 or not outer else outer[number : number + 1]
        requests.append(PortRequest(port, "udp" if protocol == "udp" else "tcp", address, host))
    return requests


def _range(text: str, whole: str) -> range:
    if not text or text == "0":
        return range(0)
    first, _, last = text.partition("-")
    low, high = int(first or 0), int(last or first)
    if not 1 <= low <= high <= 65535:
        raise NetworkError(f"{text!r} in the port {whole!r} is not a port or a range of them")
    return range(low, high + 1)


def _address(text: str, whole: str) -> IPv4Address | IPv6Address | None:
    if not text:
        return None
    try:
        address = ip_address(text.strip("[]"))
    except ValueError as error:
        raise NetworkError(f"{text!r} in the port {whole!r} is no address") from error
    if address == IPv6Address("::1"):
        raise UnsupportedFeature(
            "publishing a port on ::1",
            "the kernel does not route packets from there",
            remedy="publish on 127.0.0.1, or call the container by its own IPv6 address",
        )
    return None if address.is_unspecified else address


# --- taking them -----------------------------------------------------------------------------


class Reservation:
    """Host ports taken for a container, so that neither another container nor a program gets them.

    A bound socket that does not listen holds each. The sockets wait as messages in a socket pair, so
    that one descriptor keeps them all: whoever has it has the ports, and they are free when the last
    one has closed it, or was killed.

    Args:
        serving: Whether a program is to listen at the ports, so that connections which one had there
            before and which linger (TIME_WAIT) are no reason to refuse them.
    """

    def __init__(self, *, serving: bool = False) -> None:
        self._serving = serving
        self._sender, self._keeper = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._held: list[socket.socket] = []
        self.ports: list[PublishedPort] = []

    def take(self, request: PortRequest, *, ipv6: bool) -> None:
        """Take a host port for one port of the container.

        Args:
            request: Which.
            ipv6: Whether the container is to be reached by IPv6, too.

        Raises:
            PortInUse: None of those that may be taken is free.
            NetworkError: The address is not one of this host.
        """
        address = request.host_address
        hosts = [str(address)] if address else ["0.0.0.0", *(["::"] if ipv6 else [])]  # noqa: S104
        for port in request.host_ports or [0] * _TRIES:
            try:
                number = self._bind_all(hosts, port, _KINDS[request.protocol])
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise NetworkError(
                    f"cannot publish port {request.container_port} on {hosts[0]}: {error.strerror}",
                    remedy="choose a port from 1024 on, or have root allow lower ones: "
                    "sysctl net.ipv4.ip_unprivileged_port_start=<port>"
                    if isinstance(error, PermissionError)
                    else "name an address of this host",
                ) from error
            self.ports.append(
                PublishedPort(request.container_port, request.protocol, hosts[0], number)
            )
            return
        wanted = request.host_ports
        which = (
            f"{wanted[0]}" if len(wanted) == 1 else f"{wanted[0]}-{wanted[-1]}" if wanted else ""
        )
        raise PortInUse(
            f"cannot publish port {request.container_port}/{request.protocol}: "
            f"the host's port {which} on {hosts[0]} is in use",
            remedy="choose another, or give none and let a free one be found",
        )

    def _bind_all(self, hosts: list[str], port: int, kind: socket.SocketKind) -> int:
        bound: list[socket.socket] = []
        try:
            for host in hosts:
                bound.append(_bind(host, port, kind, serving=self._serving))
                port = bound[-1].getsockname()[1]
        except BaseException:
            for each in bound:
                each.close()
            raise
        self._held += bound
        return port

    def detach(self) -> socket.socket:
        """The one descriptor that keeps all; the caller's from now on."""
        for at in range(0, len(self._held), _MOST_DESCRIPTORS):
            fds = array.array("i", [s.fileno() for s in self._held[at : at + _MOST_DESCRIPTORS]])
            self._sender.sendmsg([b"p"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        keeper = self._keeper
        self._keeper = self._sender
        self.close()
        return keeper

    def close(self) -> None:
        """Let everything go that was not detached."""
        for each in (*self._held, self._sender, self._keeper):
            each.close()
        self._held = []


def _bind(host: str, port: int, kind: socket.SocketKind, *, serving: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        if serving and kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made


def elements(
    ports: Sequence[PublishedPort], endpoint: EndpointRecord
) -> tuple[tuple[str, bytes, bytes], ...]:
    """What publishes ports as an endpoint's: name of the map, key, data (see `_ruleset`)."""
    found = []
    for port in ports:
        host = ip_address(port.host_address)
        service = _padded(bytes((_NUMBERS[port.protocol],))) + _port(port.host_port)
        targets: list[tuple[str, IPv4Address | IPv6Address | None]] = []
        if host.version == 4:
            targets.append(("4", endpoint.address))
        if host.version == 6 or host.is_unspecified:
            targets.append(("6", endpoint.address6))
        for suffix, target in targets:
            if target is None:
                continue
            name = ("ports" if host.is_unspecified else "bound") + suffix
            key = service if host.is_unspecified else host.packed + service
            found.append((name, key, target.packed + _port(port.container_port)))
    return tuple(found)


def _port(number: int) -> bytes:
    return _padded(struct.pack(">H", number))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
