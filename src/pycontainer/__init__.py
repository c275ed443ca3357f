"""Build, ship and run OCI containers inside your Python program.

The names below are loaded when they are first used, so that ``import pycontainer`` costs next to
nothing and pulls in no optional dependency (PEP 562).
"""

# `typing` is not imported: the container launcher loads this package too and counts each millisecond.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer import errors
    from pycontainer.build import Builder
    from pycontainer.containers import (
        Change,
        Completed,
        Container,
        ContainerFiles,
        Device,
        HealthCheck,
        IdRange,
        Limits,
        LogLine,
        LogOptions,
        Mount,
        Names,
        Namespaces,
        Process,
        Security,
        Volume,
        events,
        prune,
        ready,
        run,
    )
    from pycontainer.content import Event, Store
    from pycontainer.errors import Error
    from pycontainer.images import Image, ImageIndex, PublicKey, Registry, SigningKey
    from pycontainer.network import Membership, Network
    from pycontainer.oci import Digest, Platform, Reference
    from pycontainer.registry import Credentials, S3Bucket, ServerOptions, Tls, Upstream

__all__ = [
    "Builder",
    "Change",
    "Completed",
    "Container",
    "ContainerFiles",
    "Credentials",
    "Device",
    "Digest",
    "Error",
    "Event",
    "HealthCheck",
    "IdRange",
    "Image",
    "ImageIndex",
    "Limits",
    "LogLine",
    "LogOptions",
    "Membership",
    "Mount",
    "Names",
    "Namespaces",
    "Network",
    "Platform",
    "Process",
    "PublicKey",
    "Reference",
    "Registry",
    "S3Bucket",
    "Security",
    "ServerOptions",
    "SigningKey",
    "Store",
    "Tls",
    "Upstream",
    "Volume",
    "errors",
    "events",
    "prune",
    "ready",
    "run",
]

__version__ = "0.1.0"

_HOMES = {
    "Builder": "build",
    "Change": "containers",
    "Completed": "containers",
    "Container": "containers",
    "ContainerFiles": "containers",
    "Credentials": "registry",
    "Device": "containers",
    "IdRange": "containers",
    "Digest": "oci",
    "Error": "errors",
    "Event": "content",
    "HealthCheck": "containers",
    "Image": "images",
    "ImageIndex": "images",
    "Limits": "containers",
    "LogLine": "containers",
    "LogOptions": "containers",
    "Membership": "network",
    "Mount": "containers",
    "Names": "containers",
    "Namespaces": "containers",
    "Network": "network",
    "Platform": "oci",
    "Process": "containers",
    "PublicKey": "images",
    "Reference": "oci",
    "Registry": "images",
    "S3Bucket": "registry",
    "Security": "containers",
    "ServerOptions": "registry",
    "SigningKey": "images",
    "Store": "content",
    "Tls": "registry",
    "Upstream": "registry",
    "Volume": "containers",
    "events": "containers",
    "prune": "containers",
    "ready": "containers",
    "run": "containers",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None and name != "errors":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if home is None:
        return import_module(f"{__name__}.{name}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
