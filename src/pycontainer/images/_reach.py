"""How a registry is reached: the options that all calls which talk to one share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer.registry import Client, Mirrored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.registry import Credentials, Tls

__all__ = ["Reach"]


@frozen(kw_only=True)
class Reach:
    """What `Image.pull` and others were told of the way to a registry; as for `Client`."""

    insecure: bool | None = None
    timeout: float = 30.0
    credentials: Credentials | None = None
    tls: Tls | None = None
    mirrors: Sequence[str] = ()

    def client(self, host: str) -> Client:
        """A client of the registry."""
        return Client(
            host,
            insecure=self.insecure,
            timeout=self.timeout,
            credentials=self.credentials,
            tls=self.tls,
        )

    def source(self, registry: Client) -> Mirrored:
        """What images of a registry are read from: its mirrors, then itself.

        Credentials and certificates that were given are the registry's alone.
        """
        mirrors = [
            Client(host, insecure=self.insecure, timeout=self.timeout) for host in self.mirrors
        ]
        return Mirrored(mirrors, registry)
