"""Owners of files as the container sees them and as the host does, where those differ.

They do while a container with users of its own runs; on disk its files have the owners that it sees.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from pycontainer._linux import capability, process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pycontainer.layers import Entry
    from pycontainer.oci.runtime import IDMapping, Mount

__all__ = ["AS_ON_HOST", "Owners"]

_NOBODY: Final = 65534
_CAPABILITY: Final = "security.capability"
_REVISION_2, _REVISION_3, _REVISION = 0x02000000, 0x03000000, 0xFF000000
_PLAIN_SIZE: Final = 20
_TIMES: Final = ("st_atime", "st_mtime", "st_ctime")
_OTHER_FIELDS: Final = ("st_blksize", "st_blocks", "st_rdev")


@frozen
class Owners:
    """How the ids of a container's users are those of the host; without ranges they are the same."""

    uids: tuple[IDMapping, ...] = ()
    gids: tuple[IDMapping, ...] = ()

    @contextlib.contextmanager
    def root(self) -> Iterator[None]:
        """Let this thread make files as the container's root, with all rights that it has."""
        if not self.uids:
            yield
            return
        _, permitted, inheritable = before = capability.get_capabilities()
        process.set_filesystem_ids(_on_host(self.uids, 0), _on_host(self.gids, 0))
        try:
            capability.set_capabilities(permitted, permitted, inheritable)
            yield
        finally:
            process.set_filesystem_ids(os.geteuid(), os.getegid())
            capability.set_capabilities(*before)

    def seen(self, status: os.stat_result) -> os.stat_result:
        """What is told of a file, with its owner as the container sees it."""
        if not self.uids:
            return status
        values = list(status[:10])
        values[4], values[5] = _inside(self.uids, status.st_uid), _inside(self.gids, status.st_gid)
        names = [*_TIMES, *(f"{name}_ns" for name in _TIMES), *_OTHER_FIELDS]
        return os.stat_result(values, {name: getattr(status, name) for name in names})

    def unmapped(self, mount: Mount) -> Mount:
        """A bind with its owners shown as the container is to see them, where the container does not run."""
        if not self.uids:
            return mount
        uids, gids = (
            tuple(evolve(m, host_id=_inside(own, m.host_id)) for m in maps)
            for own, maps in ((self.uids, mount.uid_mappings), (self.gids, mount.gid_mappings))
        )
        if all(m.container_id == m.host_id for m in (*uids, *gids)):
            uids = gids = ()
        return evolve(mount, uid_mappings=uids, gid_mappings=gids)

    def mapped(self, mount: Mount) -> Mount:
        """A bind whose owners are as on disk for the container, or as its own mapping says."""
        uids, gids = (
            tuple(evolve(m, host_id=_on_host(own, m.host_id)) for m in maps) or own
            for own, maps in ((self.uids, mount.uid_mappings), (self.gids, mount.gid_mappings))
        )
        return evolve(mount, uid_mappings=uids, gid_mappings=gids)

    def going_in(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Entries with owners as the container is to see them, for the host to write.

        Raises:
            OSError: EOVERFLOW: the container has no such user or group.
        """
        for entry in entries:
            if self.uids:
                entry.uid, entry.gid = (
                    _on_host(self.uids, entry.uid),
                    _on_host(self.gids, entry.gid),
                )
                self._rewrite(entry, _REVISION_3)
            yield entry

    def coming_out(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Entries that the host has read, with owners as the container sees them."""
        for entry in entries:
            if self.uids:
                entry.uid, entry.gid = _inside(self.uids, entry.uid), _inside(self.gids, entry.gid)
                self._rewrite(entry, _REVISION_2)
            yield entry

    def _rewrite(self, entry: Entry, revision: int) -> None:
        """File capabilities name the root whom they are for, unless that is the host's (capabilities(7))."""
        value = entry.xattrs.get(_CAPABILITY) if entry.xattrs else None
        if value is None or len(value) < _PLAIN_SIZE:
            return
        (magic,) = struct.unpack_from("<I", value)
        value = struct.pack("<I", magic & ~_REVISION | revision) + value[4:_PLAIN_SIZE]
        if revision == _REVISION_3:
            value += struct.pack("<I", _on_host(self.uids, 0))
        entry.xattrs = {**entry.xattrs, _CAPABILITY: value}


AS_ON_HOST: Final = Owners()
"""Of containers whose users are the host's."""


def _on_host(maps: Sequence[IDMapping], number: int) -> int:
    for entry in maps:
        if entry.container_id <= number < entry.container_id + entry.size:
            return entry.host_id + number - entry.container_id
    raise OSError(errno.EOVERFLOW, f"the container has no user or group {number}")


def _inside(maps: Sequence[IDMapping], number: int) -> int:
    for entry in maps:
        if entry.host_id <= number < entry.host_id + entry.size:
            return entry.container_id + number - entry.host_id
    return _NOBODY
