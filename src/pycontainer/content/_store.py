"""The store: blobs, what relates them, and who needs them."""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import warnings
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pycontainer._linux.durable import begin_writing_out
from pycontainer._linux.tree import remove_tree
from pycontainer.content import _unsynced
from pycontainer.content._blobs import BlobDir
from pycontainer.content._collector import Collected, Collector
from pycontainer.content._database import Database
from pycontainer.content._events import Event, EventKind, Filters, events_of, record_event
from pycontainer.content._graph import SCHEMA, Graph, Node, Resource, Root
from pycontainer.content._home import (
    Snapshotter,
    default_home,
    preferred_snapshotter,
    prepare_home,
)
from pycontainer.content._leases import Lease, current_leases, leases
from pycontainer.content._sessions import Session
from pycontainer.content._writer import sync_directory

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from pycontainer.oci import Digest

__all__ = ["Store", "StoreBlobs"]

_BLOB = "blob"


class StoreBlobs(BlobDir):
    """The blobs of a store: files, and a row each that names them to the collector."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.path)
        self._store = store

    def exists(self, digest: Digest) -> bool:
        """Whether the blob is there; if so, the current lease keeps it from now on."""
        return self._store.has_resource(_BLOB, str(digest))

    def delete(self, digest: Digest) -> None:
        """Remove a blob at once, whoever needs it; one that is not there is removed."""
        with self._store.db.transaction():
            self._store.remove_resource(_BLOB, str(digest))
            super().delete(digest)

    def _sync(self, fd: int) -> None:
        if _unsynced.batch_of(self._store) is None:
            super()._sync(fd)
        else:
            begin_writing_out(fd)

    def _install(self, temporary: Path, digest: Digest, size: int) -> None:
        self._store.put_resource(
            _BLOB, str(digest), path=self.path(digest), size=size, install=temporary
        )


class Store:
    """A home of images and containers: a directory that many threads and processes use at once.

    Two stores never touch each other. A handle is a context manager; closing it twice is fine. A forked
    child may go on with its parent's handle, but what it adds is its own.

    Attributes:
        path: The directory.
        db: Its database, in which rooms may have tables of their own.
        blobs: Its blobs.
        snapshotter: What becomes of layers that this handle adds; layers of both kinds stack.
    """

    def __init__(self, path: Path, db: Database, snapshotter: Snapshotter = "overlay") -> None:
        self.path = path
        self.db = db
        self.snapshotter = snapshotter
        self._graph = Graph(path)
        self.blobs = StoreBlobs(self)
        self._session: Session | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._closers: list[Callable[[Store], None]] = []
        self._warns = os.getpid()
        _open_stores.add(self)

    # --- opening and closing -----------------------------------------------------------------

    @classmethod
    def open(
        cls, path: str | os.PathLike[str] | None = None, *, snapshotter: Snapshotter | None = None
    ) -> Store:
        """Open a store, made if it is not there.

        Args:
            path: Its directory. Left out: ``$PYCONTAINER_HOME``, else ``/var/lib/pycontainer`` for
                root, else ``$XDG_DATA_HOME/pycontainer`` (``~/.local/share/pycontainer``).
            snapshotter: What becomes of layers: ``overlay``: each is unpacked to a directory;
                ``erofs``: the kernel mounts the tar itself by an index; ``auto``: whichever is faster
                here. Left out: ``$PYCONTAINER_SNAPSHOTTER``, else ``overlay``.

        Raises:
            StoreError: It cannot be made or written, belongs to somebody else, or is of a version
                that this program does not know; or there is no such snapshotter.
        """
        preferred = preferred_snapshotter(snapshotter)
        home = (Path(path) if path is not None else default_home()).resolve()
        db = Database(home / "store.db")
        try:
            prepare_home(home, fill=lambda: db.ensure(SCHEMA))
            db.ensure(SCHEMA)
            db.ensure(_unsynced.SCHEMA)
        except BaseException:
            db.close()
            raise
        store = cls(home, db, preferred)
        try:
            _unsynced.review(store)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def default(cls) -> Store:
        """This process's store at the default place; opened on first use, closed at exit."""
        home = default_home().resolve()
        with _defaults_lock:
            store = _defaults.get(home)
            if store is None or store._closed:  # noqa: SLF001
                store = _defaults[home] = cls.open(home)
                store._warns = 0  # noqa: SLF001
            return store

    def before_close(self, closer: Callable[[Store], None]) -> None:
        """Have a room's function called with the store when the handle is closed, while it still works."""
        self._closers.append(closer)

    def close(self) -> None:
        """Give the handle back; its leases and temporaries end."""
        with self._lock:
            closers, self._closers = self._closers, []
        if not self._closed:
            for closer in closers:
                closer(self)
        with self._lock:
            if self._closed:
                return
            self._closed = True
            session, self._session = self._session, None
        _open_stores.discard(self)
        self.db.close()
        if session is not None:
            session.close()

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
        if getattr(self, "_closed", True):
            return
        if self._warns == os.getpid():
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
        path = self.directory("tmp") / f"{self._current_session()}-{purpose}-{secrets.token_hex(6)}"
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            remove_tree(path)

    # --- things and what they need -----------------------------------------------------------

    def put_resource(
        self,
        kind: str,
        key: str,
        *,
        path: Path | None,
        size: int,
        install: Path | None = None,
    ) -> None:
        """Enter a thing into the store, in one transaction with its file's getting its name.

        What is no blob need not be on the disk yet: should the machine go down before it is, the
        thing is gone when the store is opened again.

        Args:
            kind: What it is.
            key: Which one.
            path: Its file or directory; None for a thing that has none.
            size: Bytes, for the report of a collection.
            install: What is renamed to `path`. A directory that is there already is kept, and
                `install` left to its owner.
        """
        resource = Resource(kind, key, path, size)
        if install is not None and kind != _BLOB:
            trash = self.directory("trash") / secrets.token_hex(12)
            # Announced first, so that a crash between rename and commit leaves no file without a row:
            # only blobs are looked for on the disk.
            with self.db.transaction() as connection:
                known = self._graph.get(connection, (kind, key))
                if known is None or known.path != path:
                    self._graph.put(connection, resource)
                    if path is not None:  # its row was lost when the machine went down
                        self._discard(path, trash)
                if path is not None and not path.exists():
                    _unsynced.note(connection, (kind, key))
                self._keep(connection, (kind, key))
            remove_tree(trash)
        with self.db.transaction() as connection:
            if install is not None and path is not None:
                if kind == _BLOB:
                    self._install_blob(connection, (kind, key), install, path)
                else:
                    _install(install, path)
            self._graph.put(connection, resource)
            self._keep(connection, (kind, key))

    def has_resource(self, kind: str, key: str) -> bool:
        """Whether a thing is in the store; if so, the current lease keeps it from now on."""
        leased = any(leases(self))
        with self.db.transaction(write=leased) as connection:
            resource = self._graph.get(connection, (kind, key))
            if resource is None or not (resource.path is None or resource.path.exists()):
                return False
            self._keep(connection, (kind, key))
            return True

    def remove_resource(
        self, kind: str, key: str, *, when: Callable[[sqlite3.Connection], bool] | None = None
    ) -> None:
        """Remove a thing at once, whoever needs it; one that is not there is removed.

        Args:
            kind: What it is.
            key: Which one.
            when: Asked within the transaction; the thing stays if it says no.
        """
        trash = self.directory("trash") / secrets.token_hex(12)
        with self.db.transaction() as connection:
            resource = self._graph.get(connection, (kind, key))
            if when is not None and not when(connection):
                return
            _unsynced.forget(connection, (kind, key))
            if resource is None:
                return
            if resource.path is not None:
                self._discard(resource.path, trash)
            self._graph.remove(connection, (kind, key))
        remove_tree(trash)

    @staticmethod
    def _discard(path: Path, trash: Path) -> None:
        with suppress(FileNotFoundError):
            path.rename(trash)

    def link(self, node: Node, needs: Iterable[Node]) -> None:
        """Say that as long as `node` is kept, these are kept too; the current lease keeps `node`."""
        with self.db.transaction() as connection:
            self._graph.link(connection, node, needs)
            self._keep(connection, node)

    def links(self, node: Node) -> tuple[Node, ...]:
        """What was said to be kept as long as `node` is."""
        with self.db.transaction(write=False) as connection:
            return self._graph.links(connection, node)

    def add_root(
        self, kind: str, name: str, targets: Sequence[Node], *, path: Path | None = None
    ) -> None:
        """Keep these things under a name, in place of what was under it.

        Args:
            kind: Whose names: ``image``, ``container``, ``cache``, …
            name: The name.
            targets: What to keep, and with it what it needs.
            path: Where given, the root ends when that file or directory is gone.
        """
        with self.db.transaction() as connection:
            self._graph.put_root(connection, Root(kind, name, tuple(targets), path))

    def drop_root(self, kind: str, name: str) -> None:
        """Keep nothing under that name any more."""
        with self.db.transaction() as connection:
            self._graph.drop_root(connection, kind, name)

    def roots(self, kind: str, prefix: str = "") -> list[Root]:
        """The live roots of a kind whose names begin so, by name."""
        with self.db.transaction(write=False) as connection:
            return self._graph.roots(connection, kind, prefix)

    def is_reached(self, roots: Iterable[tuple[str, str]], node: Node) -> bool:
        """Whether one of these roots, each given by kind and beginning of its name, keeps a thing."""
        with self.db.transaction(write=False) as connection:
            return self._graph.is_reached(connection, roots, node)

    def roots_of(self, node: Node) -> tuple[Node, ...]:
        """The live roots (kind and name) that keep a thing directly."""
        with self.db.transaction(write=False) as connection:
            return self._graph.roots_of(connection, node)

    # --- leases ------------------------------------------------------------------------------

    @contextmanager
    def lease(self, name: str = "") -> Iterator[Lease]:
        """Keep what the code inside adds to this store or finds there.

        Other threads that work for it run in a copy of its context (`contextvars.copy_context`).

        Args:
            name: What it is for, for people.
        """
        lease = Lease(self, secrets.token_hex(12), name)
        session = self._current_session()
        with self.db.transaction() as connection:
            self._graph.open_lease(connection, lease.id, session, name)
        token = current_leases.set((*current_leases.get(), lease))
        try:
            yield lease
        finally:
            current_leases.reset(token)
            if lease.is_ours:
                with self.db.transaction() as connection:
                    self._graph.close_lease(connection, lease.id)

    def keep(self, lease: Lease, nodes: Iterable[Node]) -> None:
        """Let a lease keep these too; `Lease.add` is the usual way to say so."""
        with self.db.transaction() as connection:
            self._graph.keep(connection, lease.id, nodes)

    def _keep(self, connection: sqlite3.Connection, node: Node) -> None:
        for lease in leases(self):
            self._graph.keep(connection, lease.id, [node])

    # --- syncing -----------------------------------------------------------------------------

    @contextmanager
    def sync_together(self) -> Iterator[None]:
        """Have blobs that are written inside synced at the end, all at once; that is much faster.

        Should the machine go down before that, they are gone when the store is opened again. After an
        exception they are not synced, which happens at some later time. Other threads that work for it
        run in a copy of its context (`contextvars.copy_context`).

        Raises:
            ContentError: The disk failed.
        """
        with _unsynced.Batch(self):
            yield

    def _install_blob(
        self, connection: sqlite3.Connection, blob: Node, install: Path, path: Path
    ) -> None:
        """Give a blob its name; it is on the disk afterwards, or has a note and is in a batch."""
        _install(install, path)
        batch = _unsynced.batch_of(self)
        if batch is None:
            sync_directory(path.parent)
            _unsynced.forget(connection, blob)
        else:
            batch.add(blob, path, _unsynced.note(connection, blob))

    # --- collection --------------------------------------------------------------------------

    def collect(self, *, dry_run: bool = False) -> Collected:
        """Remove what no root and no lease reaches, and what killed processes left behind.

        Safe beside running pulls, builds and containers, in this process and others.

        Args:
            dry_run: Only tell what would be removed.
        """
        collector = Collector(self, self._graph)
        if dry_run:
            return collector.look()
        collected = collector.collect()
        _unsynced.settle(self)
        return collected

    # --- events ------------------------------------------------------------------------------

    def events(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        follow: bool = False,
        filters: Filters | None = None,
    ) -> Iterator[Event]:
        """What happened to the things in the store, in whichever process, oldest first.

        The last few megabytes of events are kept.

        Args:
            since: Only events from that time on, seconds since the epoch. Left out: all that are kept,
                with `follow` only those that come.
            until: Only events before that time, at which `follow` ends.
            follow: Wait for more.
            filters: Only events that fit one value of each filter, or all of ``label``: ``type``
                (``container``, ``image``, …), ``event`` (``start``), ``container``, ``image``,
                ``network``, ``volume`` (by name or id), ``label`` (``key`` or ``key=value``).

        Raises:
            StoreError: There is no such filter.
        """
        return events_of(self.path, since=since, until=until, follow=follow, filters=filters or {})

    def record(
        self,
        kind: EventKind,
        action: str,
        subject: str,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """Add an event; what rooms do that change the state of something."""
        record_event(self.path, kind, action, subject, attributes or {})

    # --- processes ---------------------------------------------------------------------------

    def _current_session(self) -> str:
        with self._lock:
            if self._closed:
                raise ValueError(f"the store {self.path} is closed")
            if self._session is None:
                self._session = Session(self.directory("sessions"))
            return self._session.name

    def _leave_to_parent(self) -> None:
        self._lock = threading.Lock()
        self._closers = []  # what the parent made is the parent's to undo
        self.db.leave_to_parent()
        session, self._session = self._session, None
        if session is not None:
            session.leave_to_parent()


def _install(install: Path, path: Path) -> None:
    if path.is_dir() and install.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    install.rename(path)


_open_stores: weakref.WeakSet[Store] = weakref.WeakSet()
_defaults: dict[Path, Store] = {}
_defaults_lock = threading.Lock()


@atexit.register
def _close_defaults() -> None:
    for store in _defaults.values():
        store.close()


def _after_fork() -> None:
    global _defaults_lock
    _defaults_lock = threading.Lock()
    for store in _open_stores:
        store._leave_to_parent()  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork)
