"""Where everything of a tree goes in an image, and its bytes there."""

from __future__ import annotations

import stat
from itertools import chain
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.layers._erofs.format import (
    BLOCK,
    FLAT_INLINE,
    FLAT_PLAIN,
    INODE,
    INODE_SIZE,
    MOST_BLOCKS,
    SLOT,
    XATTR_PREFIXES,
    directory_blocks,
    directory_size,
    xattr_body,
)
from pycontainer.layers._erofs.tree import NotIndexable

if TYPE_CHECKING:
    from pycontainer.layers._erofs.tree import Inode, Tree

__all__ = ["Metadata", "lay_out"]

_SECOND: Final = 1_000_000_000
_OPAQUE: Final = (XATTR_PREFIXES["trusted"], b"overlay.opaque", b"y")
_TYPES: Final = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFLNK: 7,
}


@frozen
class Metadata:
    """All of an image but its superblock and its files' contents.

    Attributes:
        data: The bytes, whole blocks.
        root: Number of the root's inode.
        inodes: How many there are.
    """

    data: bytes
    root: int
    inodes: int


def lay_out(tree: Tree, *, tar_block: int, metadata_block: int) -> Metadata:
    """Lay a tree out.

    Args:
        tree: The tree; its inodes get their numbers.
        tar_block: Where the tar begins in the image.
        metadata_block: Where what is returned will begin.

    Raises:
        NotIndexable: It is too large for an image.
    """
    layout = _Layout(tree.root, tar_block, metadata_block)
    return layout.write()


class _Directory:
    """A directory to be written: its inode, the one above, the sorted names of what is in it."""

    __slots__ = ("above", "inode", "names", "size")

    def __init__(self, inode: Inode, above: Inode) -> None:
        assert inode.children is not None
        self.inode = inode
        self.above = above
        self.names = sorted((b".", b"..", *inode.children))
        self.size = directory_size(self.names)


class _Layout:
    """Inodes in the order of a walk by breadth, those of one directory together; then whole blocks.

    A directory or symlink that fits stands behind its inode in the same block, as tail data must.
    """

    def __init__(self, root: Inode, tar_block: int, metadata_block: int) -> None:
        self._tar_block = tar_block
        self._metadata_block = metadata_block
        self._end = SLOT  # no inode has the number 0
        self._placed: list[tuple[Inode, bytes, int]] = []  # with attributes and inline size
        self._directories: list[_Directory] = []
        self._root = root
        self._walk()

    def _walk(self) -> None:
        self._enter(self._root, self._root)
        directories = self._directories
        placed = self._placed
        for directory in directories:  # grows meanwhile
            inode = directory.inode
            assert inode.children is not None
            for child in inode.children.values():
                if child.children is not None:
                    self._enter(child, inode)
                elif not child.number:  # else another name has led here
                    if child.xattrs or child.link:
                        self._place(child, xattr_body(child.xattrs), len(child.link))
                    else:
                        child.number = self._end // SLOT
                        self._end += INODE_SIZE
                        placed.append((child, b"", 0))

    def _enter(self, inode: Inode, above: Inode) -> None:
        directory = _Directory(inode, above)
        self._directories.append(directory)
        xattrs = (*inode.xattrs, _OPAQUE) if inode.opaque else inode.xattrs
        self._place(inode, xattr_body(xattrs), directory.size)

    def _place(self, inode: Inode, xattrs: bytes, inline: int) -> None:
        size = INODE_SIZE + len(xattrs)
        if size + inline > BLOCK:
            inline = 0
        elif self._end % BLOCK + size + inline > BLOCK:
            self._end += -self._end % BLOCK
        inode.number = self._end // SLOT
        self._end += size + inline
        self._end += -self._end % SLOT
        self._placed.append((inode, xattrs, inline))

    # --- bytes -------------------------------------------------------------------------------

    def write(self) -> Metadata:
        """All bytes, once every inode has its number."""
        self._end += -self._end % BLOCK
        inodes = bytearray(self._end)
        blocks: list[bytes] = []
        directories = iter(self._directories)
        for inode, xattrs, inline in self._placed:
            if inode.children is not None:
                directory = next(directories)
                self._write(inodes, blocks, inode, xattrs, inline, _body(directory))
            elif inode.link:
                self._write(inodes, blocks, inode, xattrs, inline, inode.link)
            else:
                self._write(inodes, blocks, inode, xattrs, 0, b"")
        if self._metadata_block + self._end // BLOCK > MOST_BLOCKS:
            raise NotIndexable("the layer is too large")
        return Metadata(b"".join(chain((inodes,), blocks)), self._root.number, len(self._placed))

    def _write(
        self,
        inodes: bytearray,
        blocks: list[bytes],
        inode: Inode,
        xattrs: bytes,
        inline: int,
        body: bytes,
    ) -> None:
        at = inode.number * SLOT
        size, where = len(body), inode.device
        if inline:
            tail = at + INODE_SIZE + len(xattrs)
            inodes[tail : tail + inline] = body
        elif body:
            padded = body + bytes(-size % BLOCK)
            where = self._metadata_block + self._end // BLOCK
            blocks.append(padded)
            self._end += len(padded)
        elif inode.size:
            size = inode.size
            where = self._tar_block + inode.at // BLOCK
        seconds, nanoseconds = divmod(inode.mtime_ns, _SECOND)
        INODE(
            inodes,
            at,
            1 | (FLAT_INLINE if inline else FLAT_PLAIN) << 1,
            len(xattrs) // 4 - 2 if xattrs else 0,  # the header counts as one
            inode.mode,
            0,
            size,
            where,
            inode.number,
            inode.uid,
            inode.gid,
            seconds,
            nanoseconds,
            inode.names,
        )
        if xattrs:
            inodes[at + INODE_SIZE : at + INODE_SIZE + len(xattrs)] = xattrs


def _body(directory: _Directory) -> bytes:
    children = directory.inode.children
    assert children is not None
    found = {b".": directory.inode, b"..": directory.above, **children}
    inodes = [found[name] for name in directory.names]
    return b"".join(
        directory_blocks(
            directory.names,
            [inode.number for inode in inodes],
            [_TYPES[inode.mode & 0o170000] for inode in inodes],
        )
    )
