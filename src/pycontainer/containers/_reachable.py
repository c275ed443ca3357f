"""How a container is reached: its addresses, its published ports, sockets in its network."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import evolve

from pycontainer.containers import _networking, _record
from pycontainer.containers._inside import Inside
from pycontainer.containers._view import exclusive_files
from pycontainer.errors import ContainerStateError, NetworkError, PortUnreachable
from pycontainer.oci.runtime import RuntimeSpec
from pycontainer.runtime import change_network, open_control, socket_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pycontainer.network import Endpoint, Membership, Network, PublishedPort

__all__ = ["Reachable"]

_SECONDS: Final = 30.0


class Reachable(Inside):
    """The part of `Container` that has to do with networks."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Its places in networks, in the order in which it got them; reads the database."""
        from pycontainer.network import endpoints_of

        own = _networking.own_endpoint(self._directory)
        if own is not None:
            return (own,) if self.state in ("running", "paused") else ()
        return endpoints_of(self._store, self.id)

    @property
    def ip_address(self) -> str | None:
        """Its IPv4 address in its first network; None if it is in none."""
        found = self.endpoints
        return found[0].address if found else None

    @property
    def ports(self) -> tuple[PublishedPort, ...]:
        """Its ports that the host publishes."""
        return _networking.published(self._directory)

    def address(self, port: int, protocol: Literal["tcp", "udp"] = "tcp") -> tuple[str, int]:
        """Where programs on this host reach one of its published ports: address and port.

        Raises:
            NetworkError: That port is not published.
        """
        for each in self.ports:
            if (each.container_port, each.protocol) == (port, protocol):
                host = "127.0.0.1" if each.host_address == "0.0.0.0" else each.host_address  # noqa: S104
                return host, each.host_port
        raise NetworkError(
            f"port {port}/{protocol} of container {self.name} is not published",
            remedy=f"start it with ports=[{port}], or use connect({port}), which needs none",
        )

    def connect(self, port: int, *, timeout: float | None = _SECONDS) -> socket.socket:
        """A socket connected to a port of the container, from its inside: nothing needs to be published.

        Args:
            port: A TCP port on which something listens in the container, on any address.
            timeout: Seconds; also of the socket's operations later.

        Raises:
            PortUnreachable: Nothing accepts the connection.
            ContainerStateError: It does not run.
        """
        state, refusal = self._state(), None
        for address in ("127.0.0.1", "::1", *self._own_addresses()):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            try:
                made = socket_inside(state, family)
            except OSError as error:  # a kernel without IPv6
                refusal = refusal or error
                continue
            try:
                made.settimeout(timeout)
                made.connect((address, port))
            except OSError as error:
                made.close()
                refusal = refusal or error
            else:
                return made
        raise PortUnreachable(
            f"cannot connect to port {port} of container {self.name}: {refusal}",
            remedy="wait until it listens: pycontainer.ready.port",
        ) from refusal

    def plug(self, plan: Mapping[str, Any], endpoint: Endpoint, membership: Membership) -> None:
        """Make the interface of a network while it runs; `Network.connect` is the way to ask for it."""
        state = self._state()
        wanted = self._connections()
        if "network" not in state.namespaces or wanted.mode == "container":
            raise ContainerStateError(
                f"container {self.name} has no network of its own to put {endpoint.interface} into",
                remedy="connect the container whose network it shares; one of the host's has all",
            )
        self._change_network("plug", dict(plan), *_networking.name_servers(wanted.names))
        _networking.use_resolver(self._directory)
        hostname = RuntimeSpec.parse((self._directory / "config.json").read_bytes()).hostname
        self._keep_networking(lambda known: known.with_network(membership, hostname))

    def unplug(self, endpoint_id: str, network: Network) -> None:
        """Remove the interface of a network; `Network.disconnect` is the way to ask for it."""
        if self.state in ("running", "paused"):
            self._change_network("unplug", endpoint_id)
        self._keep_networking(lambda known: known.without_network(network))

    def _connections(self) -> _networking.Networking:
        record = _record.read_record(self._directory) or self._record
        return _networking.Networking.from_json(record.network)

    def _keep_networking(
        self, change: Callable[[_networking.Networking], _networking.Networking]
    ) -> None:
        """Write down how it is connected from now on, for the next start or monitor."""
        with exclusive_files(self._directory):
            record = _record.read_record(self._directory)
            if record is not None:
                changed = change(_networking.Networking.from_json(record.network))
                self._record = evolve(record, network=changed.to_json())
                _record.write_record(self._directory, self._record)

    def _change_network(self, verb: Literal["plug", "unplug"], *what: object) -> None:
        control = open_control(self._directory)
        if control is None:
            raise ContainerStateError(
                f"nobody looks after container {self.name}: its monitor was killed",
                remedy="start it again",
            )
        with control:
            change_network(control, verb, *what, timeout=_SECONDS)

    def _own_addresses(self) -> list[str]:
        if self._connections().mode in ("none", "host"):
            return []
        found = self.endpoints
        return [each.address for each in found] + [
            each.ipv6_address for each in found if each.ipv6_address
        ]
