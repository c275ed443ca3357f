"""The names of images in a store, and what they keep from collection."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.content import Schema
from pycontainer.oci import Descriptor, Digest, Reference

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from pycontainer.content import Store

__all__ = [
    "INDEX",
    "Row",
    "assign",
    "assign_index",
    "find",
    "find_index",
    "listed",
    "names_of",
    "release",
    "release_index",
]

_ROOT: Final = "image"
INDEX: Final = "index"
"""The kind of the roots that keep indexes. A name with one has an image of it, too, if there is any."""

_SCHEMA: Final = Schema(
    "images",
    1,
    """
    CREATE TABLE IF NOT EXISTS image_name (
        name TEXT PRIMARY KEY, digest TEXT NOT NULL, media_type TEXT NOT NULL,
        size INTEGER NOT NULL, config TEXT NOT NULL, created REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS image_name_digest ON image_name (digest);
    CREATE INDEX IF NOT EXISTS image_name_config ON image_name (config)
    """,
)
_COLUMNS: Final = "name, digest, media_type, size, config"


@frozen
class Row:
    """A name and the image that has it.

    Attributes:
        name: A full reference; the manifest's digest for an image that has no other name.
        manifest: Descriptor of the manifest.
        config: Digest of the config.
    """

    name: str
    manifest: Descriptor
    config: Digest

    @property
    def reference(self) -> Reference | None:
        """The name as a reference, None for an image without one."""
        return None if self.is_anonymous else Reference.parse(self.name)

    @property
    def is_anonymous(self) -> bool:
        """Whether it only stands for "this image is to be kept"."""
        return self.name == str(self.manifest.digest)


def assign(
    store: Store,
    manifest: Descriptor,
    config: Digest,
    names: Iterable[Reference] = (),
    *,
    index: Digest | None = None,
) -> None:
    """Give an image names, taken from whatever had them; without any it is kept unnamed.

    Args:
        store: Where it is.
        manifest: The image's manifest.
        config: Its config.
        names: The names.
        index: What they stand for where they came from: an index of that digest which is kept under
            one of the names stays there.
    """
    texts = [str(name) for name in names]
    store.db.ensure(_SCHEMA)
    with store.db.transaction() as connection:
        if texts:
            _drop(store, connection, str(manifest.digest))
        elif not _rows(connection, "digest = ?", str(manifest.digest)):
            texts = [str(manifest.digest)]
        for text in texts:
            connection.execute(
                "INSERT OR REPLACE INTO image_name VALUES (?, ?, ?, ?, ?, ?)",
                (
                    text,
                    str(manifest.digest),
                    manifest.media_type,
                    manifest.size,
                    str(config),
                    time.time(),
                ),
            )
            store.add_root(_ROOT, text, [("blob", str(manifest.digest))])
            if index is None or find_index(store, text) != index:
                store.drop_root(INDEX, text)


def release(store: Store, names: Iterable[str]) -> None:
    """Take names away; an image without any is removed by the next collection."""
    store.db.ensure(_SCHEMA)
    with store.db.transaction() as connection:
        for name in names:
            _drop(store, connection, name)
            store.drop_root(INDEX, name)


def assign_index(store: Store, index: Digest, name: Reference | None) -> None:
    """Give an index a name, beside that of an image; without one it is kept under its digest."""
    store.add_root(INDEX, str(name or index), [("blob", str(index))])


def find_index(store: Store, name: str) -> Digest | None:
    """The index of a name, a full reference or for unnamed ones their digest."""
    for root in store.roots(INDEX, name):
        if root.name == name:
            return Digest.parse(root.targets[0][1])
    return None


def release_index(store: Store, index: Digest, name: Reference | None) -> None:
    """Take a name away from an index, unless the name has moved on."""
    with store.db.transaction():
        if find_index(store, str(name or index)) == index:
            store.drop_root(INDEX, str(name or index))


def find(store: Store, name: Reference) -> Row | None:
    """The image of exactly that name."""
    rows = _select(store, "name = ?", str(name))
    if not rows and name.digest is not None:
        # A digest names the image whatever the repository is called.
        rows = _select(store, "digest = ?", str(name.digest))
    return rows[0] if rows else None


def names_of(store: Store, manifest: Digest) -> list[Row]:
    """All names of an image."""
    return _select(store, "digest = ?", str(manifest))


def listed(store: Store, prefix: str = "") -> list[Row]:
    """All names; only those of images whose manifest's or config's digest begins with `prefix`."""
    if not prefix:
        return _select(store, "1")
    return _select(store, "digest GLOB ?1 || '*' OR config GLOB ?1 || '*'", prefix)


def _select(store: Store, condition: str, *values: str) -> list[Row]:
    store.db.ensure(_SCHEMA)
    with store.db.transaction(write=False) as connection:
        return _rows(connection, condition, *values)


def _rows(connection: sqlite3.Connection, condition: str, *values: str) -> list[Row]:
    query = f"SELECT {_COLUMNS} FROM image_name WHERE {condition} ORDER BY name"  # noqa: S608
    return [
        Row(name, Descriptor(media_type, Digest.parse(digest), size), Digest.parse(config))
        for name, digest, media_type, size, config in connection.execute(query, values)
    ]


def _drop(store: Store, connection: sqlite3.Connection, name: str) -> None:
    connection.execute("DELETE FROM image_name WHERE name = ?", (name,))
    store.drop_root(_ROOT, name)
