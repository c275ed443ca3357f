"""Tars that hold images: read in one pass into a store, whatever the order of their members."""

from __future__ import annotations

import os
import posixpath
import secrets
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.errors import ImageError, SpecError
from pycontainer.images._create import read_chunks
from pycontainer.layers import Entry, Kind, read_entries, write_tar
from pycontainer.oci import Descriptor, Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pycontainer.content import Store, VerifiedReader

__all__ = ["Archive", "bytes_entry", "read_archive", "reader_entry", "write_archive"]

_LARGEST_DOCUMENT: Final = 16 << 20
_LARGEST_DOCUMENTS: Final = 64 << 20
_MOST_LINKS: Final = 8
_CHUNK: Final = 1 << 20
_DOCUMENTS: Final = (".json", "oci-layout")
_IGNORED: Final = ("repositories", "VERSION")  # what Docker still writes for its first versions


@frozen
class Archive:
    """What was found in a tar. Its blobs are in the store, under the reader's lease.

    Attributes:
        documents: Small JSON files by name.
        blobs: All other files by name.
        links: Targets of links by name, seen from the top.
    """

    documents: dict[str, bytes] = field(factory=dict)
    blobs: dict[str, Digest] = field(factory=dict)
    links: dict[str, str] = field(factory=dict)

    def document(self, name: str, store: Store) -> bytes:
        """A JSON file, be it in its own place or among the blobs.

        Raises:
            SpecError: There is none of that name.
        """
        name = self._target(name)
        if name in self.documents:
            return self.documents[name]
        digest = self.blob(name)
        found = Descriptor("", digest, store.blobs.size(digest))
        return store.blobs.read_bytes(found, limit=_LARGEST_DOCUMENT)

    def blob(self, name: str) -> Digest:
        """The digest of any other file.

        Raises:
            SpecError: There is none of that name.
        """
        digest = self.blobs.get(self._target(name))
        if digest is None:
            raise SpecError(f"the archive names a file that it does not hold: {name!r}")
        return digest

    def _target(self, name: str) -> str:
        name = posixpath.normpath(name).lstrip("/")
        for _ in range(_MOST_LINKS):
            if name not in self.links:
                break
            name = self.links[name]
        return name


def read_archive(store: Store, path: Path) -> Archive:
    """Read a tar, perhaps compressed. Call it under a lease.

    Nothing is written by the names in it: files become blobs, named by what they hold.

    Raises:
        TarError: It is damaged.
        DigestMismatch: A file below ``blobs`` is not what its name says.
        ImageError: It cannot be read, or is too strange.
    """
    archive = Archive()
    room = _LARGEST_DOCUMENTS
    try:
        with path.open("rb") as file:
            for entry in read_entries(read_chunks(file)):
                name = os.fsdecode(entry.path)
                if posixpath.basename(name) in _IGNORED:
                    continue
                if entry.kind is Kind.FILE:
                    room -= _take_file(store, archive, name, entry)
                elif entry.kind is Kind.SYMLINK:
                    target = posixpath.join(posixpath.dirname(name), os.fsdecode(entry.link))
                    archive.links[name] = posixpath.normpath(target).lstrip("/")
                elif entry.kind is Kind.HARD_LINK:
                    archive.links[name] = os.fsdecode(entry.link)
                if room < 0:
                    raise ImageError(f"{path} holds more than {_LARGEST_DOCUMENTS} bytes of JSON")
    except OSError as error:
        raise ImageError(f"cannot load {path}: {error.strerror or error}") from error
    return archive


def _take_file(store: Store, archive: Archive, name: str, entry: Entry) -> int:
    archive.links.pop(name, None)
    if name.endswith(_DOCUMENTS) and entry.size <= _LARGEST_DOCUMENT:
        archive.documents[name] = b"".join(map(bytes, entry.content())) if entry.content else b""
        return entry.size
    digest = _digest_in(name)
    if digest is not None and store.blobs.exists(digest):
        archive.blobs[name] = digest
        return 0
    expected = None if digest is None else Descriptor("", digest, entry.size)
    with store.blobs.writer(expected) as blob:
        for data in entry.content() if entry.content else ():
            blob.write(data)
        archive.blobs[name] = blob.commit()
    return 0


def _digest_in(name: str) -> Digest | None:
    """The digest that a file below ``blobs`` is named by."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "blobs":
        return None
    try:
        return Digest.parse(f"{parts[1]}:{parts[2]}")
    except SpecError:
        return None


# --- writing ---------------------------------------------------------------------------------


def write_archive(path: Path, entries: Iterable[Entry]) -> None:
    """Write a tar that is there whole or not at all.

    Raises:
        ContentError: A stored blob is missing or damaged.
        OSError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        with temporary.open("xb", buffering=0) as file:
            for chunk in write_tar(entries):
                file.write(chunk)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def bytes_entry(path: str, data: bytes) -> Entry:
    """A file of the archive with these bytes."""
    return Entry(path.encode(), Kind.FILE, size=len(data), content=lambda: iter((data,)))


def reader_entry(path: str, store: Store, blob: Descriptor) -> Entry:
    """A file of the archive with the bytes of a blob."""
    return Entry(
        path.encode(),
        Kind.FILE,
        size=blob.size,
        content=lambda: _pieces(store.blobs.reader(blob)),
    )


def _pieces(reader: VerifiedReader) -> Iterator[bytes]:
    with reader:
        while data := reader.read(_CHUNK):
            yield data
