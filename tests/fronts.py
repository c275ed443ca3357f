"""HTTP servers in front of a registry that demand, delay and damage; and token servers."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from attrs import define, field, frozen

__all__ = ["Asked", "Front", "Guard", "Reply", "TokenServer", "basic", "forward"]

_HOP = {"connection", "transfer-encoding", "keep-alive", "server", "date"}


@frozen
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "")


@frozen
class Reply:
    """An answer.

    Attributes:
        cut: After how many bytes of the body the connection is cut.
        length: Another Content-Length than the body's; -1 for none at all.
        pause: Seconds before each of ten parts of the body.
        linger: After the body the connection stays until this is set.
        hang_up: The connection is cut without an answer.
    """

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = field(default=b"", repr=False)
    cut: int | None = None
    length: int | None = None
    pause: float = 0.0
    linger: threading.Event | None = None
    hang_up: bool = False


class Front:
    """Answers by rules, else by the upstream; a context manager.

    Args:
        upstream: ``host:port``; None for a server that stands alone.
        before: The first that returns a reply for a request answers it.
        after: Each may change an answer of the upstream.
        context: Makes it speak TLS.
    """

    def __init__(
        self,
        upstream: str | None = None,
        before: Callable[[Asked], Reply | None] | None = None,
        after: Callable[[Asked, Reply], Reply] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.asked: list[Asked] = []
        self.sent = 0
        self._lock = threading.Lock()
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, body)
                with front._lock:
                    front.asked.append(asked)
                reply = before(asked) if before is not None else None
                if reply is None and upstream is not None:
                    reply = forward(upstream, asked)
                    if after is not None:
                        reply = after(asked, reply)
                self._send(asked, reply or Reply(404))

            def _send(self, asked: Asked, reply: Reply) -> None:
                if reply.hang_up:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                headers = {k: v for k, v in reply.headers.items() if k.lower() not in _HOP}
                length = len(reply.body) if reply.length is None else reply.length
                if asked.method != "HEAD":
                    headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
                    if length >= 0:
                        headers["Content-Length"] = str(length)
                if reply.cut is not None or length != len(reply.body):
                    headers["Connection"] = "close"
                    self.close_connection = True
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                body = b"" if asked.method == "HEAD" else reply.body[: reply.cut]
                self._write(body, reply.pause)
                if reply.linger is not None:
                    reply.linger.wait(30)

            def _write(self, body: bytes, pause: float) -> None:
                step = max(len(body) // 10, 1) if pause else 1 << 16
                for start in range(0, len(body), step):
                    time.sleep(pause)
                    part = body[start : start + step]
                    self.wfile.write(part)
                    with front._lock:
                        front.sent += len(part)

            def log_message(self, *args: object) -> None:
                pass

        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler._answer)
        self._server = _Quiet(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def requests(self, method: str, part: str = "") -> list[Asked]:
        return [a for a in self.asked if a.method == method and part in a.target]

    def close(self) -> None:
        self._server.shutdown()
        self._server.cut()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Quiet(ThreadingHTTPServer):
    """Says nothing of clients that leave, and cuts those that stay."""

    daemon_threads = False

    def __init__(self, *args: object) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)  # type: ignore[arg-type]

    def process_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: object) -> None:
        assert isinstance(request, socket.socket)
        self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        pass


def forward(upstream: str, asked: Asked) -> Reply:
    with contextlib.closing(http.client.HTTPConnection(upstream, timeout=20)) as connection:
        headers = {k: v for k, v in asked.headers.items() if k not in {"host", "authorization"}}
        connection.request(asked.method, asked.target, asked.body, headers)
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# --- tokens ----------------------------------------------------------------------------------


@define
class TokenServer:
    """Gives tokens, and knows which it gave; a context manager.

    Attributes:
        user: Who gets some, with which password; None for everybody.
        lifetime: Seconds, as it tells them.
        refresh: The identity token that it takes and gives.
        given: The scopes of each token.
    """

    user: tuple[str, str] | None = None
    lifetime: float | None = 300
    refresh: str | None = None
    given: dict[str, set[str]] = field(factory=dict)
    front: Front = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.front = Front(before=self._answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.front.close()

    @property
    def realm(self) -> str:
        return f"http://{self.front.host}/token"

    def _answer(self, asked: Asked) -> Reply:
        form = asked.query
        if asked.method == "POST":
            form = parse_qs(asked.body.decode())
            if form.get("refresh_token") != [self.refresh]:
                return Reply(401, body=b'{"errors": [{"code": "UNAUTHORIZED"}]}')
        elif self.user is not None and asked.header("authorization") != basic(*self.user):
            return Reply(401, body=b'{"errors": [{"code": "UNAUTHORIZED"}]}')
        token = secrets.token_hex(8)
        scopes = [scope for text in form.get("scope", []) for scope in text.split()]
        self.given[token] = set(_actions(scopes))
        answer: dict[str, object] = {"token": token}
        if self.lifetime is not None:
            answer["expires_in"] = self.lifetime
        if self.refresh is not None:
            answer["refresh_token"] = self.refresh
        return Reply(body=json.dumps(answer).encode())


@define
class Guard:
    """The rule of a registry that wants tokens of a token server."""

    tokens: TokenServer

    def __call__(self, asked: Asked) -> Reply | None:
        wanted = set(_actions(self._scopes(asked)))
        scheme, _, token = asked.header("authorization").partition(" ")
        if scheme == "Bearer" and wanted <= self.tokens.given.get(token, {"nothing"}):
            return None
        challenge = f'Bearer realm="{self.tokens.realm}",service="test"'
        for scope in self._scopes(asked):
            challenge += f',scope="{scope}"'
        return Reply(
            401, {"WWW-Authenticate": challenge}, b'{"errors": [{"code": "UNAUTHORIZED"}]}'
        )

    @staticmethod
    def _scopes(asked: Asked) -> list[str]:
        parts = asked.path.split("/")
        if len(parts) < 4:
            return []
        actions = "pull" if asked.method in {"GET", "HEAD"} else "pull,push"
        return [f"repository:{parts[2]}:{actions}"]


def _actions(scopes: list[str]) -> Iterator[str]:
    for scope in scopes:
        resource, _, actions = scope.rpartition(":")
        yield from (f"{resource}:{action}" for action in actions.split(","))
