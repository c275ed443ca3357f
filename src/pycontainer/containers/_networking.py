"""The networks of a container: what its maker wants, and what a start of it makes of that.

Containers without any load nothing of the room `network`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from attrs import asdict, evolve, field, frozen

from pycontainer.containers._names import Names
from pycontainer.errors import StartError, UnsupportedFeature
from pycontainer.oci.runtime import Namespace
from pycontainer.runtime import is_rootless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pycontainer.containers._record import New
    from pycontainer.content import Store
    from pycontainer.network import (
        Attachment,
        Endpoint,
        Membership,
        Network,
        Ports,
        PublishedPort,
    )
    from pycontainer.oci.runtime import RuntimeSpec

    NetworkChoice: TypeAlias = (
        "str | Network | Membership | Sequence[str | Network | Membership] | None"
    )

__all__ = [
    "NO_NETWORKING",
    "Attached",
    "Networking",
    "attach",
    "exposed",
    "keep_attached",
    "name_servers",
    "own_endpoint",
    "published",
    "recover",
    "release",
    "rename",
    "use_resolver",
]

_PORTS: Final = "ports.json"
_ENDPOINT: Final = "endpoint.json"
_RESOLVER: Final = "127.0.0.11"
_OF_CONTAINER: Final = "container:"


@frozen
class Networking:
    """How a container is connected.

    Attributes:
        mode: ``none``, ``host``, ``container`` (that of another one), or ``own``.
        memberships: Network, aliases, address, IPv6 address of each network of mode ``own``.
        ports: Published ones, each as `parse_ports` reads it.
        container: Name or id of the other one.
        hostname: What the container is called, for its hosts file.
        names: How it finds others.
        publish_all: Whether each port that is exposed is published, too.
    """

    mode: Literal["none", "host", "container", "own"] = "none"
    memberships: tuple[tuple[str, tuple[str, ...], str | None, str | None], ...] = ()
    ports: tuple[str, ...] = ()
    container: str = ""
    hostname: str = ""
    names: Names = field(factory=Names)
    publish_all: bool = False

    @classmethod
    def of(cls, network: NetworkChoice, ports: Ports, *, publish_all: bool = False) -> Networking:
        """Read what a caller wants.

        Raises:
            NetworkError: It contradicts itself, or a port cannot be read.
        """
        publishes = bool(ports) or publish_all
        if not publishes:
            if network is None or network == "none":
                return NO_NETWORKING
            if network == "host":
                return cls("host")
        if isinstance(network, str) and network.startswith(_OF_CONTAINER) and not publishes:
            return cls("container", container=network.removeprefix(_OF_CONTAINER))
        from pycontainer.errors import NetworkError
        from pycontainer.network import DEFAULT, Membership, Network, parse_ports

        chosen = DEFAULT if network is None else network
        several = [chosen] if isinstance(chosen, str | Network | Membership) else list(chosen)
        memberships = []
        for each in several:
            if each in ("none", "host") or str(each).startswith(_OF_CONTAINER):
                raise NetworkError(
                    f"network {each!r} goes with no other network and no ports",
                    remedy="leave the others, or `ports`, out",
                )
            member = each if isinstance(each, Membership) else Membership(each)
            name = member.network if isinstance(member.network, str) else member.network.id
            memberships.append((name, tuple(member.aliases), member.address, member.ipv6_address))
        texts = tuple(request.to_text() for request in parse_ports(ports))
        return cls("own", tuple(memberships), texts, publish_all=publish_all)

    def with_exposed(self, exposed: Sequence[str]) -> Networking:
        """The same with the ports published that are exposed, if all of them are to be.

        Those that are published already stay as they are; others get a port that is free.

        Args:
            exposed: Each as ``port/protocol``.

        Raises:
            UnsupportedFeature: A port's protocol cannot be published.
        """
        if not self.publish_all:
            return self
        from pycontainer.network import parse_ports

        there = {(each.container_port, each.protocol) for each in parse_ports(self.ports)}
        wanted = parse_ports(exposed)
        missing = [r for r in wanted if (r.container_port, r.protocol) not in there]
        return evolve(self, ports=(*self.ports, *(request.to_text() for request in missing)))

    def with_network(self, membership: Membership, hostname: str) -> Networking:
        """The same with one more network.

        Args:
            membership: The place in it.
            hostname: What the container is called, where that is not known from other networks.
        """
        name = membership.network if isinstance(membership.network, str) else membership.network.id
        added = (name, tuple(membership.aliases), membership.address, membership.ipv6_address)
        return evolve(
            self,
            mode="own",
            memberships=(*self.memberships, added),
            hostname=self.hostname or hostname,
        )

    def without_network(self, network: Network) -> Networking:
        """The same without one of its networks."""
        left = tuple(m for m in self.memberships if m[0] not in (network.id, network.name))
        return evolve(self, mode="own" if left else "none", memberships=left)

    def apply(self, spec: RuntimeSpec, find: Callable[[str], Path]) -> RuntimeSpec:
        """The document with another container's network namespace, where that is to be shared.

        Args:
            spec: The document.
            find: Gives the directory of a container by name or id.

        Raises:
            ContainerNotFound: There is no such container.
        """
        if self.mode != "container":
            return spec
        others = [space for space in spec.namespaces if space.type != "network"]
        shared = Namespace("network", str(find(self.container)))
        return spec.evolve(namespaces=(*others, shared))

    def to_json(self) -> dict[str, Any]:
        """What is written down of it; nothing for containers without networks, and without names."""
        if self.mode == "host" or (self.mode == "none" and self.names == Names()):
            return {}
        return {**asdict(self), "names": asdict(self.names)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Networking:
        """Read what `to_json` gave."""
        if not values:
            return NO_NETWORKING
        names = Names(**values["names"])
        members = tuple((n, tuple(a), four, six) for n, a, four, six in values["memberships"])
        return cls(
            **{**values, "names": names, "memberships": members, "ports": tuple(values["ports"])}
        )


NO_NETWORKING: Final = Networking()


def exposed(ports: Sequence[int | str]) -> tuple[str, ...]:
    """The ports on which a container is said to listen, each as ``port/protocol``.

    Raises:
        NetworkError: One cannot be read.
    """
    if not ports:
        return ()
    from pycontainer.network import parse_exposed

    return parse_exposed(ports)


@frozen
class Attached:
    """What a start needs of networks.

    Attributes:
        plan: What its monitor makes; None for nothing.
        fds: What the monitor keeps open.
    """

    plan: Mapping[str, Any] | None = None
    fds: Sequence[int] = ()


@contextlib.contextmanager
def attach(store: Store, new: New, *, again: bool = False) -> Iterator[Attached]:
    """Give a container that is about to be started its places in networks; the body starts it.

    If the body raises, they are given back.

    Args:
        store: Its store.
        new: The container.
        again: Whether it may have places from a run before.

    Raises:
        NetworkError: Some kind of it: a network, address or port is not to be had.
    """
    wanted = Networking.from_json(new.record.network)
    if wanted.mode == "none":
        yield Attached()
        return
    if wanted.mode == "container":
        _share_names(new)
        yield Attached()
        return
    if is_rootless():
        with _attach_by_program(new, wanted) as attached:
            yield attached
        return
    from pycontainer.network import DEFAULT, Membership, Network, join, leave, parse_ports

    if any(name == DEFAULT for name, *_ in wanted.memberships):
        Network.default(store=store)  # makes it
    if again:
        leave(store, new.record.id)
    attachment = join(
        store,
        new.record.id,
        [Membership(*each) for each in wanted.memberships],
        names=_names(new, wanted),
        ports=parse_ports(wanted.ports),
    )
    try:
        gateway = attachment.endpoints[0].gateway
        names = evolve(wanted.names, dns=(_RESOLVER,))
        _write_files(new.directory, wanted, attachment.endpoints, names, gateway)
        _write_ports(new.directory, attachment.ports)
        yield Attached(_plan(wanted, attachment), attachment.fds())
    except BaseException:
        leave(store, new.record.id)
        raise
    finally:
        attachment.close()


def _names(new: New, wanted: Networking) -> tuple[str, ...]:
    """By which others find it."""
    return tuple(dict.fromkeys((new.record.name, new.record.id[:12], wanted.hostname)))


@contextlib.contextmanager
def _attach_by_program(new: New, wanted: Networking) -> Iterator[Attached]:
    """The same for an ordinary user's container, which is connected by a program of its own."""
    import json

    from pycontainer.network import Membership, parse_ports, user_mode

    if any(space.type == "pid" and space.path for space in new.spec.namespaces):
        raise UnsupportedFeature(
            "a network for an ordinary user's container that shares the processes of another",
            "the program that connects it would be born among those processes",
            remedy="share the other's network, too: network='container:<name>'",
        )
    attachment = user_mode.join(
        new.record.id,
        [Membership(*each) for each in wanted.memberships],
        names=_names(new, wanted),
        ports=parse_ports(wanted.ports),
    )
    names = wanted.names if wanted.names.dns else evolve(wanted.names, dns=(user_mode.NAME_SERVER,))
    endpoints, gateway = attachment.endpoints, user_mode.host_address()
    _write_files(new.directory, wanted, endpoints, names, gateway)
    _write_ports(new.directory, attachment.ports)
    (new.directory / _ENDPOINT).write_text(json.dumps(asdict(endpoints[0])))
    try:
        yield Attached(attachment.plan)
    except StartError:
        user_mode.refuse_ports_in_use(attachment.ports)
        raise


