"""COPY: files of the context, of an image or of another stage become a layer; nothing is mounted."""

from __future__ import annotations

import json
import os
import posixpath
from itertools import chain, islice
from typing import TYPE_CHECKING

from attrs import define, field, frozen
from typing_extensions import override

from pycontainer.build._destination import (
    absolute,
    directories,
    lookup_owner,
    refuse_conflicts,
    resolve,
)
from pycontainer.build._entries import Fingerprint, Look, relocated, store_layer, tree_of
from pycontainer.build._file_digests import FileDigests
from pycontainer.build._files import FileSource, Selected, open_source
from pycontainer.build._graph import Layer, Result, State, Step, Task
from pycontainer.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pycontainer.build._work import Work
    from pycontainer.layers import Entry
    from pycontainer.oci import Digest
    from pycontainer.snapshots import TreeView

__all__ = ["Copy"]


@frozen
class Copy(Step):
    """Copies from its vertex's second input.

    Attributes:
        sources: Paths or patterns, seen from the root of what is copied from.
        destination: Where to, seen from the working directory.
        owner: ``user``, ``user:group`` or numbers; None for 0:0 or, of a stage or image, as it is there.
        mode: Permissions; None for what they are.
        origin: What is copied from, as the history names it; empty for the context.
    """

    sources: tuple[str, ...]
    destination: str
    owner: str | None = None
    mode: int | None = None
    origin: str = ""

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        flags = {
            "from": self.origin,
            "chown": self.owner or "",
            "chmod": "" if self.mode is None else f"{self.mode:o}",
        }
        words = ["COPY", *(f"--{name}={value}" for name, value in flags.items() if value)]
        paths = (*self.sources, self.destination)
        if any(character.isspace() for path in paths for character in path):
            return " ".join([*words, json.dumps(paths)])
        return " ".join([*words, *paths])

    @property
    def into_directory(self) -> bool:
        """Whether the destination is written as a directory."""
        return self.destination.endswith("/") or posixpath.basename(self.destination) in (".", "..")

    @override
    def task(self, base: State, others: Sequence[Result], work: Work) -> Task:
        return _CopyTask(self, base, others[0], work)

    @override
    def apply(self, base: State, layer: Layer | None, work: Work) -> State:
        return base.after(work.history(self.title), layer=layer)


@define(eq=False)
class _CopyTask(Task):
    """One copy: first what is selected and what is in it, then where it goes."""

    _step: Copy
    _base: State
    _origin: Result
    _work: Work
    _selected: list[Selected] = field(factory=list, init=False)
    _content: Digest | None = field(default=None, init=False)

    @property
    def _keeps_owners(self) -> bool:
        return self._step.owner is None and isinstance(self._origin, State)

    @property
    def _place(self) -> str:
        return absolute(self._step.destination, self._base.config.config)

    @override
    def cache_keys(self) -> Iterator[object]:
        step = self._step
        how = [step.into_directory, step.owner, step.mode, self._keeps_owners]
        to = [self._base.chain_id, self._place, *how]
        if isinstance(self._origin, State):  # spares looking at its files
            yield ["by layers", *to, self._origin.chain_id, step.sources]
        files = open_source(self._origin, self._work, step.origin)
        known = FileDigests(self._work.store)
        fingerprint = Fingerprint(known)
        try:
            self._select(files)
            for selected in self._selected:
                fingerprint.begin("" if selected.node.is_dir else selected.name)
                fingerprint.take(self._entries(files, selected))
        except OSError as error:
            raise BuildError(
                f"{step.title}: cannot read {error.filename!r} in {files.label}: {error.strerror}"
            ) from error
        known.remember()
        self._content = fingerprint.digest
        yield ["by content", *to, self._content]

    @override
    def execute(self) -> Layer | None:
        tree = tree_of(self._base, self._work)
        owner = None if self._keeps_owners else (0, 0)
        if self._step.owner is not None:
            owner = lookup_owner(self._step.owner, tree)
        directory, targets = self._arrange(tree)
        fingerprint = Fingerprint()
        copied = refuse_conflicts(tree, self._copied(targets, owner, fingerprint))
        first = next(copied, None)
        layer = None
        if first is not None or tree.lookup(directory) is None:
            epoch = self._work.epoch
            above = directories(tree, directory, owner=owner or (0, 0), epoch=epoch)
            entries = chain(above, () if first is None else (first,), copied)
            layer = store_layer(entries, self._work)
        if fingerprint.digest != self._content:
            raise BuildError(
                f"{self._step.title}: files changed while they were copied",
                remedy="build again when nothing writes to the context",
            )
        return layer

    def _select(self, files: FileSource) -> None:
        step = self._step
        self._selected = [found for source in step.sources for found in files.select(source)]
        if len(self._selected) > 1 and not step.into_directory:
            raise BuildError(
                f"{step.title}: {len(self._selected)} files or directories cannot all become "
                f"{step.destination}",
                remedy=f"write the destination as {step.destination}/",
            )

    def _entries(self, files: FileSource, selected: Selected) -> Iterator[Entry]:
        """What is copied of one source, seen from there; of a directory only what is in it."""
        owner = None if self._keeps_owners else (0, 0)
        look = Look(owner, self._step.mode, self._work.epoch)
        entries = look.give(files.entries(selected))
        return islice(entries, 1, None) if selected.node.is_dir else entries

    def _arrange(self, tree: TreeView) -> tuple[str, list[tuple[Selected, str]]]:
        """The directory that has to be there, and the place of each source."""
        place = resolve(tree, self._place)
        node = tree.lookup(place, follow=False)
        into = self._step.into_directory or (node is not None and node.is_dir)
        holds_directory = any(selected.node.is_dir for selected in self._selected)
        if node is not None and not node.is_dir and (into or holds_directory):
            raise BuildError(f"{self._step.title}: in the image {place} is not a directory")
        targets = [
            (each, posixpath.join(place, each.name) if into and not each.node.is_dir else place)
            for each in self._selected
        ]
        return (place if into or holds_directory else posixpath.dirname(place)), targets

    def _copied(
        self,
        targets: Iterable[tuple[Selected, str]],
        owner: tuple[int, int] | None,
        fingerprint: Fingerprint,
    ) -> Iterator[Entry]:
        """All that is copied, in its place and with its owner."""
        files = open_source(self._origin, self._work, self._step.origin)
        for selected, target in targets:
            fingerprint.begin("" if selected.node.is_dir else selected.name)
            entries = fingerprint.of(self._entries(files, selected))
            for entry in relocated(entries, os.fsencode(target.lstrip("/"))):
                if owner is not None:
                    entry.uid, entry.gid = owner
                yield entry
