"""Many clients of an HTTP server at once: one process, sockets that stay open, bodies that nobody reads."""

from __future__ import annotations

import select
import socket
import time

from attrs import define, field

from benchmarks.peers.program import BenchmarkError

__all__ = ["load"]

_HEAD = 16 << 10
_SPAN = 1 << 24
_SILENCE = 30.0


@define
class _Client:
    """A connection and where its answer stands."""

    sock: socket.socket
    begun: float = 0.0
    head: bytes = b""
    left: int = -1
    """Bytes of the body that have not come; negative while the head has not."""


@define
class _Load:
    request: bytes
    count: int
    seconds: list[float] = field(factory=list)
    asked: int = 0

    def ask(self, client: _Client) -> bool:
        """Send the next request; False if there have been enough."""
        if self.asked == self.count:
            return False
        self.asked += 1
        client.begun, client.head, client.left = time.perf_counter(), b"", -1
        client.sock.sendall(self.request)
        return True

    def receive(self, client: _Client) -> bool:
        """Take what has come; True at an answer's end."""
        if client.left < 0:
            self._head(client)
        else:
            # MSG_TRUNC: TCP drops the bytes instead of copying them here.
            got = client.sock.recv_into(_nowhere, min(client.left, _SPAN), socket.MSG_TRUNC)
            if not got:
                raise BenchmarkError("the server ended a connection in the middle of an answer")
            client.left -= got
        if client.left:
            return False
        self.seconds.append(time.perf_counter() - client.begun)
        return True

    def _head(self, client: _Client) -> None:
        client.head += client.sock.recv(_HEAD)
        head, end, body = client.head.partition(b"\r\n\r\n")
        if not end and client.head:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise BenchmarkError(f"the server answers {head[:100]!r}")
        _, _, rest = head.lower().partition(b"\r\ncontent-length:")
        client.left = int(rest.partition(b"\r\n")[0]) - len(body)


_nowhere = bytearray(_SPAN)


def load(
    host: str, path: str, *, requests: int, clients: int, headers: dict[str, str]
) -> list[float]:
    """Let so many clients ask for a path, each again when it has its answer, until there were enough.

    Returns:
        Seconds from each request to the end of its answer.

    Raises:
        BenchmarkError: The server answers something else than 200, or nothing.
    """
    name, _, port = host.rpartition(":")
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *(f"{k}: {v}" for k, v in headers.items())]
    work = _Load("\r\n".join([*lines, "", ""]).encode(), requests)
    connected = [
        _Client(socket.create_connection((name, int(port)), _SILENCE)) for _ in range(clients)
    ]
    try:
        with select.epoll() as poll:
            by_fd = {client.sock.fileno(): client for client in connected}
            for fd, client in by_fd.items():
                if work.ask(client):
                    poll.register(fd, select.EPOLLIN)
            while len(work.seconds) < requests:
                ready = poll.poll(_SILENCE)
                if not ready:
                    raise BenchmarkError(f"the server has said nothing for {_SILENCE:.0f} s")
                for fd, _ in ready:
                    client = by_fd[fd]
                    if work.receive(client) and not work.ask(client):
                        poll.unregister(fd)
    finally:
        for client in connected:
            client.sock.close()
    return work.seconds