@contextlib.contextmanager
def keep_attached(store: Store, new: New) -> Iterator[Attached]:
    """Give what the next monitor of a running container needs of its networks; the body starts it."""
    wanted = Networking.from_json(new.record.network)
    if wanted.mode != "own":
        yield Attached()
        return
    from pycontainer.network import rejoin, user_mode

    if is_rootless():
        yield Attached(user_mode.rejoin(new.record.id, published(new.directory)))
        return
    attachment = rejoin(store, new.record.id, published(new.directory))
    try:
        yield Attached(_plan(wanted, attachment), attachment.fds())
    finally:
        attachment.close()


def _plan(wanted: Networking, attachment: Attachment) -> Mapping[str, Any]:
    leads_out = any(step["gateways"] for step in attachment.plan["endpoints"])
    upstreams = name_servers(wanted.names) if leads_out else []
    return {**attachment.plan, "upstreams": upstreams}


def name_servers(names: Names) -> list[str]:
    """The servers that are asked about names which no container has."""
    if names.dns:
        return list(names.dns)
    lines = [line.split() for line in names.resolver(_host_file()).splitlines()]
    found = [line[1] for line in lines if len(line) > 1 and line[0] == "nameserver"]
    return [address for address in found if "%" not in address]


def use_resolver(directory: Path) -> None:
    """Have a running container that had no name server ask that of its monitor."""
    path = directory / "resolv.conf"
    text = path.read_text()
    if "nameserver" not in text:
        path.write_text(text + f"nameserver {_RESOLVER}\n")  # in place: it is mounted


