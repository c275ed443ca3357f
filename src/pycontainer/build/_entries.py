"""Entries on their way into a layer: made alike on all machines, digested, stored."""

from __future__ import annotations

import hashlib
from itertools import chain
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.build._graph import Layer, State
from pycontainer.build._modes import change_mode
from pycontainer.layers import Entry, Kind, StoredContent, pack
from pycontainer.oci import Digest
from pycontainer.snapshots import TreeView, ensure_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pycontainer.build._file_digests import FileDigests
    from pycontainer.build._work import Work

__all__ = ["Fingerprint", "Look", "relocated", "store_layer", "tree_of"]

_SECOND: Final = 1_000_000_000


@frozen
class Look:
    """How copied files look in the image.

    Attributes:
        owner: User and group id; None to keep each file's own.
        mode: Permissions of all but symlinks, or changes of them; None to keep each file's own.
        epoch: The time of all, seconds since 1970.
    """

    owner: tuple[int, int] | None
    mode: int | str | None
    epoch: int

    def give(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries, changed."""
        for entry in entries:
            if self.owner is not None:
                entry.uid, entry.gid = self.owner
            if self.mode is not None and entry.kind is not Kind.SYMLINK:
                entry.mode = self._changed(entry, self.mode)
            entry.mtime_ns = self.epoch * _SECOND
            yield entry

    def _changed(self, entry: Entry, mode: int | str) -> int:
        if isinstance(mode, int):
            return mode
        return change_mode(mode, entry.mode, is_directory=entry.kind is Kind.DIRECTORY)


class Fingerprint:
    """One digest of names, kinds, modes, owners, links, attributes and contents; not of times.

    Args:
        known: Contents whose digests are known already, for `take`.
    """

    def __init__(self, known: FileDigests | None = None) -> None:
        self._hash = hashlib.sha256()
        self._known = known

    def begin(self, name: str) -> None:
        """Mark the beginning of what belongs to one name."""
        self._hash.update(repr(name).encode())

    def of(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Pass entries on, digesting each: its content as it is read, which has to happen at once."""
        for entry in entries:
            facts = _facts(entry)
            content = _Content(entry)
            yield entry
            self._add(facts, content.digest())

    def take(self, entries: Iterable[Entry]) -> None:
        """Digest entries and their contents."""
        for entry in entries:
            content = entry.content
            if self._known is not None and isinstance(content, StoredContent):
                self._add(_facts(entry), self._known.digest(content))
            else:
                pieces = () if content is None else content()
                sha256 = hashlib.sha256()
                for piece in pieces:
                    sha256.update(piece)
                self._add(_facts(entry), sha256.digest())

    def _add(self, facts: tuple[object, ...], digest: bytes) -> None:
        # The repr of such a tuple is as unambiguous as JSON, and made in a third of the time.
        self._hash.update(repr((facts, digest)).encode())

    @property
    def digest(self) -> Digest:
        """The digest of all so far."""
        return Digest("sha256", self._hash.hexdigest())


def _facts(entry: Entry) -> tuple[object, ...]:
    return (
        entry.path,
        entry.kind.name,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.link,
        entry.major,
        entry.minor,
        tuple(sorted(entry.xattrs.items())),
        entry.size,
    )


class _Content:
    """Stands between an entry's content and its reader, and digests what is read."""

    def __init__(self, entry: Entry) -> None:
        self._hash = hashlib.sha256()
        if entry.content is not None:
            self._content = entry.content
            entry.content = self._read

    def _read(self) -> Iterator[bytes | memoryview]:
        for piece in self._content():
            self._hash.update(piece)
            yield piece

    def digest(self) -> bytes:
        return self._hash.digest()


def relocated(entries: Iterable[Entry], target: bytes) -> Iterator[Entry]:
    """The entries of a tree as those of one whose root is at `target`."""
    for entry in entries:
        entry.path = _below(target, entry.path)
        if entry.kind is Kind.HARD_LINK:
            entry.link = _below(target, entry.link)
        yield entry


def _below(target: bytes, path: bytes) -> bytes:
    return b"/".join(part for part in (target, path) if part)


def store_layer(entries: Iterable[Entry], work: Work) -> Layer | None:
    """Make a layer of entries and store it; None if there are none.

    Raises:
        LayerError: A file changed while it was read.
    """
    remaining = _until_cancelled(entries, work)
    first = next(remaining, None)
    if first is None:
        return None
    with work.store.blobs.writer() as blob:
        packed = pack(
            chain([first], remaining), blob, compression=work.compression, level=work.level
        )
    return Layer(packed.descriptor, packed.diff_id)


def _until_cancelled(entries: Iterable[Entry], work: Work) -> Iterator[Entry]:
    for entry in entries:
        work.cancellation.check()
        yield entry


def tree_of(state: State, work: Work) -> TreeView:
    """The files of a state; layers that are not unpacked yet are unpacked."""
    return TreeView(
        [ensure_layer(work.store, layer.descriptor, layer.diff_id) for layer in state.layers]
    )
