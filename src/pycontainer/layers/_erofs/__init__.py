"""EROFS images that index a layer's tar: files are found in the tar itself, and nothing is unpacked.

`format` knows the kernel's structures, `tree` what a layer's entries amount to, `metadata` lays that out.
None of them reads or writes anything.
"""

from __future__ import annotations

from pycontainer.layers._erofs.format import BLOCK, SUPERBLOCK_OFFSET, superblock
from pycontainer.layers._erofs.metadata import Metadata, lay_out
from pycontainer.layers._erofs.tree import NotIndexable, Tree

__all__ = [
    "BLOCK",
    "SUPERBLOCK_OFFSET",
    "Metadata",
    "NotIndexable",
    "Tree",
    "lay_out",
    "superblock",
]
