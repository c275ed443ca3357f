"""Maps of sparse files in tar: GNU's old format and the three that pax headers carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.errors import TarError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SparseMap", "parse_gnu_map", "parse_pax_map", "read_pax_1_0_map"]

_BLOCK: Final = 512
_MOST_PIECES: Final = 1 << 20


@frozen
class SparseMap:
    """A sparse file's real size and its stored pieces: offset and length of each, ascending."""

    size: int
    pieces: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, numbers: list[int], size: int, stored: int) -> SparseMap:
        """Make a map of alternating offsets and lengths.

        Raises:
            TarError: Pieces overlap, lie outside, or do not add up to what is stored.
        """
        if len(numbers) % 2:
            raise TarError("a sparse map has an offset without a length")
        pieces = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        end = 0
        for offset, length in pieces:
            if offset < end or length < 0:
                raise TarError("the pieces of a sparse file overlap")
            end = offset + length
        if end > size or sum(length for _, length in pieces) != stored:
            raise TarError("a sparse file's map does not fit its size")
        return cls(size, pieces)


def parse_gnu_map(data: bytes, size: int, stored: int) -> SparseMap:
    """The old GNU format: 12 bytes octal or base-256 for each number."""
    numbers: list[int] = []
    for at in range(0, len(data) - 23, 24):
        pair = data[at : at + 24]
        if not pair[12]:
            break
        numbers += (_number(pair[:12]), _number(pair[12:]))
    return SparseMap.of(numbers, size, stored)


def parse_pax_map(text: bytes, size: int, stored: int) -> SparseMap:
    """Formats 0.0 and 0.1: numbers in decimal, separated by commas."""
    parts = text.split(b",") if text else []
    if not all(part.isdigit() and len(part) < 20 for part in parts):
        raise TarError("a sparse map holds what is not a number")
    return SparseMap.of([int(part) for part in parts], size, stored)


def read_pax_1_0_map(take: Callable[[int], bytes], size: int, stored: int) -> tuple[SparseMap, int]:
    """Format 1.0: the map stands before the data, a number a line, padded to whole blocks.

    Returns:
        The map, and how many bytes it took.
    """
    data = b""
    wanted = 1
    while True:
        lines = data.split(b"\n")[:-1]
        if lines and wanted == 1:
            if not lines[0].isdigit() or len(lines[0]) > 8 or int(lines[0]) > _MOST_PIECES:
                raise TarError("a sparse map's length is not a number")
            wanted = 1 + 2 * int(lines[0])
        if len(lines) >= wanted and (lines or wanted == 1) and lines:
            break
        block = take(_BLOCK)
        if len(block) < _BLOCK or len(data) > stored:
            raise TarError("the archive ends in a sparse map")
        data += block
    return parse_pax_map(b",".join(lines[1:wanted]), size, stored - len(data)), len(data)


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << 95) - 1)
    digits = field.partition(b"\0")[0].strip()
    if not all(0x30 <= digit <= 0x37 for digit in digits):
        raise TarError("a sparse map holds what is not a number")
    return int(digits, 8) if digits else 0
