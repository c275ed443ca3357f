"""Hosts and URLs of registries."""

from __future__ import annotations

import ipaddress
from typing import Final

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from pycontainer.errors import RegistryError

__all__ = ["base_url", "http_url", "is_loopback", "same_origin"]

_DOCKER_HUB: Final = ("docker.io", "registry-1.docker.io")


def base_url(host: str, *, insecure: bool | None) -> str:
    """Where a registry is served.

    Args:
        host: As references name it (``registry.example:5000``), or with ``http://``, ``https://``.
        insecure: True for plain HTTP, False for TLS; None for TLS unless it is on this machine.

    Raises:
        ValueError: It is no host.
    """
    scheme, separator, rest = host.rpartition("://")
    try:
        url = parse_url(f"//{rest}")
    except LocationParseError as error:
        raise ValueError(f"not a registry's host: {host!r}") from error
    if (
        not url.host
        or url.netloc != rest.rstrip("/").lower()
        or scheme not in ("", "http", "https")
    ):
        raise ValueError(f"not a registry's host: {host!r}")
    name, address = _DOCKER_HUB
    if url.host == name:
        return f"https://{address}"
    if not separator:
        plain = is_loopback(url.host) if insecure is None else insecure
        scheme = "http" if plain else "https"
    return f"{scheme}://{url.netloc}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address certainly is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    parts = parse_url(url)
    return (
        parts.scheme,
        parts.host,
        parts.port or {"http": 80, "https": 443}.get(parts.scheme or ""),
    )


def http_url(url: str, what: str) -> Url:
    """Take apart a URL that a request is sent on to.

    Raises:
        RegistryError: It is not one of HTTP.
    """
    shown = url.partition("?")[0][:200]  # queries hold signatures that let anybody in
    try:
        target = parse_url(url)
    except LocationParseError as error:
        raise RegistryError(f"cannot {what}: sent on to {shown!r}, which is no URL") from error
    if target.scheme not in {"http", "https"} or not target.host:
        raise RegistryError(f"cannot {what}: sent on to {shown!r}, which is not HTTP")
    return target
