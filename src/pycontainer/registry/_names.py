"""Names of repositories, tags and manifests, by the one grammar that references have."""

from __future__ import annotations

import functools
from typing import Final

from pycontainer.oci import Digest, Reference

__all__ = ["check_repository", "check_target"]

_ANY_HOST = "localhost"
_MOST_REMEMBERED: Final = 1000


@functools.lru_cache(_MOST_REMEMBERED)
def check_repository(repository: str) -> str:
    """Return the name of a repository if it is one.

    Raises:
        InvalidReference: It is not.
    """
    return Reference(_ANY_HOST, repository, "any").repository


@functools.lru_cache(_MOST_REMEMBERED)
def check_target(target: str) -> str | Digest:
    """Read what names a manifest within a repository: a tag or a digest.

    Raises:
        SpecError: It is neither.
    """
    if ":" in target:
        return Digest.parse(target)
    Reference(_ANY_HOST, "any", target)
    return target
