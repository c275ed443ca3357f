"""What is in the store, what needs what, and who keeps it: the tables behind `Store`.

A node is a kind and a key. Nodes that have a resource (a file or directory) are rows of ``resource``;
edges lead to what a node needs. Roots and leases keep nodes, and what these need, from collection.
Everything here runs in the caller's transaction.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.content._database import Schema

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["SCHEMA", "Graph", "Node", "Resource", "Root"]

Node = tuple[str, str]
"""A thing in the store: its kind (``blob``, ``layer``, …) and its key among those."""

Ended = dict[str, str]
"""Parameters of the statements of a collection; to be found out once, at its beginning."""

SCHEMA: Final = Schema(
    "content",
    1,
    """
    CREATE TABLE IF NOT EXISTS resource (
        kind TEXT NOT NULL, key TEXT NOT NULL, path TEXT, size INTEGER NOT NULL,
        created REAL NOT NULL, PRIMARY KEY (kind, key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS edge (
        kind TEXT NOT NULL, key TEXT NOT NULL, to_kind TEXT NOT NULL, to_key TEXT NOT NULL,
        PRIMARY KEY (kind, key, to_kind, to_key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS root (
        kind TEXT NOT NULL, name TEXT NOT NULL, path TEXT, PRIMARY KEY (kind, name)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS root_target (
        kind TEXT NOT NULL, name TEXT NOT NULL, to_kind TEXT NOT NULL, to_key TEXT NOT NULL,
        PRIMARY KEY (kind, name, to_kind, to_key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS lease (
        id TEXT PRIMARY KEY, session TEXT NOT NULL, name TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS lease_target (
        id TEXT NOT NULL, to_kind TEXT NOT NULL, to_key TEXT NOT NULL,
        PRIMARY KEY (id, to_kind, to_key)
    ) WITHOUT ROWID
    """,
)

_LAST: Final = "\U0010ffff"
"""Sorts after what names have."""

_REACHED: Final = """
    WITH RECURSIVE reached (kind, key) AS (
        SELECT to_kind, to_key FROM root_target JOIN root USING (kind, name)
            WHERE path IS NULL OR path NOT IN (SELECT value FROM json_each(:gone))
        UNION
        SELECT to_kind, to_key FROM lease_target JOIN lease USING (id)
            WHERE session IN (SELECT value FROM json_each(:living))
        UNION
        SELECT to_kind, to_key FROM edge JOIN reached USING (kind, key)
    )
"""


@frozen
class Resource:
    """A node's file or directory; `path` is None for a node that is nothing but a row."""

    kind: str
    key: str
    path: Path | None
    size: int


@frozen
class Root:
    """A name that keeps things.

    Attributes:
        kind: Whose names: ``image``, ``container``, ``cache``, …
        name: The name.
        targets: What it keeps.
        path: The file or directory with which the root ends, if there is one.
    """

    kind: str
    name: str
    targets: tuple[Node, ...]
    path: Path | None = None


class Graph:
    """The tables of one store.

    Args:
        home: The store's directory; paths beneath it are kept relative, so that it can be moved.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    # --- resources and edges -----------------------------------------------------------------

    def put(self, connection: sqlite3.Connection, resource: Resource) -> None:
        """Enter a resource, in place of what was there."""
        connection.execute(
            "INSERT OR REPLACE INTO resource VALUES (?, ?, ?, ?, ?)",
            (
                resource.kind,
                resource.key,
                self._stored(resource.path),
                resource.size,
                time.time(),
            ),
        )

    def get(self, connection: sqlite3.Connection, node: Node) -> Resource | None:
        """A node's row, whether its file exists or not."""
        row = connection.execute(
            "SELECT kind, key, path, size FROM resource WHERE kind = ? AND key = ?", node
        ).fetchone()
        return None if row is None else self._resource(row)

    def remove(self, connection: sqlite3.Connection, node: Node) -> None:
        """Forget a node's row and its edges."""
        for table in ("resource", "edge"):
            connection.execute(f"DELETE FROM {table} WHERE kind = ? AND key = ?", node)  # noqa: S608

    def stored_paths(self, connection: sqlite3.Connection, kind: str) -> set[Path]:
        """Where the resources of a kind are or should be."""
        rows = connection.execute(
            "SELECT path FROM resource WHERE kind = ? AND path IS NOT NULL", (kind,)
        )
        return {self._home / path for (path,) in rows}

    def link(self, connection: sqlite3.Connection, node: Node, needs: Iterable[Node]) -> None:
        """Enter edges."""
        connection.executemany(
            "INSERT OR IGNORE INTO edge VALUES (?, ?, ?, ?)", [(*node, *to) for to in needs]
        )

    def links(self, connection: sqlite3.Connection, node: Node) -> tuple[Node, ...]:
        """The nodes that edges lead to from here."""
        rows = connection.execute(
            "SELECT to_kind, to_key FROM edge WHERE kind = ? AND key = ? ORDER BY 1, 2", node
        )
        return tuple(rows)

    # --- roots -------------------------------------------------------------------------------

    def put_root(self, connection: sqlite3.Connection, root: Root) -> None:
        """Enter a root, in place of the one of that name."""
        self.drop_root(connection, root.kind, root.name)
        connection.execute(
            "INSERT INTO root VALUES (?, ?, ?)", (root.kind, root.name, self._stored(root.path))
        )
        connection.executemany(
            "INSERT OR IGNORE INTO root_target VALUES (?, ?, ?, ?)",
            [(root.kind, root.name, *target) for target in root.targets],
        )

    def drop_root(self, connection: sqlite3.Connection, kind: str, name: str) -> None:
        """Forget a root."""
        for table in ("root_target", "root"):
            connection.execute(f"DELETE FROM {table} WHERE kind = ? AND name = ?", (kind, name))  # noqa: S608

    def roots(self, connection: sqlite3.Connection, kind: str, prefix: str = "") -> list[Root]:
        """The roots of a kind whose paths exist and whose names begin so, by name."""
        rows = connection.execute(
            "SELECT name, path FROM root WHERE kind = ? AND name >= ? AND name < ? ORDER BY name",
            (kind, prefix, prefix + _LAST),
        ).fetchall()
        roots = []
        for name, path in rows:
            targets = connection.execute(
                "SELECT to_kind, to_key FROM root_target WHERE kind = ? AND name = ? ORDER BY 1, 2",
                (kind, name),
            )
            root = Root(kind, name, tuple(targets), self._placed(path))
            if root.path is None or root.path.exists():
                roots.append(root)
        return roots

    def is_reached(
        self, connection: sqlite3.Connection, roots: Iterable[tuple[str, str]], node: Node
    ) -> bool:
        """Whether one of these roots, each given by kind and beginning of its name, keeps a node."""
        row = connection.execute(
            """
            WITH RECURSIVE reached (kind, key) AS (
                SELECT to_kind, to_key FROM json_each(?) AS wanted JOIN root_target
                    ON root_target.kind = wanted.value ->> 0
                    AND name >= wanted.value ->> 1 AND name < (wanted.value ->> 1) || ?
                UNION
                SELECT to_kind, to_key FROM edge JOIN reached USING (kind, key)
            )
            SELECT 1 FROM reached WHERE kind = ? AND key = ?
            """,
            (json.dumps([*roots]), _LAST, *node),
        ).fetchone()
        return row is not None

    def roots_of(self, connection: sqlite3.Connection, node: Node) -> tuple[Node, ...]:
        """Kind and name of the roots that keep a node directly, and whose paths exist."""
        rows = connection.execute(
            "SELECT kind, name, path FROM root_target JOIN root USING (kind, name)"
            " WHERE to_kind = ? AND to_key = ? ORDER BY 1, 2",
            node,
        ).fetchall()
        return tuple(
            (kind, name) for kind, name, path in rows if path is None or self._exists(path)
        )

    # --- leases ------------------------------------------------------------------------------

    def open_lease(
        self, connection: sqlite3.Connection, lease: str, session: str, name: str
    ) -> None:
        """Enter a lease."""
        connection.execute("INSERT INTO lease VALUES (?, ?, ?)", (lease, session, name))

    def keep(self, connection: sqlite3.Connection, lease: str, nodes: Iterable[Node]) -> None:
        """Let a lease keep nodes; one that has ended keeps nothing."""
        connection.executemany(
            "INSERT OR IGNORE INTO lease_target SELECT id, ?, ? FROM lease WHERE id = ?",
            [(*node, lease) for node in nodes],
        )

    def close_lease(self, connection: sqlite3.Connection, lease: str) -> None:
        """Forget a lease."""
        connection.execute("DELETE FROM lease_target WHERE id = ?", (lease,))
        connection.execute("DELETE FROM lease WHERE id = ?", (lease,))

    # --- collection --------------------------------------------------------------------------

    def ended(self, connection: sqlite3.Connection, living: Iterable[str]) -> Ended:
        """What keeps nothing any more: roots without their paths, leases of none of these sessions."""
        rows = connection.execute("SELECT DISTINCT path FROM root WHERE path IS NOT NULL")
        gone = [path for (path,) in rows if not self._exists(path)]
        return {"gone": json.dumps(gone), "living": json.dumps(sorted(living))}

    def unreached(self, connection: sqlite3.Connection, ended: Ended) -> tuple[Resource, ...]:
        """The resources that nothing keeps."""
        rows = connection.execute(
            _REACHED  # noqa: S608  (two constants)
            + "SELECT kind, key, path, size FROM resource WHERE (kind, key) NOT IN reached",
            ended,
        )
        return tuple(map(self._resource, rows))

    def forget_unreached(self, connection: sqlite3.Connection, ended: Ended) -> None:
        """Remove the rows and edges of what nothing keeps, and roots and leases that have ended."""
        for table in ("resource", "edge"):
            connection.execute(
                f"{_REACHED} DELETE FROM {table} WHERE (kind, key) NOT IN reached",  # noqa: S608
                ended,
            )
        for statement in (
            "DELETE FROM root WHERE path IN (SELECT value FROM json_each(:gone))",
            "DELETE FROM root_target WHERE (kind, name) NOT IN (SELECT kind, name FROM root)",
            "DELETE FROM lease WHERE session NOT IN (SELECT value FROM json_each(:living))",
            "DELETE FROM lease_target WHERE id NOT IN (SELECT id FROM lease)",
        ):
            connection.execute(statement, ended)

    # --- paths -------------------------------------------------------------------------------

    def _resource(self, row: tuple[str, str, str | None, int]) -> Resource:
        kind, key, path, size = row
        return Resource(kind, key, self._placed(path), size)

    def _stored(self, path: Path | None) -> str | None:
        if path is None:
            return None
        return str(path.relative_to(self._home) if path.is_relative_to(self._home) else path)

    def _placed(self, path: str | None) -> Path | None:
        return None if path is None else self._home / path

    def _exists(self, path: str) -> bool:
        return (self._home / path).exists()
