"""Images: frozen documents over a store, and their ways in and out."""

from __future__ import annotations

from pycontainer.images._compose import create
from pycontainer.images._for_platform import find_image
from pycontainer.images._image import Image
from pycontainer.images._index import ImageIndex, create_index
from pycontainer.images._progress import (
    Event,
    LayerDone,
    LayerProgress,
    LayerStarted,
    Progress,
    TransferDone,
    TransferStarted,
)
from pycontainer.images._registry import Registry
from pycontainer.images._sign import PublicKey, Signature, SigningKey

__all__ = [
    "Event",
    "Image",
    "ImageIndex",
    "LayerDone",
    "LayerProgress",
    "LayerStarted",
    "Progress",
    "PublicKey",
    "Registry",
    "Signature",
    "SigningKey",
    "TransferDone",
    "TransferStarted",
    "create",
    "create_index",
    "find_image",
]
