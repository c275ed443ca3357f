"""The HTTP server around the handlers: Tornado's, set up for bodies of any size."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.web import Application

from pycontainer.registry._handler import Handler, Service
from pycontainer.registry._handlers import ROUTES, NotFoundHandler
from pycontainer.registry._storage import StorageFailed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tornado.iostream import IOStream
    from tornado.web import RequestHandler

    from pycontainer.registry._server_options import ServerOptions
    from pycontainer.registry._storage import Storage

__all__ = ["run"]

_log = logging.getLogger("pycontainer.registry")

_WORKERS: Final = 8
_REMOTE_WORKERS: Final = 64
"""Threads where most of them wait for another machine."""
_CHUNK: Final = 512 << 10
_ANY_SIZE: Final = 1 << 62
_EXPIRE_SECONDS: Final = 600.0
_TLS_HANDSHAKE: Final = b"\x16"
_NO_TLS: Final = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This registry speaks plain HTTP.\n"
)


def run(
    storage: Storage,
    sock: socket.socket,
    options: ServerOptions,
    tls: ssl.SSLContext | None,
    serving: Callable[[Callable[[float], None]], None],
) -> None:
    """Serve a storage at a listening socket until told to end.

    Args:
        storage: What is served.
        sock: Where; closed at the end.
        options: How.
        tls: The certificate, for HTTPS.
        serving: Called once requests are answered, with what ends it all: it takes the seconds that
            requests get to be answered. Any thread may call that, and twice is fine.
    """
    asyncio.run(_serve(storage, sock, options, tls, serving))


async def _serve(
    storage: Storage,
    sock: socket.socket,
    options: ServerOptions,
    tls: ssl.SSLContext | None,
    serving: Callable[[Callable[[float], None]], None],
) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[float] = loop.create_future()

    def end(grace: float) -> None:
        def once() -> None:
            if not ended.done():
                ended.set_result(grace)

        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
            loop.call_soon_threadsafe(once)

    threads = _REMOTE_WORKERS if storage.pace == "remote" else _WORKERS
    with ThreadPoolExecutor(threads, "pycontainer-registry") as workers:
        service = Service(storage, options, workers)
        service.http = _Server(service) if tls is None else _Server(service, ssl_options=tls)
        service.http.add_sockets([sock])
        upkeep = loop.create_task(_expire_uploads(service))
        serving(end)
        grace = 0.0
        try:
            grace = await ended
        finally:
            upkeep.cancel()
            await service.stop(grace)


async def _expire_uploads(service: Service) -> None:
    seconds, upstream = service.options.upload_seconds, service.options.upstream
    pause = min(seconds / 2, _EXPIRE_SECONDS)
    if upstream is not None and upstream.keep is not None:
        pause = min(pause, upstream.keep / 4)
    while True:
        try:
            count = await asyncio.get_running_loop().run_in_executor(
                service.workers, service.storage.expire_uploads, seconds
            )
            if count:
                _log.info("%d uploads had lain still for %.0f seconds", count, seconds)
        except (OSError, StorageFailed):
            _log.exception("what lies still could not be removed")
        await asyncio.sleep(pause)


class _Server(HTTPServer):
    """Where it speaks plain HTTP, turns TLS clients away at once.

    Clients that may fall back to plain HTTP try TLS first. An HTTP parser waits for the end of a
    line in their greeting, they for an answer to it: Go's give up after ten seconds.
    """

    service: Service

    def initialize(  # type: ignore[override]
        self, service: Service, ssl_options: ssl.SSLContext | None = None
    ) -> None:
        """Tornado's way of construction."""
        self.service = service
        application = Application(
            [(pattern, handler, {"service": service}) for pattern, handler in ROUTES],
            default_handler_class=NotFoundHandler,
            default_handler_args={"service": service},
            log_function=_log_request,
        )
        super().initialize(
            application, ssl_options=ssl_options, chunk_size=_CHUNK, max_body_size=_ANY_SIZE
        )

    def handle_stream(self, stream: IOStream, address: tuple[str, int]) -> None:
        if self.ssl_options is None and _first_byte(stream.socket) == _TLS_HANDSHAKE:
            self.service.spawn(_turn_away(stream))
        else:
            super().handle_stream(stream, address)


async def _turn_away(stream: IOStream) -> None:
    """Say in HTTP, of which a TLS client understands as much, that this is HTTP."""
    try:
        # What is left unread when a socket is closed makes a reset out of the answer.
        await stream.read_bytes(_CHUNK, partial=True)
        await stream.write(_NO_TLS)
    except StreamClosedError:
        _log.debug("a TLS client left before it was turned away")
    finally:
        stream.close()


def _first_byte(sock: socket.socket) -> bytes:
    """The first byte that has come, without taking it; none if nothing has come."""
    try:
        return sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return b""


def _log_request(handler: RequestHandler) -> None:
    if isinstance(handler, Handler):
        handler.log_access()
