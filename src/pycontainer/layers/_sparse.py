"""Maps of sparse files in tar: GNU's old format and the three that pax headers carry.

All raise `ValueError` for a map that is malformed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["SparseMap", "parse_gnu_map", "parse_pax_map", "placed", "read_pax_1_0_map"]

_BLOCK: Final = 512
_MOST_PIECES: Final = 1 << 18
_PAIR: Final = 24  # bytes of an offset and a length in GNU's old format
_LARGEST: Final = (1 << 63) - 1


@frozen
class SparseMap:
    """A sparse file's real size and its stored pieces: offset and length of each, ascending."""

    size: int
    pieces: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, numbers: list[int], size: int, stored: int) -> SparseMap:
        """Make a map of alternating offsets and lengths.

        Raises:
            ValueError: Pieces overlap, lie outside, or do not add up to what is stored.
        """
        if len(numbers) % 2:
            raise ValueError("a sparse map has an offset without a length")
        pieces = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        end = 0
        for offset, length in pieces:
            if offset < end or length < 0:
                raise ValueError("the pieces of a sparse file overlap")
            end = offset + length
        if end > size or size > _LARGEST or sum(length for _, length in pieces) != stored:
            raise ValueError("a sparse file's map does not fit its size")
        return cls(size, tuple(piece for piece in pieces if piece[1]))


def placed(
    pieces: tuple[tuple[int, int], ...], content: Iterable[bytes | memoryview]
) -> Iterator[tuple[int, memoryview]]:
    """Cut stored content where a map's pieces end; gives offsets in the file and what belongs there."""
    rest = iter(pieces)
    offset, left = 0, 0
    for data in content:
        view = memoryview(data)
        while view:
            while not left:
                offset, left = next(rest)
            part = view[:left]
            yield offset, part
            view, offset, left = view[len(part) :], offset + len(part), left - len(part)


def parse_gnu_map(data: bytes, size: int, stored: int) -> SparseMap:
    """The old GNU format: 12 bytes octal or base-256 for each number."""
    numbers: list[int] = []
    for at in range(0, len(data) - _PAIR + 1, _PAIR):
        pair = data[at : at + _PAIR]
        if not pair[0] or not pair[12]:
            break
        numbers += (_number(pair[:12]), _number(pair[12:]))
    return SparseMap.of(numbers, size, stored)


def parse_pax_map(text: bytes, size: int, stored: int) -> SparseMap:
    """Formats 0.0 and 0.1: numbers in decimal, separated by commas."""
    return SparseMap.of([_decimal(part) for part in text.split(b",")] if text else [], size, stored)


def read_pax_1_0_map(take: Callable[[int], bytes], size: int, stored: int) -> tuple[SparseMap, int]:
    """Format 1.0: the map stands before the data, a number a line, padded to whole blocks.

    Returns:
        The map, and how many bytes of what is stored it took.
    """
    blocks: list[bytes] = []
    lines = 0
    wanted: int | None = None
    while wanted is None or lines < wanted:
        block = take(_BLOCK)
        blocks.append(block)
        lines += block.count(b"\n")
        if len(block) < _BLOCK or len(blocks) * _BLOCK > stored:
            raise ValueError("the archive ends in a sparse map")
        if wanted is None and lines:
            count = _decimal(b"".join(blocks).partition(b"\n")[0])
            if count > _MOST_PIECES:
                raise ValueError("a sparse map is too long")
            wanted = 1 + 2 * count
    assert wanted is not None
    numbers = [_decimal(line) for line in b"".join(blocks).split(b"\n", wanted)[1:wanted]]
    used = len(blocks) * _BLOCK
    return SparseMap.of(numbers, size, stored - used), used


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise ValueError(f"a sparse map holds what is not a number: {text[:40]!r}")
    return int(text)


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << 95) - 1)
    digits = field.strip(b" \0").partition(b"\0")[0]
    if digits.strip(b"01234567"):
        raise ValueError(f"a sparse map holds what is not a number: {digits!r}")
    return int(digits, 8) if digits else 0
