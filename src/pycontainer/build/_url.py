"""Files from the web (``ADD https://…``)."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from attrs import evolve, frozen

from pycontainer.build._entries import store_layer
from pycontainer.build._graph import Material, Source, State
from pycontainer.build._url_cache import Download, UrlCache, Validators
from pycontainer.content import exclusive
from pycontainer.errors import BuildError, SpecError
from pycontainer.layers import read_entry
from pycontainer.oci import Compression, Digest

if TYPE_CHECKING:
    from typing import BinaryIO

    from pycontainer.build._graph import Layer
    from pycontainer.build._work import Work

__all__ = ["UrlSource", "url_source"]

_NAMELESS: Final = "download"
_URL: Final = re.compile("https?://", re.IGNORECASE)
_TIMEOUT: Final = urllib3.Timeout(connect=30.0, read=60.0)
_CHUNK: Final = 1 << 18
_MODE: Final = 0o600
_NOT_MODIFIED: Final = 304


def url_source(text: str, checksum: str) -> UrlSource | None:
    """The file that a text names; None if that is no URL.

    Raises:
        ValueError: The checksum is no digest.
    """
    if not _URL.match(text):
        return None
    name = unquote(urlsplit(text).path).rpartition("/")[2]
    if name in ("", ".", "..") or "\0" in name:
        name = _NAMELESS
    return UrlSource(text, name, checksum)


@frozen
class UrlSource(Source):
    """The one file that a URL gives, as a layer of its own.

    What was fetched stays in the build cache. It is fetched again only if the server does not confirm that it
    is what is there still (RFC 9110, section 13), and never if a checksum says what it has to be.

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
        """The URL, without user and password."""
        return self._uri

    def load(self, work: Work) -> State:
        """The file.

        Raises:
            BuildError: It cannot be had, or is another one.
        """
        cache = UrlCache(work.store, self.url, self.name, self.checksum)
        # Whoever wants the same at the same time waits, and then only has to ask.
        with exclusive(cache.lock, waiting=work.cancellation.check):
            known = cache.lookup()
            if known is None or not self.checksum:
                known = self._current(cache, known, work)
        state = State().after(work.history(self.title), layer=known.layer)
        return evolve(state, material=Material(self._uri, known.digest.algorithm, known.digest.hex))

    @property
    def _uri(self) -> str:
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def _authorization(self) -> dict[str, str]:
        parts = urlsplit(self.url)
        if parts.username is None:
            return {}
        said = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return urllib3.make_headers(basic_auth=said)

    def _current(self, cache: UrlCache, known: Download | None, work: Work) -> Download:
        """What the server has: what is known if that is still it, or else what it sends."""
        validators = Validators() if known is None else known.validators
        try:
            with (
                urllib3.PoolManager() as pool,
                pool.request(
                    "GET",
                    self.url,
                    headers={**self._authorization(), **validators.headers()},
                    preload_content=False,
                    timeout=_TIMEOUT,
                ) as answer,
            ):
                now = Validators.of(answer.headers)
                # Some servers do not obey conditions, and yet name what they send.
                if known and (answer.status == _NOT_MODIFIED or validators.confirmed_by(now)):
                    return known
                if answer.status != 200:
                    raise BuildError(
                        f"{self._uri} cannot be fetched: the server answers {answer.status}"
                    )
                fetched = Download(*self._fetched(answer, work), now)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise BuildError(f"{self._uri} cannot be fetched: {error}") from error
        cache.record(fetched)
        return fetched

    def _fetched(self, answer: urllib3.BaseHTTPResponse, work: Work) -> tuple[Layer, Digest]:
        wanted = Digest.parse(self.checksum) if self.checksum else None
        algorithm = wanted.algorithm if wanted else "sha256"
        hashed = hashlib.new(algorithm)
        path = Path(tempfile.mkdtemp(prefix="url-", dir=work.scratch)) / "file"
        with open(path, "wb") as file:
            _receive(answer, file, hashed, work)
        if wanted is not None and hashed.hexdigest() != wanted.hex:
            raise BuildError(
                f"{self._uri} has the digest {wanted.algorithm}:{hashed.hexdigest()}, "
                f"not {self.checksum}",
                remedy="write the new one, if the file may have changed",
            )
        entry = read_entry(path, os.fsencode(self.name))
        entry.uid = entry.gid = 0
        entry.mode, entry.mtime_ns, entry.xattrs = _MODE, 0, {}
        layer = store_layer([entry], evolve(work, compression=Compression.NONE, level=None))
        assert layer is not None, "there is an entry"
        path.unlink()
        return layer, Digest(algorithm, hashed.hexdigest())


def _receive(
    answer: urllib3.BaseHTTPResponse, file: BinaryIO, hashed: hashlib._Hash, work: Work
) -> None:
    for chunk in answer.stream(_CHUNK, decode_content=False):
        work.cancellation.check()
        hashed.update(chunk)
        file.write(chunk)
