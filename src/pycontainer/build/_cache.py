"""The build cache: which layer a step made, by the content of what went into it."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.build._file_digests import FileDigests
from pycontainer.build._graph import Layer, canonical
from pycontainer.content import Schema
from pycontainer.oci import Descriptor, Digest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from pycontainer.content import Store

__all__ = ["BuildCache", "CacheEntry", "cache_key"]

_ROOT: Final = "cache"
_FORMAT: Final = 2
"""Counts up when the same key material would make another layer than before."""

_SCHEMA: Final = Schema(
    "build",
    1,
    """
    CREATE TABLE IF NOT EXISTS build_cache (
        key TEXT PRIMARY KEY, title TEXT NOT NULL,
        media_type TEXT, digest TEXT, size INTEGER NOT NULL, diff_id TEXT,
        created REAL NOT NULL, used REAL NOT NULL
    ) WITHOUT ROWID
    """,
)
_COLUMNS: Final = "key, title, media_type, digest, size, diff_id, created, used"


def cache_key(*material: object) -> Digest:
    """The key for plain values that JSON knows."""
    return Digest.of(canonical([_FORMAT, *material]))


@frozen
class CacheEntry:
    """What one step made.

    Attributes:
        key: Digest of what went into it.
        title: The step that made it first.
        layer: The layer; None where no file changed.
        created: When it was made, seconds since 1970.
        used: When it last spared work.
    """

    key: Digest
    title: str
    layer: Layer | None
    created: float
    used: float

    @property
    def size(self) -> int:
        """Bytes of the stored layer."""
        return 0 if self.layer is None else self.layer.descriptor.size


class BuildCache:
    """The cache of one store. Its layers survive `Store.collect` until they are pruned here.

    Args:
        store: The store that holds the layers.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        store.db.ensure(_SCHEMA)

    def lookup(self, key: Digest) -> CacheEntry | None:
        """What is known for a key; the current lease keeps its layer from now on.

        An entry whose blob is gone is forgotten.
        """
        with self._store.db.transaction() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM build_cache WHERE key = ?",  # noqa: S608  (a constant)
                (str(key),),
            ).fetchone()
            if row is None:
                return None
            entry = _entry(row)
            if entry.layer and not self._store.blobs.exists(entry.layer.descriptor.digest):
                self._forget(connection, key)
                return None
            connection.execute(
                "UPDATE build_cache SET used = ? WHERE key = ?", (time.time(), str(key))
            )
            return entry

    def record(self, keys: Sequence[Digest], title: str, layer: Layer | None) -> None:
        """Remember what a step made under each of its keys."""
        now = time.time()
        made: tuple[object, ...] = (None, None, 0, None)
        if layer is not None:
            made = (
                layer.descriptor.media_type,
                str(layer.descriptor.digest),
                layer.descriptor.size,
                str(layer.diff_id),
            )
        with self._store.db.transaction() as connection:
            for key in keys:
                connection.execute(
                    "INSERT OR REPLACE INTO build_cache VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (str(key), title, *made, now, now),
                )
                if layer is not None:
                    needs = [("blob", str(layer.descriptor.digest)), ("layer", str(layer.diff_id))]
                    self._store.add_root(_ROOT, str(key), needs)

    def entries(self) -> tuple[CacheEntry, ...]:
        """All that is remembered, the longest unused first."""
        with self._store.db.transaction(write=False) as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM build_cache ORDER BY used, key"  # noqa: S608  (a constant)
            ).fetchall()
        return tuple(_entry(row) for row in rows)

    @property
    def size(self) -> int:
        """Bytes of all layers that are remembered, each counted once."""
        return sum(_sizes(self.entries()).values())

    def prune(
        self, *, unused_for: float = 0.0, keep_bytes: int | None = None
    ) -> tuple[CacheEntry, ...]:
        """Forget entries, so that the next `Store.collect` removes layers that no image has.

        Args:
            unused_for: Only those that have spared no work for so many seconds.
            keep_bytes: Of these only as many, the longest unused first, as it takes until the layers
                of the others are no larger than that; None for all.

        Returns:
            What was forgotten.
        """
        before = time.time() - unused_for
        forgotten = []
        with self._store.db.transaction() as connection:
            entries = self.entries()
            sizes = _sizes(entries)
            left, users = sum(sizes.values()), Counter(map(_blob, entries))
            for entry in entries:
                if entry.used > before or (keep_bytes is not None and left <= keep_bytes):
                    continue
                self._forget(connection, entry.key)
                forgotten.append(entry)
                users[_blob(entry)] -= 1
                if not users[_blob(entry)]:
                    left -= sizes.get(_blob(entry), 0)
            if keep_bytes is None:
                FileDigests(self._store).prune(before=before)
        return tuple(forgotten)

    def _forget(self, connection: sqlite3.Connection, key: Digest) -> None:
        connection.execute("DELETE FROM build_cache WHERE key = ?", (str(key),))
        self._store.drop_root(_ROOT, str(key))


def _blob(entry: CacheEntry) -> Digest | None:
    return None if entry.layer is None else entry.layer.descriptor.digest


def _sizes(entries: Iterable[CacheEntry]) -> dict[Digest | None, int]:
    return {_blob(entry): entry.size for entry in entries}


def _entry(row: Sequence[object]) -> CacheEntry:
    key, title, media_type, digest, size, diff_id, created, used = row
    layer = None
    if digest is not None:
        assert isinstance(size, int)
        layer = Layer(
            Descriptor(str(media_type), Digest.parse(str(digest)), size),
            Digest.parse(str(diff_id)),
        )
    assert isinstance(created, float)
    assert isinstance(used, float)
    return CacheEntry(Digest.parse(str(key)), str(title), layer, created, used)
