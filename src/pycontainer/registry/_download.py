"""A blob as it comes, over as many connections as it takes."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final, Self

from attrs import evolve

from pycontainer.errors import RegistryError, RegistryTimeout, RegistryUnavailable
from pycontainer.registry._deadline import current_deadline, within
from pycontainer.registry._retry import Failed, Retry

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pycontainer.registry._requests import Request
    from pycontainer.registry._transport import BodyStream

__all__ = ["Download"]

_log = logging.getLogger("pycontainer.registry")

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(?:\d{1,19}|\*)", re.ASCII)
_PART: Final = 1 << 18
_FREE_FAILURES: Final = 10
_BYTES_A_FAILURE: Final = 256 << 10


class Download:
    """The bytes of a blob; a context manager. Not for several threads at once.

    Nothing is sent before the first read. Where a connection breaks, the rest is asked for by a
    range; a server that knows no ranges sends all again, of which the known part is dropped. The
    bytes are not verified.

    Args:
        request: Asks for all of the blob.
        size: Its size.
        open: Sends a request and begins to read the answer.
        retry: How patiently broken connections are replaced.
    """

    def __init__(
        self,
        request: Request,
        size: int,
        open: Callable[[Request], BodyStream],  # noqa: A002  (what it does)
        retry: Retry,
    ) -> None:
        self._request = request
        self._size = size
        self._open = open
        self._retry = retry
        self._deadline = current_deadline()
        self._stream: BodyStream | None = None
        self._offset = 0
        self._failures = 0
        self._idle = 0  # failures since the last byte
        self._since = 0  # where the last failure was

    def begin(self) -> Self:
        """Connect now rather than at the first read.

        Raises:
            RegistryBlobNotFound: The repository does not hold it.
            RegistryError: The registry cannot be reached, or refuses.
        """
        if self._stream is None and self._offset < self._size:
            with within(self._deadline):
                self._connect()
        return self

    def resume(self, offset: int) -> None:
        """Let the next read begin at that byte."""
        if offset != self._offset:
            self.close()
            self._offset = self._since = offset

    def read(self, n: int = -1, /) -> bytes:
        """Return up to `n` bytes; none at the end.

        Raises:
            RegistryUnavailable: The connection breaks again and again.
            RegistryError: The registry refuses, or answers against the rules.
        """
        if n < 0:
            return b"".join(iter(lambda: self.read(_PART), b""))
        while True:
            try:
                self.begin()
                stream = self._stream
                data = b"" if stream is None else stream.read(n)
                if not data and stream is not None and self._is_cut(stream):
                    raise RegistryUnavailable(
                        f"cannot {self._request.what}: the connection ended after {self._offset} of "
                        f"{self._size} bytes"
                    )
            except RegistryTimeout:
                self.close()
                raise
            except RegistryUnavailable as error:
                if self._stream is None:  # has been tried again and again
                    raise
                self.close()
                if self._offset >= self._size:
                    return b""
                self._pause(error)
            else:
                self._offset += len(data)
                return data

    def _is_cut(self, stream: BodyStream) -> bool:
        """Whether an end may be none of the blob: one that the answer announced is."""
        return not stream.is_framed and self._offset < self._size

    def _pause(self, error: RegistryUnavailable) -> None:
        """Wait before the next connection.

        Raises:
            RegistryUnavailable: There have been too many: several without a byte in between, or
                more than what has come is worth.
        """
        self._failures += 1
        self._idle = 1 if self._offset > self._since else self._idle + 1
        self._since = self._offset
        worth = _FREE_FAILURES + self._offset // _BYTES_A_FAILURE
        attempt = self._idle if self._failures <= worth else self._retry.attempts
        _log.info("%s; going on at byte %d", error, self._offset)
        with within(self._deadline):
            if not self._retry.again(attempt, Failed(error), repeatable=True):
                raise error

    def _connect(self) -> None:
        offset = self._offset
        if not offset:
            self._stream = self._open(self._request)
            return
        headers = {**self._request.headers, "Range": f"bytes={offset}-"}
        expect = self._request.expect | {206}
        stream = self._stream = self._open(evolve(self._request, headers=headers, expect=expect))
        if stream.status == 206:
            self._check(stream.headers.get("content-range", ""))
        else:  # all of it: the server knows no ranges
            while offset and (data := stream.read(min(offset, _PART))):
                offset -= len(data)

    def _check(self, content_range: str) -> None:
        found = _CONTENT_RANGE.match(content_range)
        if found is None or int(found[1]) != self._offset:
            self.close()
            raise RegistryError(
                f"cannot {self._request.what}: asked for the bytes from {self._offset} on, the "
                f"registry sends {content_range[:80]!r}",
                status=206,
            )

    def close(self) -> None:
        """End the transfer, or give the connection back if it is done. Twice is fine."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
