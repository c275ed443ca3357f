"""Taking an image into a store: from a registry, a layout or an archive, always the same way."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, Protocol

from attrs import evolve

from pycontainer.content import Resumable, VerifiedReader, exclusive, resumed
from pycontainer.errors import (
    DigestMismatch,
    ImageError,
    PlatformNotFound,
    SizeMismatch,
    SpecError,
    TarError,
    UnsafePath,
)
from pycontainer.images import _names
from pycontainer.images._parallel import for_each
from pycontainer.images._progress import (
    LayerDone,
    LayerProgress,
    LayerStarted,
    Progress,
    TransferDone,
    TransferStarted,
)
from pycontainer.oci import ImageConfig, Manifest, media_types
from pycontainer.registry import current_deadline
from pycontainer.snapshots import add_layer, ensure_layer, has_layer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pycontainer.content import Node, Readable, Store
    from pycontainer.layers import LayerEvent, StageCost
    from pycontainer.oci import Descriptor, Digest, Platform, Reference

__all__ = [
    "BlobSource",
    "link_image",
    "link_layers",
    "link_manifest",
    "may_run",
    "read_config",
    "take_blob",
    "take_in",
    "take_layer",
    "write_document",
]

_log = logging.getLogger("pycontainer.images")
_LARGEST_CONFIG: Final = 16 << 20
_CHUNK: Final = 1 << 18


class BlobSource(Protocol):
    """Where an image's blobs come from."""

    def open(self, descriptor: Descriptor, /) -> AbstractContextManager[Readable]:
        """Begin to read a blob; whoever reads verifies it."""


def take_in(
    store: Store,
    manifest: Manifest,
    source: BlobSource,
    *,
    names: Sequence[Reference] = (),
    index: Digest | None = None,
    platform: Platform | None = None,
    progress: Progress,
) -> ImageConfig:
    """Bring config and layers of an image into a store, unpack the layers, and name it.

    Args:
        store: Where to.
        manifest: The image's manifest.
        source: Where its blobs come from; what the store has already is not read.
        names: What it will be called; without any it is kept unnamed.
        index: The index that the names stand for where it comes from, if they stand for one.
        platform: What it must be for, if that matters.
        progress: Told what happens, from several threads.

    Raises:
        SpecError: Manifest and config do not fit together.
        PlatformNotFound: It is for another platform.
        ContentError: A blob is not what the manifest says.
        LayerError: A layer is unsound.
    """
    with store.lease():
        config = read_config(manifest, source)
        if platform is not None and not may_run(config.platform, platform):
            raise PlatformNotFound(f"the image is for {config.platform}, wanted was {platform}")
        reference = names[0] if names else None
        progress(TransferStarted(reference, manifest.digest, tuple(dict.fromkeys(manifest.layers))))
        pairs = dict.fromkeys(zip(manifest.layers, config.diff_ids, strict=True))
        with store.sync_together():
            for_each(
                pairs,
                lambda pair: take_layer(store, source, *pair, progress),
                give_up=current_deadline().give_up,
            )
            write_document(store, manifest.config, config.encode())
            write_document(store, manifest.descriptor(), manifest.encode())
        link_image(store, manifest, config)
        _names.assign(store, manifest.descriptor(), manifest.config.digest, names, index=index)
        progress(TransferDone(reference, manifest.digest))
    return config


def may_run(has: Platform, wanted: Platform) -> bool:
    """Whether an image for one platform runs on another: on the very variant or a newer one.

    Many configs leave the variant out, whatever the index says that led to them.
    """
    if not has.variant:
        has = evolve(has, variant=wanted.variant)
    return has.distance(wanted) is not None


def link_image(store: Store, manifest: Manifest, config: ImageConfig) -> None:
    """Say what an image's blobs need: the manifest the others, the config the unpacked layers."""
    link_manifest(store, manifest.digest, manifest)
    link_layers(store, manifest, config)


def link_manifest(store: Store, digest: Digest, manifest: Manifest) -> None:
    """Say which blobs a manifest, stored under that digest, needs."""
    blobs: list[Node] = [("blob", str(manifest.config.digest))]
    blobs += [("blob", str(layer.digest)) for layer in manifest.layers]
    store.link(("blob", str(digest)), blobs)


def link_layers(store: Store, manifest: Manifest, config: ImageConfig) -> None:
    """Say which layers, once they are unpacked, the config of an image needs."""
    layers = [("layer", str(diff_id)) for diff_id in config.diff_ids]
    store.link(("blob", str(manifest.config.digest)), layers)


