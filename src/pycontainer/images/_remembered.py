"""Which image came of which interpreter, so that the next program need not make it again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pycontainer.content import Schema
from pycontainer.oci import Descriptor, Digest, ImageConfig, Manifest, media_types

if TYPE_CHECKING:
    from pycontainer.content import Store

__all__ = ["recall", "remember"]

_SCHEMA: Final = Schema(
    "interpreters",
    1,
    """
    CREATE TABLE IF NOT EXISTS interpreter_image (
        fingerprint TEXT PRIMARY KEY, digest TEXT NOT NULL, size INTEGER NOT NULL,
        created REAL NOT NULL
    ) WITHOUT ROWID
    """,
)
_KEPT: Final = 32


def recall(store: Store, fingerprint: str) -> tuple[Manifest, ImageConfig] | None:
    """The image of that fingerprint, if all of it is still stored; the current lease keeps it."""
    store.db.ensure(_SCHEMA)
    with store.db.transaction(write=False) as connection:
        row = connection.execute(
            "SELECT digest, size FROM interpreter_image WHERE fingerprint = ?", (fingerprint,)
        ).fetchone()
    if row is None:
        return None
    descriptor = Descriptor(media_types.OCI_MANIFEST, Digest.parse(row[0]), row[1])
    if not store.blobs.exists(descriptor.digest):
        return None
    manifest = Manifest.parse(store.blobs.read_bytes(descriptor))
    if not all(store.blobs.exists(b.digest) for b in (manifest.config, *manifest.layers)):
        return None
    return manifest, ImageConfig.parse(store.blobs.read_bytes(manifest.config))


def remember(store: Store, fingerprint: str, manifest: Manifest) -> None:
    """Note an image under a fingerprint; the note keeps nothing from collection."""
    store.db.ensure(_SCHEMA)
    found = manifest.descriptor()
    with store.db.transaction() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO interpreter_image VALUES (?, ?, ?, ?)",
            (fingerprint, str(found.digest), found.size, time.time()),
        )
        connection.execute(
            "DELETE FROM interpreter_image WHERE fingerprint NOT IN "
            "(SELECT fingerprint FROM interpreter_image ORDER BY created DESC LIMIT ?)",
            (_KEPT,),
        )
