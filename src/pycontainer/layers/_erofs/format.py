"""The structures of EROFS on disk (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h).

Blocks are as large as those of a tar, so that a file's bytes in the tar begin on one. Inodes are the
extended ones, which have a time, 32-bit owners and 64-bit sizes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "BLOCK",
    "FLAT_INLINE",
    "FLAT_PLAIN",
    "INODE",
    "INODE_SIZE",
    "LARGEST_XATTR_VALUE",
    "LONGEST_NAME",
    "MOST_BLOCKS",
    "SLOT",
    "SUPERBLOCK_OFFSET",
    "XATTR_PREFIXES",
    "directory_blocks",
    "directory_size",
    "superblock",
    "xattr_body",
]

BLOCK_BITS: Final = 9
BLOCK: Final = 1 << BLOCK_BITS
SLOT: Final = 32
"""Inodes begin at multiples of this many bytes, and are numbered by them."""

SUPERBLOCK_OFFSET: Final = 1024
LONGEST_NAME: Final = 255
LARGEST_XATTR_VALUE: Final = 0xFFFF
MOST_BLOCKS: Final = 0xFFFF_FFFE

FLAT_PLAIN: Final = 0
FLAT_INLINE: Final = 2

INODE_SIZE: Final = 64
INODE: Final = struct.Struct("<HHHHQIIIIqII16x").pack_into
"""Format, size of attributes, mode, reserved; size; block or device; number, owner, group; time, links."""

XATTR_PREFIXES: Final = {"user": 1, "trusted": 4, "security": 6}
"""Numbers that stand for the part of an attribute's name before the first dot."""

_MAGIC: Final = 0xE0F5E1E2
_CHECKSUM: Final = 0x1
_TIMES_ARE_MTIMES: Final = 0x2
_SUPERBLOCK: Final = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQ24x").pack
_NAME: Final = b"pycontainer"
_DIRENT: Final = struct.Struct("<QHBB").pack
_DIRENT_SIZE: Final = 12
_XATTR_HEADER: Final = bytes(12)
_XATTR_ENTRY: Final = struct.Struct("<BBH").pack
_CASTAGNOLI: Final = 0x82F63B78
_ALL_ONES: Final = 0xFFFF_FFFF


def superblock(*, root: int, inodes: int, blocks: int, metadata_block: int, uuid: bytes) -> bytes:
    """The block at `SUPERBLOCK_OFFSET`, with the checksum that the kernel looks at first.

    Args:
        root: Number of the root's inode.
        inodes: How many there are.
        blocks: Of the whole image.
        metadata_block: Where inode numbers count from.
        uuid: 16 bytes that tell images of one stack apart.
    """

    def fields(checksum: int) -> bytes:
        return _SUPERBLOCK(
            _MAGIC,
            checksum,
            _CHECKSUM | _TIMES_ARE_MTIMES,
            BLOCK_BITS,
            0,  # no extension of the superblock
            root,
            inodes,
            0,
            0,
            blocks,
            metadata_block,
            0,  # no shared attributes
            uuid,
            _NAME,
            *(0,) * 8,  # no feature that a kernel might lack, no further device
        ).ljust(BLOCK, b"\0")

    return fields(_crc32c(fields(0)))


def _crc32c(data: bytes) -> int:
    """The Castagnoli checksum as EROFS has it, without the usual final inversion."""
    checksum = _ALL_ONES
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (_CASTAGNOLI if checksum & 1 else 0)
    return checksum


def xattr_body(xattrs: Sequence[tuple[int, bytes, bytes]]) -> bytes:
    """Extended attributes as they stand behind their inode: prefix number, rest of the name, value."""
    if not xattrs:
        return b""
    parts = [_XATTR_HEADER]
    for prefix, name, value in xattrs:
        entry = _XATTR_ENTRY(len(name), prefix, len(value)) + name + value
        parts += (entry, bytes(-len(entry) % 4))
    return b"".join(parts)


def directory_size(names: Sequence[bytes]) -> int:
    """Bytes of a directory with these names, sorted, which fill its blocks as far as they fit."""
    full, used = 0, 0
    for name in names:
        need = _DIRENT_SIZE + len(name)
        if used + need > BLOCK:
            full, used = full + 1, need
        else:
            used += need
    return full * BLOCK + used


def directory_blocks(
    names: Sequence[bytes], numbers: Sequence[int], types: Sequence[int]
) -> Iterator[bytes]:
    """The blocks of a directory, the last one not filled up.

    The kernel searches in them by halves: names have to be in the order of their bytes.

    Args:
        names: Of what is in it, with ``.`` and ``..``.
        numbers: Inode of each.
        types: Type of each: the ``DT_*`` of readdir(3) in the order of fs_types(7).
    """
    begin, count = 0, len(names)
    while begin < count:
        used, end = 0, begin
        while end < count and used + _DIRENT_SIZE + len(names[end]) <= BLOCK:
            used += _DIRENT_SIZE + len(names[end])
            end += 1
        offset = _DIRENT_SIZE * (end - begin)
        entries = []
        for i in range(begin, end):
            entries.append(_DIRENT(numbers[i], offset, types[i], 0))
            offset += len(names[i])
        block = b"".join(entries) + b"".join(names[begin:end])
        yield block.ljust(BLOCK, b"\0") if end < count else block
        begin = end
