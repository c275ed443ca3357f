"""Images from code: a `Builder` makes a graph, a solver makes it an image."""

from __future__ import annotations

from pycontainer.build._bound import Bound
from pycontainer.build._builder import Builder
from pycontainer.build._cache import BuildCache, CacheEntry
from pycontainer.build._cache_places import CachePlace, InlineCache, LocalCache, RegistryCache
from pycontainer.build._events import (
    Event,
    Progress,
    VertexCached,
    VertexFinished,
    VertexLog,
    VertexStarted,
)
from pycontainer.build._live import LiveProgress
from pycontainer.build._mount_caches import MountCache, MountCaches
from pycontainer.build._mounts import CacheMount, SecretMount, SshMount, TmpfsMount
from pycontainer.build._outputs import Output, OutputFormat
from pycontainer.build._plain import PlainProgress

__all__ = [
    "Bound",
    "BuildCache",
    "Builder",
    "CacheEntry",
    "CacheMount",
    "CachePlace",
    "Event",
    "InlineCache",
    "LiveProgress",
    "LocalCache",
    "MountCache",
    "MountCaches",
    "Output",
    "OutputFormat",
    "PlainProgress",
    "Progress",
    "RegistryCache",
    "SecretMount",
    "SshMount",
    "TmpfsMount",
    "VertexCached",
    "VertexFinished",
    "VertexLog",
    "VertexStarted",
]
