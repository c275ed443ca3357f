"""Whether a zstd stream ends where a frame ends (RFC 8878, section 3.1).

The decompressor reads an end in the middle of a frame as the end of the stream.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ZstdFrames"]

_MAGIC: Final = 0xFD2FB528
_SKIPPABLE: Final = 0x184D2A50
_CONTENT_SIZE_BYTES: Final = (0, 2, 4, 8)
_DICTIONARY_BYTES: Final = (0, 1, 2, 4)
_RUN: Final = 1  # the type of a block that repeats one byte


class ZstdFrames:
    """Follows the frames and blocks of a stream without looking into them."""

    def __init__(self) -> None:
        self._head = b""  # of something whose header has not come whole
        self._skip = 0
        self._in_frame = False
        self._checksum = 0
        self._lost = False  # what came is no frame: the decompressor complains about that

    @property
    def complete(self) -> bool:
        """Whether all frames that began have ended."""
        return not (self._head or self._skip or self._in_frame or self._lost)

    def feed(self, data: bytes) -> None:
        """Follow the next bytes, of any number."""
        if self._lost:
            return
        if self._head:
            data = self._head + data
            self._head = b""
        at = 0
        while True:
            at += self._skip
            if at >= len(data):
                self._skip = at - len(data)
                return
            self._skip = 0
            used = self._block(data, at) if self._in_frame else self._frame(data, at)
            if not used:
                self._head = data[at:]
                return
            at += used

    def _frame(self, data: bytes, at: int) -> int:
        """Length of a frame's header, or 0 if not all of it is there."""
        if len(data) - at < 8:
            # The shortest frame has a magic number, a descriptor, a size and the head of a block.
            return 0
        magic = int.from_bytes(data[at : at + 4], "little")
        if magic & ~0xF == _SKIPPABLE:
            self._skip = int.from_bytes(data[at + 4 : at + 8], "little")
            return 8
        if magic != _MAGIC:
            self._lost = True
            return len(data) - at
        descriptor = data[at + 4]
        single_segment = descriptor >> 5 & 1
        content_size = _CONTENT_SIZE_BYTES[descriptor >> 6] or single_segment
        window = 1 - single_segment
        length = 5 + window + _DICTIONARY_BYTES[descriptor & 3] + content_size
        self._checksum = 4 * (descriptor >> 2 & 1)
        self._in_frame = True
        self._skip = 0
        if len(data) - at < length:
            self._skip = length - (len(data) - at)
            return len(data) - at
        return length

    def _block(self, data: bytes, at: int) -> int:
        """Length of a block's header, or 0 if not all of it is there."""
        if len(data) - at < 3:
            return 0
        header = int.from_bytes(data[at : at + 3], "little")
        self._skip = 1 if header >> 1 & 3 == _RUN else header >> 3
        if header & 1:
            self._in_frame = False
            self._skip += self._checksum
        return 3
