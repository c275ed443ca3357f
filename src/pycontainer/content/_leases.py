"""Leases: what is added to a store stays until somebody keeps it for good."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontainer.content._graph import Node
    from pycontainer.content._store import Store

__all__ = ["Lease", "current_leases", "leases"]

current_leases: ContextVar[tuple[Lease, ...]] = ContextVar("pycontainer_leases", default=())
"""The leases around the running code, of all stores, the outermost first."""


@frozen
class Lease:
    """Keeps what is added under it from collection, until it ends or its process does.

    Attributes:
        store: The store it is of.
        id: Names it in the store.
        name: What it is for, for people.
    """

    store: Store = field(eq=False, repr=False)
    id: str
    name: str = ""
    _process: int = field(factory=os.getpid, init=False, repr=False)

    def add(self, *nodes: Node) -> None:
        """Keep these too, and what they need."""
        self.store.keep(self, nodes)

    @property
    def is_ours(self) -> bool:
        """Whether it was opened by this process: a forked child does not extend its parent's."""
        return self._process == os.getpid()


def leases(store: Store) -> Iterator[Lease]:
    """The leases of a store under which the running code adds things."""
    return (lease for lease in current_leases.get() if lease.store is store and lease.is_ours)
