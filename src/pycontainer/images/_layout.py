"""OCI image layouts (image-spec, image-layout.md): what their documents say, and directories of them."""

from __future__ import annotations

import json
import logging
import os
import secrets
from typing import TYPE_CHECKING, Final

from attrs import evolve

from pycontainer.content import BlobDir
from pycontainer.errors import ImageError, InvalidReference, SpecError
from pycontainer.oci import Index, Manifest, Platform, Reference, media_types, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pycontainer.content import Store
    from pycontainer.oci import Descriptor

__all__ = [
    "INDEX_FILE",
    "LAYOUT_FILE",
    "LAYOUT_MARK",
    "blobs_of",
    "check_mark",
    "entry_of",
    "images_in",
    "named",
    "write_layout",
]

LAYOUT_FILE: Final = "oci-layout"
LAYOUT_MARK: Final = b'{"imageLayoutVersion":"1.0.0"}'
INDEX_FILE: Final = "index.json"
_TAG: Final = "org.opencontainers.image.ref.name"
_NAME: Final = "io.containerd.image.name"  # where containerd and Docker put the whole name
_UNKNOWN: Final = "unknown"  # platform of attestations and other companions of an image

_log = logging.getLogger("pycontainer.images")


# --- reading ---------------------------------------------------------------------------------


def check_mark(data: bytes) -> None:
    """Check the ``oci-layout`` file.

    Raises:
        SpecError: It is damaged, or of a version that nobody knows yet.
    """
    try:
        version = json.loads(data)["imageLayoutVersion"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SpecError("not the mark of an image layout", path=LAYOUT_FILE) from error
    if not str(version).startswith("1."):
        raise SpecError(f"image layout of unknown version {version!r}", path=LAYOUT_FILE)


def images_in(
    index: Index, read: Callable[[Descriptor], bytes], platform: Platform | None
) -> Iterator[tuple[Manifest, list[Reference]]]:
    """The images that an index names, and their names.

    Args:
        index: The layout's.
        read: Reads a document, verified.
        platform: The only one that is wanted; None for all that stand alone, and this machine's of
            those that are there for several.

    Raises:
        PlatformNotFound: An image is there for several platforms but not for that one.
        SpecError: A document breaks the specification.
    """
    for entry in index.manifests:
        if entry.platform is not None and entry.platform.os == _UNKNOWN:
            continue
        if platform is not None and entry.platform and not entry.platform.matches(platform):
            continue
        names = _names_of(entry)
        document = parse_manifest(read(entry), entry.media_type)
        if isinstance(document, Index):
            chosen = document.select(platform or Platform.current())
            document = Manifest.parse(read(chosen), media_type=chosen.media_type)
        yield document, names


def _names_of(entry: Descriptor) -> list[Reference]:
    """The image's name, if what is written there is more than a bare tag."""
    for text in (entry.annotations.get(_NAME, ""), entry.annotations.get(_TAG, "")):
        if "/" in text or ":" in text:
            try:
                return [Reference.parse(text)]
            except InvalidReference as error:
                _log.info("a layout's name is ignored: %s", error)
    return []


# --- writing ---------------------------------------------------------------------------------


def blobs_of(*manifests: Manifest) -> list[Descriptor]:
    """All blobs of images, each once, by digest."""
    blobs = {
        blob.digest: blob
        for manifest in manifests
        for blob in (manifest.descriptor(), manifest.config, *manifest.layers)
    }
    return [blobs[digest] for digest in sorted(blobs)]


def entry_of(manifest: Manifest, platform: Platform, reference: Reference | None) -> Descriptor:
    """What a layout's index says of an image."""
    return named(evolve(manifest.descriptor(), platform=platform), reference)


def named(descriptor: Descriptor, reference: Reference | None) -> Descriptor:
    """The descriptor with the name of what it describes."""
    annotations = {}
    if reference is not None:
        annotations = {_NAME: str(reference), _TAG: reference.tag or str(reference.digest)}
    return evolve(descriptor, annotations=annotations)


def write_layout(store: Store, entry: Descriptor, blobs: Iterable[Descriptor], path: Path) -> None:
    """Add an image to a layout directory, made if it is not there, in the place of its namesake.

    Args:
        store: Where its blobs are.
        entry: What the layout's index shall say of it.
        blobs: All that belongs to it.
        path: The directory.

    Raises:
        ImageError: There is something else at `path`.
        ContentError: A stored blob is missing or damaged.
        OSError: The directory cannot be written.
    """
    index = _existing_index(path)
    target = BlobDir(path)
    for blob in blobs:
        _copy(store, target, blob)
    others = [old for old in index.manifests if not _is_replaced(old, entry)]
    _replace(path / LAYOUT_FILE, LAYOUT_MARK)
    _replace(path / INDEX_FILE, index.evolve(manifests=(*others, entry)).encode())


def _existing_index(path: Path) -> Index:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return Index(media_type=media_types.OCI_INDEX)
    if not (path / LAYOUT_FILE).is_file():
        raise ImageError(
            f"{path} is there and no image layout", remedy="give a new or empty directory"
        )
    check_mark((path / LAYOUT_FILE).read_bytes())
    return Index.parse((path / INDEX_FILE).read_bytes(), media_type=media_types.OCI_INDEX)


def _is_replaced(old: Descriptor, new: Descriptor) -> bool:
    if new.annotations:
        return old.annotations.get(_NAME) == new.annotations[_NAME]
    return old.digest == new.digest and not old.annotations


def _copy(store: Store, target: BlobDir, blob: Descriptor) -> None:
    if target.exists(blob.digest):
        return
    with store.blobs.open(blob.digest) as source, target.writer(blob) as writer:
        writer.write_file(source.fileno())
        writer.commit()


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
