"""Reading bytes that have to be what a descriptor says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from pycontainer.errors import ContentError, DigestMismatch, SizeMismatch

if TYPE_CHECKING:
    from types import TracebackType

    from pycontainer.oci import Descriptor

__all__ = ["Readable", "VerifiedReader"]

_CHUNK = 1 << 20


class Readable(Protocol):
    """Anything with ``read(n)`` that returns at most `n` bytes, and none at the end."""

    def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes."""


class VerifiedReader:
    """Reads a source and checks its size and digest.

    The read that would hand out the last byte raises instead if any byte is wrong: whoever has got all
    bytes has got the right ones. To know that the source ends there, one byte more is asked of it.

    Args:
        source: Where the bytes come from; closed with the reader.
        expected: Their digest and size.
    """

    def __init__(self, source: Readable, expected: Descriptor) -> None:
        self._source = source
        self._expected = expected
        self._hash = expected.digest.hasher()
        self._left = expected.size
        self._verified = False
        self._fault: ContentError | None = None

    @property
    def verified(self) -> bool:
        """Whether all bytes have come and are right."""
        return self._verified

    def read(self, n: int = -1, /) -> bytes:
        """Return up to `n` bytes, or all that are left; none at the end.

        Raises:
            DigestMismatch: All bytes came, and they are others.
            SizeMismatch: The source ended early or goes on too long.
        """
        if self._fault is not None:
            raise self._fault
        if self._verified or n == 0:
            return b""
        if n < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        data = self._source.read(min(n, self._left)) if self._left else b""
        self._hash.update(data)
        self._left -= len(data)
        if not data or self._left <= 0:
            self._fault = self._find_fault()
            if self._fault is not None:
                raise self._fault
            self._verified = True
        return data

    def _find_fault(self) -> ContentError | None:
        digest, size = self._expected.digest, self._expected.size
        if self._left > 0:
            return SizeMismatch(
                f"blob {digest} should have {size} bytes, its source ended after {size - self._left}"
            )
        if self._left < 0 or self._source.read(1):
            return SizeMismatch(
                f"blob {digest} should have {size} bytes, its source goes on after them"
            )
        found = self._hash.hexdigest()
        if found != digest.hex:
            return DigestMismatch(
                f"blob should be {digest}, its bytes are {digest.algorithm}:{found}"
            )
        return None

    def close(self) -> None:
        """Close the source."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
