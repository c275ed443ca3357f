"""Stacks of layers: each made once, prepared for mounting, compared with what became of it."""

from __future__ import annotations

from pycontainer.snapshots._erofs import erofs_advantage, erofs_refusal
from pycontainer.snapshots._layers import (
    add_layer,
    ensure_directory,
    ensure_layer,
    has_layer,
    layer_path,
)
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
    "ensure_directory",
    "ensure_layer",
    "erofs_advantage",
    "erofs_refusal",
    "has_layer",
    "layer_path",
    "mounted",
    "prepare",
    "without_noise",
]
