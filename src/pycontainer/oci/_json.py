"""Reading JSON objects strictly: each complaint carries the path of the member it is about."""

from __future__ import annotations

import json
from typing import Any

from pycontainer.errors import SpecError

__all__ = ["Json", "Reader", "load_object"]

Json = dict[str, Any]


def load_object(data: bytes) -> Reader:
    """Decode a document whose top is an object.

    Raises:
        SpecError: It is not UTF-8, not JSON, names a member twice, or is no object.
    """
    try:
        return Reader(json.loads(data, object_pairs_hook=_unique), "")
    except SpecError:
        raise
    except (ValueError, RecursionError) as error:
        raise SpecError(f"not a JSON document: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise SpecError(f"the member {twice!r} is there twice")
    return members


class Reader:
    """A JSON object being read: knows where it stands, and which members nobody asked for."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise SpecError(f"expected an object, found {_kind(value)}", path=path)
        self._value: Json = value
        self._seen: set[str] = set()
        self.path = path

    def at(self, name: str) -> str:
        """The path of a member."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        """Whether there is such a member that is not null."""
        return self._value.get(name) is not None

    def _get(self, name: str, kind: type, default: Any) -> Any:
        self._seen.add(name)
        value = self._value.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            expected = _KINDS[kind]
            raise SpecError(f"expected {expected}, found {_kind(value)}", path=self.at(name))
        return value

    def text(self, name: str, default: str = "") -> str:
        """A string member."""
        value: str = self._get(name, str, default)
        return value

    def maybe_text(self, name: str) -> str | None:
        """A string member or None."""
        value: str | None = self._get(name, str, None)
        return value

    def flag(self, name: str) -> bool:
        """A boolean member, false if absent."""
        return bool(self._get(name, bool, False))

    def number(self, name: str, default: int = 0) -> int:
        """An integer member."""
        value: int = self._get(name, int, default)
        return value

    def maybe_number(self, name: str) -> int | None:
        """An integer member or None."""
        value: int | None = self._get(name, int, None)
        return value

    def object(self, name: str) -> Reader:
        """An object member; an absent one reads as empty."""
        return Reader(self._get(name, dict, {}), self.at(name))

    def mapping(self, name: str) -> Json:
        """An object member as it is."""
        value: Json = self._get(name, dict, {})
        return value

    def texts(self, name: str) -> dict[str, str]:
        """An object member with strings in it."""
        members = self._get(name, dict, {})
        for key, value in members.items():
            if not isinstance(value, str):
                path = f"{self.at(name)}.{key}"
                raise SpecError(f"expected a string, found {_kind(value)}", path=path)
        return dict(members)

    def objects(self, name: str) -> list[Reader]:
        """A list of objects."""
        values = self._get(name, list, [])
        return [Reader(value, f"{self.at(name)}[{i}]") for i, value in enumerate(values)]

    def items(self, name: str, kind: type) -> tuple[Any, ...]:
        """A list of values of one kind."""
        values = self._get(name, list, [])
        for i, value in enumerate(values):
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                path = f"{self.at(name)}[{i}]"
                raise SpecError(f"expected {_KINDS[kind]}, found {_kind(value)}", path=path)
        return tuple(values)

    def rest(self) -> Json:
        """The members that were not read."""
        return {name: value for name, value in self._value.items() if name not in self._seen}


_KINDS = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    dict: "an object",
    list: "a list",
    float: "a number",
    type(None): "null",
}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)
