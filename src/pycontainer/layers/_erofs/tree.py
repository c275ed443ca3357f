"""What the entries of a layer amount to: the tree that the extractor would write, as values.

Whatever is unusual is left to the extractor, which does it or says what is wrong with it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from pycontainer.errors import UnsafePath
from pycontainer.layers._directories import show
from pycontainer.layers._entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    NO_XATTRS,
    SYMLINK,
    Entry,
)
from pycontainer.layers._erofs.format import LARGEST_XATTR_VALUE, LONGEST_NAME, XATTR_PREFIXES
from pycontainer.layers._ownership import OVERLAY
from pycontainer.layers._whiteouts import OPAQUE, PREFIX, hidden_name

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Inode", "NotIndexable", "Tree"]

_MOST_ENTRIES: Final = 1_000_000  # each takes 400 bytes of memory while it is indexed
_MOST_SYMLINKS: Final = 40  # as the kernel
_LONGEST_PATH: Final = 4096
_LARGEST_ID: Final = 0xFFFF_FFFE
_MOST_MAJORS: Final = 1 << 12
_MOST_MINORS: Final = 1 << 20
_LATEST: Final = (1 << 63) // 1_000_000_000
_MOST_XATTRS: Final = 1 << 17  # bytes of a file; what is counted in 16 bits is a quarter of them
_LABEL: Final = "security.selinux"  # of the host it was made on
_CAPABILITY: Final = "security.capability"
_CAPABILITY_SIZE: Final = 20
_CAPABILITY_VERSION: Final = 0x0200_0000  # its lowest bit is a flag
_SECOND: Final = 1_000_000_000
_UNDESCRIBED_NS: Final = 1
_SPECIAL: Final = {
    CHARACTER_DEVICE: stat.S_IFCHR,
    BLOCK_DEVICE: stat.S_IFBLK,
    FIFO: stat.S_IFIFO,
}


class NotIndexable(Exception):
    """The layer holds what only the extractor can do, or can refuse properly."""


class Inode:
    """A file, directory, link or device of the layer.

    Attributes:
        mode: Type and permission bits.
        uid: Owner.
        gid: Group.
        mtime_ns: Modification time.
        size: Of a file.
        at: Where a file's bytes begin in the tar.
        link: Target of a symlink.
        device: Number of a device, as the kernel encodes it.
        xattrs: Extended attributes: prefix number, rest of the name, value.
        names: How many it has; of a directory, subdirectories and itself count.
        children: Of a directory.
        opaque: Whether a directory hides what lower layers have in it.
        number: Where `metadata` puts it; 0 before that.
    """

    __slots__ = (
        "at",
        "children",
        "device",
        "gid",
        "link",
        "mode",
        "mtime_ns",
        "names",
        "number",
        "opaque",
        "size",
        "uid",
        "xattrs",
    )

    def __init__(self, mode: int, uid: int = 0, gid: int = 0, mtime_ns: int = 0) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_ns = mtime_ns
        self.size = self.at = self.device = self.number = 0
        self.names = 1
        self.link = b""
        self.xattrs: tuple[tuple[int, bytes, bytes], ...] = ()
        self.children: dict[bytes, Inode] | None = None
        self.opaque = False

    @property
    def is_whiteout(self) -> bool:
        """Whether overlay takes it for a whiteout: a character device 0:0."""
        return stat.S_ISCHR(self.mode) and not self.device


class Tree:
    """The tree of one layer, to be mounted as a lower of an overlay.

    Attributes:
        root: Its root. The image's rules leave a root that no entry describes to the layers below.
        entries: How many entries were put in.
    """

    def __init__(self) -> None:
        self.root = _directory(0o755, mtime_ns=_UNDESCRIBED_NS)
        self.entries = 0
        self._known: dict[bytes, Inode] = {b"": self.root}

    def put(self, entry: Entry, at: int) -> None:
        """Add one entry.

        Args:
            entry: The entry.
            at: Where a file's bytes begin in the tar.

        Raises:
            NotIndexable: It is for the extractor.
        """
        path = entry.path
        above, _, name = path.rpartition(b"/")
        self.entries += 1
        if name[:4] == PREFIX:
            self._whiteout(above, name)
            return
        if not name or len(name) > LONGEST_NAME or name == b".." or self.entries > _MOST_ENTRIES:
            if path or entry.kind is not DIRECTORY:
                raise NotIndexable(f"{show(path)} is no usable path")
            self._describe(self.root, entry)
            return
        known = self._known.get(above)
        directory = known if known is not None else self._find(above)
        kind = entry.kind
        if kind is DIRECTORY:
            self._directory(entry, directory, above, name)
        elif kind is HARD_LINK:
            self._hard_link(entry, directory, above, name)
        else:
            self._replace(
                _file(entry, at) if kind is FILE else _other(entry), directory, above, name
            )

    # --- entries -----------------------------------------------------------------------------

    def _directory(self, entry: Entry, directory: Inode, above: bytes, name: bytes) -> None:
        assert directory.children is not None
        there = directory.children.get(name)
        if there is None or there.children is None:
            opaque = there is not None and there.is_whiteout
            new = _directory(0)
            self._replace(new, directory, above, name)
            new.opaque = opaque
            there = new
        self._describe(there, entry)

    @staticmethod
    def _describe(inode: Inode, entry: Entry) -> None:
        described = _described(entry, stat.S_IFDIR | entry.mode)
        inode.mode, inode.mtime_ns = described.mode, described.mtime_ns
        inode.uid, inode.gid, inode.xattrs = described.uid, described.gid, described.xattrs

    def _hard_link(self, entry: Entry, directory: Inode, above: bytes, name: bytes) -> None:
        lead, _, target = entry.link.rpartition(b"/")
        source = self._find(lead).children
        assert source is not None
        inode = source.get(target)
        if inode is None or inode.children is not None:
            raise NotIndexable(f"{show(entry.path)} is a hard link to {show(entry.link)}")
        assert directory.children is not None
        there = directory.children.get(name)
        if there is inode:
            return
        if there is not None and there.children is not None:
            raise NotIndexable(f"the hard link {show(entry.path)} replaces a directory")
        inode.names += 1
        self._replace(inode, directory, above, name)

    def _replace(self, inode: Inode, directory: Inode, above: bytes, name: bytes) -> None:
        """Put an inode into a directory, in place of what is there."""
        children = directory.children
        assert children is not None
        there = children.get(name)
        if there is not None:
            del children[name]
            _unlink(there, directory)
            if there.children is not None or stat.S_ISLNK(there.mode):
                self._known = {b"": self.root}  # paths may have come to mean something else
                if self._find(above) is not directory or name in children:
                    raise NotIndexable(f"{show(name)} takes away the path that leads to it")
        children[name] = inode
        if inode.children is not None:
            directory.names += 1

    def _whiteout(self, above: bytes, name: bytes) -> None:
        if name == OPAQUE:
            directory = self._find(above)
            if directory is self.root:
                raise NotIndexable("a root directory that hides all layers below")
            directory.opaque = True
            return
        try:
            hidden = hidden_name(name)
        except UnsafePath as error:
            raise NotIndexable(error.message) from error
        if hidden is None:
            return
        if len(hidden) > LONGEST_NAME:
            raise NotIndexable(f"{show(hidden)} is no usable name")
        children = self._find(above).children
        assert children is not None
        there = children.get(hidden)
        if there is None:
            children[hidden] = Inode(stat.S_IFCHR)
        elif there.children is not None:  # the layer's own, but not what lower ones have in it
            there.opaque = True

    # --- paths -------------------------------------------------------------------------------

    def _find(self, path: bytes) -> Inode:
        """Find or make a directory, as a process would whose root directory is the tree's."""
        known = self._known.get(path)
        if known is not None:
            return known
        if len(path) > _LONGEST_PATH:
            raise NotIndexable(f"a path of {len(path)} bytes")
        here = [self.root]
        todo = path.split(b"/")[::-1]
        if b".." in todo:
            raise NotIndexable(f"{show(path)} leads upwards")
        symlinks = 0
        while todo:
            part = todo.pop()
            if part == b"..":  # of a symlink
                if len(here) == 1:
                    raise NotIndexable(f"{show(path)} leads out of the root")
                here.pop()
                continue
            found = self._step(here[-1], part)
            if found.children is not None:
                here.append(found)
                continue
            symlinks += 1
            if symlinks > _MOST_SYMLINKS:
                raise NotIndexable(f"{show(path)} leads through too many symlinks")
            if found.link.startswith(b"/"):
                here = [self.root]
            todo += [part for part in found.link.split(b"/")[::-1] if part not in (b"", b".")]
        self._known[path] = here[-1]
        return here[-1]

    @staticmethod
    def _step(directory: Inode, name: bytes) -> Inode:
        """A directory in another, made if need be, or a symlink."""
        if name.startswith(PREFIX) or len(name) > LONGEST_NAME:
            raise NotIndexable(f"{show(name)} cannot be the name of a directory")
        children = directory.children
        assert children is not None
        there = children.get(name)
        if there is not None and (there.children is not None or stat.S_ISLNK(there.mode)):
            return there
        if there is not None and not there.is_whiteout:
            raise NotIndexable(f"{show(name)} is no directory, but an entry stands below it")
        if there is not None:
            _unlink(there, directory)
        new = children[name] = _directory(0o755)
        new.opaque = there is not None
        directory.names += 1
        return new


