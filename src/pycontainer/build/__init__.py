"""Images from code: a `Builder` makes a graph, a solver makes it an image."""

from __future__ import annotations

from pycontainer.build._builder import Builder
from pycontainer.build._cache import BuildCache, CacheEntry
from pycontainer.build._events import (
    Event,
    Progress,
    VertexCached,
    VertexFinished,
    VertexLog,
    VertexStarted,
)

__all__ = [
    "BuildCache",
    "Builder",
    "CacheEntry",
    "Event",
    "Progress",
    "VertexCached",
    "VertexFinished",
    "VertexLog",
    "VertexStarted",
]
