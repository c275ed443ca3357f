"""The image of a name that is for one of several platforms."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pycontainer.errors import ImageNotFound, PlatformNotFound
from pycontainer.images._image import Image
from pycontainer.images._index import ImageIndex
from pycontainer.oci import Index, Platform, parse_manifest
from pycontainer.registry import Client

if TYPE_CHECKING:
    from pycontainer.content import Store
    from pycontainer.oci import Reference

__all__ = ["find_image"]


def find_image(reference: Reference, platform: Platform | None, store: Store) -> Image:
    """An image of the store or else a registry.

    For other platforms than this machine's it is pulled by its digest, so that the name goes on
    leading to this machine's.

    Raises:
        PlatformNotFound: There is none for that platform.
        RegistryError: The registry cannot be reached or refuses.
    """
    if platform is None or platform == Platform.current():
        return Image.pull(reference, platform=platform, policy="missing", store=store)
    with contextlib.suppress(ImageNotFound):
        image = Image.get(reference, store=store)
        if image.platform.matches(platform):
            return image
    with contextlib.suppress(ImageNotFound, PlatformNotFound):
        return ImageIndex.get(reference, store=store).image(platform)
    with Client(reference.registry) as client:
        fetched = client.get_manifest(reference.repository, reference.target)
    found = parse_manifest(fetched.data, fetched.media_type or None)
    digest = found.select(platform).digest if isinstance(found, Index) else found.digest
    exact = reference.with_digest(digest)
    return Image.pull(exact, platform=platform, policy="missing", store=store)
