"""Caches from elsewhere during a build: asked for what the store does not know."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from pycontainer.errors import BuildError, ContentError, LayerError, RegistryError, SpecError
from pycontainer.snapshots import add_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from pycontainer.build._cache_places import CachePlace, Found
    from pycontainer.build._cache_records import Record
    from pycontainer.build._graph import Layer
    from pycontainer.content import Store
    from pycontainer.oci import Digest

__all__ = ["CacheImports"]

_log = logging.getLogger("pycontainer.build")
_FAULTS = (BuildError, ContentError, LayerError, RegistryError, SpecError)


class CacheImports:
    """The caches that a build may take from; a context manager that holds their connections.

    A cache that is not there, or is damaged, costs a warning in the log and time, never the build.

    Args:
        store: Where layers go.
        places: Where the caches are, the first asked first.
    """

    def __init__(self, store: Store, places: Iterable[CachePlace] = ()) -> None:
        self._store = store
        self._places = tuple(places)
        self._found: list[tuple[CachePlace, Found]] | None = None
        self._lock = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def find(self, keys: Sequence[Digest]) -> Record | None:
        """The first record for one of the keys whose layer is in the store, or could be brought there."""
        for place, found in self._read():
            for key in keys:
                record = found.records.by_key.get(key)
                if record is not None and self._bring(place, found, record.layer):
                    return record
        return None

    def _read(self) -> list[tuple[CachePlace, Found]]:
        """The caches, read when the first key is asked for."""
        with self._lock:
            if self._found is None:
                self._found = []
                for place in self._places:
                    try:
                        found = self._stack.enter_context(place.read())
                    except _FAULTS as error:
                        _log.warning("the build cache %s is not used: %s", place, error)
                        continue
                    if found is not None:
                        self._found.append((place, found))
            return self._found

    def _bring(self, place: CachePlace, found: Found, layer: Layer | None) -> bool:
        if layer is None or self._store.blobs.exists(layer.descriptor.digest):
            return True
        try:
            with found.open(layer.descriptor) as source:
                add_layer(self._store, source, expected=layer.descriptor, diff_id=layer.diff_id)
        except _FAULTS as error:
            _log.warning("a layer of the build cache %s is not used: %s", place, error)
            return False
        return True
