"""A registry's transport and authorizer, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from pycontainer.errors import RegistryError
from pycontainer.registry._authorizer import Authorizer
from pycontainer.registry._docker_config import DockerConfig
from pycontainer.registry._hosts import http_url, is_loopback, same_origin
from pycontainer.registry._tls import configured_tls
from pycontainer.registry._tokens import TokenSource
from pycontainer.registry._transport import Transport

if TYPE_CHECKING:
    from pycontainer.registry._credentials import Credentials
    from pycontainer.registry._requests import Answer, Request
    from pycontainer.registry._tls import Tls

__all__ = ["authorized_transport"]


def authorized_transport(
    base: str,
    *,
    host: str,
    insecure: bool,
    timeout: float,
    connections: int,
    credentials: Credentials | None,
    tls: Tls | None,
    path: str | None,
) -> tuple[Transport, Authorizer]:
    """The transport to a registry, whose requests have what the registry wants.

    Args:
        base: Where the registry is.
        host: What it is called, also in Docker's configuration.
        insecure: Whether plain HTTP may go to other hosts than this one.
        timeout: Seconds for a connection to come up, and for each wait for bytes.
        connections: How many idle connections to a host are kept.
        credentials: Who asks; None for whom Docker's configuration names.
        tls: How to speak TLS to it; None for what this machine has configured.
        path: A Unix socket at which it is, whatever `base` says.
    """
    transport = Transport(
        base,
        insecure=insecure,
        timeout=timeout,
        connections=connections,
        tls=lambda: configured_tls(host) if tls is None else tls,
        path=path,
    )

    def ask_token_server(request: Request) -> Answer:
        realm = http_url(request.target, request.what)
        if realm.auth is not None:
            raise RegistryError(f"cannot {request.what}: the realm has a user's name in it")
        # Who may be listened to in plain HTTP may name others to be: this machine alone.
        plain = insecure or (base.startswith("http:") and is_loopback(realm.host or ""))
        if realm.scheme != "https" and not plain:
            raise RegistryError(
                f"cannot {request.what}: its token server {realm.netloc} speaks plain HTTP",
                remedy="use TLS, or insecure=True if the network can be trusted",
            )
        address = f"{realm.scheme}://{realm.netloc}"
        if same_origin(address, base):
            server = evolve(transport, authorizer=None)
        else:  # another host, with a configuration of its own
            server = evolve(
                transport,
                base=address,
                authorizer=None,
                tls=lambda: configured_tls(realm.netloc or ""),
                path=None,
            )
        try:
            return server.call(request)
        finally:
            server.close()

    def find() -> Credentials:
        return DockerConfig.default().find(host) if credentials is None else credentials

    transport.authorizer = Authorizer(find, TokenSource(host, ask_token_server))
    return transport, transport.authorizer