def read_config(manifest: Manifest, source: BlobSource) -> ImageConfig:
    """The config of an image that could run: all its layers are tars.

    Raises: as `take_in`.
    """
    descriptor = manifest.config
    if descriptor.size > _LARGEST_CONFIG:
        raise SpecError(f"a config of {descriptor.size} bytes", path="config.size")
    for i, layer in enumerate(manifest.layers):
        if media_types.compression_of(layer.media_type) is None:
            raise ImageError(
                f"layers[{i}] of {manifest.digest} is of type {layer.media_type!r}, which is no layer",
                remedy="this is an artifact or an encrypted image, not one that can be run",
            )
    with source.open(descriptor) as stream:
        data = VerifiedReader(stream, descriptor).read()
    config = ImageConfig.parse(data, media_type=descriptor.media_type)
    if len(config.diff_ids) != len(manifest.layers):
        raise SpecError(
            f"the config has {len(config.diff_ids)} diff_ids, the manifest {len(manifest.layers)} "
            "layers",
            path="rootfs.diff_ids",
        )
    return config


def take_layer(
    store: Store, source: BlobSource, layer: Descriptor, diff_id: Digest, progress: Progress
) -> None:
    """Bring a layer and unpack it, unless the store has it or somebody else brings it."""
    has_blob = store.blobs.exists(layer.digest)
    is_unpacked = has_layer(store, diff_id)
    if has_blob and is_unpacked:
        progress(LayerDone(layer, reused=True))
        return
    with exclusive(_lock_file(store, layer), waiting=current_deadline().check):
        _bring_layer(store, source, layer, diff_id, progress)


def take_blob(store: Store, source: BlobSource, blob: Descriptor, progress: Progress) -> None:
    """Bring a blob as it is, such as a layer that this machine cannot run on."""
    begun = time.monotonic()
    if not store.blobs.exists(blob.digest):
        with exclusive(_lock_file(store, blob), waiting=current_deadline().check):
            if not store.blobs.exists(blob.digest):
                progress(LayerStarted(blob))
                with source.open(blob) as stream:
                    _copy_blob(store, stream, blob, progress)
                progress(LayerDone(blob, reused=False, seconds=time.monotonic() - begun))
                return
    progress(LayerDone(blob, reused=True))


def _bring_layer(
    store: Store, source: BlobSource, layer: Descriptor, diff_id: Digest, progress: Progress
) -> None:
    has_blob = store.blobs.exists(layer.digest)
    is_unpacked = has_layer(store, diff_id)
    if has_blob and is_unpacked:  # somebody else has brought it meanwhile
        progress(LayerDone(layer, reused=True))
        return

    begun = time.monotonic()
    stages: tuple[StageCost, ...] = ()

    def tell(event: LayerEvent) -> None:
        nonlocal stages
        stages = event.stages
        progress(LayerProgress(layer, event.received, event.entries, stages))

    progress(LayerStarted(layer))
    if has_blob:
        try:
            ensure_layer(store, layer, diff_id, events=tell)
        except (TarError, UnsafePath):
            store.blobs.delete(layer.digest)  # of no use for any image
            raise
    else:
        with source.open(layer) as stream:
            if is_unpacked:  # of another compression of the same tar
                _copy_blob(store, stream, layer, progress)
            else:
                add_layer(store, stream, expected=layer, diff_id=diff_id, events=tell)
    _log.debug("layer %s is in %s", layer.digest, store.path)
    seconds = time.monotonic() - begun
    progress(LayerDone(layer, reused=False, seconds=seconds, stages=stages))


def _copy_blob(store: Store, stream: Readable, layer: Descriptor, progress: Progress) -> None:
    with store.blobs.writer(layer, resume=isinstance(stream, Resumable)) as blob:
        reader = VerifiedReader(resumed(stream, blob), layer)
        try:
            while part := reader.read(_CHUNK):
                blob.write(part)
                progress(LayerProgress(layer, blob.size))
            blob.commit()
        except (DigestMismatch, SizeMismatch):
            blob.discard()
            if not blob.kept:
                raise
        else:
            return
    _copy_blob(store, stream, layer, progress)  # perhaps only what was kept is damaged


def _lock_file(store: Store, layer: Descriptor) -> Path:
    """The lock of who brings a layer, so that programs that want the same one do it once."""
    return store.directory("layers") / f".{layer.digest.algorithm}-{layer.digest.hex}.coming"


def write_document(store: Store, descriptor: Descriptor, data: bytes) -> None:
    """Store bytes that are at hand."""
    if store.blobs.exists(descriptor.digest):
        return
    with store.blobs.writer(descriptor) as blob:
        blob.write(data)
        blob.commit()
