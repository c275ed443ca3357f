"""Registries at the level of the wire: a client, and a server to embed."""

from __future__ import annotations

from pycontainer.registry._client import ALL_MANIFESTS, Client, FetchedManifest
from pycontainer.registry._credentials import ANONYMOUS, Credentials
from pycontainer.registry._deadline import Deadline, current_deadline, within
from pycontainer.registry._docker_config import DockerConfig
from pycontainer.registry._download import Download
from pycontainer.registry._manifests import parts_of
from pycontainer.registry._mirrors import Mirrored
from pycontainer.registry._referrers import referrer
from pycontainer.registry._s3_bucket import S3Bucket
from pycontainer.registry._server import RegistryServer, serve
from pycontainer.registry._server_options import Action, ServerOptions, read_htpasswd
from pycontainer.registry._storage import (
    CacheStorage,
    Collected,
    Needed,
    Pace,
    Storage,
    StoredManifest,
    Upload,
)
from pycontainer.registry._tls import Tls
from pycontainer.registry._uploads import FileUploads
from pycontainer.registry._upstream import Upstream

__all__ = [
    "ALL_MANIFESTS",
    "ANONYMOUS",
    "Action",
    "CacheStorage",
    "Client",
    "Collected",
    "Credentials",
    "Deadline",
    "DockerConfig",
    "Download",
    "FetchedManifest",
    "FileUploads",
    "Mirrored",
    "Needed",
    "Pace",
    "RegistryServer",
    "S3Bucket",
    "ServerOptions",
    "Storage",
    "StoredManifest",
    "Tls",
    "Upload",
    "Upstream",
    "current_deadline",
    "parts_of",
    "read_htpasswd",
    "referrer",
    "serve",
    "within",
]
