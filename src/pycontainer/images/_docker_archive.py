"""The archives of ``docker save``: a manifest.json that names configs and layers by file name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from pycontainer.errors import DigestMismatch, InvalidReference, SpecError
from pycontainer.images._archive import Archive, bytes_entry
from pycontainer.layers import Entry, Kind, decompress, sniff, tar_digest
from pycontainer.oci import Descriptor, Digest, ImageConfig, Manifest, Reference, media_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontainer.content import Store

__all__ = ["MANIFEST_FILE", "docker_entries", "images_in_docker_archive"]

MANIFEST_FILE: Final = "manifest.json"
_CHUNK: Final = 1 << 18


def images_in_docker_archive(
    store: Store, archive: Archive
) -> Iterator[tuple[Manifest, list[Reference]]]:
    """The images that a manifest.json names, and their names.

    Their layers and configs are blobs of the store afterwards. The config keeps its bytes, so the
    image keeps its id; there never was another manifest than the one made here.

    Raises:
        SpecError: It is damaged, or names files that are not there.
    """
    for item in _items(archive.documents[MANIFEST_FILE]):
        data = archive.document(item.config, store)
        config = ImageConfig.parse(data)
        with store.blobs.writer() as blob:
            blob.write(data)
            blob.commit()
        layers = tuple(_layer(store, archive.blob(name)) for name in item.layers)
        yield Manifest(config=config.descriptor(), layers=layers), item.names


@frozen
class _Item:
    config: str
    layers: list[str]
    names: list[Reference]


def _items(data: bytes) -> Iterator[_Item]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"not a JSON document: {error}", path=MANIFEST_FILE) from error
    if not isinstance(document, list):
        raise SpecError("expected a list of images", path=MANIFEST_FILE)
    for i, item in enumerate(document):
        path = f"{MANIFEST_FILE}[{i}]"
        if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
            raise SpecError("an image needs a config", path=f"{path}.Config")
        names = []
        for text in _texts(item, "RepoTags", path):
            try:
                names.append(Reference.parse(text))
            except InvalidReference as error:
                raise SpecError(str(error), path=f"{path}.RepoTags") from error
        yield _Item(item["Config"], _texts(item, "Layers", path), names)


def _texts(item: dict[str, Any], key: str, path: str) -> list[str]:
    values = item.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise SpecError("expected a list of strings", path=f"{path}.{key}")
    return values


def _layer(store: Store, digest: Digest) -> Descriptor:
    with store.blobs.open(digest) as file:
        compression = sniff(file.read(16))
    return Descriptor(media_types.oci_layer(compression), digest, store.blobs.size(digest))


# --- writing ---------------------------------------------------------------------------------


def docker_entries(
    store: Store, manifest: Manifest, config: ImageConfig, reference: Reference | None
) -> Iterator[Entry]:
    """The members of an archive that every ``docker load`` reads: layers are not compressed.

    Raises:
        BlobNotFound: A layer's blob is not in the store.
        DigestMismatch: A stored layer is damaged.
    """
    name = f"{config.digest.hex}.json"
    paths = [f"{diff_id.hex}/layer.tar" for diff_id in config.diff_ids]
    tags = [reference.familiar] if reference is not None and reference.tag is not None else None
    item = {"Config": name, "RepoTags": tags, "Layers": paths}
    yield bytes_entry(MANIFEST_FILE, json.dumps([item], separators=(",", ":")).encode())
    yield bytes_entry(name, config.encode())
    layers = dict(zip(config.diff_ids, manifest.layers, strict=True))
    for diff_id in sorted(layers):
        yield Entry(diff_id.hex.encode(), Kind.DIRECTORY, 0o755)
        yield _layer_entry(store, layers[diff_id], diff_id)


def _layer_entry(store: Store, layer: Descriptor, diff_id: Digest) -> Entry:
    compression = media_types.compression_of(layer.media_type)
    # Its size must stand before it, so it is decompressed twice; that also shows damage beforehand.
    with store.blobs.reader(layer) as reader:
        found, size = tar_digest(reader, compression)
    if found != diff_id:
        raise DigestMismatch(f"the tar of layer {layer.digest} should be {diff_id}, it is {found}")

    def content() -> Iterator[bytes]:
        with store.blobs.reader(layer) as reader:
            yield from decompress(iter(lambda: reader.read(_CHUNK), b""), compression)

    return Entry(f"{diff_id.hex}/layer.tar".encode(), Kind.FILE, size=size, content=content)
