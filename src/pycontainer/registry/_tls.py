"""Whom a registry's certificates are checked against, and which certificate is shown to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer.errors import RegistryError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

__all__ = ["Tls", "configured_tls", "is_configured"]


@frozen
class Tls:
    """How to speak TLS to a registry.

    Attributes:
        authorities: Files of certificates (PEM) to be trusted besides the system's.
        certificate: A file with the certificate (PEM) to be shown to the registry.
        key: A file with its private key; None if `certificate` has it too.
        verify: Whether the registry's certificate is checked at all. Without, whoever is on the line can
            read and change what goes over it.
    """

    authorities: tuple[Path, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """What sockets are wrapped by.

        Raises:
            RegistryError: A file cannot be used.
        """
        import ssl  # costs milliseconds that plain HTTP need not pay

        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        path: Path | None = None
        try:
            for path in self.authorities:
                context.load_verify_locations(path)
            path = self.certificate
            if path is not None:
                context.load_cert_chain(path, self.key)
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(f"cannot use the certificate file {path}: {error}") from error
        return context


def configured_tls(host: str) -> Tls | None:
    """What this machine has configured for a registry as Docker does; None if that is nothing.

    A directory ``certs.d/<host:port>`` holds authorities (``*.crt``) and a certificate to be shown
    (``*.cert`` with a ``*.key`` of the same name).

    Raises:
        RegistryError: A certificate has no key, or a directory cannot be read.
    """
    for place in places():
        directory = place / host
        try:
            names = sorted(path.name for path in directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise RegistryError(f"cannot read {directory}: {error.strerror}") from error
        return _read(directory, names)
    return None


def is_configured(host: str) -> bool:
    """Whether this machine has a directory of certificates for a registry, read or not."""
    return any(os.path.isdir(place / host) for place in places())


def places() -> tuple[Path, ...]:
    """Where the directories are looked for, the first that is there wins."""
    home = Path("~/.config").expanduser()
    return (
        home / "docker/certs.d",
        Path("/etc/docker/certs.d"),
        home / "containers/certs.d",
        Path("/etc/containers/certs.d"),
    )


def _read(directory: Path, names: Iterable[str]) -> Tls:
    authorities = tuple(directory / name for name in names if name.endswith(".crt"))
    for name in names:
        if name.endswith(".cert"):
            key = directory / (name.removesuffix(".cert") + ".key")
            if not key.exists():
                raise RegistryError(f"{directory / name} has no private key beside it ({key.name})")
            return Tls(authorities, directory / name, key)
    return Tls(authorities)
