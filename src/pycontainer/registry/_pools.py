"""Connection pools: which one a request takes, and connections that can send a `FileBody`."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.request import getproxies_environment, proxy_bypass

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import LocationParseError, NewConnectionError, ProxySchemeUnknown
from urllib3.util import make_headers, parse_url

from pycontainer.errors import RegistryError
from pycontainer.registry._body import Span
from pycontainer.registry._hosts import is_loopback, same_origin

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from urllib3 import BaseHTTPResponse

    from pycontainer.registry._tls import Tls

__all__ = ["Pools"]


class Pools:
    """The connections of one registry's client, safe for many threads.

    What is configured for the registry (authorities, a certificate to show) is for it alone; where
    it redirects to has the system's trust. Proxies are those of the environment (``https_proxy``,
    ``http_proxy``, ``no_proxy``), but none for this machine.

    Args:
        base: The registry's ``scheme://host:port``.
        tls: How to speak TLS to it, when it is first needed; None for the system's way.
        connections: How many idle connections to a host are kept.
        path: A Unix socket at which the registry is, whatever `base` says.
    """

    def __init__(
        self,
        base: str,
        tls: Callable[[], Tls | None],
        connections: int,
        path: str | None = None,
    ) -> None:
        self._base = base
        self._tls = tls
        self._connections = connections
        self._unix = None if path is None else _UnixPool(path, maxsize=connections)
        self._managers: dict[tuple[bool, str | None], PoolManager] = {}

    def request(self, method: str, url: str, **options: Any) -> BaseHTTPResponse:
        """Send a request; arguments as urllib3's.

        Raises:
            RegistryError: A certificate's file or the proxy of the environment is unusable.
        """
        ours = same_origin(url, self._base)
        if self._unix is not None and ours:
            return self._unix.urlopen(method, parse_url(url).request_uri, retries=False, **options)
        return self._manager(ours=ours, proxy=_proxy(url)).request(method, url, **options)

    def clear(self) -> None:
        """Close the idle connections."""
        for manager in list(self._managers.values()):
            manager.clear()
        if self._unix is not None:
            self._unix.close()
            self._unix = _UnixPool(self._unix.path, maxsize=self._connections)

    def _manager(self, *, ours: bool, proxy: str | None) -> PoolManager:
        key = (ours, proxy)
        manager = self._managers.get(key)
        if manager is None:
            manager = self._managers.setdefault(key, self._make(ours=ours, proxy=proxy))
        return manager

    def _make(self, *, ours: bool, proxy: str | None) -> PoolManager:
        options: dict[str, Any] = {"maxsize": self._connections, "retries": False}
        tls = self._tls() if ours and self._base.startswith("https:") else None
        if tls is not None:
            options["ssl_context"] = tls.context()
            if not tls.verify:
                options |= {"cert_reqs": "CERT_NONE", "assert_hostname": False}
        manager = PoolManager(**options) if proxy is None else _proxied(proxy, options)
        secure = _SecureFilePool if tls is None or tls.verify else _UnverifiedPool
        manager.pool_classes_by_scheme = {"http": _FilePool, "https": secure}
        return manager


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL."""
    target = parse_url(url)
    if not target.host or is_loopback(target.host) or proxy_bypass(target.netloc or ""):
        return None
    proxies = getproxies_environment()
    return proxies.get(target.scheme or "") or proxies.get("all")


def _proxied(proxy: str, options: dict[str, Any]) -> PoolManager:
    address = proxy if "://" in proxy else f"http://{proxy}"
    try:
        auth = parse_url(address).auth
        headers = make_headers(proxy_basic_auth=auth) if auth else None
        return ProxyManager(address, proxy_headers=headers, **options)
    except (LocationParseError, ProxySchemeUnknown):
        shown = address.rpartition("@")[2]
        raise RegistryError(f"the proxy of the environment cannot be used: {shown!r}") from None


class _FileSender(HTTPConnection):
    def send(self, data: Any) -> None:
        if isinstance(data, Span):
            assert self.sock is not None, "the head of the request has been sent"
            data.send_to(self.sock)
        else:
            super().send(data)


class _SecureFileSender(HTTPSConnection):
    def send(self, data: Any) -> None:
        if isinstance(data, Span):
            assert self.sock is not None, "the head of the request has been sent"
            data.send_to(self.sock)
        else:
            super().send(data)


class _FilePool(HTTPConnectionPool):
    ConnectionCls = _FileSender


class _SecureFilePool(HTTPSConnectionPool):
    ConnectionCls = _SecureFileSender


class _UnverifiedPool(_SecureFilePool):
    """Connections to whoever is there; urllib3 would warn of each, but that is what was asked for."""

    def _validate_conn(self, conn: Any) -> None:
        if conn.is_closed:
            conn.connect()


class _UnixSender(_FileSender):
    path = ""

    def _new_conn(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if isinstance(self.timeout, float | int):
                sock.settimeout(self.timeout)
            sock.connect(self.path)
        except OSError as error:
            sock.close()
            error.filename = self.path
            raise NewConnectionError(self, str(error)) from error
        return sock


class _UnixPool(HTTPConnectionPool):
    """Connections to a Unix socket."""

    def __init__(self, path: str, *, maxsize: int) -> None:
        self.path = path
        self.ConnectionCls = type("_Sender", (_UnixSender,), {"path": path})
        super().__init__("localhost", maxsize=maxsize)
