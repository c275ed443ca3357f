"""Reading from mirrors of a registry, in order, before the registry itself."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from pycontainer.errors import RegistryError, RegistryTimeout, RegistryUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from pycontainer.oci import Descriptor
    from pycontainer.registry._client import Client, FetchedManifest
    from pycontainer.registry._download import Download

__all__ = ["Mirrored"]

_log = logging.getLogger("pycontainer.registry")

_REST: Final = 30.0


class _Health:
    """Which hosts were not to be reached a moment ago; known to the whole program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resting: dict[str, float] = {}

    def rests(self, url: str) -> bool:
        """Whether a host should be left alone for now."""
        with self._lock:
            return self._resting.get(url, 0.0) > time.monotonic()

    def failed(self, url: str) -> None:
        """Leave a host alone for a while."""
        with self._lock:
            self._resting[url] = time.monotonic() + _REST

    def works(self, url: str) -> None:
        """A host has answered."""
        with self._lock:
            self._resting.pop(url, None)


_health: Final = _Health()


class Mirrored:
    """Reads from the first that has what is wanted; a context manager, safe for many threads.

    A mirror that cannot be reached is left alone for half a minute; one that lacks something, or
    refuses, is only passed over. What the registry itself answers is final.

    Args:
        mirrors: In the order in which they are asked.
        registry: What they mirror.
    """

    def __init__(self, mirrors: Sequence[Client], registry: Client) -> None:
        self._mirrors = tuple(mirrors)
        self._registry = registry

    def get_manifest(self, repository: str, reference: str) -> FetchedManifest:
        """As `Client.get_manifest`."""
        for mirror in self.willing():
            try:
                found = mirror.get_manifest(repository, reference)
            except RegistryTimeout:
                raise
            except RegistryError as error:
                self.passed_over(mirror, error)
            else:
                _health.works(mirror.url)
                return found
        return self._registry.get_manifest(repository, reference)

    def download(self, repository: str, descriptor: Descriptor) -> MirroredDownload:
        """As `Client.download`; a mirror that fails in the middle is replaced by the next."""
        return MirroredDownload(self, repository, descriptor)

    def willing(self) -> list[Client]:
        """The mirrors that are worth asking."""
        return [mirror for mirror in self._mirrors if not _health.rests(mirror.url)]

    @property
    def registry(self) -> Client:
        """What is mirrored."""
        return self._registry

    @staticmethod
    def passed_over(mirror: Client, error: RegistryError) -> None:
        """Note that a mirror did not help."""
        if isinstance(error, RegistryUnavailable):
            _health.failed(mirror.url)
        _log.info("the mirror %s is passed over: %s", mirror.url, error)

    def close(self) -> None:
        """Close the idle connections of all of them."""
        for client in (*self._mirrors, self._registry):
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class MirroredDownload:
    """A `Download` that goes on elsewhere where one host fails."""

    def __init__(self, source: Mirrored, repository: str, descriptor: Descriptor) -> None:
        self._source = source
        self._mirrors = source.willing()
        self._repository = repository
        self._descriptor = descriptor
        self._offset = 0
        self._current = self._next()

    def read(self, n: int = -1, /) -> bytes:
        """As `Download.read`."""
        while True:
            try:
                data = self._current.read(n)
            except RegistryTimeout:
                raise
            except RegistryError as error:
                if self._mirror is None:
                    raise
                self._source.passed_over(self._mirror, error)
                self._current.close()
                self._current = self._next()
                self._current.resume(self._offset)
            else:
                self._offset += len(data)
                return data

    def resume(self, offset: int) -> None:
        """Let the next read begin at that byte."""
        self._offset = offset
        self._current.resume(offset)

    def close(self) -> None:
        """End the transfer."""
        self._current.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _next(self) -> Download:
        self._mirror = self._mirrors.pop(0) if self._mirrors else None
        client = self._mirror or self._source.registry
        return client.download(self._repository, self._descriptor)
