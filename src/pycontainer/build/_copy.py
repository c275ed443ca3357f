"""COPY: files of the context, of an image or of another stage become a layer; nothing is mounted."""

from __future__ import annotations

import json
import os
import posixpath
import re
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

from attrs import asdict, define, evolve, field, frozen
from typing_extensions import override

from pycontainer.build._archives import is_archive, unpacked
from pycontainer.build._destination import (
    absolute,
    directories,
    lookup_owner,
    refuse_conflicts,
    resolve,
)
from pycontainer.build._entries import Fingerprint, Look, relocated, store_layer, tree_of
from pycontainer.build._file_digests import FileDigests
from pycontainer.build._files import FileSource, Selected, normal_parts, open_source
from pycontainer.build._flatten import entries_below
from pycontainer.build._graph import Layer, Result, State, Step, Task
from pycontainer.build._ignore import IgnorePatterns
from pycontainer.errors import BuildError
from pycontainer.snapshots import TreeView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pycontainer.build._work import Work
    from pycontainer.layers import Entry
    from pycontainer.oci import Digest

__all__ = ["Copy"]


@frozen
class Copy(Step):
    """Copies from its vertex's second input.

    Attributes:
        sources: Paths or patterns, seen from the root of what is copied from.
        destination: Where to, seen from the working directory.
        owner: ``user``, ``user:group`` or numbers; None for 0:0 or, of a stage or image, as it is there.
        mode: Permissions, or changes of them as ``chmod`` has them; None for what they are.
        origin: What is copied from, as the history names it; empty for the context.
        link: Whether the layer is to depend on nothing that is in the image.
        parents: Whether the directories above the sources are kept.
        exclude: Patterns of what is left out of each source.
        verb: The instruction, ``COPY`` or ``ADD``.
        shown: What the history names as the sources instead of them.
        unpack: Whether archives become what they hold.
        lenient: Whether patterns may match nothing, as in Dockerfiles.
    """

    sources: tuple[str, ...]
    destination: str
    owner: str | None = None
    mode: int | str | None = None
    origin: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    verb: Literal["COPY", "ADD"] = "COPY"
    shown: tuple[str, ...] = ()
    unpack: bool = False
    lenient: bool = False

    @override
    def definition(self) -> object:
        """The fields but the name of the origin: a stage of another name holds the same."""
        return asdict(self, filter=lambda attribute, _: attribute.name != "origin")

    @property
    def title(self) -> str:
        """As in a Dockerfile."""
        return self._written(self.origin)

    def _written(self, origin: str) -> str:
        flags = {
            "from": origin,
            "chown": self.owner or "",
            "chmod": f"{self.mode:o}" if isinstance(self.mode, int) else self.mode or "",
        }
        words = [self.verb, *(f"--{name}={value}" for name, value in flags.items() if value)]
        words += [f"--{name}" for name in ("link", "parents") if getattr(self, name)]
        words += [f"--exclude={pattern}" for pattern in self.exclude]
        paths = (*(self.shown or self.sources), self.destination)
        if any(character.isspace() for path in paths for character in path):
            return " ".join([*words, json.dumps(paths)])
        return " ".join([*words, *paths])

    @property
    def into_directory(self) -> bool:
        """Whether the destination is written as a directory, or has to be one."""
        return (
            self.parents
            or self.destination.endswith("/")
            or posixpath.basename(self.destination) in (".", "..")
        )

    @override
    def task(self, base: State, others: Sequence[Result], work: Work) -> Task:
        return _CopyTask(self, base, others[0], work)

    @override
    def apply(self, base: State, layer: Layer | None, work: Work) -> State:
        # As BuildKit has it, without where from: stages have other names in other files.
        return base.after(work.history(self._written("")), layer=layer)


@frozen
class _Chosen:
    """A source that was found, and where it goes: seen from the destination if that is a directory.

    Attributes:
        selected: What was found.
        place: Empty for a directory whose content is copied.
        is_archive: Whether it is an archive that is to be unpacked, and so a directory.
    """

    selected: Selected
    place: str
    is_archive: bool = False

    @property
    def is_directory(self) -> bool:
        """Whether what is in it is copied, rather than it."""
        return self.selected.node.is_dir or self.is_archive


