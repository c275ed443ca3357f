"""The store: blobs, what relates them, and who needs them."""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import time
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from attrs import field, frozen

from pycontainer._linux.tree import remove_tree
from pycontainer.content._blobs import BlobDir, is_abandoned
from pycontainer.content._database import Database, Schema
from pycontainer.content._sessions import Session, is_alive
from pycontainer.errors import StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    from pycontainer.oci import Digest

__all__ = ["Collected", "Lease", "Node", "Store", "StoreBlobs"]

_VERSION: Final = "1\n"
_SCHEMA: Final = Schema(
    "content",
    1,
    """
    CREATE TABLE IF NOT EXISTS resource (
        kind TEXT NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL,
        created REAL NOT NULL, PRIMARY KEY (kind, key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS edge (
        kind TEXT NOT NULL, key TEXT NOT NULL, to_kind TEXT NOT NULL, to_key TEXT NOT NULL,
        PRIMARY KEY (kind, key, to_kind, to_key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS root (
        kind TEXT NOT NULL, name TEXT NOT NULL, to_kind TEXT NOT NULL, to_key TEXT NOT NULL,
        path TEXT, PRIMARY KEY (kind, name, to_kind, to_key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS lease (
        id TEXT NOT NULL, session TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
        PRIMARY KEY (id, kind, key)
    ) WITHOUT ROWID
    """,
)
_REACHED: Final = """
    WITH RECURSIVE reached (kind, key) AS (
        SELECT to_kind, to_key FROM root UNION SELECT kind, key FROM lease
        UNION SELECT e.to_kind, e.to_key FROM edge e JOIN reached r ON e.kind = r.kind AND e.key = r.key
    )
"""

Node = tuple[str, str]
"""A thing in the store: its kind (``blob``, ``layer``, …) and its key among those."""

_current_lease: ContextVar[tuple[Lease, ...]] = ContextVar("lease", default=())


@frozen
class Collected:
    """What a garbage collection removed.

    Attributes:
        freed: Bytes.
        removed: The things removed.
    """

    freed: int = 0
    removed: tuple[Node, ...] = ()


@frozen
class Lease:
    """Keeps what is added under it from collection, until it ends or its process does."""

    store: Store = field(eq=False, repr=False)
    id: str

    def add(self, *nodes: Node) -> None:
        """Keep these too."""
        self.store._lease(self.id, nodes)  # noqa: SLF001  (the other half of this class)


