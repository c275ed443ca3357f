"""What of a cache is used, and what goes because it is not."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pycontainer.oci import Digest
    from pycontainer.registry._storage import CacheStorage

__all__ = ["Use"]

_log = logging.getLogger("pycontainer.registry")

_NOTES: Final = 10
"""How often use is written down in the time for which things are kept: each time costs a write."""

_LONGEST_SECONDS: Final = 3600.0


class Use:
    """Notes what of a storage is asked for, and evicts what was not for long; safe for many threads.

    The notes are the storage's, so they outlive the server, and servers that share a storage share them.

    Args:
        storage: What is held.
        keep: Seconds for which what nobody asks for is kept; None for ever.
    """

    def __init__(self, storage: CacheStorage, keep: float | None) -> None:
        self._storage = storage
        self._keep = keep
        self._noted: dict[tuple[str, Digest], float] = {}
        self._evicted = -math.inf

    def note(self, repository: str, digest: Digest) -> None:
        """Note that somebody asked for a manifest, unless that was noted lately."""
        if self._keep is None:
            return
        key, now = (repository, digest), time.monotonic()
        if now - self._noted.get(key, -math.inf) >= self._keep / _NOTES:
            self._storage.touch(repository, digest)
            self._noted[key] = now

    def evict(self) -> None:
        """Take away what has not been asked for, if it is time to look.

        Raises:
            StorageFailed: As of the storage.
        """
        now = time.monotonic()
        if self._keep is None or now - self._evicted < min(self._keep / 4, _LONGEST_SECONDS):
            return
        self._evicted = now
        # A note may be as old as that without being renewed.
        evicted = self._storage.evict(unused=self._keep * (1 + 1 / _NOTES))
        for key, noted in list(self._noted.items()):
            if now - noted > self._keep:
                self._noted.pop(key, None)
        if evicted.links:
            text = "%d manifests and blobs were not asked for in %.0f seconds: %d bytes are free"
            _log.info(text, evicted.links, self._keep, evicted.freed)
