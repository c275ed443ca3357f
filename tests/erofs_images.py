"""A second reader of EROFS, written from the kernel's documentation alone: what the writer is held to."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sI")
_INODE = struct.Struct("<HHHHQIIIIqII16x")
_PREFIXES = {1: "user.", 4: "trusted.", 6: "security."}
_TYPES = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFCHR, 4: stat.S_IFBLK, 5: stat.S_IFIFO}


@frozen
class ImageFile:
    """What an image says of one name."""

    number: int
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    links: int
    device: int
    content: bytes
    xattrs: dict[str, bytes]


class ImageReader:
    """Reads a whole image, and asserts the rules that the kernel relies on."""

    def __init__(self, file: Path) -> None:
        self._data = file.read_bytes()
        fields = _SUPERBLOCK.unpack_from(self._data, 1024)
        magic, self.checksum, _, bits, extensions, self.root, self.inodes = fields[:7]
        self._blocks, metadata_block, shared = fields[9:12]
        incompatible = fields[14]
        assert (magic, bits, extensions, shared, incompatible) == (0xE0F5E1E2, 9, 0, 0, 0)
        assert self._blocks * 512 <= len(self._data)
        self._metadata = metadata_block * 512
        self._seen: set[int] = set()

    def files(self) -> dict[bytes, ImageFile]:
        """All names, the root's is empty."""
        found = dict(self._walk(b"", self.root, self.root))
        assert len(self._seen) == self.inodes
        return found

    def _walk(self, path: bytes, number: int, above: int) -> Iterator[tuple[bytes, ImageFile]]:
        file = self._file(number)
        self._seen.add(number)
        yield path, file
        if not stat.S_ISDIR(file.mode):
            return
        entries = list(self._entries(file.content))
        names = [name for name, _, _ in entries]
        assert names == sorted(set(names))
        lead = path + b"/" if path else b""
        subdirectories = 0
        for name, child, kind in entries:
            if name in (b".", b".."):
                assert child == (number if name == b"." else above)
                continue
            subdirectories += kind == 2
            for found in self._walk(lead + name, child, number):
                if found[0] == lead + name:
                    assert _TYPES.get(kind, stat.S_IFLNK) == stat.S_IFMT(found[1].mode)
                yield found
        assert file.links == 2 + subdirectories

    def _file(self, number: int) -> ImageFile:
        at = self._metadata + number * 32
        form, count, mode, zero, size, where, same, uid, gid, seconds, nano, links = (
            _INODE.unpack_from(self._data, at)
        )
        assert (form & 1, zero, same) == (1, 0, number)
        assert nano < 1_000_000_000
        layout = form >> 1
        xattrs_size = 12 + 4 * (count - 1) if count else 0
        xattrs = dict(self._xattrs(at + 64, xattrs_size))
        content, device = b"", 0
        if stat.S_IFMT(mode) in (stat.S_IFCHR, stat.S_IFBLK):
            device = where
        elif size and layout == 2:
            begin = at + 64 + xattrs_size
            assert size <= 512
            assert begin // 512 == (begin + size - 1) // 512
            content = self._data[begin : begin + size]
        elif size:
            assert layout == 0
            content = self._data[where * 512 : where * 512 + size]
        assert len(content) == size
        return ImageFile(
            number, mode, (uid, gid), seconds * 10**9 + nano, links, device, content, xattrs
        )

    def _xattrs(self, at: int, size: int) -> Iterator[tuple[str, bytes]]:
        if not size:
            return
        assert self._data[at : at + 12] == bytes(12)
        end, at = at + size, at + 12
        while at < end:
            length, prefix, value = struct.unpack_from("<BBH", self._data, at)
            name = self._data[at + 4 : at + 4 + length]
            at += 4 + length
            yield _PREFIXES[prefix] + name.decode(), self._data[at : at + value]
            at += value + -(at + value) % 4
        assert at == end

    @staticmethod
    def _entries(data: bytes) -> Iterator[tuple[bytes, int, int]]:
        for begin in range(0, len(data), 512):
            block = data[begin : begin + 512]
            first = int.from_bytes(block[8:10], "little")
            heads = [struct.unpack_from("<QHBB", block, at) for at in range(0, first, 12)]
            offsets = [*(head[1] for head in heads[1:]), len(block)]
            for (number, offset, kind, _), end in zip(heads, offsets, strict=True):
                name = block[offset:end].rstrip(b"\0")
                assert name
                yield name, number, kind
