"""Digests of files' contents, remembered by what the kernel says of the files."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final

from pycontainer.content import Schema

if TYPE_CHECKING:
    import os

    from pycontainer.content import Store
    from pycontainer.layers import StoredContent

__all__ = ["FileDigests"]

_SMALLEST: Final = 32 << 10
"""Below, reading a file costs no more than asking the database for its digest."""

_MOST: Final = 100_000
"""Rows; about 100 bytes each."""

_RACE_NS: Final = 2_000_000_000
"""The coarsest clock of a file system (FAT's).

A file changed that shortly before it was read could be changed again without a change of its times.
"""

_SCHEMA: Final = Schema(
    "file_digests",
    1,
    """
    CREATE TABLE IF NOT EXISTS file_digest (
        device INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL,
        mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, digest BLOB NOT NULL, used REAL NOT NULL,
        PRIMARY KEY (device, inode)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS file_digest_used ON file_digest (used)
    """,
)

_Key = tuple[int, int, int, int, int]


class FileDigests:
    """The sha256 of files that have not changed since they were read the last time.

    A file is known by device, inode, size and both its times, and trusted only if neither time was
    young when it was read. One row stands for each inode, so what it is now takes the place of
    what it was.

    Args:
        store: Where they are remembered.
    """

    def __init__(self, store: Store) -> None:
        self._db = store.db
        self._db.ensure(_SCHEMA)
        self._learnt: dict[_Key, bytes] = {}
        self._spared: set[_Key] = set()

    def digest(self, content: StoredContent) -> bytes:
        """The digest of a file's content, read only if it is not known."""
        before = content.status()
        if before.st_size < _SMALLEST:
            return _read(content)
        key = _key(before)
        known = self._lookup(key)
        if known is not None:
            self._spared.add(key)
            return known
        begun = time.time_ns()
        digest = _read(content)
        young = max(before.st_mtime_ns, before.st_ctime_ns) > begun - _RACE_NS
        if not young and _key(content.status()) == key:
            self._learnt[key] = digest
        return digest

    def remember(self) -> None:
        """Write down what was learnt, and forget what was of use the longest time ago."""
        if not self._learnt and not self._spared:
            return
        now = time.time()
        with self._db.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO file_digest VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(*map(_signed, key), digest, now) for key, digest in self._learnt.items()],
            )
            connection.executemany(
                "UPDATE file_digest SET used = ? WHERE device = ? AND inode = ?",
                [(now, *map(_signed, key[:2])) for key in self._spared],
            )
            connection.execute(
                "DELETE FROM file_digest WHERE (device, inode) IN"
                " (SELECT device, inode FROM file_digest ORDER BY used DESC LIMIT -1 OFFSET ?)",
                (_MOST,),
            )
        self._learnt.clear()
        self._spared.clear()

    def prune(self, *, before: float) -> None:
        """Forget those that were of no use since then, seconds since 1970."""
        with self._db.transaction() as connection:
            connection.execute("DELETE FROM file_digest WHERE used <= ?", (before,))

    def _lookup(self, key: _Key) -> bytes | None:
        if key in self._learnt:
            return self._learnt[key]
        with self._db.transaction(write=False) as connection:
            row = connection.execute(
                "SELECT digest FROM file_digest WHERE device = ? AND inode = ? AND size = ?"
                " AND mtime = ? AND ctime = ?",
                tuple(map(_signed, key)),
            ).fetchone()
        return None if row is None else bytes(row[0])


def _key(status: os.stat_result) -> _Key:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _signed(number: int) -> int:
    """What SQLite can hold: some file systems use all 64 bits of inode numbers."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _read(content: StoredContent) -> bytes:
    sha256 = hashlib.sha256()
    for piece in content():
        sha256.update(piece)
    return sha256.digest()
