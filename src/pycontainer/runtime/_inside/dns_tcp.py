"""Queries over TCP to a container's name server: each is answered, or asked of the next server that answers.

A connection's queries are taken one after another, each of those that go on by a connection of its own, so
that a server which refuses or hangs up is only that query's concern.
"""

from __future__ import annotations

import _socket
import select

from pycontainer.runtime._inside import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Connections", "new_socket", "unregister"]

_PORT = 53
_LARGEST = 1 << 16
_MOST = 256
_SECONDS = 1.0
_IN_PROGRESS = 115  # EINPROGRESS


class Connections:
    """The connections of all clients.

    Args:
        answer: Gives the answer to a query; None if others have to be asked, empty if it is no query.
        upstreams: Addresses of the servers to ask then, in that order.
    """

    def __init__(self, answer: Callable[[bytes], bytes | None], upstreams: list[str]) -> None:
        self._answer = answer
        self._upstreams = upstreams
        self._ends: dict[int, _Stream] = {}

    def __contains__(self, fd: int) -> bool:
        return fd in self._ends

    def take(self, client: _socket.socket, poll: select.poll) -> None:
        """Serve a connection that was accepted."""
        if len(self._ends) >= _MOST:
            client.close()
            return
        client.setblocking(False)
        self._ends[client.fileno()] = _Stream(client)
        poll.register(client.fileno(), select.POLLIN)

    def handle(self, fd: int, poll: select.poll) -> None:
        """Go on with a descriptor that is ready."""
        stream = self._ends[fd]
        try:
            if fd == stream.client.fileno():
                alive = self._from_client(stream, poll)
            else:
                alive = self._from_server(stream, poll)
        except BlockingIOError:
            return
        except OSError:  # the client has gone
            alive = False
        if not alive:
            self._drop_server(stream, poll)
            self._ends.pop(stream.client.fileno(), None)
            unregister(poll, stream.client.fileno())
            stream.client.close()

    def close(self, poll: select.poll | None) -> None:
        """Close all."""
        for stream in set(self._ends.values()):
            for end in (stream.client, stream.server):
                if end is not None:
                    if poll is not None:
                        unregister(poll, end.fileno())
                    end.close()
        self._ends = {}

    def _from_client(self, stream: _Stream, poll: select.poll) -> bool:
        data = stream.client.recv(_LARGEST)
        if not data:
            stream.ended = True
            unregister(poll, stream.client.fileno())
            return stream.server is not None  # it may wait for an answer all the same
        stream.received += data
        return self._advance(stream, poll)

    def _advance(self, stream: _Stream, poll: select.poll) -> bool:
        """Answer what has come; return whether the connection goes on."""
        while stream.server is None and (query := stream.next_query()) is not None:
            answer = self._answer(query)
            if answer is None:
                stream.query, stream.servers = query, list(self._upstreams)
                self._ask(stream, poll)
            elif answer:
                stream.reply(answer)
            else:
                return False
        return stream.server is not None or not stream.ended

    def _ask(self, stream: _Stream, poll: select.poll) -> None:
        """Connect to the next server; where there is none, say so to the client."""
        while stream.servers:
            server = stream.servers.pop(0)
            made = new_socket(server, _socket.SOCK_STREAM)
            if made.connect_ex((server, _PORT)) in (0, _IN_PROGRESS):
                stream.server, stream.sent, stream.answer = made, False, b""
                self._ends[made.fileno()] = stream
                poll.register(made.fileno(), select.POLLOUT)
                return
            made.close()
        stream.reply(dns.failure(stream.query))

    def _from_server(self, stream: _Stream, poll: select.poll) -> bool:
        assert stream.server is not None
        try:
            if not stream.sent:
                stream.server.send(_framed(stream.query))
                stream.sent = True
                poll.modify(stream.server.fileno(), select.POLLIN)
                return True
            data = stream.server.recv(_LARGEST)
        except BlockingIOError:
            return True
        except OSError:  # nobody listens there, or no more
            data = b""
        stream.answer += data
        if data and not stream.is_answered:
            return True
        self._drop_server(stream, poll)
        if stream.is_answered:
            stream.reply(stream.answer[2:])
        else:
            self._ask(stream, poll)
        return self._advance(stream, poll)

    def _drop_server(self, stream: _Stream, poll: select.poll) -> None:
        if stream.server is not None:
            del self._ends[stream.server.fileno()]
            unregister(poll, stream.server.fileno())
            stream.server.close()
            stream.server = None


class _Stream:
    """A client's connection, and that to a server for the query it has asked last."""

    def __init__(self, client: _socket.socket) -> None:
        self.client = client
        self.received = b""
        self.ended = False
        self.query = b""
        self.servers: list[str] = []
        self.server: _socket.socket | None = None
        self.sent = False
        self.answer = b""

    @property
    def is_answered(self) -> bool:
        return len(self.answer) >= 2 and len(self.answer) >= 2 + int.from_bytes(
            self.answer[:2], "big"
        )

    def next_query(self) -> bytes | None:
        size = int.from_bytes(self.received[:2], "big")
        if len(self.received) < 2 or len(self.received) < 2 + size:
            return None
        query, self.received = self.received[2 : 2 + size], self.received[2 + size :]
        return query

    def reply(self, answer: bytes) -> None:
        self.client.settimeout(_SECONDS)
        self.client.sendall(_framed(answer))
        self.client.setblocking(False)


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def new_socket(server: str, kind: int) -> _socket.socket:
    """A socket that does not wait, of the family of a server's address."""
    family = _socket.AF_INET6 if ":" in server else _socket.AF_INET
    return _socket.socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)


def unregister(poll: select.poll, fd: int) -> None:
    """Have a descriptor not polled any more, if it was."""
    try:
        poll.unregister(fd)
    except KeyError:
        pass
