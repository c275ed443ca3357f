"""Names of repositories, tags and manifests, by the one grammar that references have."""

from __future__ import annotations

from pycontainer.oci import Digest, Reference

__all__ = ["check_repository", "check_target"]

_ANY_HOST = "localhost"


def check_repository(repository: str) -> str:
    """Return the name of a repository if it is one.

    Raises:
        InvalidReference: It is not.
    """
    return Reference(_ANY_HOST, repository, "any").repository


def check_target(target: str) -> str | Digest:
    """Read what names a manifest within a repository: a tag or a digest.

    Raises:
        SpecError: It is neither.
    """
    if ":" in target:
        return Digest.parse(target)
    Reference(_ANY_HOST, "any", target)
    return target
