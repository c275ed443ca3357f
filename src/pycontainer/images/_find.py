"""Which image of a store somebody means: by a name, a digest, or the first digits of one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pycontainer.errors import ImageNotFound, InvalidReference, PlatformNotFound
from pycontainer.images import _names
from pycontainer.oci import Descriptor, Digest, Index, Reference, media_types

if TYPE_CHECKING:
    from pycontainer.content import Store
    from pycontainer.oci import Platform

__all__ = ["find_in_index", "find_row", "read_index", "references"]

_DIGITS: Final = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")


def find_row(store: Store, name: str | Reference | Digest) -> tuple[_names.Row, Reference | None]:
    """The row of an image, and the name it was meant by; None where that was a digest.

    Raises:
        ImageNotFound: There is none, or the digits fit several.
        InvalidReference: `name` cannot name an image.
    """
    row = _row_by_name(store, name)
    if row is not None:
        return row, row.reference
    row = _row_by_digits(store, str(name))
    if row is not None:
        return row, None
    raise ImageNotFound(
        f"no image {name} in {store.path}",
        remedy="Image.pull, Image.load or a build brings it there",
    )


def find_in_index(store: Store, name: Reference, platform: Platform) -> Descriptor | None:
    """The manifest for a platform in the index that is kept under a name; None if there is none."""
    digest = _names.find_index(store, str(name))
    if digest is None:
        return None
    try:
        chosen = read_index(store, digest).select(platform)
    except PlatformNotFound:
        return None
    return Descriptor(chosen.media_type, chosen.digest, chosen.size)


def read_index(store: Store, digest: Digest) -> Index:
    """An index that is stored.

    Raises:
        ContentError: It is not stored any more, or damaged.
    """
    descriptor = Descriptor(media_types.OCI_INDEX, digest, store.blobs.size(digest))
    return Index.parse(store.blobs.read_bytes(descriptor))


def references(name: str | Reference | None) -> list[Reference]:
    """The name that was given, parsed; none for None."""
    if name is None:
        return []
    return [Reference.parse(name) if isinstance(name, str) else name]


def _row_by_name(store: Store, name: str | Reference | Digest) -> _names.Row | None:
    if isinstance(name, Digest) or str(name).startswith("sha256:"):
        return None
    try:
        reference = Reference.parse(name) if isinstance(name, str) else name
    except InvalidReference:
        if _DIGITS.fullmatch(str(name)):
            return None
        raise
    return _names.find(store, reference)


def _row_by_digits(store: Store, text: str) -> _names.Row | None:
    matched = _DIGITS.fullmatch(text)
    if matched is None:
        return None
    rows = _names.listed(store, f"sha256:{matched[1]}")
    images = {row.manifest.digest for row in rows}
    if len(images) > 1:
        raise ImageNotFound(
            f"{text} is the beginning of {len(images)} images in {store.path}",
            remedy="give more digits",
        )
    return rows[0] if rows else None
