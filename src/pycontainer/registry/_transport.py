"""One host's requests: connections, redirects, retries, and failures as `RegistryError`."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final, NoReturn, Self

from attrs import define, field
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Timeout

from pycontainer.errors import RegistryError, RegistryTimeout, RegistryUnavailable, Unauthorized
from pycontainer.registry._body import FileBody
from pycontainer.registry._challenge import parse_challenges
from pycontainer.registry._codes import parse_errors
from pycontainer.registry._deadline import current_deadline
from pycontainer.registry._hosts import http_url, is_loopback, same_origin
from pycontainer.registry._pools import Pools
from pycontainer.registry._requests import Answer, Request, resolve
from pycontainer.registry._retry import PASSING, Failed, Retry, retry_after

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TypeVar

    from urllib3 import BaseHTTPResponse

    from pycontainer.registry._authorizer import Authorizer
    from pycontainer.registry._tls import Tls

    T = TypeVar("T")

__all__ = ["BodyStream", "Transport"]

_log = logging.getLogger("pycontainer.registry")

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_MOST_RENEWALS: Final = 2
"""Of a token for one request: the first new one may have ended, too, before it was used."""
_FILL_SECONDS: Final = 0.1
_PART: Final = 1 << 20
_LARGEST_BODY: Final = 64 << 10
_SECRET_HEADERS: Final = frozenset({"authorization", "cookie"})


class BodyStream:
    """The body of a response, as it comes from the wire; a context manager."""

    def __init__(self, response: BaseHTTPResponse, what: str) -> None:
        self._response = response
        self._what = what
        self._deadline = current_deadline()
        self._fault: RegistryUnavailable | None = None
        self.status = response.status
        self.headers = _headers(response)

    def read(self, n: int = -1, /) -> bytes:
        """Return up to `n` bytes, as many as come in a moment; none at the end.

        Raises:
            RegistryUnavailable: The connection broke, or nothing came for too long.
            RegistryTimeout: The whole transfer took too long.
        """
        if self._fault is not None:
            raise self._fault
        parts: list[bytes] = []
        begun = time.monotonic()
        try:
            while n and (not parts or time.monotonic() - begun < _FILL_SECONDS):
                self._deadline.check()
                data: bytes = self._response.read1(n if n > 0 else _PART, decode_content=False)
                if not data:
                    break
                parts.append(data)
                n -= len(data) if n > 0 else 0
        except (HTTPError, OSError, RegistryTimeout) as error:
            fault = error if isinstance(error, RegistryTimeout) else self._broken(error)
            if not parts:
                raise fault from fault.__cause__
            self._fault = fault  # what has come is not lost
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _broken(self, error: HTTPError | OSError) -> RegistryUnavailable:
        fault = RegistryUnavailable(f"cannot {self._what}: {_reason(error)}")
        fault.__cause__ = error
        return fault

    @property
    def is_framed(self) -> bool:
        """Whether the end of the body can be told from a broken connection."""
        return "content-length" in self.headers or "transfer-encoding" in self.headers

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        if not self._response.closed:
            self._response.close()
        self._response.release_conn()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@define(eq=False)
class Transport:
    """Sends requests to one registry and wherever it redirects them; safe for many threads.

    Args:
        base: The registry's ``scheme://host:port``.
        insecure: Whether plain HTTP may go to other hosts than this one.
        timeout: Seconds for a connection to come up, and for each wait for bytes.
        connections: How many idle connections to a host are kept.
        retry: When to try again.
        authorizer: By what the registry lets requests in; nobody else is told.
        tls: How to speak TLS to it, asked when that is needed; None for the system's way.
        path: A Unix socket at which it is, whatever `base` says.
    """

    base: str
    insecure: bool = False
    timeout: float = 30.0
    connections: int = 16
    retry: Retry = field(factory=Retry)
    authorizer: Authorizer | None = None
    tls: Callable[[], Tls | None] = field(default=lambda: None)
    path: str | None = None
    _pools: Pools = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pools = Pools(self.base, self.tls, self.connections, self.path)

    def close(self) -> None:
        """Close the idle connections; those in use close when they are done."""
        self._pools.clear()

    def call(self, request: Request) -> Answer:
        """Send a request and read the answer whole.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or answers against the rules.
        """

        def read(response: BaseHTTPResponse) -> Answer:
            headers, url = _headers(response), response.url or request.target
            data = _read_limited(response, request.largest + 1)
            if len(data) > request.largest:
                raise RegistryError(
                    f"cannot {request.what}: the answer is larger than {request.largest} bytes",
                    status=response.status,
                )
            return Answer(response.status, headers, data, url)

        return self._attempt(request, read)

    def open(self, request: Request) -> BodyStream:
        """Send a request and return its answer's body unread; to be closed by the caller.

        Raises:
            RegistryError: As for `call`.
        """
        return self._attempt(request, lambda response: BodyStream(response, request.what))

    # --- attempts ----------------------------------------------------------------------------

    def _attempt(self, request: Request, use: Callable[[BaseHTTPResponse], T]) -> T:
        attempt = 1
        while True:
            try:
                return self._once(request, use)
            except Failed as failed:
                failed.error.retry_after = failed.wait
                spent = isinstance(request.body, FileBody) and request.body.started
                repeatable = request.repeatable or failed.untouched
                if spent or not self.retry.again(attempt, failed, repeatable=repeatable):
                    raise failed.error from failed.__cause__
                _log.info("attempt %d to %s failed: %s", attempt, request.what, failed.error)
                attempt += 1

    def _once(self, request: Request, use: Callable[[BaseHTTPResponse], T]) -> T:
        try:
            response = self._follow(request)
            if response.status not in request.expect:
                self._refused(request, response)
            return use(response)
        except (HTTPError, OSError) as error:
            untouched = isinstance(error, ConnectTimeoutError)
            unavailable = RegistryUnavailable(
                f"cannot {request.what}: {_reason(error)}", remedy=_remedy(error, self._place)
            )
            if isinstance(error, SSLError):
                raise unavailable from error
            raise Failed(unavailable, untouched=untouched) from error

    def _follow(self, request: Request) -> BaseHTTPResponse:
        """Send a request, and again to wherever it is redirected."""
        url = resolve(self.base, request.target, request.what)
        method, body = request.method, request.body
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._send(request, method, url, body)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            if isinstance(body, FileBody):
                return response
            _read_reason(response)
            if request.confidential and not same_origin(url, resolve(url, location, request.what)):
                raise RegistryError(f"cannot {request.what}: sent on to another host")
            if response.status == 303 and method != "HEAD":
                method, body = "GET", None
            url = resolve(url, location, request.what)
        raise RegistryError(f"cannot {request.what}: redirected more than {_MOST_REDIRECTS} times")

    def _send(
        self, request: Request, method: str, url: str, body: bytes | FileBody | None
    ) -> BaseHTTPResponse:
        target = http_url(url, request.what)
        if target.scheme == "http" and not self._plain_allowed(target.host or ""):
            raise RegistryError(
                f"cannot {request.what}: plain HTTP to {target.netloc} is refused",
                remedy="use TLS, or insecure=True if the network can be trusted",
            )
        headers = {"User-Agent": "pycontainer", **request.headers}
        if not same_origin(url, self.base):
            headers = {k: v for k, v in headers.items() if k.lower() not in _SECRET_HEADERS}
            return self._exchange(method, url, body, headers)
        if self.authorizer is None:
            return self._exchange(method, url, body, headers)
        used = self.authorizer.header(request.scopes)
        response = self._exchange(method, url, body, _authorized(headers, used))
        for _ in range(_MOST_RENEWALS):
            if response.status != 401:
                break
            challenges = parse_challenges(response.headers.getlist("WWW-Authenticate"))
            try:
                fresh = self.authorizer.renewed(used, challenges, request.scopes)
            except BaseException:
                _release(response)
                raise
            # What was sent was refused before it was taken, and can be sent again.
            if fresh is None or (isinstance(body, FileBody) and not body.rewind()):
                break
            _read_reason(response)
            response = self._exchange(method, url, body, _authorized(headers, fresh))
            used = fresh
        return response

    def _exchange(
        self, method: str, url: str, body: bytes | FileBody | None, headers: dict[str, str]
    ) -> BaseHTTPResponse:
        if isinstance(body, FileBody):
            headers["Content-Length"] = str(body.size)
        elif body is None and method in {"POST", "PUT", "PATCH"}:
            headers["Content-Length"] = "0"
        deadline = current_deadline()
        deadline.check()
        wait = deadline.bound(self.timeout)
        return self._pools.request(
            method,
            url,
            body=body,  # what it yields goes to the pools' connections
            headers=headers,
            timeout=Timeout(connect=wait, read=wait),
            preload_content=False,
            decode_content=False,
            redirect=False,
        )

    @property
    def _place(self) -> str:
        """Where the registry listens, as users name it."""
        return self.base if self.path is None else f"unix://{self.path}"

    def _plain_allowed(self, host: str) -> bool:
        """Whether plain HTTP may go there: never from a registry with TLS, even to this machine."""
        return self.insecure or (self.base.startswith("http:") and is_loopback(host))

    # --- refusals ----------------------------------------------------------------------------

    def _refused(self, request: Request, response: BaseHTTPResponse) -> NoReturn:
        """Raise what a status means that is no answer to this request."""
        status = response.status
        reported = parse_errors(_read_reason(response))
        code = reported[0].code if reported else ""
        found = "; ".join(map(str, reported)) or response.reason or "no reason given"
        if self.authorizer is not None:
            found = self.authorizer.redact(found)
        message = f"cannot {request.what}: {self.base} answers {status}: {found}"
        if status in {401, 403}:
            raise Unauthorized(
                message,
                status=status,
                code=code,
                remedy=_login_remedy(response, self.base),
            )
        if status == 404:
            raise request.missing(message, status=status, code=code)
        if status not in PASSING:
            # So Go's servers answer plain HTTP where they speak TLS.
            remedy = _tls_remedy(self._place) if status == 400 and not reported else None
            raise RegistryError(message, status=status, code=code, remedy=remedy)
        gone = status in {502, 503, 504}
        wait = retry_after(response.headers.get("Retry-After"))
        error = (RegistryUnavailable if gone else RegistryError)(
            message,
            status=status,
            code=code,
            remedy=f"it asks to wait for {wait:.0f} seconds" if wait else None,
        )
        raise Failed(error, untouched=status == 429, wait=wait)


# --- responses ---------------------------------------------------------------------------------


def _headers(response: BaseHTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _read_limited(response: BaseHTTPResponse, limit: int) -> bytes:
    """Read a body up to a limit; the connection is kept only if that was all of it."""
    parts: list[bytes] = []
    left = limit
    try:
        while left and (part := response.read(left, decode_content=False)):
            parts.append(part)
            left -= len(part)
    finally:
        _release(response)
    return b"".join(parts)


def _read_reason(response: BaseHTTPResponse) -> bytes:
    """The body of an answer whose status says enough, should the body not come whole."""
    with contextlib.suppress(HTTPError, OSError):
        return _read_limited(response, _LARGEST_BODY)
    return b""


def _release(response: BaseHTTPResponse) -> None:
    if not response.closed:
        response.close()
    response.release_conn()


def _reason(error: HTTPError | OSError) -> str:
    if isinstance(error, ReadTimeoutError | TimeoutError):
        return "the registry fell silent (timed out)"
    if isinstance(error, NewConnectionError):  # a kind of ConnectTimeoutError to urllib3
        return f"no connection: {error.__cause__ or error}"
    if isinstance(error, ConnectTimeoutError):
        return "no connection came up in time"
    return str(error) or type(error).__name__


def _remedy(error: HTTPError | OSError, base: str) -> str | None:
    if isinstance(error, SSLError):
        return f"check the certificate of {base}, or insecure=True if it serves plain HTTP"
    if isinstance(error, ProxyError):
        return "check the proxy that the environment names (https_proxy, http_proxy, no_proxy)"
    if isinstance(error, NewConnectionError):
        return f"check that a registry listens at {base}"
    return None


def _tls_remedy(base: str) -> str | None:
    """What to do if a server of TLS was spoken to in plain HTTP."""
    scheme, _, host = base.partition("://")
    return f"if it speaks TLS, name it https://{host}" if scheme == "http" else None


def _authorized(headers: dict[str, str], authorization: str | None) -> dict[str, str]:
    return headers if authorization is None else {**headers, "Authorization": authorization}


def _login_remedy(response: BaseHTTPResponse, base: str) -> str | None:
    challenges = parse_challenges(response.headers.getlist("WWW-Authenticate"))
    if not challenges:
        return None
    wanted = " or ".join(
        f"{c.scheme} ({c.parameters.get('realm', 'no realm')})" for c in challenges
    )
    host = base.partition("://")[2]
    return f'it wants credentials: {wanted}; Registry("{host}").login(...), or credentials='
