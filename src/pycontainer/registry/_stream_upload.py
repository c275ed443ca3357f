"""Sending bytes whose number and digest nobody knows before their end, in chunks."""

from __future__ import annotations

import hashlib
import io
import logging
from typing import TYPE_CHECKING, Final, Protocol

from attrs import define, field

from pycontainer.errors import RegistryError, RegistryTimeout, RegistryUnavailable
from pycontainer.oci import Descriptor, Digest
from pycontainer.registry._retry import PASSING, Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.registry._upload_session import UploadSession

__all__ = ["Stream", "StreamUpload"]

_log = logging.getLogger("pycontainer.registry")

_SMALLEST: Final = 1 << 20
"""Bytes of a request below which a registry that finds it too large (413) is believed."""


class Stream(Protocol):
    """What can be read once."""

    def read(self, n: int, /) -> bytes:
        """Up to `n` bytes; none at the end."""


@define(eq=False)
class StreamUpload:
    """A stream on its way to one repository.

    One chunk is held in memory, so that it can be sent again; what the registry has taken is gone.

    Args:
        session: The upload, not yet opened.
        chunk: Bytes that are sent at once.
        progress: Called with the number of bytes that have arrived.
    """

    session: UploadSession
    chunk: int
    progress: Callable[[int], None] | None = None
    _largest: int = field(init=False)
    _offset: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunks of {self.chunk} bytes")
        self._largest = self.chunk

    def send(self, stream: Stream, media_type: str) -> Descriptor:
        """Send a stream to its end.

        Returns:
            What has been stored.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or has lost what it had taken.
        """
        self.session.open()
        self._largest = self.chunk = max(self.chunk, self.session.least)
        digest = hashlib.sha256()
        while data := _read_full(stream, self.chunk):
            digest.update(data)
            self._send(data)
            if self.progress is not None:
                self.progress(len(data))
        blob = Descriptor(media_type, Digest("sha256", digest.hexdigest()), self._offset)
        self._finish(blob)
        return blob

    def _send(self, data: bytes) -> None:
        """Send one chunk, as often as it takes, from where the registry stands."""
        begin, end = self._offset, self._offset + len(data)
        what = f"write the bytes from {begin} on to {self.session.name}"
        attempt, reached = 1, begin
        while self._offset < end:
            start = self._offset
            if start > reached:
                attempt, reached = 1, start
            part = data[start - begin : start - begin + self._largest]
            try:
                self.session.patch(what, io.BytesIO(part), start, len(part))
                self._offset += len(part)
            except RegistryError as error:
                if error.status == 413 and self._largest > _SMALLEST:
                    self._largest = max(_SMALLEST, self._largest // 4)
                    continue
                self._stand_again(error, attempt, begin, start + len(part))
                attempt += 1

    def _finish(self, blob: Descriptor) -> None:
        what = f"end blob {blob.digest} in {self.session.name}"
        attempt = 1
        while True:
            try:
                self.session.put(what, blob.digest)
            except RegistryError as error:
                lost = isinstance(error, RegistryUnavailable)
                if (
                    lost
                    and not isinstance(error, RegistryTimeout)
                    and self.session.holds(blob.digest)
                ):
                    return
                self._stand_again(error, attempt, blob.size, blob.size)
                attempt += 1
            else:
                return

    def _stand_again(self, error: RegistryError, attempt: int, least: int, most: int) -> None:
        """Find out where the upload stands after a failure: somewhere between what is still at hand.

        Raises:
            RegistryError: There is no point in going on, or no way to.
        """
        passing = isinstance(error, RegistryUnavailable) or error.status in PASSING
        failed = Failed(error, wait=error.retry_after)
        if (
            isinstance(error, RegistryTimeout)
            or not passing
            or not self.session.transport.retry.again(attempt, failed, repeatable=True)
        ):
            raise error
        _log.info("%s; asking where the upload stands", error)
        found = self.session.ask()
        if found is None or not least <= found <= most:
            stands = "it knows nothing of the upload" if found is None else f"it stands at {found}"
            raise RegistryError(
                f"cannot go on with a stream to {self.session.name} after {most} bytes: {stands}, "
                f"and what is before {least} cannot be read again",
                remedy="send it again from its beginning, or from a file by push_blob",
            ) from error
        self._offset = found


def _read_full(stream: Stream, size: int) -> bytes:
    """So many bytes; fewer only at the end."""
    parts: list[bytes] = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
