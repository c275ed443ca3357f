"""Garbage collection: what nothing keeps, and what killed processes left behind.

Files go to the trash inside the write transaction that forgets them. Nobody can enter the same thing
anew meanwhile, and whoever does so afterwards finds its place free. A crash at any point leaves rows
without files, which count as absent, files without rows, or trash; the next collection sees to all.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer._linux.tree import remove_tree
from pycontainer.content._exclusive import sweep_locks
from pycontainer.content._locked import is_abandoned, remove_abandoned
from pycontainer.content._sessions import living_sessions, sweep_sessions
from pycontainer.content._writer import PARTIAL

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from pycontainer.content._graph import Ended, Graph, Node, Resource
    from pycontainer.content._store import Store

__all__ = ["Collected", "Collector"]

_log = logging.getLogger("pycontainer.content")
_WITH_LOCKS = ("layers", "build")
"""Directories in which `exclusive` makes its files."""


@frozen
class Collected:
    """What a garbage collection removed.

    Attributes:
        freed: Bytes, as far as they are known: those of resources and of unfinished blobs.
        removed: The nodes removed.
    """

    freed: int = 0
    removed: tuple[Node, ...] = ()


@frozen
class _Findings:
    ended: Ended
    resources: tuple[Resource, ...]
    strays: tuple[Path, ...]
    partials: tuple[Path, ...]

    def report(self) -> Collected:
        files = [_size(path) for path in (*self.strays, *self.partials)]
        nodes = tuple((resource.kind, resource.key) for resource in self.resources)
        return Collected(sum(resource.size for resource in self.resources) + sum(files), nodes)


class Collector:
    """Collects one store."""

    def __init__(self, store: Store, graph: Graph) -> None:
        self._store = store
        self._graph = graph
        self._temporaries = store.directory("tmp")
        self._sessions = store.directory("sessions")
        self._trash = store.directory("trash")

    def look(self) -> Collected:
        """What `collect` would remove now."""
        with self._store.db.transaction(write=False) as connection:
            return self._find(connection).report()

    def collect(self) -> Collected:
        """Remove what nothing keeps."""
        with self._store.db.transaction() as connection:
            found = self._find(connection)
            report = found.report()
            for resource in found.resources:
                if resource.path is not None:
                    self._discard(resource.path)
            for path in found.strays:
                self._discard(path)
            self._graph.forget_unreached(connection, found.ended)
        for path in found.partials:
            remove_abandoned(path)
        sweep_sessions(self._sessions)
        for name in _WITH_LOCKS:
            sweep_locks(self._store.path / name)
        self._empty_trash()
        if report.removed:
            _log.debug("collected %d nodes, %d bytes", len(report.removed), report.freed)
        return report

    def _find(self, connection: sqlite3.Connection) -> _Findings:
        # In this order: a session is there before its temporaries and leases are.
        temporaries = list(self._temporaries.iterdir())
        living = living_sessions(self._sessions)
        known = self._graph.stored_paths(connection, "blob")
        strays = [path for path in temporaries if path.name.partition("-")[0] not in living]
        partials = []
        for path in self._store.path.glob("blobs/*/*"):
            if path.name.endswith(PARTIAL):
                if is_abandoned(path):
                    partials.append(path)
            elif path not in known:
                strays.append(path)
        ended = self._graph.ended(connection, living)
        resources = self._graph.unreached(connection, ended)
        return _Findings(ended, resources, tuple(strays), tuple(partials))

    def _discard(self, path: Path) -> None:
        try:
            path.rename(self._trash / secrets.token_hex(12))
        except FileNotFoundError:
            return

    def _empty_trash(self) -> None:
        for path in self._trash.iterdir():
            try:
                remove_tree(path)
            except OSError as error:
                _log.warning("cannot remove %s, the next collection tries again: %s", path, error)


def _size(path: Path) -> int:
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return 0
