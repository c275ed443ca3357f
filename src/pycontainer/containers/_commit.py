"""Making an image of a container's files."""

from __future__ import annotations

import contextlib
import itertools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pycontainer.containers import _view
from pycontainer.containers._changes import changed_entries
from pycontainer.containers._instructions import apply_instructions
from pycontainer.images import create
from pycontainer.layers import pack
from pycontainer.oci import ContainerConfig, Descriptor, History, ImageConfig, Manifest
from pycontainer.snapshots import RootfsPlan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pycontainer.containers._record import Record
    from pycontainer.content import Store
    from pycontainer.images import Image
    from pycontainer.layers import Packed
    from pycontainer.oci import Digest, Reference

__all__ = ["commit"]


def commit(
    store: Store,
    home: Path,
    record: Record,
    *,
    tag: str | Reference | None,
    changes: Sequence[str],
    author: str,
    message: str,
    pause: bool,
) -> Image:
    """Make an image of the container's image and what it has changed.

    Raises:
        ContainerError: A change of the config is none.
        LayerError: A file changed while it was read.
    """
    wanted = apply_instructions(ContainerConfig.from_json(record.config), changes)
    with store.lease():
        manifest = Manifest.parse(store.blobs.read_bytes(Descriptor.from_json(record.manifest)))
        config = ImageConfig.parse(store.blobs.read_bytes(manifest.config))
        with _view.frozen(home) if pause else contextlib.nullcontext():
            packed = _pack(store, home, RootfsPlan.from_wire(record.rootfs))
        layers: list[tuple[Descriptor, Digest]] = list(
            zip(manifest.layers, config.diff_ids, strict=True)
        )
        if packed is not None:
            layers.append((packed.descriptor, packed.diff_id))
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        done = History(
            created=created,
            created_by=json.dumps([*(wanted.entrypoint or ()), *(wanted.cmd or ())]),
            author=author,
            comment=message,
            empty_layer=packed is None,
        )
        config = config.evolve(
            config=wanted,
            created=created,
            author=author or config.author,
            history=(*config.history, done),
        )
        return create(store, layers, config, tag=tag)


def _pack(store: Store, home: Path, plan: RootfsPlan) -> Packed | None:
    """The changes as a stored layer; None if there are none."""
    entries = changed_entries(home, plan)
    first = next(entries, None)
    if first is None:
        return None
    with store.blobs.writer(hashing=False) as blob:
        return pack(itertools.chain((first,), entries), blob)
