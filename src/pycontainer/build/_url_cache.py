"""What URLs gave, and what their servers called it: so that it need not be fetched again."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.build._cache import BuildCache, cache_key
from pycontainer.content import Schema
from pycontainer.oci import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pycontainer.build._graph import Layer
    from pycontainer.content import Store

__all__ = ["Download", "UrlCache", "Validators"]

_YOUNG: Final = 2.0
"""Seconds in which a file could be changed again without a change of its date (RFC 9110, 8.8.2.2)."""

_SCHEMA: Final = Schema(
    "build_download",
    1,
    """
    CREATE TABLE IF NOT EXISTS build_download (
        key TEXT PRIMARY KEY, digest TEXT NOT NULL, etag TEXT NOT NULL, modified TEXT NOT NULL
    ) WITHOUT ROWID
    """,
)


@frozen
class Validators:
    """What a server says of the state of a file; empty where it says nothing.

    Attributes:
        etag: Its name for the content.
        modified: When it was changed, as the server writes it.
    """

    etag: str = ""
    modified: str = ""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Validators:
        """Those of an answer; a date that is too young to be relied on is left out."""
        modified = headers.get("Last-Modified", "")
        try:
            changed, now = (
                parsedate_to_datetime(each) for each in (modified, headers.get("Date", ""))
            )
            young = (now - changed).total_seconds() < _YOUNG
        except (TypeError, ValueError):  # one is missing or no date, or only one has a time zone
            young = True
        return cls(headers.get("ETag", ""), "" if young else modified)

    def headers(self) -> dict[str, str]:
        """The conditions of a request."""
        conditions = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in conditions.items() if value}

    def confirmed_by(self, now: Validators) -> bool:
        """Whether an answer that carries the content says that it is the same."""
        return bool(self.etag) and self.etag == now.etag


@frozen
class Download:
    """A file that was fetched.

    Attributes:
        layer: The layer that holds it.
        digest: Of its bytes.
        validators: What the server called it.
    """

    layer: Layer
    digest: Digest
    validators: Validators


class UrlCache:
    """What one URL gave.

    Args:
        store: The store.
        url: The URL; not kept, as it may hold a password.
        name: What the file is called.
        checksum: What its digest has to be; empty for any.
    """

    def __init__(self, store: Store, url: str, name: str, checksum: str) -> None:
        self._store = store
        self._cache = BuildCache(store)
        self._name = name
        self._key = cache_key("url", name, checksum or url)
        self.lock: Path = store.directory("build") / f".{self._key.hex}.lock"
        store.db.ensure(_SCHEMA)

    def lookup(self) -> Download | None:
        """What it gave; None if that is not there (any more)."""
        entry = self._cache.lookup(self._key)
        if entry is None or entry.layer is None:
            return None
        with self._store.db.transaction(write=False) as connection:
            row = connection.execute(
                "SELECT digest, etag, modified FROM build_download WHERE key = ?",
                (str(self._key),),
            ).fetchone()
        if row is None:
            return None
        return Download(entry.layer, Digest.parse(row[0]), Validators(*row[1:]))

    def record(self, download: Download) -> None:
        """Remember what was fetched, and drop what is known of files that the cache has forgotten."""
        validators = download.validators
        with self._store.db.transaction() as connection:
            self._cache.record([self._key], f"ADD {self._name}", download.layer)
            connection.execute(
                "INSERT OR REPLACE INTO build_download VALUES (?, ?, ?, ?)",
                (str(self._key), str(download.digest), validators.etag, validators.modified),
            )
            connection.execute(
                "DELETE FROM build_download WHERE key NOT IN (SELECT key FROM build_cache)"
            )
