"""The store's SQLite database: short transactions, many threads, many processes."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Database", "Schema"]

_BUSY_SECONDS: Final = 60.0
_FAULTS: Final[dict[int, str]] = {
    sqlite3.SQLITE_BUSY: "find out which process keeps the store busy",
    sqlite3.SQLITE_CANTOPEN: "check that this user may write in the store",
    sqlite3.SQLITE_CORRUPT: "use another store; this one's content must be pulled or built again",
    sqlite3.SQLITE_FULL: "make room on the file system",
    sqlite3.SQLITE_IOERR: "check the file system that the store is on",
    sqlite3.SQLITE_NOTADB: "use another store; this one's content must be pulled or built again",
    sqlite3.SQLITE_PERM: "check that this user may write in the store",
    sqlite3.SQLITE_PROTOCOL: "keep the store on a local file system",
    sqlite3.SQLITE_READONLY: "check that this user may write in the store",
}
"""Failures that are not the fault of a statement, and what to do about them."""

_inherited: Final[list[sqlite3.Connection]] = []
"""Connections of a parent process. Closing one here could take the parent's locks from under it."""


@frozen
class Schema:
    """The tables of one room.

    Attributes:
        name: The room.
        version: Counts up with each change of `ddl`.
        ddl: Statements that make the tables, or what of them a former version lacks: they run once
            for each version, so each is a ``CREATE … IF NOT EXISTS``.
    """

    name: str
    version: int
    ddl: str


class Database:
    """One database file in WAL mode.

    One connection serves all threads of a process, one transaction at a time, so none may take longer
    than its own statements. A forked child opens its own connection.

    Args:
        path: The file; made when it is first used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._known: set[Schema] = set()
        self._depth = 0
        self._writing = False
        self._closed = False

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """Run statements that take effect together or, after an exception, not at all.

        Writers hold the database's one write lock from the beginning, in all processes: what is renamed
        inside is renamed by nobody else meanwhile. A transaction within another takes effect with
        the outer one; its own failure undoes its own statements only.

        Args:
            write: Whether statements will change something.

        Yields:
            A connection for statements. It begins, commits and rolls back by itself.

        Raises:
            StoreError: The database is damaged, full, or was locked for a minute.
            RuntimeError: A writing transaction was begun within a reading one.
        """
        with self._lock:
            if self._depth and write and not self._writing:
                raise RuntimeError("a writing transaction cannot be begun within a reading one")
            with self._naming_failures():
                connection = self._connect()
            name = f"level_{self._depth}"
            begin, end, undo = (
                (f"SAVEPOINT {name}", f"RELEASE {name}", f"ROLLBACK TO {name}")
                if self._depth
                else ("BEGIN IMMEDIATE" if write else "BEGIN", "COMMIT", "ROLLBACK")
            )
            self._depth += 1
            self._writing = self._writing or write
            try:
                with self._naming_failures():
                    connection.execute(begin)
                    yield connection
                    if self._connection is connection:
                        connection.execute(end)
            except BaseException:
                # Some failures, such as a full disk, have rolled back already.
                if self._connection is connection and connection.in_transaction:
                    connection.execute(undo)
                raise
            finally:
                # Not so in a child that was forked in between: the transaction is its parent's.
                if self._connection is connection:
                    self._depth -= 1
                    self._writing = self._writing and self._depth > 0

    def ensure(self, schema: Schema) -> None:
        """Make a room's tables unless they are there.

        Raises:
            StoreError: They are of a newer version than this program knows.
        """
        if schema in self._known:
            return
        with self.transaction(write=False) as connection:
            is_there = _version(connection, schema) == schema.version
        if not is_there:
            with self.transaction() as connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS schema_version"
                    " (name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID"
                )
                if _version(connection, schema) != schema.version:
                    for statement in _statements(schema.ddl):
                        connection.execute(statement)
                    connection.execute(
                        "INSERT OR REPLACE INTO schema_version VALUES (?, ?)",
                        (schema.name, schema.version),
                    )
        self._known.add(schema)

    def close(self) -> None:
        """Close the connection. The database cannot be used afterwards."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def leave_to_parent(self) -> None:
        """In a forked child: forget what belongs to the parent's threads and connection."""
        if self._connection is not None:
            _inherited.append(self._connection)
        self._connection = None
        self._lock = threading.RLock()
        self._depth = 0
        self._writing = False

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise ValueError(f"the database {self._path} is closed")
        if self._connection is None:
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    @contextmanager
    def _naming_failures(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = _FAULTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
            if remedy is None:  # a wrong statement or a broken constraint: the caller's business
                raise
            raise StoreError(
                f"the store's database {self._path} failed: {error}", remedy=remedy
            ) from error


def _version(connection: sqlite3.Connection, schema: Schema) -> int | None:
    query = "SELECT 1 FROM sqlite_master WHERE name = 'schema_version'"
    if connection.execute(query).fetchone() is None:
        return None
    row = connection.execute(
        "SELECT version FROM schema_version WHERE name = ?", (schema.name,)
    ).fetchone()
    version: int | None = None if row is None else row[0]
    if version is not None and version > schema.version:
        raise StoreError(
            f"the store's tables for {schema.name!r} are of version {version}, "
            f"this program knows up to {schema.version}",
            remedy="use a newer pycontainer or another store",
        )
    return version


def _statements(ddl: str) -> Iterator[str]:
    """Cut a script into statements; `executescript` would commit the transaction first."""
    statement = ""
    for piece in ddl.split(";"):
        if not statement and not piece.strip():
            continue
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
