"""Networks of ordinary users: each container is connected to the outside by a program of its own.

pasta(1) or slirp4netns(1) makes an interface in the container's network namespace and carries its traffic
by sockets of the user on the host. So no right is needed, and no two containers are on one wire: they reach
each other by published ports only.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any, Final

from pycontainer.errors import NetworkError, PortInUse, UnsupportedFeature
from pycontainer.network._membership import Attachment, Endpoint
from pycontainer.network._network import DEFAULT, Network
from pycontainer.network._ports import PortRequest, Reservation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.network._membership import Membership
    from pycontainer.network._ports import PublishedPort

__all__ = [
    "NAME_SERVER",
    "PROGRAMS",
    "TUN",
    "host_address",
    "join",
    "refuse_ports_in_use",
    "rejoin",
]

NAME_SERVER: Final = "10.0.2.3"
"""The address in the container at which the host's name server answers."""
PROGRAMS: Final = ("pasta", "slirp4netns")
"""What can connect an ordinary user's container, the better one first."""

TUN: Final = "/dev/net/tun"
"""The device by which these programs make an interface."""

_ADDRESS: Final = "10.0.2.100"
_GATEWAY: Final = "10.0.2.2"
_INTERFACE: Final = "eth0"
_DATE: Final = re.compile(r"(20[0-9]{2})_?([0-9]{2})_?([0-9]{2})")
_SOUND_SINCE: Final = "20240326"
_SOMEWHERE: Final = ("198.51.100.1", 9)  # of TEST-NET-2 (RFC 5737): nothing is sent there
_REMEDY: Final = (
    "run as root, or put containers that are to find each other into one network: "
    "network='container:<name>'; Container.connect reaches a port from this program"
)


def join(
    container_id: str,
    wanted: Sequence[Membership],
    *,
    names: Sequence[str],
    ports: Sequence[PortRequest] = (),
) -> Attachment:
    """Plan how an ordinary user's container is connected to the outside.

    Args:
        container_id: The container's.
        wanted: Its networks: the default one, or one that was told not to be used by name.
        names: By which it is known.
        ports: To be published.

    Raises:
        UnsupportedFeature: Neither program is installed; or a network, alias or address is wanted, which
            they do not know.
        PortInUse: A port of the host is taken.
        NetworkError: A port cannot be published at that address.
    """
    _refuse_what_needs_root(wanted)
    published = _choose(ports)
    plan = rejoin(container_id, published)
    endpoint = Endpoint(
        DEFAULT,
        container_id,
        _INTERFACE,
        _ADDRESS,
        None,
        _mac(container_id),
        _GATEWAY,
        tuple(names),
    )
    return Attachment((endpoint,), published, None, plan)


def rejoin(container_id: str, ports: Sequence[PublishedPort]) -> dict[str, Any]:
    """Plan how its monitor connects a container that has these ports.

    Raises:
        UnsupportedFeature: Neither program is installed.
    """
    found = _installed()
    if not found:
        raise UnsupportedFeature(
            "a network for an ordinary user's container",
            f"neither {' nor '.join(PROGRAMS)} is installed",
            remedy="install pasta (package passt) or slirp4netns; without, reach a container by "
            "Container.connect, have it share the host's network (network='host'), or run as root",
        )
    if not os.access(TUN, os.R_OK | os.W_OK):
        raise UnsupportedFeature(
            "a network for an ordinary user's container",
            f"{TUN} is not there, or this user may not open it",
            remedy=f"have root load it (modprobe tun) and open it to users (chmod 666 {TUN})",
        )
    mac = _mac(container_id)
    programs = [_ARGUMENTS[name](path, mac, ports) for name, path in found]
    return {"by": "program", "programs": programs}


def _installed() -> list[tuple[str, str]]:
    """Name and path of those that are there, the better one first."""
    found = [(name, path) for name in PROGRAMS if (path := shutil.which(name))]
    if found and found[0][0] == "pasta" and _is_old(found[0][1], os.stat(found[0][1]).st_mtime_ns):
        found.reverse()
    return found


