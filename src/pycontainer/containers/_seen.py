"""What is remembered of images that containers were made from: what one finds out holds for the next.

The files of an image do not change, and its layers stay where they are as long as somebody needs them.
Whoever goes by what is remembered has to claim the layers and look again before they are mounted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.runtime import ResolvedUser, resolve_user

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pycontainer.containers._options import Options
    from pycontainer.images import Image
    from pycontainer.oci import Digest

__all__ = ["Seen", "look", "remembered"]

_MOST: Final = 512
_Key = tuple["Path", "Digest", str, tuple[str, ...]]
_seen: dict[_Key, Seen] = {}


@frozen
class Seen:
    """What was found out when a container was made.

    Attributes:
        user: Who it runs as.
        layers: Where the layers of its image are.
    """

    user: ResolvedUser
    layers: Mapping[Digest, Path]


def remembered(image: Image, options: Options) -> Seen | None:
    """What is known of an image for containers with these options; None before the first of them."""
    return _seen.get(_key(image, options))


def look(
    image: Image,
    options: Options,
    layers: Mapping[Digest, Path],
    read: Callable[[str], bytes | None],
) -> Seen:
    """Find out who a container runs as, and remember it with its layers.

    Args:
        image: Its image.
        options: Its options.
        layers: Where the layers of its image are.
        read: Reads its files.

    Raises:
        ContainerError: There is no such user or group in the image.
    """
    key = _key(image, options)
    seen = _seen.get(key)
    if seen is None or seen.layers != layers:
        _, _, text, groups = key
        seen = Seen(resolve_user(text, read, extra_groups=groups), layers)
        if len(_seen) >= _MOST:
            _seen.clear()
        _seen[key] = seen
    return seen


def _key(image: Image, options: Options) -> _Key:
    text = image.config.config.user if options.user is None else options.user
    return image.store.path, image.digest, text, tuple(options.security.groups)
