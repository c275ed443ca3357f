"""The name server of a container, at 127.0.0.11: names of its networks, all others by the host's servers.

Its sockets are born in the container's network namespace and served by the monitor outside, so no other
container can ask, and what is forwarded goes by the host's own network.
"""

from __future__ import annotations

import _socket
import os
import select
import time

from pycontainer._linux import netlink
from pycontainer._linux import nftables as nft
from pycontainer.runtime._inside import dns
from pycontainer.runtime._inside.dns_tcp import Connections, new_socket, unregister

__all__ = ["Resolver"]

_ADDRESS = "127.0.0.11"
_PORT = 53
_UDP, _TCP = 17, 6
_OUTPUT, _RAW = 3, -300
_LARGEST = 1 << 16
_MOST_PENDING = 256
_PATIENCE = 5.0
_FRESH = (
    50_000_000  # a directory may change twice within one tick of the clock its time is taken from
)
_BURST = 32


class Resolver:
    """Answers queries of one container.

    Args:
        upstreams: Addresses of the servers that are asked about other names, in that order.
    """

    def __init__(self, upstreams: list[str]) -> None:
        self._upstreams = upstreams
        self._udp: _socket.socket | None = None
        self._tcp: _socket.socket | None = None
        self._directories: dict[str, _Directory] = {}
        self._asked: dict[int, _Forwarded] = {}
        self._connections = Connections(self._answer, upstreams)

    @property
    def is_open(self) -> bool:
        """Whether it has its sockets."""
        return self._udp is not None

    def open(self) -> None:
        """Bind the sockets, in the network namespace that this thread is in."""
        flags = _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        self._udp = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | flags)
        self._tcp = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | flags)
        for made in (self._udp, self._tcp):
            made.bind((_ADDRESS, 0))
        self._tcp.listen(16)
        _redirect(self._udp.getsockname()[1], self._tcp.getsockname()[1])

    def serve(self, directories: list[str]) -> None:
        """Answer for the names in these directories (see `pycontainer.network._names`)."""
        self._directories = {
            path: self._directories.get(path) or _Directory(path) for path in directories
        }

    def register(self, poll: select.poll) -> None:
        """Have the sockets polled."""
        for made in (self._udp, self._tcp):
            if made is not None:
                poll.register(made.fileno(), select.POLLIN)

    def handle(self, fd: int, poll: select.poll) -> bool:
        """Serve a descriptor that is ready; False if it is not one of these."""
        if self._udp is not None and fd == self._udp.fileno():
            self._take_queries(poll)
        elif self._tcp is not None and fd == self._tcp.fileno():
            self._accept(poll)
        elif fd in self._asked:
            self._take_answer(fd, poll)
        elif fd in self._connections:
            self._connections.handle(fd, poll)
        else:
            return False
        return True

    def close(self, poll: select.poll | None) -> None:
        """Close all sockets."""
        fixed = [made for made in (self._udp, self._tcp) if made is not None]
        self._connections.close(poll)
        for each in (*fixed, *(asked.socket for asked in self._asked.values())):
            if poll is not None:
                unregister(poll, each.fileno())
            each.close()
        self._udp = self._tcp = None
        self._asked = {}

    # --- datagrams ---------------------------------------------------------------------------

    def _take_queries(self, poll: select.poll) -> None:
        assert self._udp is not None
        for _ in range(_BURST):
            try:
                data, client = self._udp.recvfrom(_LARGEST)
            except OSError:
                return
            answer = self._answer(data)
            if answer is None:
                servers = self._left_to_ask(data, client, poll) or list(self._upstreams)
                self._forward(_Forwarded(data, client, servers), poll)
            elif answer:
                self._reply(answer, client)

    def _left_to_ask(
        self, query: bytes, client: tuple[object, ...], poll: select.poll
    ) -> list[str]:
        """Whom to ask when a client asks again: the servers after the one that has not answered yet."""
        for fd, asked in self._asked.items():
            if (asked.query, asked.client) == (query, client):
                self._forget(fd, poll)
                return asked.servers
        return []

    def _reply(self, answer: bytes, client: tuple[object, ...]) -> None:
        assert self._udp is not None
        try:
            self._udp.sendto(answer, client)
        except OSError:  # the client's buffer is full, or the interface gone: it will ask again
            pass

    def _forward(self, asked: _Forwarded, poll: select.poll) -> None:
        """Ask the next server by a socket of its own, so that nobody can guess where answers go."""
        self._give_up_old(poll)
        while asked.servers and len(self._asked) < _MOST_PENDING:
            server = asked.servers.pop(0)
            made = new_socket(server, _socket.SOCK_DGRAM)
            try:
                made.connect((server, _PORT))
                made.send(asked.query)
            except OSError:
                made.close()
                continue
            asked.socket = made
            self._asked[made.fileno()] = asked
            poll.register(made.fileno(), select.POLLIN)
            return
        self._reply(dns.failure(asked.query), asked.client)

    def _take_answer(self, fd: int, poll: select.poll) -> None:
        asked = self._asked[fd]
        try:
            answer = asked.socket.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            answer = b""
        if answer and answer[:2] != asked.query[:2]:
            return
        self._forget(fd, poll)
        if answer:
            self._reply(answer, asked.client)
        else:
            self._forward(asked, poll)

    def _give_up_old(self, poll: select.poll) -> None:
        now = time.monotonic()
        for fd in [fd for fd, asked in self._asked.items() if now > asked.deadline]:
            self._forget(fd, poll)

    def _forget(self, fd: int, poll: select.poll) -> None:
        unregister(poll, fd)
        self._asked.pop(fd).socket.close()

    # --- streams -----------------------------------------------------------------------------

    def _accept(self, poll: select.poll) -> None:
        assert self._tcp is not None
        try:
            fd, _ = self._tcp._accept()  # type: ignore[attr-defined]  # noqa: SLF001
        except OSError:
            return
        self._connections.take(_socket.socket(fileno=fd), poll)

    # --- names -------------------------------------------------------------------------------

    def _answer(self, query: bytes) -> bytes | None:
        """The answer; None if others have to be asked, empty if that is no query."""
        question = dns.parse(query)
        if question is None:
            return b""
        found: list[str] = []
        known = False
        for directory in self._directories.values():
            values = directory.lookup(question)
            known = known or values is not None
            found += values or []
        if known:
            return dns.answer(query, question, found)
        return None if self._upstreams else dns.unknown(query, question)


