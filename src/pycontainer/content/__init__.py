"""Where everything lives: blobs by digest, what relates them, and who needs them."""

from __future__ import annotations

from pycontainer._linux.tree import remove_tree
from pycontainer.content._blobs import BlobDir
from pycontainer.content._collector import Collected
from pycontainer.content._database import Database, Schema
from pycontainer.content._events import Event, EventKind, record_event
from pycontainer.content._exclusive import exclusive
from pycontainer.content._graph import Node, Root
from pycontainer.content._home import Snapshotter
from pycontainer.content._leases import Lease
from pycontainer.content._reader import Readable, VerifiedReader
from pycontainer.content._resume import Resumable, resumed
from pycontainer.content._store import Store, StoreBlobs
from pycontainer.content._writer import BlobWriter

__all__ = [
    "BlobDir",
    "BlobWriter",
    "Collected",
    "Database",
    "Event",
    "EventKind",
    "Lease",
    "Node",
    "Readable",
    "Resumable",
    "Root",
    "Schema",
    "Snapshotter",
    "Store",
    "StoreBlobs",
    "VerifiedReader",
    "exclusive",
    "record_event",
    "remove_tree",
    "resumed",
]
