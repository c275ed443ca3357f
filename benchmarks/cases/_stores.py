"""Stores that a case fills before it measures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pycontainer as pc
from benchmarks import peers
from pycontainer.content import Store

__all__ = ["imported", "loaded"]


@contextlib.contextmanager
def imported(directory: Path) -> Iterator[pc.Image]:
    """Import the small Debian system into a store of its own."""
    with Store.open(directory / "store") as store:
        yield pc.Image.import_rootfs(peers.minbase(), store=store)


@contextlib.contextmanager
def loaded(layout: Path, directory: Path) -> Iterator[pc.Image]:
    """Load the image of an OCI layout into a store of its own."""
    with Store.open(directory / "store") as store:
        (image,) = pc.Image.load(layout, store=store)
        yield image