def _write_files(
    directory: Path,
    wanted: Networking,
    endpoints: Sequence[Endpoint],
    names: Names,
    gateway: str,
) -> None:
    """Write the files by which it finds others, now that its addresses are known."""
    addresses = [endpoint.address for endpoint in endpoints]
    addresses += [endpoint.ipv6_address for endpoint in endpoints if endpoint.ipv6_address]
    names.write_files(
        directory,
        wanted.hostname,
        own_addresses=addresses,
        gateway=gateway,
        resolver=_host_file(),
    )


def _host_file() -> str:
    try:
        with open("/etc/resolv.conf") as file:
            return file.read()
    except OSError:
        return ""


def _share_names(new: New) -> None:
    """Have a container that shares another's network take that one's names, too."""
    home = Path(next(space.path for space in new.spec.namespaces if space.type == "network"))
    for name in ("hosts", "resolv.conf"):
        with contextlib.suppress(FileNotFoundError):  # it is just being removed
            (new.directory / name).write_bytes((home / name).read_bytes())


# --- what is published -----------------------------------------------------------------------


def _write_ports(directory: Path, ports: Sequence[PublishedPort]) -> None:
    import json

    path = directory / _PORTS
    if ports or path.exists():
        path.write_text(json.dumps([asdict(port) for port in ports]))


def published(directory: Path) -> tuple[PublishedPort, ...]:
    """The ports of a container that the host has."""
    import json

    from pycontainer.network import PublishedPort

    try:
        text = (directory / _PORTS).read_text()
    except FileNotFoundError:
        return ()
    return tuple(PublishedPort(**values) for values in json.loads(text))


def own_endpoint(directory: Path) -> Endpoint | None:
    """The place of an ordinary user's container, which no database has; None if it has none."""
    import json

    from pycontainer.network import Endpoint

    try:
        values = json.loads((directory / _ENDPOINT).read_text())
    except FileNotFoundError:
        return None
    return Endpoint(**{**values, "names": tuple(values["names"])})


def rename(store: Store, container_id: str, old: str, new: str) -> None:
    """Have the others of a container's networks find it by another name."""
    if _has_networks(store):
        from pycontainer.network import rename

        rename(store, container_id, old, new)


# --- the end ---------------------------------------------------------------------------------


def release(store: Store, container_id: str) -> None:
    """Give back the places of a container that has gone."""
    if _has_networks(store):
        from pycontainer.network import leave

        leave(store, container_id)


def recover(store: Store) -> None:
    """Give back what containers had whose monitors were killed."""
    if _has_networks(store):
        from pycontainer.network import recover

        recover(store)


def _has_networks(store: Store) -> bool:
    """Whether a container of the store ever was in a network; else there is nothing to look for."""
    return (store.path / "networks").exists()
