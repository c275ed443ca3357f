"""Stacks of layers: unpacked once each, prepared for mounting, compared with what became of them."""

from __future__ import annotations

from pycontainer.snapshots._layers import add_layer, ensure_layer, has_layer, layer_path
from pycontainer.snapshots._mounted import mounted
from pycontainer.snapshots._noise import without_noise
from pycontainer.snapshots._plan import RootfsPlan, WirePlan
from pycontainer.snapshots._snapshot import Driver, Snapshot, Usage, prepare
from pycontainer.snapshots._tree import Node, TreeView

__all__ = [
    "Driver",
    "Node",
    "RootfsPlan",
    "Snapshot",
    "TreeView",
    "Usage",
    "WirePlan",
    "add_layer",
    "ensure_layer",
    "has_layer",
    "layer_path",
    "mounted",
    "prepare",
    "without_noise",
]
