"""What a token allows: scopes of Docker's token authentication, ``repository:team/app:pull,push``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Scopes", "format_scopes", "parse_scopes"]

Scopes = frozenset[tuple[str, str]]
"""Pairs of a resource (``repository:team/app``) and an action."""


def parse_scopes(texts: Iterable[str]) -> Scopes:
    """Read scopes, each text having several, separated by spaces; what is none is left out."""
    pairs: set[tuple[str, str]] = set()
    for text in texts:
        for scope in text.split():
            resource, _, actions = scope.rpartition(":")
            if ":" in resource:  # type and name; the name may have a colon itself
                pairs.update((resource, action) for action in actions.split(",") if action)
    return frozenset(pairs)


def format_scopes(scopes: Scopes) -> list[str]:
    """One text for each resource, the same for the same scopes."""
    resources = sorted({resource for resource, _ in scopes})
    return [
        f"{resource}:{','.join(sorted(action for of, action in scopes if of == resource))}"
        for resource in resources
    ]