class StoreBlobs(BlobDir):
    """The blobs of a store: files, and a row each that names them to the collector."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.path)
        self._store = store

    def exists(self, digest: Digest) -> bool:
        """Whether the blob is there; if so, the current lease keeps it from now on."""
        return self._store.has_resource("blob", str(digest))

    def _install(self, temporary: Path, digest: Digest, size: int) -> None:
        self._store.put_resource(
            "blob", str(digest), path=self.path(digest), size=size, install=temporary
        )

    def delete(self, digest: Digest) -> None:
        """Remove a blob at once, whoever needs it."""
        with self._store.db.transaction() as connection:
            connection.execute(
                "DELETE FROM resource WHERE kind = 'blob' AND key = ?", (str(digest),)
            )
            super().delete(digest)


class Store:
    """A home of images and containers: a directory that many threads and processes use at once.

    Open one with `Store.open`; two stores never touch each other. Closing it twice is fine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = Database(path / "store.db")
        self.blobs = StoreBlobs(self)
        self._session = Session(self.directory("sessions"))
        self._process = os.getpid()
        self._closed = False
        self._lock = threading.Lock()
        self._quiet = False
        self.db.ensure(_SCHEMA)

    # --- opening and closing -----------------------------------------------------------------

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None) -> Store:
        """Open a store, made if it is not there.

        Args:
            path: Its directory. Left out: ``$PYCONTAINER_HOME``, else ``/var/lib/pycontainer`` for
                root, else ``$XDG_DATA_HOME/pycontainer`` (``~/.local/share/pycontainer``).

        Raises:
            StoreError: It cannot be made or written, belongs to somebody else, or is of a version
                that this program does not know.
        """
        home = Path(path) if path is not None else _default_path()
        _prepare(home)
        return cls(home.resolve())

    @classmethod
    def default(cls) -> Store:
        """This process's store at the default place, opened on first use."""
        path = _default_path().absolute()
        with _defaults_lock:
            store = _defaults.get(path)
            if store is None or store._closed or store._process != os.getpid():  # noqa: SLF001
                store = cls.open(path)
                store._quiet = True  # noqa: SLF001  (closed at exit)
                _defaults[path] = store
            return store

    def close(self) -> None:
        """Give the handle back; what it leased or had in temporaries is garbage from now on."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._process == os.getpid():
            self.db.close()
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not self._quiet:
            warnings.warn(f"unclosed store {self.path}", ResourceWarning, source=self, stacklevel=1)
            self.close()

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    # --- places ------------------------------------------------------------------------------

    def directory(self, name: str) -> Path:
        """A directory of a room's own, made on demand, for this user alone."""
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    @contextmanager
    def temporary(self, purpose: str = "work") -> Iterator[Path]:
        """A new empty directory on the store's file system.

        It is removed at the end, or, should this process be killed, by the next collection.
        """
        path = self.directory("tmp") / f"{self._session.name}-{purpose}-{secrets.token_hex(6)}"
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            remove_tree(path)

    # --- things and what they need -----------------------------------------------------------

    def put_resource(
        self, kind: str, key: str, *, path: Path, size: int, install: Path | None = None
    ) -> None:
        """Enter a file or directory into the store, in one transaction with its getting its name.

        Args:
            kind: What it is.
            key: Which one.
            path: Its place beneath the store.
            size: Bytes, for the report of a collection.
            install: What is renamed to `path`; a directory that is there already is kept, and
                `install` left to its owner.
        """
        with self.db.transaction() as connection:
            if install is not None and not (path.is_dir() and install.is_dir()):
                path.parent.mkdir(parents=True, exist_ok=True)
                install.rename(path)
                _sync_directory(path.parent)
            connection.execute(
                "INSERT OR REPLACE INTO resource VALUES (?, ?, ?, ?, ?)",
                (kind, key, str(path.relative_to(self.path)), size, time.time()),
            )
            self._lease_current(connection, kind, key)

    def has_resource(self, kind: str, key: str) -> bool:
        """Whether a thing is in the store; if so, the current lease keeps it from now on."""
        query = "SELECT path FROM resource WHERE kind = ? AND key = ?"
        leased = bool(_current_lease.get())
        with self.db.transaction(write=leased) as connection:
            row = connection.execute(query, (kind, key)).fetchone()
            if row is None or not (self.path / row[0]).exists():
                return False
            self._lease_current(connection, kind, key)
            return True

    def link(self, node: Node, needs: Iterable[Node]) -> None:
        """Say that as long as `node` is kept, these are kept too."""
        with self.db.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO edge VALUES (?, ?, ?, ?)", [(*node, *to) for to in needs]
            )

    def add_root(
        self, kind: str, name: str, targets: Sequence[Node], *, path: Path | None = None
    ) -> None:
        """Keep these things under a name, in place of what was under it.

        Args:
            kind: Whose names: ``image``, ``container``, ``cache``, …
            name: The name.
            targets: What to keep.
            path: Where given, the root counts only as long as that path exists.
        """
        with self.db.transaction() as connection:
            connection.execute("DELETE FROM root WHERE kind = ? AND name = ?", (kind, name))
            connection.executemany(
                "INSERT OR REPLACE INTO root VALUES (?, ?, ?, ?, ?)",
                [(kind, name, *to, None if path is None else str(path)) for to in targets],
            )

    def drop_root(self, kind: str, name: str) -> None:
        """Keep nothing under that name any more."""
        with self.db.transaction() as connection:
            connection.execute("DELETE FROM root WHERE kind = ? AND name = ?", (kind, name))

    def roots_of(self, node: Node) -> tuple[Node, ...]:
        """The live roots (kind and name) that keep a thing directly."""
        with self.db.transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT kind, name, path FROM root WHERE to_kind = ? AND to_key = ? ORDER BY 1, 2",
                node,
            ).fetchall()
        return tuple(
            (kind, name) for kind, name, path in rows if path is None or Path(path).exists()
        )

    # --- leases ------------------------------------------------------------------------------

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Keep what this thread adds or finds in the meantime.

        Other threads that work for it run in a copy of its context (`contextvars.copy_context`).
        """
        lease = Lease(self, secrets.token_hex(8))
        token = _current_lease.set((*_current_lease.get(), lease))
        try:
            yield lease
        finally:
            _current_lease.reset(token)
            with self.db.transaction() as connection:
                connection.execute("DELETE FROM lease WHERE id = ?", (lease.id,))

    def _lease(self, lease_id: str, nodes: Iterable[Node]) -> None:
        with self.db.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO lease VALUES (?, ?, ?, ?)",
                [(lease_id, self._session.name, *node) for node in nodes],
            )

    def _lease_current(self, connection: sqlite3.Connection, kind: str, key: str) -> None:
        for lease in _current_lease.get():
            if lease.store is self:
                connection.execute(
                    "INSERT OR IGNORE INTO lease VALUES (?, ?, ?, ?)",
                    (lease.id, self._session.name, kind, key),
                )

    # --- collection --------------------------------------------------------------------------

    def collect(self, *, dry_run: bool = False) -> Collected:
        """Remove what no root and no lease reaches, and what killed processes left behind.

        Safe beside running pulls, builds and containers.

        Args:
            dry_run: Only report.
        """
        with self.db.transaction() as connection:
            self._forget_the_dead(connection)
            rows = connection.execute(
                _REACHED
                + "SELECT kind, key, path, size FROM resource WHERE (kind, key) NOT IN reached"
            ).fetchall()
            report = Collected(sum(r[3] for r in rows), tuple((r[0], r[1]) for r in rows))
            if dry_run:
                return report
            # Still inside the transaction: nobody can enter the same thing anew meanwhile.
            for kind, key, path, _ in rows:
                self._discard(self.path / path)
                connection.execute("DELETE FROM resource WHERE kind = ? AND key = ?", (kind, key))
            connection.execute(
                "DELETE FROM edge WHERE (kind, key) NOT IN (SELECT kind, key FROM resource)"
            )
            self._discard_strays(connection)
        self._empty_trash()
        return report

    def _forget_the_dead(self, connection: sqlite3.Connection) -> None:
        sessions = self.directory("sessions")
        for (name,) in connection.execute("SELECT DISTINCT session FROM lease").fetchall():
            if name != self._session.name and not is_alive(sessions, name):
                connection.execute("DELETE FROM lease WHERE session = ?", (name,))
        for (path,) in connection.execute(
            "SELECT DISTINCT path FROM root WHERE path IS NOT NULL"
        ).fetchall():
            if not Path(path).exists():
                connection.execute("DELETE FROM root WHERE path = ?", (path,))

    def _discard_strays(self, connection: sqlite3.Connection) -> None:
        """Files without a row: a process died between rename and commit, or in the middle of a blob."""
        sessions = self.directory("sessions")
        for path in self.directory("tmp").iterdir():
            if not is_alive(sessions, path.name.partition("-")[0]):
                self._discard(path)
        for name in [path.name for path in sessions.iterdir()]:
            is_alive(sessions, name.removeprefix("."))
        known = {
            row[0] for row in connection.execute("SELECT path FROM resource WHERE kind = 'blob'")
        }
        for path in self.path.glob("blobs/*/*"):
            if path.name.startswith("."):
                if is_abandoned(path):
                    path.unlink(missing_ok=True)
            elif str(path.relative_to(self.path)) not in known:
                self._discard(path)

    def _discard(self, path: Path) -> None:
        try:
            path.rename(self.directory("trash") / secrets.token_hex(8))
        except FileNotFoundError:
            return

    def _empty_trash(self) -> None:
        for path in self.directory("trash").iterdir():
            remove_tree(path)


_defaults: dict[Path, Store] = {}
_defaults_lock = threading.Lock()


@atexit.register
def _close_defaults() -> None:
    for store in _defaults.values():
        store.close()


def _default_path() -> Path:
    home = os.environ.get("PYCONTAINER_HOME")
    if home:
        return Path(home)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/pycontainer")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local/share") / "pycontainer"


def _prepare(home: Path) -> None:
    """Make the directory and say what it is; refuse one that is something else."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = home.stat().st_uid
        version = home / "version"
        if not version.exists():
            temporary = home / f".version.{secrets.token_hex(4)}"
            temporary.write_text(_VERSION)
            temporary.rename(version)
        found = version.read_text()
    except OSError as error:
        raise StoreError(
            f"cannot open a store at {home}: {error.strerror}",
            remedy="give a directory that this user may write, or set PYCONTAINER_HOME",
        ) from error
    if hasattr(os, "geteuid") and owner != os.geteuid():
        raise StoreError(
            f"the store at {home} belongs to user {owner}, not to {os.geteuid()}",
            remedy="each user has a store of their own: set PYCONTAINER_HOME",
        )
    if found != _VERSION:
        raise StoreError(
            f"the store at {home} is of version {found.strip()!r}, this program knows version 1",
            remedy="use the pycontainer that made it, or another directory",
        )


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
