"""Owners of what cannot have attributes of its own: symlinks and fifos in an ordinary user's store.

The kernel gives ``user.*`` attributes to files and directories only (xattr(7)), so the directory that
holds such an entry keeps its owner too. A note counts only as long as the entry still has the time that
was noted with it: what a process puts in its place has another one, and its own owner.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from pycontainer.layers._ownership import LINKS, Meta

if TYPE_CHECKING:
    from pycontainer.layers._directories import Directories, Place
    from pycontainer.layers._entry import Entry

__all__ = ["LinkOwners", "owner_of_link"]

# No name has a slash or a NUL in it, so nothing else can look like the beginning of a record.
_RECORD: Final = b"/%s\0%d\0%s"


class LinkOwners:
    """The owners that the entries of one layer ask for."""

    def __init__(self) -> None:
        self._records: dict[bytes, dict[bytes, bytes]] = {}

    def note(self, entry: Entry, place: Place, name: bytes) -> None:
        """Note the owner of a symlink or fifo; 0:0 is what all have without."""
        record = b""
        if entry.uid or entry.gid:
            meta = Meta(entry.uid, entry.gid, entry.mode).encode()
            record = _RECORD % (name, entry.mtime_ns, meta)
        self._records.setdefault(place.path, {})[name] = record

    def forget(self, path: bytes) -> None:
        """Forget what was noted of a directory that is gone, and of those below."""
        below = path + b"/"
        for each in [each for each in self._records if each == path or each.startswith(below)]:
            del self._records[each]

    def write(self, directories: Directories) -> None:
        """Write down what was noted, beside what lower layers have there.

        A file system that cannot hold so much in an attribute (ext4 has room for a hundred names or so)
        keeps nothing new of that directory; they belong to 0:0 then.
        """
        for path, records in self._records.items():
            fd = directories.get(path).fd
            before = _read(fd)
            there = {record.partition(b"\0")[0]: b"/" + record for record in before.split(b"/")[1:]}
            there.update(records)
            after = b"".join(there.values())
            if after != before:
                with contextlib.suppress(OSError):
                    os.setxattr(fd, LINKS, after)
        self._records.clear()


def _read(directory: int | bytes) -> bytes:
    try:
        return os.getxattr(directory, LINKS)
    except OSError:
        return b""


def owner_of_link(file: bytes, status: os.stat_result) -> Meta | None:
    """What is noted of a symlink or fifo.

    Args:
        file: Its path.
        status: As lstat(2) finds it.
    """
    above, _, name = file.rpartition(b"/")
    _, found, record = _read(above or b"/").partition(b"/%s\0%d\0" % (name, status.st_mtime_ns))
    return Meta.decode(record.partition(b"/")[0]) if found else None
