"""Ranges of ids for users of containers: which the machine has set aside, and which container has which.

Like ``newuidmap``, Docker and Podman this goes by subuid(5) and subgid(5).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.content import Schema
from pycontainer.errors import UnsupportedFeature
from pycontainer.oci.runtime import IDMapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.content import Store

__all__ = ["SIZE", "allocate", "release"]

SIZE: Final = 65536
"""Ids that a container has: 0 to 65535, as many as images use."""
_NAMES: Final = ("pycontainer", "root")
_FILES: Final = (Path("/etc/subuid"), Path("/etc/subgid"))
_FIRST: Final = 1 << 19  # above what useradd(8) gives people
_SCHEMA: Final = Schema(
    "subordinate",
    1,
    "CREATE TABLE IF NOT EXISTS id_range"
    " (container TEXT PRIMARY KEY, uid INTEGER NOT NULL, gid INTEGER NOT NULL) WITHOUT ROWID",
)


@frozen
class _Range:
    first: int
    count: int

    def blocks(self) -> list[int]:
        """Where ranges for containers begin in it."""
        return [self.first + n * SIZE for n in range(self.count // SIZE)]


def allocate(
    store: Store, container_id: str
) -> tuple[tuple[IDMapping, ...], tuple[IDMapping, ...]]:
    """Give a container ids of the machine that no other container of the store has, until it goes.

    Where only one range of the size is set aside, all containers share it, as Docker's do.

    Returns:
        User ids and group ids.

    Raises:
        UnsupportedFeature: None are set aside, or all are in use.
    """
    uids, gids = (_blocks(path) for path in _FILES)
    pairs = list(zip(uids, gids, strict=False))
    if not pairs:
        raise UnsupportedFeature(
            "users of its own for a container of root",
            f"{_FILES[0]} and {_FILES[1]} set no {SIZE} ids aside for {' or '.join(_NAMES)}",
            remedy=_remedy(),
        )
    store.db.ensure(_SCHEMA)
    with store.db.transaction() as connection:
        rows = connection.execute("SELECT container, uid, gid FROM id_range").fetchall()
        containers = store.path / "containers"
        gone = [row[0] for row in rows if not (containers / row[0]).exists()]
        connection.executemany("DELETE FROM id_range WHERE container = ?", [(c,) for c in gone])
        taken = [row for row in rows if row[0] not in gone]
        free = pairs if len(pairs) == 1 else [pair for pair in pairs if _is_free(pair, taken)]
        if not free:
            raise UnsupportedFeature(
                "users of its own for one more container",
                f"all {len(pairs)} ranges of {SIZE} ids in {_FILES[0]} are in use",
                remedy="set more aside there and in " + str(_FILES[1]),
            )
        uid, gid = free[0]
        connection.execute(
            "INSERT OR REPLACE INTO id_range VALUES (?, ?, ?)", (container_id, uid, gid)
        )
    return (IDMapping(0, uid, SIZE),), (IDMapping(0, gid, SIZE),)


def release(store: Store, container_id: str) -> None:
    """Take back what a container had, if it had any."""
    store.db.ensure(_SCHEMA)
    with store.db.transaction() as connection:
        connection.execute("DELETE FROM id_range WHERE container = ?", (container_id,))


def _is_free(pair: tuple[int, int], taken: Sequence[tuple[str, int, int]]) -> bool:
    return not any(abs(pair[0] - uid) < SIZE or abs(pair[1] - gid) < SIZE for _, uid, gid in taken)


def _blocks(path: Path) -> list[int]:
    """Where containers' ranges may begin, by the first of the names that has any."""
    entries = _entries(path)
    for name in _NAMES:
        found = [block for owner, given in entries if owner == name for block in given.blocks()]
        if found:
            return found
    return []


def _entries(path: Path) -> list[tuple[str, _Range]]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if first.isdecimal() and count.strip().isdecimal():
            found.append((owner.strip(), _Range(int(first), int(count))))
    return found


def _remedy() -> str:
    """A line that takes nothing from anybody who has a range."""
    ends = [r.first + r.count for path in _FILES for _, r in _entries(path)]
    first = -(-max([_FIRST, *ends]) // SIZE) * SIZE
    files = " ".join(map(os.fspath, _FILES))
    return f"as root: echo {_NAMES[0]}:{first}:{256 * SIZE} | tee -a {files}"
