"""Where everything lives: blobs by digest, what relates them, and who needs them."""

from __future__ import annotations

from pycontainer._linux.tree import remove_tree
from pycontainer.content._blobs import BlobDir, BlobWriter, Readable, VerifiedReader
from pycontainer.content._database import Database, Schema
from pycontainer.content._store import Collected, Lease, Node, Store, StoreBlobs

__all__ = [
    "BlobDir",
    "BlobWriter",
    "Collected",
    "Database",
    "Lease",
    "Node",
    "Readable",
    "Schema",
    "Store",
    "StoreBlobs",
    "VerifiedReader",
    "remove_tree",
]
