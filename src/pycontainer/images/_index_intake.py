"""Taking an index into a store whole: its images for all platforms, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from attrs import evolve, frozen

from pycontainer.errors import ImageError, PlatformNotFound, SpecError
from pycontainer.images import _names
from pycontainer.images._intake import (
    BlobSource,
    link_layers,
    link_manifest,
    read_config,
    take_blob,
    take_layer,
    write_document,
)
from pycontainer.images._parallel import for_each
from pycontainer.images._progress import Event, Progress, TransferDone, TransferStarted
from pycontainer.oci import Index, Manifest, Platform, media_types, parse_manifest
from pycontainer.registry import current_deadline

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from pycontainer.content import Node, Readable, Store
    from pycontainer.oci import Descriptor, Digest, ImageConfig, Reference

__all__ = ["IndexSource", "take_in_index"]

_MOST: Final = 1000
_DEEPEST: Final = 4


class IndexSource(BlobSource, Protocol):
    """Where an index's manifests and their blobs come from."""

    def manifest(self, descriptor: Descriptor, /) -> bytes:
        """A manifest, verified."""


@frozen
class _Parts:
    """What an index refers to, directly or by indexes below it.

    Attributes:
        indexes: It and those below it, by digest.
        entries: How they describe manifests.
        manifests: The manifests, by the digests that the entries have.
        configs: Those of the images among them, for other than attestations and artifacts.
    """

    indexes: dict[Digest, Index]
    entries: Sequence[Descriptor]
    manifests: dict[Digest, Manifest]
    configs: dict[Digest, ImageConfig]


def take_in_index(
    store: Store, index: Index, source: IndexSource, reference: Reference, progress: Progress
) -> None:
    """Bring all that an index refers to into a store, and name it and one of its images.

    The image is that for this machine, and unpacked; if there is none it is the first, packed, as
    all others are.

    Raises:
        ImageError: It has no image, or too many manifests.
        SpecError: A document is damaged.
        RegistryError: The registry cannot be reached or refuses.
        ContentError: A blob is not what it should be.
        LayerError: A layer is unsound.
    """
    with store.lease():
        parts = _read(index, _StoreFirst(store, source))
        named, runs_here = _choose(parts, reference)
        layers = [layer for manifest in parts.manifests.values() for layer in manifest.layers]
        progress(TransferStarted(reference, index.digest, tuple(dict.fromkeys(layers))))
        with store.sync_together():
            _bring(store, source, parts, named if runs_here else None, progress)
        with store.db.transaction():
            _link(store, parts)
            manifest = parts.manifests[named]
            descriptor = _described(named, manifest)
            _names.assign(store, descriptor, manifest.config.digest, [reference])
            _names.assign_index(store, index.digest, reference)
        progress(TransferDone(reference, index.digest))


@frozen
class _StoreFirst:
    """A source that is asked only for what the store has not."""

    store: Store
    source: IndexSource

    def open(self, descriptor: Descriptor, /) -> AbstractContextManager[Readable]:
        if self.store.blobs.exists(descriptor.digest):
            return self.store.blobs.open(descriptor.digest)
        return self.source.open(descriptor)

    def manifest(self, descriptor: Descriptor, /) -> bytes:
        if self.store.blobs.exists(descriptor.digest):
            return self.store.blobs.read_bytes(descriptor)
        return self.source.manifest(descriptor)


def _read(index: Index, source: IndexSource) -> _Parts:
    """Fetch all documents: indexes, manifests, configs of images."""
    indexes = {index.digest: index}
    entries: list[Descriptor] = []
    manifests: dict[Digest, Manifest] = {}
    level = indexes
    for _ in range(_DEEPEST):
        below = [entry for each in level.values() for entry in each.manifests]
        entries += below
        if len(entries) > _MOST:
            raise ImageError(f"the index refers to more than {_MOST} manifests")
        documents = _fetch(below, source)
        manifests |= {k: each for k, each in documents.items() if isinstance(each, Manifest)}
        level = {k: each for k, each in documents.items() if isinstance(each, Index)}
        indexes |= level
        if not level:
            return _Parts(indexes, entries, manifests, _configs(manifests, source))
    raise SpecError(f"an index of more than {_DEEPEST} levels")


