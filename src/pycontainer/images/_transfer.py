"""Images between a store and a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from pycontainer.images._intake import take_in
from pycontainer.images._parallel import for_each
from pycontainer.images._progress import (
    LayerDone,
    LayerProgress,
    LayerStarted,
    Progress,
    TransferDone,
    TransferStarted,
)
from pycontainer.oci import Index, Manifest, Platform, parse_manifest
from pycontainer.registry import Deadline, within

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pycontainer.content import Readable, Store
    from pycontainer.oci import Descriptor, Digest, Reference
    from pycontainer.registry import Client, FetchedManifest

__all__ = ["pull", "push"]


class Source(Protocol):
    """What images are read from: a registry, or mirrors of it."""

    def get_manifest(self, repository: str, reference: str, /) -> FetchedManifest:
        """A manifest by tag or digest."""

    def download(
        self, repository: str, descriptor: Descriptor, /
    ) -> AbstractContextManager[Readable]:
        """A blob's bytes."""


@frozen
class _Remote:
    client: Source
    repository: str

    def open(self, descriptor: Descriptor, /) -> AbstractContextManager[Readable]:
        return self.client.download(self.repository, descriptor)


def pull(
    client: Source,
    reference: Reference,
    store: Store,
    *,
    platform: Platform | None = None,
    progress: Progress,
    seconds: float | None = None,
    accept: Callable[[Digest], None] | None = None,
) -> Digest:
    """Bring an image from a registry into a store, and name it as it is called there.

    Args:
        client: Of the registry, or of mirrors and it.
        reference: Which image.
        store: Where to.
        platform: Which of several; None for this machine's.
        progress: Told what happens.
        seconds: How long it may take in all.
        accept: Called with the digest that the name stands for, before anything else is fetched;
            raises to refuse it.

    Returns:
        The manifest's digest.

    Raises:
        RegistryError: The registry has no such image, cannot be reached or refuses.
        PlatformNotFound: It has none for that platform.
        ContentError: What it sends is not what it announced.
        LayerError: A layer is unsound.
    """
    with within(Deadline(seconds)):
        return _pull(client, reference, store, platform, progress, accept)


def _pull(
    client: Source,
    reference: Reference,
    store: Store,
    platform: Platform | None,
    progress: Progress,
    accept: Callable[[Digest], None] | None,
) -> Digest:
    repository = reference.repository
    fetched = client.get_manifest(repository, reference.target)
    if accept is not None:
        accept(fetched.digest)
    manifest = parse_manifest(fetched.data, fetched.media_type or None)
    if isinstance(manifest, Index):
        chosen = manifest.select(platform or Platform.current())
        fetched = client.get_manifest(repository, str(chosen.digest))
        manifest = Manifest.parse(fetched.data, media_type=chosen.media_type)
    source = _Remote(client, repository)
    take_in(store, manifest, source, names=[reference], platform=platform, progress=progress)
    return manifest.digest


def push(
    client: Client,
    manifest: Manifest,
    reference: Reference,
    store: Store,
    *,
    progress: Progress,
    seconds: float | None = None,
) -> Digest:
    """Send an image to a registry: what it lacks of the blobs, at last the manifest.

    Returns:
        The manifest's digest, as the registry has it.

    Raises:
        RegistryError: The registry cannot be reached or refuses.
        BlobNotFound: The store lacks a blob of the image.
    """
    repository = reference.repository

    def send_layer(layer: Descriptor) -> None:
        progress(LayerStarted(layer))
        done = 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            progress(LayerProgress(layer, done))

        sent = client.push_blob(
            repository, layer, lambda: store.blobs.open(layer.digest), progress=moved
        )
        progress(LayerDone(layer, reused=not sent))

    with store.lease(), within(Deadline(seconds)) as deadline:
        layers = tuple(dict.fromkeys(manifest.layers))
        progress(TransferStarted(reference, manifest.digest, layers))
        for_each(layers, send_layer, give_up=deadline.give_up)
        client.push_blob(
            repository, manifest.config, lambda: store.blobs.open(manifest.config.digest)
        )
        digest = client.put_manifest(
            repository, reference.target, manifest.encode(), manifest.media_type
        )
        progress(TransferDone(reference, digest))
    return digest