@define(eq=False)
class _CopyTask(Task):
    """One copy: first what is selected and what is in it, then where it goes."""

    _step: Copy
    _base: State
    _origin: Result
    _work: Work
    _chosen: list[_Chosen] = field(factory=list, init=False)
    _content: Digest | None = field(default=None, init=False)

    @property
    def _keeps_owners(self) -> bool:
        return self._step.owner is None and isinstance(self._origin, State)

    @property
    def _place(self) -> str:
        return absolute(self._step.destination, self._base.config.config)

    @property
    def _below(self) -> State:
        """The image that the layer depends on: where it is linked, on none."""
        return State() if self._step.link else self._base

    @override
    def cache_keys(self) -> Iterator[object]:
        step = self._step
        how: list[object] = [step.into_directory, step.owner, step.mode, self._keeps_owners]
        if step.link or step.parents:
            how.append([step.link, step.parents])
        names = step.owner is not None and not re.fullmatch(r"\d+(:\d+)?", step.owner)
        base = self._base if names else self._below
        to = [base.chain_id, self._place, *how]
        if isinstance(self._origin, State):  # spares looking at its files
            how = [step.sources, step.exclude, step.unpack]
            yield ["by layers", *to, self._origin.chain_id, *how]
        files = open_source(self._origin, self._work, step.origin)
        known = FileDigests(self._work.store)
        fingerprint = Fingerprint(known)
        try:
            self._select(files)
            for chosen, entries in self._entries(files):
                fingerprint.begin(_mark(chosen))
                fingerprint.take(entries)
        except OSError as error:
            raise BuildError(
                f"{step.title}: cannot read {error.filename!r} in {files.label}: {error.strerror}"
            ) from error
        known.remember()
        self._content = fingerprint.digest
        yield ["by content", *to, self._content]

    @override
    def execute(self) -> Layer | None:
        tree = tree_of(self._below, self._work)
        owner = None if self._keeps_owners else (0, 0)
        if self._step.owner is not None:
            owner = lookup_owner(self._step.owner, tree_of(self._base, self._work))
        directory, targets = self._arrange(tree)
        fingerprint = Fingerprint()
        copied = refuse_conflicts(tree, self._copied(targets, owner, fingerprint))
        first = next(copied, None)
        layer = None
        if self._chosen and (first is not None or tree.lookup(directory) is None):
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
        self._chosen = [
            _Chosen(found, self._place_of(source, found))
            for source in step.sources
            for found in files.select(source, lenient=step.lenient, deep=step.parents)
        ]
        if step.unpack:
            self._chosen = [_as_archive(chosen) for chosen in self._chosen]
        if len(self._chosen) > 1 and not step.into_directory:
            raise BuildError(
                f"{step.title}: {len(self._chosen)} files or directories cannot all become "
                f"{step.destination}",
                remedy=f"write the destination as {step.destination}/",
            )

    def _place_of(self, source: str, found: Selected) -> str:
        if not self._step.parents:
            return "" if found.node.is_dir else found.name
        pivot, _, _ = source.partition("/./") if "/./" in source else ("", "", "")
        return "/".join(found.path.split("/")[len(normal_parts(pivot)) :])

    def _entries(self, files: FileSource) -> Iterator[tuple[_Chosen, Iterator[Entry]]]:
        """What is copied of each source, seen from its place; of a directory only what is in it."""
        owner = None if self._keeps_owners else (0, 0)
        look = Look(owner, self._step.mode, self._work.epoch)
        exclude = IgnorePatterns(self._step.exclude)
        seen: set[str] = set()
        for chosen in self._chosen:
            found = files.entries(chosen.selected, exclude)
            if self._step.parents and chosen.place:
                above = self._above(files, chosen, seen)
                found = chain(above, relocated(found, os.fsencode(chosen.place)))
            elif chosen.selected.node.is_dir:
                found = islice(found, 1, None)
            yield chosen, look.give(found)

    def _above(self, files: FileSource, chosen: _Chosen, seen: set[str]) -> Iterator[Entry]:
        """The directories above a source that are kept and were not there yet."""
        parts = chosen.place.split("/")
        lead = chosen.selected.path.removesuffix(chosen.place)
        for count in range(1, len(parts)):
            place = "/".join(parts[:count])
            if place not in seen:
                seen.add(place)
                entry = files.status(lead + place)
                entry.path = os.fsencode(place)
                yield entry

    def _arrange(self, tree: TreeView) -> tuple[str, list[str]]:
        """The directory that has to be there, and the place of each source."""
        place = resolve(tree, self._place)
        node = tree.lookup(place, follow=False)
        into = self._step.into_directory or (node is not None and node.is_dir)
        holds_directory = any(chosen.is_directory for chosen in self._chosen)
        if node is not None and not node.is_dir and (into or holds_directory):
            raise BuildError(f"{self._step.title}: in the image {place} is not a directory")
        if self._step.parents:
            return place, [place] * len(self._chosen)
        targets = [posixpath.join(place, each.place) if into else place for each in self._chosen]
        return (place if into or holds_directory else posixpath.dirname(place)), targets

    def _copied(
        self,
        targets: Iterable[str],
        owner: tuple[int, int] | None,
        fingerprint: Fingerprint,
    ) -> Iterator[Entry]:
        """All that is copied, in its place and with its owner."""
        files = open_source(self._origin, self._work, self._step.origin)
        for (chosen, found), target in zip(self._entries(files), targets, strict=True):
            fingerprint.begin(_mark(chosen))
            if chosen.is_archive:
                fingerprint.take(found)
                entries = self._unpacked(chosen)
            else:
                entries = fingerprint.of(found)
            for entry in relocated(entries, os.fsencode(target.strip("/"))):
                if owner is not None and not (chosen.is_archive and self._step.owner is None):
                    entry.uid, entry.gid = owner
                yield entry

    def _unpacked(self, chosen: _Chosen) -> Iterator[Entry]:
        """What an archive holds, with the owners that it says."""
        directory = unpacked(chosen.selected.node.host_path, self._work)
        look = Look(None, self._step.mode, self._work.epoch)
        yield from look.give(islice(entries_below(TreeView([directory]), "/"), 1, None))


def _mark(chosen: _Chosen) -> str:
    """What a digest of copied files has of a source's place."""
    return f"{chosen.place}, unpacked" if chosen.is_archive else chosen.place


def _as_archive(chosen: _Chosen) -> _Chosen:
    node = chosen.selected.node
    if not node.is_file or not is_archive(node.host_path):
        return chosen
    return evolve(chosen, place=posixpath.dirname(chosen.place), is_archive=True)