@functools.lru_cache(maxsize=4)
def _is_old(pasta: str, _changed: int) -> bool:
    """Whether it loses data on newer kernels, which take no segment without ACK from it.

    That of Debian 12 does, and does not tell its version.
    """
    done = subprocess.run([pasta, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    told = _DATE.search(done.stdout)
    return told is None or "".join(told.groups()) < _SOUND_SINCE


def _mac(container_id: str) -> str:
    return "02:50:" + ":".join(container_id[at : at + 2] for at in range(0, 8, 2))


def _refuse_what_needs_root(wanted: Sequence[Membership]) -> None:
    for membership in wanted:
        network = membership.network
        name = network.name if isinstance(network, Network) else network
        if name != DEFAULT or len(wanted) > 1:
            raise UnsupportedFeature(
                f"the network {name!r} for an ordinary user's container",
                "pasta and slirp4netns connect each container to the outside by itself, "
                f"which is the network {DEFAULT!r}",
                remedy=_REMEDY,
            )
        if membership.aliases or membership.address or membership.ipv6_address:
            raise UnsupportedFeature(
                "aliases and fixed addresses for an ordinary user's container",
                "no other container is on its wire",
                remedy=_REMEDY,
            )


def host_address() -> str:
    """An address of the host that its containers reach; the gateway leads only outside."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SOMEWHERE)
        except OSError:
            return _GATEWAY
        address: str = probe.getsockname()[0]
        return address


# --- ports -----------------------------------------------------------------------------------


def _choose(requests: Sequence[PortRequest]) -> tuple[PublishedPort, ...]:
    """Find host ports that are free; the program itself binds them a moment later."""
    for request in requests:
        if request.host_address is not None and request.host_address.version == 6:
            raise UnsupportedFeature(
                f"publishing a port on {request.host_address}",
                "an ordinary user's containers have IPv4 only",
                remedy="publish on an IPv4 address, or run as root",
            )
    reservation = Reservation(serving=True)
    try:
        for request in requests:
            reservation.take(request, ipv6=False)
        return tuple(reservation.ports)
    finally:
        reservation.close()


def refuse_ports_in_use(ports: Sequence[PublishedPort]) -> None:
    """Say which of the ports was taken by somebody else meanwhile, if that is why a start failed.

    Raises:
        PortInUse: One was.
    """
    try:
        _choose([PortRequest.of(port) for port in ports])
    except PortInUse:
        raise
    except NetworkError:
        return


# --- the programs ----------------------------------------------------------------------------


def _pasta(path: str, mac: str, ports: Sequence[PublishedPort]) -> dict[str, Any]:
    """See pasta(1). By default it forwards whatever is bound on either side: all of that is off."""
    arguments = [path, "--foreground", "--quiet", "--ipv4-only", "--config-net", "--no-map-gw"]
    arguments += ["--address", _ADDRESS, "--netmask", "255.255.255.0", "--gateway", _GATEWAY]
    arguments += ["--ns-ifname", _INTERFACE, "--ns-mac-addr", mac, "--dns-forward", NAME_SERVER]
    arguments += ["--tcp-ns", "none", "--udp-ns", "none"]
    for option, protocol in (("--tcp-ports", "tcp"), ("--udp-ports", "udp")):
        specs = [_pasta_port(port) for port in ports if port.protocol == protocol]
        for spec in specs or ["none"]:
            arguments += [option, spec]
    arguments += ["--pid", "network.ready", "--netns-only", "--netns", "./network.ns"]
    return {"name": "pasta", "arguments": arguments, "requests": []}


def _pasta_port(port: PublishedPort) -> str:
    bound = "" if port.host_address == "0.0.0.0" else f"{port.host_address}/"  # noqa: S104
    return f"{bound}{port.host_port}:{port.container_port}"


def _slirp4netns(path: str, mac: str, ports: Sequence[PublishedPort]) -> dict[str, Any]:
    """See slirp4netns(1). Its ports are published by requests at a socket, once it is ready."""
    arguments = [path, "--configure", "--mtu=65520", "--disable-host-loopback"]
    arguments += ["--enable-sandbox", "--enable-seccomp", f"--macaddress={mac}", "--ready-fd=3"]
    arguments += ["--api-socket=network.sock"] if ports else []
    arguments += ["--netns-type=path", "network.ns", _INTERFACE]
    requests = [json.dumps(_slirp4netns_port(port)) for port in ports]
    return {"name": "slirp4netns", "arguments": arguments, "requests": requests}


def _slirp4netns_port(port: PublishedPort) -> dict[str, Any]:
    about = {"proto": port.protocol, "host_addr": port.host_address, "host_port": port.host_port}
    inner = {"guest_addr": _ADDRESS, "guest_port": port.container_port}
    return {"execute": "add_hostfwd", "arguments": {**about, **inner}}


_ARGUMENTS: Final = {"pasta": _pasta, "slirp4netns": _slirp4netns}
