"""Writing entries into a directory, every path resolved beneath it by descriptors.

The way of a file: one open relative to a held directory, its writes, then owner, mode and time, each
only where creation did not give the right one already. Directories get their times last.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final, Self

from attrs import frozen

from pycontainer._linux.tree import remove_tree
from pycontainer.errors import LayerError, UnsafePath
from pycontainer.layers._directories import (
    OPEN_DIRECTORY,
    Directories,
    Place,
    is_whiteout,
    show,
)
from pycontainer.layers._entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    SYMLINK,
    AtHand,
    Entry,
)
from pycontainer.layers._link_owners import LinkOwners
from pycontainer.layers._ownership import LINKS, META, OVERLAY, STASH, Meta, Ownership, disk_mode
from pycontainer.layers._sparse import placed
from pycontainer.layers._whiteouts import OPAQUE, PREFIX, Applied, Overlaid, Whiteouts, hidden_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["Extractor"]

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL: Final = {
    CHARACTER_DEVICE: stat.S_IFCHR,
    BLOCK_DEVICE: stat.S_IFBLK,
    FIFO: stat.S_IFIFO,
}
_LABEL: Final = "security.selinux"  # of the host it was made on
_DEFAULT_ACL: Final = "system.posix_acl_default"  # else what is made in the directory inherits it
_OURS: Final = "user.pycontainer."
_UNCHANGED: Final = (1 << 32) - 1  # to chown(2)


@frozen
class _Late:
    """What a directory gets at the end, because filling it needs or makes it otherwise."""

    mtime: int | None = None
    mode: int | None = None
    default_acl: bytes | None = None


class Extractor:
    """Puts the entries of one layer below a directory; a context manager that closes what is held.

    Args:
        root: The directory; empty unless `apply` is set.
        ownership: How owners and devices are represented.
        apply: Whiteouts delete from the tree that is there, instead of becoming overlay's.
        userxattr: Whether overlay's attributes are those of ordinary users; None for what goes with
            `ownership`.
    """

    def __init__(
        self,
        root: Path,
        ownership: Ownership,
        *,
        apply: bool = False,
        userxattr: bool | None = None,
    ) -> None:
        self._as_user = ownership is Ownership.USER
        self._apply = apply
        try:
            self._directories = Directories(root, self, overlay=not apply)
        except OSError as error:
            raise LayerError(f"cannot unpack into {root}: {error.strerror}") from error
        self._whiteouts: Whiteouts
        if apply:
            self._whiteouts = Applied(self._directories, self._removed)
        else:
            userxattr = ownership.userxattr if userxattr is None else userxattr
            self._whiteouts = Overlaid(self._directories, userxattr=userxattr)
        self._late: dict[bytes, _Late] = {}  # by paths without symlinks
        self._links = LinkOwners()
        self._ids = (os.geteuid(), os.getegid())
        self._to_set = _umask() | 0o7000  # mode bits that creation may not give
        self.entries = 0
        self._prepare(b"", self._directories.root.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._directories.close()

    def put(self, entry: Entry) -> None:
        """Write one entry.

        Raises:
            UnsafePath: It leads out of the root, or a whiteout names nothing.
            LayerError: It cannot be written.
        """
        parent, _, name = entry.path.rpartition(b"/")
        self.entries += 1
        try:
            if not name or name[:1] == b".":
                if name[:4] == PREFIX:
                    self._whiteout(parent, name)
                    return
                if name == b".." or (not name and entry.kind is not DIRECTORY):
                    raise UnsafePath(f"no {entry.kind.name.lower()} can be at {show(entry.path)}")
            place = self._directories.get(parent)
            if entry.kind is FILE:
                self._file(entry, place, name)
            elif entry.kind is DIRECTORY:
                self._directory(entry, place, name)
            elif entry.kind is SYMLINK:
                self._symlink(entry, parent, name)
            elif entry.kind is HARD_LINK:
                self._hard_link(entry, parent, name)
            else:
                self._special(entry, parent, name)
        except UnsafePath as error:
            error.within(f"entry {show(entry.path)}")
            raise
        except OSError as error:
            raise LayerError(
                f"cannot write {show(entry.path)}: {error.strerror}", remedy=_remedy(error)
            ) from error
        except OverflowError as error:
            raise LayerError(f"cannot write {show(entry.path)}: {error}") from error
        if self._apply:
            self._whiteouts.added(self._directories.get(parent).child(name))

    def finish(self) -> None:
        """Give directories the modes and times that filling them would have changed.

        Raises:
            LayerError: The file system refuses.
        """
        self._links.write(self._directories)
        for path in sorted(self._late, reverse=True):  # what is below goes first: modes may shut
            late = self._late[path]
            parent, _, name = path.rpartition(b"/")
            try:
                above = self._directories.get(parent).fd
                if late.mode is not None or late.default_acl is not None:
                    fd = os.open(name or b".", OPEN_DIRECTORY, dir_fd=above)
                    try:
                        if late.default_acl is not None:
                            os.setxattr(fd, _DEFAULT_ACL, late.default_acl)
                        if late.mode is not None:
                            os.fchmod(fd, late.mode)
                    finally:
                        os.close(fd)
                if late.mtime is not None:
                    times = (late.mtime, late.mtime)
                    os.utime(name or b".", ns=times, dir_fd=above, follow_symlinks=False)
            except (OSError, OverflowError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise LayerError(f"cannot describe {show(path)}: {reason}") from error
        self._late.clear()

    # --- files -------------------------------------------------------------------------------

    def _file(self, entry: Entry, place: Place, name: bytes) -> None:
        mode = created = entry.mode
        if self._as_user:
            mode = disk_mode(entry.mode, directory=False)
            created = mode | 0o200  # whose file may not be written may not get attributes either
        try:
            fd = os.open(name, _CREATE, created, dir_fd=place.fd)
        except FileExistsError:
            place = self._clear(entry.path.rpartition(b"/")[0], name)
            fd = os.open(name, _CREATE, created, dir_fd=place.fd)
        try:
            if entry.size:
                content = entry.content
                # Nearly always all is there and goes in one call.
                if type(content) is not AtHand or os.write(fd, content.data) != entry.size:
                    _write(fd, entry)
            if self._as_user or entry.xattrs or (entry.uid, entry.gid) != self._ids:
                self._own_and_annotate(entry, fd, mode)
            if mode & self._to_set or mode != created:
                os.fchmod(fd, mode)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _own_and_annotate(self, entry: Entry, fd: int, mode: int) -> None:
        """Owner before attributes: the kernel drops file capabilities when the owner changes."""
        if self._as_user:
            if entry.uid or entry.gid or mode != entry.mode:
                os.setxattr(fd, META, Meta(entry.uid, entry.gid, entry.mode).encode())
        elif (entry.uid, entry.gid) != self._ids:
            os.fchown(fd, *_owner(entry))
        for key, value in entry.xattrs.items():
            if key.startswith(OVERLAY) or key == _LABEL:
                continue
            if self._as_user or key != _DEFAULT_ACL:
                os.setxattr(fd, self._key(key), value)

    def _key(self, key: str) -> str:
        if self._as_user and (not key.startswith("user.") or key.startswith(_OURS)):
            return STASH + key
        return key

    # --- directories -------------------------------------------------------------------------

    def _directory(self, entry: Entry, place: Place, name: bytes) -> None:
        if not name:
            self._describe_directory(entry, place, new=False)
            return
        mode = self._directory_mode(entry)
        opaque, new = False, True
        try:
            os.mkdir(name, _while_filled(mode), dir_fd=place.fd)
        except FileExistsError:
            status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
            new = not stat.S_ISDIR(status.st_mode)
            if new:
                opaque = not self._apply and is_whiteout(status)
                place = self._clear(entry.path.rpartition(b"/")[0], name)
                os.mkdir(name, _while_filled(mode), dir_fd=place.fd)
        child = self._directories.enter(place, name)
        if opaque:
            self._whiteouts.hide_all(child)
        self._describe_directory(entry, child, new=new)

    def _directory_mode(self, entry: Entry) -> int:
        return disk_mode(entry.mode, directory=True) if self._as_user else entry.mode

    def _describe_directory(self, entry: Entry, place: Place, *, new: bool) -> None:
        mode = self._directory_mode(entry)
        working_mode = _while_filled(mode)
        if not new or working_mode & self._to_set:
            os.fchmod(place.fd, working_mode)
        if not new:
            self._clear_xattrs(place.fd)
            if not self._as_user:  # its owner may be another than creation would give
                os.fchown(place.fd, entry.uid, entry.gid)
        self._own_and_annotate(entry, place.fd, mode)
        self._late[place.path] = _Late(
            entry.mtime_ns,
            mode if mode != working_mode else None,
            entry.xattrs.get(_DEFAULT_ACL) if not self._as_user else None,
        )

    @staticmethod
    def _clear_xattrs(fd: int) -> None:
        """What a layer says of a directory replaces all that a lower one says, as in overlay."""
        for key in os.listxattr(fd):
            if not key.startswith(OVERLAY) and key not in (_LABEL, LINKS):
                os.removexattr(fd, key)

    def replaces_whiteout(self, fd: int) -> None:
        """See `Maker`."""
        self._whiteouts.hide_all(Place(b"", fd))

    def was_opened(self, path: bytes, fd: int) -> None:
        """See `Maker`."""
        if self._apply:
            self._prepare(path, fd)

    def _prepare(self, path: bytes, fd: int) -> None:
        """Make a directory that was there before fit for being filled, until the end."""
        if path in self._late:
            return
        mode = os.fstat(fd).st_mode & 0o7777
        if _while_filled(mode) != mode and (self._as_user or mode & stat.S_ISGID):
            os.fchmod(fd, _while_filled(mode))
            self._late[path] = _Late(mode=mode)

    # --- what is not opened ------------------------------------------------------------------

    def _symlink(self, entry: Entry, parent: bytes, name: bytes) -> None:
        place = self._make(parent, name, lambda fd: os.symlink(entry.link, name, dir_fd=fd))
        self._describe_unopened(entry, place, name)

    def _special(self, entry: Entry, parent: bytes, name: bytes) -> None:
        if self._as_user and entry.kind is not FIFO:
            self._placeholder(entry, parent, name)
            return
        kind = _SPECIAL[entry.kind]
        device = 0 if entry.kind is FIFO else os.makedev(entry.major, entry.minor)
        mode = disk_mode(entry.mode, directory=False) if self._as_user else entry.mode
        try:
            place = self._make(
                parent, name, lambda fd: os.mknod(name, kind | mode, device, dir_fd=fd)
            )
        except PermissionError:  # a root without CAP_MKNOD, or of a user namespace
            if entry.kind is FIFO:
                raise
            self._placeholder(entry, parent, name)
            return
        self._describe_unopened(entry, place, name)
        if mode & self._to_set:
            os.chmod(name, mode, dir_fd=place.fd)

    def _placeholder(self, entry: Entry, parent: bytes, name: bytes) -> None:
        """The device of one who may make none: an empty file that says what it stands for."""
        meta = Meta(entry.uid, entry.gid, entry.mode, entry.kind, entry.major, entry.minor)

        def make(above: int) -> None:
            fd = os.open(name, _CREATE, 0o600, dir_fd=above)
            try:
                os.setxattr(fd, META, meta.encode())
                for key, value in entry.xattrs.items():
                    os.setxattr(fd, self._key(key), value)
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            finally:
                os.close(fd)

        self._make(parent, name, make)

    def _describe_unopened(self, entry: Entry, place: Place, name: bytes) -> None:
        if self._as_user:
            self._links.note(entry, place, name)
        else:
            if (entry.uid, entry.gid) != self._ids:
                os.chown(name, *_owner(entry), dir_fd=place.fd, follow_symlinks=False)
            path = b"/proc/self/fd/%d/%s" % (place.fd, name)  # there is no lsetxattrat
            for key, value in entry.xattrs.items():
                if not key.startswith(OVERLAY) and key != _LABEL:
                    os.setxattr(path, key, value, follow_symlinks=False)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=place.fd, follow_symlinks=False)

    def _hard_link(self, entry: Entry, parent: bytes, name: bytes) -> None:
        above, _, target = entry.link.rpartition(b"/")
        if target in (b"", b".."):
            raise UnsafePath(f"{show(entry.path)} is a hard link to {show(entry.link)}")
        source = os.dup(self._directories.get(above).fd)  # the next get may close it
        place = self._directories.get(parent)
        try:
            os.link(target, name, src_dir_fd=source, dst_dir_fd=place.fd, follow_symlinks=False)
        except FileExistsError:
            there = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
            if os.path.samestat(there, os.stat(target, dir_fd=source, follow_symlinks=False)):
                return
            place = self._clear(parent, name)
            os.link(target, name, src_dir_fd=source, dst_dir_fd=place.fd, follow_symlinks=False)
        except FileNotFoundError as error:
            raise LayerError(
                f"{show(entry.path)} is a hard link to {show(entry.link)}, "
                "which the layer does not hold before it"
            ) from error
        finally:
            os.close(source)

    # --- what is in the way ------------------------------------------------------------------

    def _make(self, parent: bytes, name: bytes, make: Callable[[int], None]) -> Place:
        place = self._directories.get(parent)
        try:
            make(place.fd)
        except FileExistsError:
            place = self._clear(parent, name)
            make(place.fd)
        return place

    def _clear(self, parent: bytes, name: bytes) -> Place:
        """Remove what stands where an entry is to be; gives the directory it is in."""
        place = self._directories.get(parent)
        if name in (b"", b"."):
            raise UnsafePath("an entry that is no directory would replace the root")
        if name == b"..":
            raise UnsafePath(f"the path {show(place.child(name))} leads upwards with ..")
        status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=place.fd)
            if not stat.S_ISLNK(status.st_mode):
                return place
        else:
            remove_tree(os.fsdecode(name), dir_fd=place.fd)
        self._removed(place.child(name))
        return self._directories.get(parent)

    def _removed(self, path: bytes) -> None:
        """Forget a directory or symlink that is gone, and all that was reached through it."""
        self._directories.forget()
        self._links.forget(path)
        self._late.pop(path, None)
        below = path + b"/"
        for late in [late for late in self._late if late.startswith(below)]:
            del self._late[late]

    # --- whiteouts ---------------------------------------------------------------------------

    def _whiteout(self, parent: bytes, name: bytes) -> None:
        if name == OPAQUE:
            self._whiteouts.hide_all(self._directories.get(parent))
        elif (hidden := hidden_name(name)) is not None:
            self._whiteouts.hide(self._directories.get(parent), hidden)


def _owner(entry: Entry) -> tuple[int, int]:
    """Whom to give it to."""
    owner = (entry.uid, entry.gid)
    if _UNCHANGED in owner:
        raise OverflowError(f"no user or group can have the number {_UNCHANGED}")
    return owner


def _write(fd: int, entry: Entry) -> None:
    """Write a file's content from its beginning, wherever its descriptor stands."""
    assert entry.content is not None, "a file of more than no bytes has content"
    content = entry.content()
    pieces = _consecutive(content) if entry.sparse is None else placed(entry.sparse, content)
    end = 0
    for offset, view in pieces:
        end = offset
        while view:
            done = os.pwrite(fd, view, end)
            view, end = view[done:], end + done
    if entry.sparse is not None:
        os.ftruncate(fd, entry.size)
    elif end != entry.size:
        raise LayerError(f"{show(entry.path)} should have {entry.size} bytes, not {end}")


def _consecutive(content: Iterable[bytes | memoryview]) -> Iterator[tuple[int, memoryview]]:
    at = 0
    for piece in content:
        yield at, memoryview(piece)
        at += len(piece)


def _while_filled(mode: int) -> int:
    """The mode of a directory while it is filled.

    Its owner can write to it; and what is made in it does not get its group, as set-gid would have it.
    """
    return (mode | 0o300) & ~stat.S_ISGID


def _umask() -> int:
    """This thread's umask, read without changing it under other threads' feet."""
    try:
        with open("/proc/thread-self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o777  # not known: set every mode


def _remedy(error: OSError) -> str | None:
    if error.errno == errno.ENOSPC:
        return "free space on the store's file system, or move the store (PYCONTAINER_HOME)"
    if error.errno in (errno.ENOTSUP, errno.EPERM):
        return "the store's file system must support owners, devices and extended attributes"
    return None