def _fetch(entries: Sequence[Descriptor], source: IndexSource) -> dict[Digest, Manifest | Index]:
    documents: dict[Digest, Manifest | Index] = {}

    def fetch(entry: Descriptor) -> None:
        documents[entry.digest] = parse_manifest(source.manifest(entry), entry.media_type)

    unique = {entry.digest: entry for entry in entries}
    for_each(unique.values(), fetch, give_up=current_deadline().give_up)
    return {digest: documents[digest] for digest in unique}


def _configs(manifests: dict[Digest, Manifest], source: IndexSource) -> dict[Digest, ImageConfig]:
    configs: dict[Digest, ImageConfig] = {}

    def read(digest: Digest) -> None:
        configs[digest] = read_config(manifests[digest], source)

    images = [digest for digest, manifest in manifests.items() if _is_image(manifest)]
    for_each(images, read, give_up=current_deadline().give_up)
    return configs


def _is_image(manifest: Manifest) -> bool:
    """Whether it could run: attestations have the config of an image, but other layers."""
    return manifest.config.media_type in media_types.CONFIGS and all(
        media_types.compression_of(layer.media_type) is not None for layer in manifest.layers
    )


def _choose(parts: _Parts, reference: Reference) -> tuple[Digest, bool]:
    """The image that gets the name, and whether it is one for this machine."""
    images = tuple(entry for entry in parts.entries if entry.digest in parts.configs)
    if not images:
        raise ImageError(
            f"{reference} is an index without any image",
            remedy="Registry.copy brings it to another registry as it is",
        )
    try:
        return Index(manifests=images).select(Platform.current()).digest, True
    except PlatformNotFound:
        return images[0].digest, False


def _bring(
    store: Store, source: IndexSource, parts: _Parts, unpacked: Digest | None, progress: Progress
) -> None:
    """Store all blobs and documents; the layers of one image unpacked."""
    layers: dict[Descriptor, Digest | None] = {}
    if unpacked is not None:
        pairs = zip(parts.manifests[unpacked].layers, parts.configs[unpacked].diff_ids, strict=True)
        layers.update(pairs)
    known = {layer.digest for layer in layers}
    for manifest in parts.manifests.values():
        blobs = (*manifest.layers, manifest.config)
        layers.update((blob, None) for blob in blobs if blob.digest not in known)
        known.update(blob.digest for blob in blobs)
    configs = {manifest.config.digest for manifest in parts.manifests.values()}

    def bring(item: tuple[Descriptor, Digest | None]) -> None:
        blob, diff_id = item
        if diff_id is not None:
            take_layer(store, source, blob, diff_id, progress)
        else:
            take_blob(store, source, blob, _silent if blob.digest in configs else progress)

    for_each(layers.items(), bring, give_up=current_deadline().give_up)
    for digest, document in (parts.manifests | parts.indexes).items():
        write_document(store, _described(digest, document), document.encode())


def _described(digest: Digest, document: Manifest | Index) -> Descriptor:
    return evolve(document.descriptor(), digest=digest)


def _silent(event: Event) -> None:
    """Take no notice of a config, which is no layer."""


def _link(store: Store, parts: _Parts) -> None:
    """Say what each document needs."""
    for digest, index in parts.indexes.items():
        needs: list[Node] = [("blob", str(entry.digest)) for entry in index.manifests]
        store.link(("blob", str(digest)), needs)
    for digest, manifest in parts.manifests.items():
        link_manifest(store, digest, manifest)
        if digest in parts.configs:
            link_layers(store, manifest, parts.configs[digest])
