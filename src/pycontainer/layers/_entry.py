"""One entry of a layer."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from attrs import define

__all__ = [
    "BLOCK_DEVICE",
    "CHARACTER_DEVICE",
    "DIRECTORY",
    "FIFO",
    "FILE",
    "HARD_LINK",
    "KIND_OF_FORMAT",
    "NO_XATTRS",
    "SYMLINK",
    "AtHand",
    "Content",
    "Entry",
    "InFile",
    "Kind",
    "StoredContent",
]

_PIECE: Final = 1 << 19

Content = Callable[[], Iterator[bytes | memoryview]]
"""Gives a file's bytes, `Entry.size` of them, in pieces."""


class AtHand:
    """Content that is there already, as one piece."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data

    def __call__(self) -> Iterator[bytes | memoryview]:
        """Give it."""
        return iter((self.data,))


class StoredContent(ABC):
    """Content of a file of this machine."""

    __slots__ = ()

    @abstractmethod
    def __call__(self) -> Iterator[bytes]:
        """All bytes."""

    @abstractmethod
    def status(self) -> os.stat_result:
        """What the kernel says of the file now."""


class InFile(StoredContent):
    """Content that is read from an open file, until that is closed."""

    __slots__ = ("fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size

    def read_into(self, target: memoryview, at: int) -> int:
        """Fill memory with what stands there; gives how many bytes, none where the file ends."""
        return os.preadv(self._opened(), (target,), at)

    def __call__(self) -> Iterator[bytes]:
        """All bytes; what the writer gets too few of is noticed there."""
        at = 0
        while at < self.size:
            piece = os.pread(self._opened(), min(_PIECE, self.size - at), at)
            if not piece:
                break
            at += len(piece)
            yield piece

    def _opened(self) -> int:
        if self.fd < 0:  # the number may be another file's by now
            raise ValueError("a file's content was asked for after the next entry")
        return self.fd

    def status(self) -> os.stat_result:
        """As fstat(2) finds it."""
        return os.fstat(self.fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)
        self.fd = -1


NO_XATTRS: Final[Mapping[str, bytes]] = MappingProxyType({})


class Kind(Enum):
    """What an entry is; the values are the type flags of the tar format."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


# Python 3.11 takes 0.1 µs to find a member in its class, too long for what is asked several times a file.
FILE: Final = Kind.FILE
HARD_LINK: Final = Kind.HARD_LINK
SYMLINK: Final = Kind.SYMLINK
CHARACTER_DEVICE: Final = Kind.CHARACTER_DEVICE
BLOCK_DEVICE: Final = Kind.BLOCK_DEVICE
DIRECTORY: Final = Kind.DIRECTORY
FIFO: Final = Kind.FIFO


@define(slots=True, eq=False)
class Entry:
    """A file, directory, link or device with all that a layer says of it.

    Attributes:
        path: Relative to the root, without leading or trailing slash; ``b""`` is the root itself.
        kind: What it is.
        mode: Permission bits with set-uid, set-gid and sticky.
        uid: Owner.
        gid: Group.
        mtime_ns: Modification time, nanoseconds since the epoch; may be negative.
        size: Bytes of content, of files only.
        link: Target of a symlink; path of a hard link's other name.
        major: Of a device.
        minor: Of a device.
        xattrs: Extended attributes.
        content: The bytes, of files only.
        sparse: Where a sparse file's stored pieces belong: offset and length of each.
    """

    path: bytes
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = NO_XATTRS
    content: Content | None = None
    sparse: tuple[tuple[int, int], ...] | None = None


KIND_OF_FORMAT: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
    stat.S_IFIFO: Kind.FIFO,
}
"""Kinds by the format bits of ``st_mode``; sockets have none and stay out of layers."""