class _Forwarded:
    """A query that another server was asked."""

    socket: _socket.socket

    def __init__(self, query: bytes, client: tuple[object, ...], servers: list[str]) -> None:
        self.query = query
        self.client = client
        self.servers = servers
        self.deadline = time.monotonic() + _PATIENCE


class _Directory:
    """The names in one directory, read again when it has changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._read_at = self._time = 0
        self._names: dict[str, list[str]] = {}
        self._addresses: dict[str, str] = {}
        self._turn = 0

    def lookup(self, question: dns.Question) -> list[str] | None:
        """What is known: addresses, or the name of an address; None if nothing is."""
        self._refresh()
        if question.address is not None:
            name = self._addresses.get(question.address)
            return None if name is None else [name]
        found = self._names.get(question.name)
        if found is None:
            return None
        self._turn += 1
        start = self._turn % len(found)
        return found[start:] + found[:start]

    def _refresh(self) -> None:
        try:
            changed = os.stat(self._path).st_mtime_ns
        except OSError:
            self._names, self._addresses, self._time = {}, {}, 0
            return
        if changed == self._time and self._read_at - changed > _FRESH:
            return
        self._time, self._read_at = changed, time.time_ns()
        self._names, self._addresses = {}, {}
        for entry in os.listdir(self._path):
            if not entry.startswith("."):
                self._read(f"{self._path}/{entry}")

    def _read(self, path: str) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # gone meanwhile
            return
        try:
            addresses, *names = os.read(fd, _LARGEST).decode().split()
        except ValueError:
            return
        finally:
            os.close(fd)
        for address in addresses.split(","):
            self._addresses[dns.canonical(address)] = names[0]
            for name in names:
                self._names.setdefault(name.lower(), []).append(address)


def _redirect(udp: int, tcp: int) -> None:
    """Have what is sent to port 53 of our address arrive at other ports, and answers seem to be from there.

    Were the sockets themselves at port 53, no name server in the container could have it of all addresses.
    In the language of nft(8), in a table of the container's network namespace::

        chain rewrite {
            type filter hook output priority raw;
            ip daddr 127.0.0.11 udp dport 53 udp dport set <udp>
            ip saddr 127.0.0.11 udp sport <udp> udp sport set 53
            (the same for tcp)
        }
    """
    table, rules = nft.Table("pycontainer"), []
    address, public = _socket.inet_aton(_ADDRESS), _PORT.to_bytes(2, "big")
    for protocol, checksum, number in ((_UDP, 6, udp), (_TCP, 16, tcp)):
        private = number.to_bytes(2, "big")
        for at, port, seen, new in ((16, 2, public, private), (12, 0, private, public)):
            rules.append(
                [
                    nft.meta("nfproto"),
                    nft.compare(nft.EQUAL, bytes((_socket.AF_INET,))),
                    nft.payload(nft.NETWORK_HEADER, at, 4),
                    nft.compare(nft.EQUAL, address),
                    nft.meta("l4proto"),
                    nft.compare(nft.EQUAL, bytes((protocol,))),
                    nft.payload(nft.TRANSPORT_HEADER, port, 2),
                    nft.compare(nft.EQUAL, seen),
                    nft.load(new),
                    nft.overwrite(nft.TRANSPORT_HEADER, port, 2, checksum),
                ]
            )
    chain = nft.Chain("rewrite", rules, kind="filter", hook=_OUTPUT, priority=_RAW)
    with netlink.Socket(netlink.NETFILTER) as filters:
        messages = [table.create(), *table.add_chain(chain), *table.add_rules(chain)]
        try:
            nft.transact(filters, messages)
        except FileExistsError:  # of a resolver that was closed since
            nft.transact(filters, [table.delete(), *messages])
