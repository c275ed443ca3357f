"""Layers: tar to directory and back, compressed and hashed on the way."""

from __future__ import annotations

from pycontainer.layers._compression import decompress, sniff
from pycontainer.layers._entry import Content, Entry, Kind, StoredContent
from pycontainer.layers._events import LayerEvent, StageCost
from pycontainer.layers._extractor import Extractor
from pycontainer.layers._index import Indexed, index, indexed_tar, verify_index
from pycontainer.layers._ownership import Ownership
from pycontainer.layers._pipeline import Packed, Unpacked, pack, tar_digest, unpack
from pycontainer.layers._reader import read_entries
from pycontainer.layers._walk import read_entry, walk_diff, walk_tree
from pycontainer.layers._writer import write_tar

__all__ = [
    "Content",
    "Entry",
    "Extractor",
    "Indexed",
    "Kind",
    "LayerEvent",
    "Ownership",
    "Packed",
    "StageCost",
    "StoredContent",
    "Unpacked",
    "decompress",
    "index",
    "indexed_tar",
    "pack",
    "read_entries",
    "read_entry",
    "sniff",
    "tar_digest",
    "unpack",
    "verify_index",
    "walk_diff",
    "walk_tree",
    "write_tar",
]
