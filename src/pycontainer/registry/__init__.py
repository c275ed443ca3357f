"""Registries at the level of the wire: a client, and a server to embed."""

from __future__ import annotations

from pycontainer.registry._client import ALL_MANIFESTS, Client, FetchedManifest
from pycontainer.registry._credentials import ANONYMOUS, Credentials
from pycontainer.registry._docker_config import DockerConfig
from pycontainer.registry._server import RegistryServer, serve

__all__ = [
    "ALL_MANIFESTS",
    "ANONYMOUS",
    "Client",
    "Credentials",
    "DockerConfig",
    "FetchedManifest",
    "RegistryServer",
    "serve",
]
