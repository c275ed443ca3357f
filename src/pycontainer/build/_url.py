"""Files from the web (``ADD https://…``)."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import urllib3
from attrs import frozen

from pycontainer.build._graph import Directory, Source
from pycontainer.errors import BuildError, SpecError
from pycontainer.oci import Digest

if TYPE_CHECKING:
    from typing import BinaryIO

    from pycontainer.build._work import Work

__all__ = ["UrlSource", "url_source"]

_NAMELESS: Final = "download"
_URL: Final = re.compile("https?://", re.IGNORECASE)
_TIMEOUT: Final = urllib3.Timeout(connect=30.0, read=60.0)
_CHUNK: Final = 1 << 18


def url_source(text: str, checksum: str) -> UrlSource | None:
    """The file that a text names; None if that is no URL.

    Raises:
        ValueError: The checksum is no digest.
    """
    if not _URL.match(text):
        return None
    name = unquote(urlsplit(text).path).rpartition("/")[2]
    return UrlSource(text, name if name not in ("", ".", "..") else _NAMELESS, checksum)


@frozen
class UrlSource(Source):
    """A directory with the one file that a URL gives.

    Attributes:
        url: The URL.
        name: What the file is called.
        checksum: What its digest has to be; empty for any.
    """

    url: str
    name: str
    checksum: str = ""

    def __attrs_post_init__(self) -> None:
        if self.checksum:
            try:
                Digest.parse(self.checksum)
            except SpecError as error:
                raise ValueError(f"--checksum: {error.message}") from error

    @property
    def title(self) -> str:
        """The URL."""
        return self.url

    def load(self, work: Work) -> Directory:
        """The directory, which the build's end removes.

        Raises:
            BuildError: The file cannot be had, or is another one.
        """
        directory = Path(tempfile.mkdtemp(prefix="url-", dir=work.scratch))
        wanted = Digest.parse(self.checksum) if self.checksum else None
        hashed = hashlib.new(wanted.algorithm if wanted else "sha256")
        try:
            with (
                urllib3.PoolManager() as pool,
                pool.request("GET", self.url, preload_content=False, timeout=_TIMEOUT) as answer,
                open(directory / self.name, "wb") as file,
            ):
                self._receive(answer, file, hashed, work)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise BuildError(f"{self.url} cannot be fetched: {error}") from error
        (directory / self.name).chmod(0o600)
        if wanted is not None and hashed.hexdigest() != wanted.hex:
            raise BuildError(
                f"{self.url} has the digest {wanted.algorithm}:{hashed.hexdigest()}, "
                f"not {self.checksum}",
                remedy="write the new one, if the file may have changed",
            )
        return Directory(directory)

    def _receive(
        self,
        answer: urllib3.BaseHTTPResponse,
        file: BinaryIO,
        hashed: hashlib._Hash,
        work: Work,
    ) -> None:
        if answer.status != 200:
            raise BuildError(f"{self.url} cannot be fetched: the server answers {answer.status}")
        for chunk in answer.stream(_CHUNK, decode_content=False):
            work.cancellation.check()
            hashed.update(chunk)
            file.write(chunk)
