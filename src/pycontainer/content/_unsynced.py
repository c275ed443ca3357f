"""What may be incomplete after a power cut: files that have their names, but perhaps not their content.

Writing out a layer before it gets its name would make a pull wait for the disk. Instead each is noted
here until the file system was synced. The notes name the boot: those of a former one are of things
that nobody knows to be whole, which are removed when the store is opened, and made again when they are
asked for. A note is written in the transaction that announces the thing; whatever part of the database
survives, there is no thing in it without its note.

Blobs are synced one by one, or in a batch: several that are of no use without each other have notes until
the end of what needs them, when all are synced and the notes dropped. Each sync makes the file system write
its journal, for which everybody waits; the second of two in a row has nothing left to do.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from pycontainer._linux.durable import boot_id, sync_file_system
from pycontainer.content._database import Schema
from pycontainer.content._writer import sync_directory
from pycontainer.errors import ContentError, StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from pathlib import Path

    from pycontainer.content._graph import Node
    from pycontainer.content._store import Store

__all__ = ["SCHEMA", "Batch", "batch_of", "current_batches", "forget", "note", "review", "settle"]

_log = logging.getLogger("pycontainer.content")
_SETTLED_SECONDS: Final = 60.0
"""After these the kernel has written it out (it begins after 30), so that a sync has little to do."""

SCHEMA: Final = Schema(
    "unsynced",
    1,
    """
    CREATE TABLE IF NOT EXISTS unsynced (
        kind TEXT NOT NULL, key TEXT NOT NULL, boot TEXT NOT NULL, since REAL NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID
    """,
)


def note(connection: sqlite3.Connection, node: Node) -> float:
    """Note that a thing is about to get its name; returns the time that stands in the note."""
    since = time.time()
    connection.execute(
        "INSERT OR REPLACE INTO unsynced VALUES (?, ?, ?, ?)", (*node, boot_id(), since)
    )
    return since


def forget(connection: sqlite3.Connection, node: Node) -> None:
    """Forget the note of a thing that is gone."""
    connection.execute("DELETE FROM unsynced WHERE kind = ? AND key = ?", node)


def review(store: Store) -> None:
    """Remove what was not known to be on the disk when the machine went down; see to the rest later.

    For a store that has just been opened. What has been there for long is synced by a thread, as
    a disk may be busy with other things.
    """
    with store.db.transaction(write=False) as connection:
        noted = connection.execute("SELECT kind, key, boot, since FROM unsynced").fetchall()
    for kind, key, boot, _ in noted:
        if boot != boot_id():
            _log.info("%s %s may be incomplete since the machine went down: removed", kind, key)
            # Not if somebody who opened the store as well has made it again meanwhile.
            store.remove_resource(kind, key, when=partial(_is_doubtful, (kind, key)))
    before = time.time() - _SETTLED_SECONDS
    if any(boot == boot_id() and since <= before for *_, boot, since in noted):
        threading.Thread(
            target=_settle_quietly, args=(store,), name="store-sync", daemon=True
        ).start()


def _is_doubtful(node: Node, connection: sqlite3.Connection) -> bool:
    row = connection.execute(
        "SELECT boot FROM unsynced WHERE kind = ? AND key = ?", node
    ).fetchone()
    return row is not None and row[0] != boot_id()


def settle(store: Store) -> None:
    """Sync the file system if something is noted that the kernel has had a minute to write out."""
    with store.db.transaction(write=False) as connection:
        settled = connection.execute(
            "SELECT kind, key, since FROM unsynced WHERE boot = ? AND since <= ?",
            (boot_id(), time.time() - _SETTLED_SECONDS),
        ).fetchall()
    if not settled:
        return
    try:
        sync_file_system(store.path)
    except OSError as error:
        _log.warning("cannot sync %s: %s", store.path, error)
        return
    _drop(store, settled)


def _drop(store: Store, notes: Iterable[tuple[str, str, float]]) -> None:
    """Drop notes, but not newer ones of the same things."""
    with store.db.transaction() as connection:
        connection.executemany(
            "DELETE FROM unsynced WHERE kind = ? AND key = ? AND since = ?", notes
        )


class Batch:
    """Blobs of a store that are synced together, at the end of a `with` block without an exception.

    Several threads may add to it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._process = os.getpid()
        self._blobs: list[tuple[Node, Path, float]] = []

    def __enter__(self) -> Self:
        self._token = current_batches.set((*current_batches.get(), self))
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        current_batches.reset(self._token)
        if kind is None:
            self.sync()

    @property
    def is_ours(self) -> bool:
        """Whether it was begun by this process: its parent's ends without a forked child."""
        return self._process == os.getpid()

    def add(self, node: Node, path: Path, since: float) -> None:
        """Take a blob that has its name, and a note of that time."""
        self._blobs.append((node, path, since))

    def sync(self) -> None:
        """Write all out and drop their notes.

        Raises:
            ContentError: The disk failed; the notes stay.
        """
        if not self._blobs:
            return
        try:
            for _, path, _ in self._blobs:
                _sync_file(path)
            for directory in {path.parent for _, path, _ in self._blobs}:
                sync_directory(directory)
        except OSError as error:
            raise ContentError(
                f"cannot write out blobs of {self.store.path}: {error.strerror}"
            ) from error
        _drop(self.store, [(*node, since) for node, _, since in self._blobs])


current_batches: ContextVar[tuple[Batch, ...]] = ContextVar("pycontainer_batches", default=())
"""The batches around the running code, of all stores, the outermost first."""


def batch_of(store: Store) -> Batch | None:
    """The outermost batch of a store around the running code."""
    ours = (each for each in current_batches.get() if each.store is store and each.is_ours)
    return next(ours, None)


def _sync_file(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # removed meanwhile
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _settle_quietly(store: Store) -> None:
    try:
        settle(store)
    except (StoreError, ValueError) as error:  # closed meanwhile: the next one who opens it does it
        _log.debug("%s is not synced: %s", store.path, error)
