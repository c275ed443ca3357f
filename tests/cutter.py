"""A line to a server that breaks, in the middle of whatever goes over it."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from types import TracebackType
from typing import Self

__all__ = ["Cutter"]

_PIECE = 16 << 10


class Cutter:
    """Passes connections on to a server, and resets some of them; a context manager.

    Args:
        upstream: The server's ``host:port``.
        up: How many connections are reset while the client sends.
        down: How many are reset while the server answers.
        least: After how many bytes at least.
        most: After how many at most.
        seed: For the places in between.

    Attributes:
        up: How many resets are left.
        down: How many are left.
        sent: Bytes that clients have sent.
        received: Bytes that they have got.
    """

    def __init__(
        self,
        upstream: str,
        *,
        up: int = 0,
        down: int = 0,
        least: int = 50_000,
        most: int = 2_000_000,
        seed: int = 1,
    ) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self.up, self.down = up, down
        self.sent = self.received = 0
        self._range = (least, most)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)

    @property
    def host(self) -> str:
        """Where clients connect to."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._upstream)
            except OSError:
                client.close()
                continue
            # What a reset loses was counted as received: let that be little.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE)
            pair = (client, server)
            self._open |= set(pair)
            self._start(self._pump, client, server, pair, "up")
            self._start(self._pump, server, client, pair, "down")

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        pair: tuple[socket.socket, socket.socket],
        direction: str,
    ) -> None:
        with self._lock:
            left = self._random.randrange(*self._range)
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                cut = len(data) >= left and self._take(direction)
                data = data[:left] if cut else data
                target.sendall(data)
                with self._lock:
                    if direction == "up":
                        self.sent += len(data)
                    else:
                        self.received += len(data)
                if cut:
                    self._reset(pair)
                    return
                left = max(left - len(data), 1)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _take(self, direction: str) -> bool:
        with self._lock:
            if not getattr(self, direction):
                return False
            setattr(self, direction, getattr(self, direction) - 1)
            return True

    @staticmethod
    def _reset(pair: tuple[socket.socket, socket.socket]) -> None:
        """End both connections as a router that forgets them does: what is on its way is lost."""
        for end in pair:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for end in pair:
            end.close()

    def close(self) -> None:
        """End all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        for end in self._open:
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