def _directory(mode: int, mtime_ns: int = 0) -> Inode:
    inode = Inode(stat.S_IFDIR | mode, mtime_ns=mtime_ns)
    inode.children = {}
    inode.names = 2
    return inode


def _unlink(inode: Inode, directory: Inode) -> None:
    """Take one name from an inode, and of a directory all that is in it."""
    if inode.children is None:
        inode.names -= 1
        return
    directory.names -= 1
    todo = [inode]
    while todo:
        for child in todo.pop().children.values():  # type: ignore[union-attr]
            if child.children is None:
                child.names -= 1
            else:
                todo.append(child)


def _described(entry: Entry, mode: int) -> Inode:
    mtime_ns = entry.mtime_ns
    uid, gid = entry.uid, entry.gid
    if uid > _LARGEST_ID or gid > _LARGEST_ID or not -_LATEST < mtime_ns // _SECOND < _LATEST:
        raise NotIndexable(f"owner or time of {show(entry.path)}")
    inode = Inode(mode, uid, gid, mtime_ns)
    if entry.xattrs is not NO_XATTRS:
        inode.xattrs = _xattrs(entry.xattrs, mode)
    return inode


def _file(entry: Entry, at: int) -> Inode:
    if entry.sparse is not None:
        raise NotIndexable(f"{show(entry.path)} is sparse")
    inode = _described(entry, stat.S_IFREG | entry.mode)
    inode.size, inode.at = entry.size, at
    return inode


