"""One upload as the registry knows it: where it is, and where it stands ("Pushing a blob in chunks")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import quote

from attrs import define, field

from pycontainer.errors import ManifestNotFound, RegistryError, RegistryTimeout
from pycontainer.registry._body import FileBody
from pycontainer.registry._requests import Request, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.oci import Digest
    from pycontainer.registry._requests import Answer
    from pycontainer.registry._transport import Transport

__all__ = ["UploadSession"]

_OCTETS: Final = "application/octet-stream"
_RECEIVED: Final = re.compile(r"(?:bytes[ =])?0-(\d{1,19})", re.ASCII)


@define(eq=False)
class UploadSession:
    """An upload to one repository, for one thread.

    Args:
        transport: To the registry.
        repository: Where to.
        scopes: What a token must allow.
        sent: Called with the number of bytes that have just been sent.

    Attributes:
        least: Bytes of a chunk at least, but for the last one, as the registry asks.
    """

    transport: Transport
    repository: str
    scopes: tuple[str, ...]
    sent: Callable[[int], None] | None = None
    least: int = field(init=False, default=0)
    _location: str = field(init=False, default="")

    @property
    def name(self) -> str:
        """Where it goes, for messages."""
        return f"{self.transport.base.partition('://')[2]}/{self.repository}"

    def open(self, query: str = "", scopes: tuple[str, ...] = ()) -> bool:
        """Begin anew; False if the registry mounted the blob instead, as `query` asked.

        Raises:
            RegistryError: The registry cannot be reached or refuses.
        """
        what = f"begin an upload to {self.name}"
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
        self.least = int(least) if least.isascii() and least.isdigit() else 0
        self._follow(answer, what)
        return True

    def patch(self, what: str, file: BinaryIO, offset: int, count: int) -> None:
        """Send the next bytes of a file, from where it stands, which are those from `offset` on."""
        headers = {"Content-Range": f"{offset}-{offset + count - 1}"}
        request = self._request("PATCH", self._location, what, headers, file, count)
        self._follow(self.transport.call(request), what)

    def put(
        self,
        what: str,
        digest: Digest,
        file: BinaryIO | None = None,
        offset: int = 0,
        count: int = 0,
    ) -> None:
        """Send the last bytes, if any are left, and say what all of them are."""
        separator = "&" if "?" in self._location else "?"
        target = f"{self._location}{separator}digest={quote(str(digest), safe=':')}"
        headers = {}
        if count and offset:
            headers["Content-Range"] = f"{offset}-{offset + count - 1}"
        self.transport.call(self._request("PUT", target, what, headers, file, count))

    def _request(
        self,
        method: str,
        target: str,
        what: str,
        headers: dict[str, str],
        file: BinaryIO | None,
        count: int,
    ) -> Request:
        return Request(
            method,
            target,
            what,
            expect=frozenset({201} if method == "PUT" else {202}),
            headers={"Content-Type": _OCTETS, **headers},
            scopes=self.scopes,
            body=FileBody(file, count, self.sent) if file is not None and count else None,
        )

    def ask(self) -> int | None:
        """How many bytes have arrived; None if it must begin anew.

        Raises:
            RegistryTimeout: The whole transfer took too long.
        """
        what = f"find where an upload to {self.name} stands"
        request = Request(
            "GET", self._location, what, expect=frozenset({204, 404}), scopes=self.scopes
        )
        try:
            answer = self.transport.call(request)
        except RegistryTimeout:
            raise
        except RegistryError:
            return None
        if answer.status == 404:
            return None
        self._follow(answer, what)
        found = _RECEIVED.match(answer.headers.get("range", ""))
        offset = int(found[1]) + 1 if found is not None else 0
        return 0 if offset == 1 else offset  # an empty upload says so, too

    def holds(self, digest: Digest) -> bool:
        """Whether the registry has a blob, although its last answer did not come through."""
        request = Request(
            "HEAD",
            f"/v2/{self.repository}/blobs/{digest}",
            f"look for blob {digest} in {self.name}",
            expect=frozenset({200, 404}),
            scopes=self.scopes,
        )
        return self.transport.call(request).status == 200

    def _follow(self, answer: Answer, what: str) -> None:
        location = answer.headers.get("location")
        if location:
            self._location = resolve(answer.url, location, what)
