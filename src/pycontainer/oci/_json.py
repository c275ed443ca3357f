"""JSON read strictly and written the same way each time.

What two readers could understand differently is refused: names given twice, other encodings than
UTF-8, numbers that JSON does not have. Every complaint carries the path of the member it is about.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from pycontainer.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["INT64_MAX", "UINT32_MAX", "Fields", "Json", "decode", "encode", "merge", "refuse_twice"]

Json = dict[str, Any]

_T = TypeVar("_T")

INT64_MAX: Final = (1 << 63) - 1
UINT32_MAX: Final = (1 << 32) - 1
_INT64_MIN: Final = -(1 << 63)
_UINT64_MAX: Final = (1 << 64) - 1
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def decode(data: bytes) -> Json:
    """Decode a document whose top is an object.

    Raises:
        SpecError: It is not UTF-8, not JSON, not an object, or names a member twice.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise SpecError(f"not UTF-8: byte {data[error.start]:#04x} at {error.start}") from error
    doubled: list[tuple[Json, str]] = []

    def members(pairs: list[tuple[str, Any]]) -> Json:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            doubled.append((found, next(name for name in names if names.count(name) > 1)))
        return found

    try:
        value = json.loads(
            text, object_pairs_hook=members, parse_float=_finite, parse_constant=_no_number
        )
        if _SURROGATE.search(text):
            encode(value)
    except RecursionError as error:
        raise SpecError("not a usable JSON document: nested too deeply") from error
    except UnicodeEncodeError as error:
        raise SpecError("a text holds half of a surrogate pair, which no UTF-8 has") from error
    except ValueError as error:
        raise SpecError(f"not a JSON document: {error}") from error
    if not isinstance(value, dict):
        raise SpecError(f"expected an object, found {_kind(value)}")
    if doubled:
        # Objects are finished inside out: the last one was not itself replaced by a later one.
        holder, name = doubled[-1]
        path = _path_to(holder, value, "") or ""
        raise SpecError("the name is there twice", path=_join(path, name))
    return value


def encode(document: object) -> bytes:
    """Encode a document compactly, members in the order they have."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def merge(known: Mapping[str, object], extra: Mapping[str, object]) -> Json:
    """The members we know, without those that are None, then the others by name."""
    document = {name: value for name, value in known.items() if value is not None}
    document.update({name: extra[name] for name in sorted(extra) if name not in document})
    return document


def refuse_twice(names: Sequence[str], path: str) -> None:
    """Raise `SpecError` for the first element of a list whose name an earlier one has."""
    for position, name in enumerate(names):
        if name in names[:position]:
            raise SpecError(f"{name[:40]!r} is there twice", path=f"{path}[{position}]")


class Fields:
    """The fields of one JSON object: knows where it stands, and which fields nobody asked for.

    A field that is null reads as one that is absent, as Go's encoder writes empty lists and maps.

    Args:
        value: The object.
        path: Where in the document it stands.

    Raises:
        SpecError: It is no object.
    """

    def __init__(self, value: object, path: str = "") -> None:
        if not isinstance(value, dict):
            raise SpecError(f"expected an object, found {_kind(value)}", path=path)
        self._members: Json = value
        self._asked: set[str] = set()
        self.path = path

    def at(self, name: str) -> str:
        """The path of a field."""
        return _join(self.path, name)

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return self._members.get(name) is not None

    def require(self, *names: str) -> None:
        """Raise `SpecError` for the first of these fields that is not there."""
        for name in names:
            if not self.has(name):
                raise SpecError("missing", path=self.at(name))

    def rest(self) -> Json:
        """The fields that nobody asked for."""
        return {name: value for name, value in self._members.items() if name not in self._asked}

    # --- single values -----------------------------------------------------------------------

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value: str | None = self._get(name, str)
        return default if value is None else value

    def optional_text(self, name: str) -> str | None:
        """A string or None."""
        value: str | None = self._get(name, str)
        return value

    def flag(self, name: str) -> bool:
        """A boolean, false if absent."""
        return bool(self._get(name, bool))

    def integer(
        self, name: str, default: int = 0, *, least: int = _INT64_MIN, most: int = _UINT64_MAX
    ) -> int:
        """An integer within bounds."""
        value = self.optional_integer(name, least=least, most=most)
        return default if value is None else value

    def optional_integer(
        self, name: str, *, least: int = _INT64_MIN, most: int = _UINT64_MAX
    ) -> int | None:
        """An integer within bounds, or None."""
        value: int | None = self._get(name, int)
        if value is not None and not least <= value <= most:
            shown = value if abs(value) <= _UINT64_MAX else "a number of more than 64 bits"
            raise SpecError(f"{shown} is not in {least} to {most}", path=self.at(name))
        return value

    def optional(self, name: str, read: Callable[[object, str], _T]) -> _T | None:
        """What `read` makes of the field's value and path, or None."""
        self._asked.add(name)
        value = self._members.get(name)
        return None if value is None else read(value, self.at(name))

    # --- objects -----------------------------------------------------------------------------

    def child(self, name: str) -> Fields:
        """An object's fields; an absent object has none."""
        return Fields(self.members(name), self.at(name))

    def members(self, name: str) -> Json:
        """An object as it is."""
        return self.optional_members(name) or {}

    def optional_members(self, name: str) -> Json | None:
        """An object as it is, or None."""
        value: Json | None = self._get(name, dict)
        return value

    def texts_by_name(self, name: str) -> dict[str, str]:
        """An object of strings."""
        path = self.at(name)
        return {
            key: _checked(value, str, _join(path, key)) for key, value in self.members(name).items()
        }

    # --- lists -------------------------------------------------------------------------------

    def each(self, name: str, read: Callable[[object, str], _T]) -> tuple[_T, ...]:
        """What `read` makes of each element of a list and its path."""
        values: list[object] = self._get(name, list) or []
        return tuple(read(value, f"{self.at(name)}[{i}]") for i, value in enumerate(values))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        return self.each(name, lambda value, path: _checked(value, str, path))

    def optional_texts(self, name: str) -> tuple[str, ...] | None:
        """A list of strings, or None: an empty list is something else."""
        texts = self.texts(name)
        return texts if self.has(name) else None

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of integers."""
        return self.each(name, lambda value, path: _checked(value, int, path))

    def _get(self, name: str, kind: type) -> Any:
        return self.optional(name, lambda value, path: _checked(value, kind, path))


_KINDS: Final[dict[type, str]] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number with a fraction",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


def _checked(value: object, kind: type, path: str) -> Any:
    # type() and not isinstance(): true is no integer here.
    if type(value) is not kind:
        raise SpecError(f"expected {_KINDS[kind]}, found {_kind(value)}", path=path)
    return value


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _join(path: str, name: str) -> str:
    if not _PLAIN_NAME.fullmatch(name):
        return f"{path}[{json.dumps(name)}]"
    return f"{path}.{name}" if path else name


def _path_to(wanted: Json, value: object, path: str) -> str | None:
    if value is wanted:
        return path
    inside: list[tuple[str, object]] = []
    if isinstance(value, dict):
        inside = [(_join(path, name), member) for name, member in value.items()]
    elif isinstance(value, list):
        inside = [(f"{path}[{i}]", element) for i, element in enumerate(value)]
    return next(
        (found for at, member in inside if (found := _path_to(wanted, member, at)) is not None),
        None,
    )
