"""Removing at once what nobody uses any more."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer.containers._container import Container
from pycontainer.containers._volume import Volume
from pycontainer.content import Store
from pycontainer.errors import ImageInUse
from pycontainer.images import Image
from pycontainer.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Pruned", "prune"]


@frozen(kw_only=True)
class Pruned:
    """What `prune` has removed.

    Attributes:
        containers: Ids.
        networks: Names.
        volumes: Names.
        images: References; ids of those that had no name.
        freed: Bytes of layers and other content that nothing needed any more.
    """

    containers: tuple[str, ...]
    networks: tuple[str, ...]
    volumes: tuple[str, ...]
    images: tuple[str, ...]
    freed: int


def prune(
    *,
    volumes: bool = False,
    all_images: bool = False,
    labels: Mapping[str, str] | None = None,
    until: float | None = None,
    store: Store | None = None,
) -> Pruned:
    """Remove stopped containers, networks and images that nobody uses, and what only they needed.

    Args:
        volumes: Also volumes that no container mounts, with what is in them.
        all_images: Also images that have a name, if no container is of them.
        labels: Only containers and networks that carry these.
        until: Only containers made before that time, seconds since the epoch.
        store: None for the default store.
    """
    store = store or Store.default()
    return Pruned(
        containers=Container.prune(labels=labels, until=until, store=store),
        networks=Network.prune(labels=labels, store=store),
        volumes=Volume.prune(store=store) if volumes else (),
        images=_prune_images(store, named=all_images),
        freed=store.collect().freed,
    )


def _prune_images(store: Store, *, named: bool) -> tuple[str, ...]:
    gone = []
    for image in Image.list(store=store):
        if image.reference is None or named:
            with contextlib.suppress(ImageInUse):
                image.delete()
                gone.append(str(image.reference or image.id))
    return tuple(gone)