def _other(entry: Entry) -> Inode:
    if entry.kind is SYMLINK:
        if not 0 < len(entry.link) < _LONGEST_PATH:
            raise NotIndexable(f"{show(entry.path)} is a symlink to {show(entry.link)}")
        inode = _described(entry, stat.S_IFLNK | 0o777)
        inode.link = entry.link
        return inode
    inode = _described(entry, _SPECIAL[entry.kind] | entry.mode)
    if entry.kind is not FIFO:
        major, minor = entry.major, entry.minor
        if major >= _MOST_MAJORS or minor >= _MOST_MINORS:
            raise NotIndexable(f"{show(entry.path)} is device {major}:{minor}")
        # new_encode_dev() of the kernel
        inode.device = minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
    return inode


def _xattrs(xattrs: Mapping[str, bytes], mode: int) -> tuple[tuple[int, bytes, bytes], ...]:
    """Those that the extractor would set, as far as a kernel does not judge their values."""
    found = []
    for key, value in xattrs.items():
        if key.startswith(OVERLAY) or key == _LABEL:
            continue
        lead, _, rest = key.partition(".")
        prefix = XATTR_PREFIXES.get(lead)
        name = os.fsencode(rest)
        if (
            prefix is None
            or not 0 < len(name) <= LONGEST_NAME - len(lead) - 1
            or b"\0" in name
            or len(value) > LARGEST_XATTR_VALUE
            or (lead == "user" and stat.S_IFMT(mode) not in (stat.S_IFREG, stat.S_IFDIR))
            or (lead == "security" and not _is_plain_capability(key, value, mode))
        ):
            raise NotIndexable(f"the extended attribute {key!r}")
        found.append((prefix, name, value))
    if sum(len(name) + len(value) for _, name, value in found) > _MOST_XATTRS:
        raise NotIndexable("too many extended attributes")
    return tuple(found)


def _is_plain_capability(key: str, value: bytes, mode: int) -> bool:
    """Whether these are a file's capabilities as Linux has stored them since 2.6.25."""
    version = int.from_bytes(value[:4], "little") & ~1
    return (
        key == _CAPABILITY
        and len(value) == _CAPABILITY_SIZE
        and version == _CAPABILITY_VERSION
        and stat.S_ISREG(mode)
    )
