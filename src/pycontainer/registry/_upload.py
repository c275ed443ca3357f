"""Sending a blob, and going on where the registry says that it stands ("Pushing blobs")."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, BinaryIO, Final

from attrs import define, field

from pycontainer.errors import RegistryError, RegistryTimeout, RegistryUnavailable
from pycontainer.registry._retry import PASSING, Failed
from pycontainer.registry._upload_session import UploadSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.oci import Descriptor
    from pycontainer.registry._transport import Transport

__all__ = ["BlobUpload"]

_log = logging.getLogger("pycontainer.registry")

_MOST_RESTARTS: Final = 3
_SMALLER: Final = 16 << 20
"""Bytes of a chunk for a registry, or a proxy before it, that takes no larger request (413)."""


@define(eq=False)
class BlobUpload:
    """One blob on its way to one repository.

    Args:
        transport: To the registry.
        repository: Where to.
        blob: Digest and size.
        scopes: What a token must allow.
        progress: Called with the number of bytes just sent; those sent again count once.
        chunk: Bytes of a request at most; None for all at once.
    """

    transport: Transport
    repository: str
    blob: Descriptor
    scopes: tuple[str, ...]
    progress: Callable[[int], None] | None = None
    chunk: int | None = None
    _session: UploadSession = field(init=False)
    _offset: int = field(init=False, default=0)
    _sent: int = field(init=False, default=0)
    _position: int = field(init=False, default=0)
    _told: int = field(init=False, default=0)
    _asked: bool = field(init=False, default=False)
    _restarts: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._session = UploadSession(self.transport, self.repository, self.scopes, self._moved)

    def begin(self, query: str = "", scopes: tuple[str, ...] = ()) -> bool:
        """Open the upload; False if the registry mounted the blob instead, as `query` asked.

        Raises:
            RegistryError: The registry cannot be reached or refuses.
        """
        if not self._session.open(query, scopes):
            return False
        if self.chunk is not None and self._session.least:
            self.chunk = max(self.chunk, min(self._session.least, max(self.blob.size, 1)))
        self._offset = self._sent = 0
        self._asked = False
        return True

    def send(self, file: BinaryIO) -> None:
        """Send the blob, whatever breaks meanwhile, as long as some of it arrives now and then.

        Args:
            file: Holds the blob from its beginning; it can be sought in.

        Raises:
            SizeMismatch: It is shorter than the descriptor says.
            RegistryError: The registry cannot be reached or refuses.
        """
        attempt, reached = 1, 0
        while True:
            try:
                self._send_rest(file)
                return
            except RegistryTimeout:
                raise
            except RegistryError as error:
                if error.status == 413 and self._lessen():
                    continue
                if self._may_be_done(error) and self._session.holds(self.blob.digest):
                    return
                if self._offset > reached:
                    attempt, reached = 1, self._offset
                if not self._recovers(error, attempt):
                    raise
                attempt += 1

    # --- the way forward -----------------------------------------------------------------------

    def _send_rest(self, file: BinaryIO) -> None:
        size = self.blob.size
        what = f"write blob {self.blob.digest} to {self._session.name}"
        while self.chunk is not None and self._offset < size:
            count = min(self.chunk, size - self._offset)
            self._seek(file, count)
            self._session.patch(what, file, self._offset, count)
            self._offset += count
        count = size - self._offset
        self._seek(file, count)
        self._session.put(what, self.blob.digest, file, self._offset, count)

    def _seek(self, file: BinaryIO, count: int) -> None:
        """Make the file stand where so many bytes are to be sent from."""
        if count:
            file.seek(self._offset)
            self._position = self._offset
        self._sent = max(self._sent, self._offset + count)

    # --- and back on it ------------------------------------------------------------------------

    def _lessen(self) -> bool:
        """Send smaller chunks to who finds a request too large; False if they are small already."""
        if self.chunk is not None and self.chunk <= _SMALLER:
            return False
        self.chunk = _SMALLER
        return self.begin()

    def _recovers(self, error: RegistryError, attempt: int) -> bool:
        """Find out where the upload stands after a failure; False if there is no point in it."""
        passing = isinstance(error, RegistryUnavailable) or error.status in PASSING
        # Where it was said to stand may have been wrong.
        doubtful = self._asked and (error.code == "DIGEST_INVALID" or error.status == 416)
        if not (passing or doubtful or error.status == 404):
            return False
        failed = Failed(error, wait=error.retry_after)
        if not self.transport.retry.again(attempt, failed, repeatable=True):
            return False
        _log.info("%s; asking where the upload stands", error)
        if passing and self._ask():
            return True
        self._restarts += 1
        return self._restarts <= _MOST_RESTARTS and self.begin()

    def _ask(self) -> bool:
        """Ask how much of the blob has arrived; False if the upload must begin anew."""
        offset = self._session.ask()
        if offset is None:
            return False
        if offset > self._sent:
            _log.warning("%s claims %d bytes of %d sent", self._session.name, offset, self._sent)
            return False
        self._offset = offset
        self._asked = True
        return True

    def _may_be_done(self, error: RegistryError) -> bool:
        return isinstance(error, RegistryUnavailable) and self._sent == self.blob.size

    def _moved(self, count: int) -> None:
        self._position = min(self._position + count, self.blob.size)
        if self.progress is not None and self._position > self._told:
            self.progress(self._position - self._told)
            self._told = self._position
