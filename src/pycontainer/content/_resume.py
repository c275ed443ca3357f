"""Going on with a blob where an earlier attempt to bring it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pycontainer.content._reader import Readable
    from pycontainer.content._writer import BlobWriter

__all__ = ["Resumable", "resumed"]


@runtime_checkable
class Resumable(Protocol):
    """A source of bytes that can begin anywhere."""

    def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes."""

    def resume(self, offset: int, /) -> None:
        """Let the next read begin there."""


def resumed(source: Readable, blob: BlobWriter) -> Readable:
    """All bytes of a source, those that the writer kept of an earlier attempt from there."""
    if not isinstance(source, Resumable):
        return source
    source.resume(blob.kept)
    return _Resumed(source, blob) if blob.kept else source


class _Resumed:
    def __init__(self, source: Resumable, blob: BlobWriter) -> None:
        self._source = source
        self._blob = blob
        self._offset = 0

    def read(self, n: int, /) -> bytes:
        if self._offset < self._blob.kept:
            data = self._blob.read_kept(self._offset, n)
            self._offset += len(data)
            return data
        return self._source.read(n)
