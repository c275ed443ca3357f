"""Images between a store and a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from pycontainer.images._index_intake import take_in_index
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
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from pycontainer.content import Readable, Store
    from pycontainer.oci import Descriptor, Digest, Reference
    from pycontainer.registry import Client, FetchedManifest

__all__ = ["documents_below", "pull", "push", "push_index"]


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

    def manifest(self, descriptor: Descriptor, /) -> bytes:
        return self.client.get_manifest(self.repository, str(descriptor.digest)).data


def pull(
    client: Source,
    reference: Reference,
    store: Store,
    *,
    platform: Platform | None = None,
    whole: bool = False,
    progress: Progress,
    seconds: float | None = None,
    accept: Callable[[Digest], None],
) -> bool:
    """Bring an image from a registry into a store, and name it as it is called there.

    Args:
        client: Of the registry, or of mirrors and it.
        reference: Which image.
        store: Where to.
        platform: Which of several; None for this machine's.
        whole: Whether to bring all images of an index, and it too.
        progress: Told what happens.
        seconds: How long it may take in all.
        accept: Called with the digest that the name stands for, before anything else is fetched;
            raises to refuse it.

    Returns:
        Whether an index was brought.

    Raises:
        RegistryError: The registry has no such image, cannot be reached or refuses.
        PlatformNotFound: It has none for that platform.
        ContentError: What it sends is not what it announced.
        LayerError: A layer is unsound.
    """
    with within(Deadline(seconds)):
        repository = reference.repository
        fetched = client.get_manifest(repository, reference.target)
        accept(fetched.digest)
        source = _Remote(client, repository)
        document = parse_manifest(fetched.data, fetched.media_type or None)
        index: Digest | None = None
        if isinstance(document, Index):
            if whole:
                take_in_index(store, document, source, reference, progress)
                return True
            index = document.digest
            chosen = document.select(platform or Platform.current())
            document = Manifest.parse(source.manifest(chosen), media_type=chosen.media_type)
        take_in(
            store,
            document,
            source,
            names=[reference],
            index=index,
            platform=platform,
            progress=progress,
        )
        return False


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
    with store.lease(), within(Deadline(seconds)) as deadline:
        layers = tuple(dict.fromkeys(manifest.layers))
        progress(TransferStarted(reference, manifest.digest, layers))
        _send_blobs(client, repository, store, [manifest], progress, deadline)
        digest = client.put_manifest(
            repository, reference.target, manifest.encode(), manifest.media_type
        )
        progress(TransferDone(reference, digest))
    return digest


def push_index(
    client: Client,
    index: Index,
    reference: Reference,
    store: Store,
    *,
    progress: Progress,
    seconds: float | None = None,
) -> Digest:
    """Send an index to a registry: what it lacks of all that it refers to, at last itself.

    Returns:
        The index's digest, as the registry has it.

    Raises: as `push`.
    """
    repository = reference.repository
    with store.lease(), within(Deadline(seconds)) as deadline:
        below = documents_below(index, store)
        manifests = [each for _, each in below if isinstance(each, Manifest)]
        layers = [layer for manifest in manifests for layer in manifest.layers]
        progress(TransferStarted(reference, index.digest, tuple(dict.fromkeys(layers))))
        _send_blobs(client, repository, store, manifests, progress, deadline)
        for named, document in below:
            client.put_manifest(repository, str(named), document.encode(), document.media_type)
        digest = client.put_manifest(repository, reference.target, index.encode(), index.media_type)
        progress(TransferDone(reference, digest))
    return digest


def documents_below(index: Index, store: Store) -> list[tuple[Digest, Manifest | Index]]:
    """All documents that an index refers to, each behind what it refers to itself."""
    found: list[tuple[Digest, Manifest | Index]] = []
    for entry in {entry.digest: entry for entry in index.manifests}.values():
        document = parse_manifest(store.blobs.read_bytes(entry), entry.media_type)
        if isinstance(document, Index):
            found += documents_below(document, store)
        found.append((entry.digest, document))
    return found


def _send_blobs(
    client: Client,
    repository: str,
    store: Store,
    manifests: Sequence[Manifest],
    progress: Progress,
    deadline: Deadline,
) -> None:
    """Send what a registry lacks of the blobs of manifests, layers in parallel, then configs."""

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

    def send_config(config: Descriptor) -> None:
        client.push_blob(repository, config, lambda: store.blobs.open(config.digest))

    layers = {layer.digest: layer for manifest in manifests for layer in manifest.layers}
    for_each(layers.values(), send_layer, give_up=deadline.give_up)
    configs = {manifest.config.digest: manifest.config for manifest in manifests}
    for_each(configs.values(), send_config, give_up=deadline.give_up)
