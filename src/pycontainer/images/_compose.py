"""Images made of layers that a store has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainer.images import _create
from pycontainer.images._find import references
from pycontainer.images._image import Image, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.content import Store
    from pycontainer.oci import Descriptor, Digest, ImageConfig, Reference

__all__ = ["create"]


def create(
    store: Store,
    layers: Sequence[tuple[Descriptor, Digest]],
    config: ImageConfig,
    *,
    tag: str | Reference | None = None,
    keep: bool = True,
) -> Image:
    """Make an image of stored layers.

    Args:
        store: Where the layers are.
        layers: Descriptor and diff_id of each, the bottom first.
        config: All but the diff_ids is taken from it.
        tag: Its name; without one it is kept unnamed.
        keep: Whether to keep it unnamed; else only the current lease does.

    Raises:
        BlobNotFound: A layer's blob is not in the store.
    """
    names = references(tag)
    manifest = _create.assemble(store, layers, config, names if names or keep else None)
    image = Image._made(store, manifest, names)  # noqa: SLF001  (how stored images are read)
    if names:
        record(image, "tag")
    return image
