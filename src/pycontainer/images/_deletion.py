"""Taking names away from images, unless that would take something from somebody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainer.errors import ImageInUse
from pycontainer.images import _names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.content import Store
    from pycontainer.oci import Digest, Reference

__all__ = ["take_names"]


def take_names(
    store: Store, manifest: Digest, image_id: Digest, reference: Reference | None, *, force: bool
) -> bool:
    """Take a name away from an image, or all of them where none is given.

    Returns:
        Whether the image has no name any more.

    Raises:
        ImageInUse: It has several names, or a container needs it.
    """
    names = [row.name for row in _names.names_of(store, manifest)]
    going = names
    if reference is not None:  # a name that has moved on meanwhile stays where it is
        going = [name for name in names if name == str(reference)]
    last = bool(going) and len(going) == len(names)
    if not force:
        _refuse_several(image_id, going)
        if last:
            _refuse_used(store, manifest, reference or image_id.short)
    _names.release(store, going)
    for name in going:
        store.record("image", "untag", str(image_id), {"name": name})
    return last


def _refuse_several(image_id: Digest, going: Sequence[str]) -> None:
    if len(going) > 1:
        raise ImageInUse(
            f"image {image_id.short} has several names: {', '.join(going)}",
            remedy="delete it by each name, or with force=True",
        )


def _refuse_used(store: Store, manifest: Digest, shown: Reference | str) -> None:
    users = [name for kind, name in store.roots_of(("blob", str(manifest))) if kind == "container"]
    if users:
        raise ImageInUse(
            f"image {shown} is used by {len(users)} container(s): {', '.join(users[:5])}",
            remedy="delete the containers first, or use force=True",
        )
