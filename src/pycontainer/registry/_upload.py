"""Sending a blob, and going on where the registry says that it stands ("Pushing blobs")."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import quote

from attrs import define, field

from pycontainer.errors import (
    ManifestNotFound,
    RegistryError,
    RegistryTimeout,
    RegistryUnavailable,
)
from pycontainer.registry._body import FileBody
from pycontainer.registry._requests import Request, resolve
from pycontainer.registry._retry import PASSING, Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.oci import Descriptor
    from pycontainer.registry._requests import Answer
    from pycontainer.registry._transport import Transport

__all__ = ["BlobUpload"]

_log = logging.getLogger("pycontainer.registry")

_OCTETS: Final = "application/octet-stream"
_RECEIVED: Final = re.compile(r"(?:bytes[ =])?0-(\d{1,19})", re.ASCII)
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
    _location: str = field(init=False, default="")
    _offset: int = field(init=False, default=0)
    _sent: int = field(init=False, default=0)
    _position: int = field(init=False, default=0)
    _told: int = field(init=False, default=0)
    _asked: bool = field(init=False, default=False)
    _restarts: int = field(init=False, default=0)

    def begin(self, query: str = "", scopes: tuple[str, ...] = ()) -> bool:
        """Open the upload; False if the registry mounted the blob instead, as `query` asked.

        Raises:
            RegistryError: The registry cannot be reached or refuses.
        """
        what = f"begin an upload to {self._name}"
        request = Request(
            "POST",
            f"/v2/{self.repository}/blobs/uploads/{query}",
            what,
            expect=frozenset({201, 202}),
            scopes=self.scopes + scopes,
            missing=ManifestNotFound,
        )
        answer = self.transport.call(request)
        if answer.status == 201:
            return False
        if not answer.headers.get("location"):
            raise RegistryError(
                f"{self.transport.base} opens an upload to {self.repository} but does not say where "
                "(no Location)",
                status=answer.status,
            )
        least = answer.headers.get("oci-chunk-min-length", "")
        if self.chunk is not None and least.isascii() and least.isdigit():
            self.chunk = max(self.chunk, min(int(least), max(self.blob.size, 1)))
        self._offset = self._sent = 0
        self._asked = False
        self._follow(answer, what)
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
                if self._may_be_done(error) and self._has_arrived():
                    return
                if self._offset > reached:
                    attempt, reached = 1, self._offset
                if not self._recovers(error, attempt):
                    raise
                attempt += 1

    # --- the way forward -----------------------------------------------------------------------

    def _send_rest(self, file: BinaryIO) -> None:
        size = self.blob.size
        while self.chunk is not None and self._offset < size:
            count = min(self.chunk, size - self._offset)
            answer = self.transport.call(self._request("PATCH", self._location, file, count))
            self._follow(answer, f"write to {self._name}")
            self._offset += count
        separator = "&" if "?" in self._location else "?"
        digest = quote(str(self.blob.digest), safe=":")
        target = f"{self._location}{separator}digest={digest}"
        self.transport.call(self._request("PUT", target, file, size - self._offset))

    def _request(self, method: str, target: str, file: BinaryIO, count: int) -> Request:
        headers = {"Content-Type": _OCTETS}
        if count and (method == "PATCH" or self._offset):
            headers["Content-Range"] = f"{self._offset}-{self._offset + count - 1}"
        if count:
            file.seek(self._offset)
            self._position = self._offset
        self._sent = max(self._sent, self._offset + count)
        return Request(
            method,
            target,
            f"write blob {self.blob.digest} to {self._name}",
            expect=frozenset({201} if method == "PUT" else {202}),
            headers=headers,
            scopes=self.scopes,
            body=FileBody(file, count, self._moved) if count else None,
        )

    def _follow(self, answer: Answer, what: str) -> None:
        location = answer.headers.get("location")
        if location:
            self._location = resolve(answer.url, location, what)

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
        what = f"find where an upload to {self._name} stands"
        request = Request(
            "GET", self._location, what, expect=frozenset({204, 404}), scopes=self.scopes
        )
        try:
            answer = self.transport.call(request)
        except RegistryTimeout:
            raise
        except RegistryError:
            return False
        if answer.status == 404:
            return False
        found = _RECEIVED.match(answer.headers.get("range", ""))
        offset = int(found[1]) + 1 if found is not None else 0
        if offset == 1:  # an empty upload says so too
            offset = 0
        if offset > self._sent:
            _log.warning("%s claims %d bytes of %d sent", self._name, offset, self._sent)
            return False
        self._offset = offset
        self._asked = True
        self._follow(answer, what)
        return True

    def _may_be_done(self, error: RegistryError) -> bool:
        return isinstance(error, RegistryUnavailable) and self._sent == self.blob.size

    def _has_arrived(self) -> bool:
        """Whether the registry has the blob, although its last answer did not come through."""
        request = Request(
            "HEAD",
            f"/v2/{self.repository}/blobs/{self.blob.digest}",
            f"look for blob {self.blob.digest} in {self._name}",
            expect=frozenset({200, 404}),
            scopes=self.scopes,
        )
        return self.transport.call(request).status == 200

    def _moved(self, count: int) -> None:
        self._position = min(self._position + count, self.blob.size)
        if self.progress is not None and self._position > self._told:
            self.progress(self._position - self._told)
            self._told = self._position

    @property
    def _name(self) -> str:
        return f"{self.transport.base.partition('://')[2]}/{self.repository}"
