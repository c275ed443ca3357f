"""The store's SQLite database: short transactions, many threads, many processes."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Database", "Schema"]

_BUSY_SECONDS = 60.0


@frozen
class Schema:
    """The tables of one room.

    Attributes:
        name: The room.
        version: Counts up with each change of `ddl`.
        ddl: Statements that make the tables; each ``CREATE … IF NOT EXISTS``.
    """

    name: str
    version: int
    ddl: str


class Database:
    """One database file in WAL mode.

    A connection belongs to a process: a forked child opens its own. Within a process one connection
    serves all threads, one transaction at a time; none may take longer than its own statements.

    Args:
        path: The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._known: set[tuple[str, int]] = set()
        self._depth = 0

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """Run statements that take effect together or, after an exception, not at all.

        Nested uses join the outer transaction. Writers hold the database's one write lock from the
        beginning, in all processes: what is renamed inside is renamed by nobody else meanwhile.

        Raises:
            StoreError: The database is damaged, full or locked for a minute.
        """
        with self._lock:
            connection = self._connect()
            if self._depth:
                yield connection
                return
            self._depth += 1
            try:
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back(connection)
                raise StoreError(f"the store's database {self._path} failed: {error}") from error
            except BaseException:
                self._roll_back(connection)
                raise
            finally:
                self._depth -= 1

    def ensure(self, schema: Schema) -> None:
        """Make a room's tables unless they are there.

        Raises:
            StoreError: They are of a newer version than this program knows.
        """
        if (schema.name, schema.version) in self._known:
            return
        with self.transaction() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_version (name TEXT PRIMARY KEY, version INTEGER)"
            )
            row = connection.execute(
                "SELECT version FROM schema_version WHERE name = ?", (schema.name,)
            ).fetchone()
            if row is not None and row[0] > schema.version:
                raise StoreError(
                    f"the store's tables for {schema.name!r} are of version {row[0]}, "
                    f"this program knows up to {schema.version}",
                    remedy="use a newer pycontainer or another store",
                )
            for statement in filter(str.strip, schema.ddl.split(";")):
                connection.execute(statement)
            connection.execute(
                "INSERT OR REPLACE INTO schema_version VALUES (?, ?)", (schema.name, schema.version)
            )
        self._known.add((schema.name, schema.version))

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None or self._process != os.getpid():
            # A connection inherited by fork is left alone: closing it here would drop the parent's locks.
            try:
                connection = sqlite3.connect(
                    self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
                )
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
            except sqlite3.Error as error:
                raise StoreError(
                    f"cannot open the store's database {self._path}: {error}",
                    remedy="check that this user may write there, or choose another PYCONTAINER_HOME",
                ) from error
            self._connection, self._process, self._depth = connection, os.getpid(), 0
        return self._connection

    @staticmethod
    def _roll_back(connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
