"""Mappings that cannot change, for values that say they are frozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

__all__ = ["FrozenMap", "frozen_members", "frozen_texts"]

_V = TypeVar("_V", covariant=True)


class FrozenMap(Mapping[str, _V]):
    """A copy of a mapping without the means to change it; equal to any mapping with its members.

    Unlike `types.MappingProxyType` it can be pickled and copied, and no one else holds what is inside.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, _V]) -> None:
        self._members = dict(members)

    def __getitem__(self, name: str) -> _V:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return repr(self._members)


def frozen_texts(members: Mapping[str, str]) -> Mapping[str, str]:
    """Attrs converter of labels, annotations and the like."""
    return members if isinstance(members, FrozenMap) else FrozenMap(members)


def frozen_members(members: Mapping[str, object]) -> Mapping[str, object]:
    """Attrs converter of JSON members."""
    return members if isinstance(members, FrozenMap) else FrozenMap(members)
