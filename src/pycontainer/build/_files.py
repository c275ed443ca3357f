"""Where copies take files from: patterns to what they select, and that to entries."""

from __future__ import annotations

import os
import stat
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen
from typing_extensions import override

from pycontainer.build._entries import tree_of
from pycontainer.build._flatten import entries_below
from pycontainer.build._glob import PatternError, compile_name, literal
from pycontainer.build._graph import Directory
from pycontainer.build._ignore import IgnorePatterns
from pycontainer.errors import BuildError
from pycontainer.layers import Entry, Kind, read_entry, walk_tree
from pycontainer.snapshots import TreeView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontainer.build._graph import Result
    from pycontainer.build._work import Work
    from pycontainer.snapshots import Node

__all__ = ["FileSource", "Selected", "normal_parts", "open_source"]


@frozen
class Selected:
    """What a pattern names.

    Attributes:
        name: The last part of its path.
        node: The file or directory found there.
        path: The whole path, as it was found: symlinks in it are not followed.
    """

    name: str
    node: Node
    path: str = ""


class FileSource(ABC):
    """A tree to copy from.

    Args:
        tree: Its files.
        label: What errors call it.
        hidden: What is not to be seen of it.
    """

    def __init__(self, tree: TreeView, label: str, hidden: IgnorePatterns | None = None) -> None:
        self._tree = tree
        self._hidden = hidden or IgnorePatterns()
        self.label = label

    def status(self, path: str) -> Entry:
        """The directory at a path, as an entry with that path."""
        node = self._tree.lookup(path)
        assert node is not None, f"{path} was selected"
        return self.look(read_entry(node.host_path, os.fsencode(path)))

    def look(self, entry: Entry) -> Entry:
        """An entry without what is this machine's affair."""
        return entry

    def select(self, pattern: str, *, lenient: bool = False, deep: bool = False) -> list[Selected]:
        """What a path names, seen from the root; parts of it may be patterns.

        Symlinks are followed, the last one too.

        Args:
            pattern: The path.
            lenient: Whether a pattern may match nothing.
            deep: Whether ``**`` stands for any number of directories, rather than for one name as ``*`` does.

        Raises:
            BuildError: It names nothing, leads out of the tree, or is no sound pattern.
        """
        paths = [""]
        for part in self._parts(pattern):
            try:
                paths = [found for path in paths for found in self._match(path, part, deep=deep)]
            except PatternError as error:
                raise BuildError(f"copy {pattern!r}: not a pattern: {error}") from error
        selected = []
        for path in paths:
            if self._tree.lookup(path, follow=False) is None or self._is_hidden(path):
                continue
            node = self._tree.lookup(path)
            if node is None or self._is_hidden(node.path):
                raise self._dangling(pattern, path)
            selected.append(Selected(path.rpartition("/")[2], node, path.lstrip("/")))
            if stat.S_ISSOCK(node.status.st_mode):
                raise BuildError(f"copy {pattern!r}: {path.lstrip('/')} is a socket")
        if not selected and not (lenient and literal(pattern) is None):
            raise self._missing(pattern)
        return selected

    def entries(self, selected: Selected, exclude: IgnorePatterns) -> Iterator[Entry]:
        """A file, under the empty path, or a directory with what is below it.

        A file's content can be read until the next entry is asked for.

        Args:
            selected: The file or directory.
            exclude: What is left out; seen from a directory, or by a file's name.
        """
        top = selected.node.path.strip("/")
        if not selected.node.is_dir:
            if not exclude.ignores(selected.name):
                yield self.one(selected.node, b"")
            return
        lead = f"{top}/" if top else ""
        found = self.below(selected.node, _Left(self._hidden, lead), _Left(exclude, ""))
        yield next(found)
        seen = ((lead + os.fsdecode(entry.path), entry) for entry in found)
        kept = self._hidden.keep(seen) if self._hidden.patterns else (entry for _, entry in seen)
        if exclude.patterns:
            kept = exclude.keep((os.fsdecode(entry.path), entry) for entry in kept)
        yield from kept

    @abstractmethod
    def one(self, node: Node, path: bytes) -> Entry:
        """A file as an entry."""

    @abstractmethod
    def below(self, node: Node, *left: _Left) -> Iterator[Entry]:
        """A directory and what is in it but for what is left out for good."""

    def _is_hidden(self, path: str) -> bool:
        path = path.strip("/")
        if not path or not self._hidden.ignores(path):
            return False
        if not self._hidden.takes_back:
            return True
        nodes = self._tree.walk(path) if self._tree.lookup(path) is not None else ()
        return all(self._hidden.ignores(node.path.strip("/")) for node in nodes)

    def _parts(self, pattern: str) -> list[str]:
        parts = normal_parts(pattern)
        if parts[:1] == [".."]:
            raise BuildError(
                f"copy {pattern!r}: the path leads out of {self.label}",
                remedy="choose a context that holds all the files to copy",
            )
        return parts

    def _match(self, path: str, part: str, *, deep: bool) -> Iterator[str]:
        name = literal(part)
        if name is not None:
            yield f"{path}/{name}"
            return
        node = self._tree.lookup(path)
        if node is None or not node.is_dir:
            return
        if deep and part == "**":
            yield from self._all_below(path, node)
            return
        names = compile_name(part)
        for child in self._tree.iterdir(node.path):
            child_name = child.path.rpartition("/")[2]
            if names.fullmatch(child_name):
                yield f"{path}/{child_name}"

    def _all_below(self, path: str, node: Node) -> Iterator[str]:
        """A directory and those in it, at any depth."""
        top = node.path.rstrip("/")
        for each in self._tree.walk(node.path):
            if each.is_dir:
                yield path + each.path.removeprefix(top).rstrip("/")

    def _missing(self, pattern: str) -> BuildError:
        return BuildError(f"copy {pattern!r}: there is no such file in {self.label}")

    def _dangling(self, pattern: str, path: str) -> BuildError:
        return BuildError(
            f"copy {pattern!r}: {path.lstrip('/')} is a symlink that leads nowhere within "
            f"{self.label}",
            remedy="copy the directory that holds it, which keeps it a symlink, or its target",
        )


def normal_parts(path: str) -> list[str]:
    """The parts of a path without ``.`` and ``..``; of the latter those that lead out of the root stay."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return parts


class _Context(FileSource):
    """A directory of this machine: owners and attributes are this machine's affair and stay here."""

    def __init__(self, directory: Path, ignore: tuple[str, ...]) -> None:
        label = f"the context {directory}"
        if ignore:
            label += ", or .dockerignore leaves it out"
        super().__init__(TreeView([directory]), label, IgnorePatterns(ignore))

    @override
    def look(self, entry: Entry) -> Entry:
        entry.uid = entry.gid = 0
        entry.xattrs = {}
        return entry

    @override
    def one(self, node: Node, path: bytes) -> Entry:
        return self.look(read_entry(node.host_path, path))

    @override
    def below(self, node: Node, *left: _Left) -> Iterator[Entry]:
        host_path = node.host_path
        for entry in walk_tree(host_path, exclude=_Pruned(left)):
            if entry.kind is Kind.HARD_LINK:
                # Whether two names share an inode depends on how the files got here: no link is one.
                entry = read_entry(host_path / os.fsdecode(entry.path), entry.path)
            yield self.look(entry)


class _Stage(FileSource):
    """The files of an image or another stage, with their owners and attributes."""

    @override
    def one(self, node: Node, path: bytes) -> Entry:
        return next(entries_below(self._tree, node.path))

    @override
    def below(self, node: Node, *left: _Left) -> Iterator[Entry]:
        return entries_below(self._tree, node.path, leave=_Pruned(left))


@frozen
class _Left:
    """Patterns that leave things out, and what comes before the paths of a walk for them."""

    patterns: IgnorePatterns
    lead: str


@frozen
class _Pruned:
    """The paths of a walk that need not be entered."""

    left: tuple[_Left, ...]

    def __contains__(self, path: object) -> bool:
        assert isinstance(path, bytes)
        name = os.fsdecode(path)
        return bool(name) and any(each.patterns.prunes(each.lead + name) for each in self.left)


def open_source(result: Result, work: Work, origin: str) -> FileSource:
    """The files of what a vertex gave.

    Args:
        result: What it gave.
        work: Where its layers are.
        origin: What a stage or image is called.
    """
    if isinstance(result, Directory):
        return _Context(result.path, result.ignore)
    tree = tree_of(result, work) if result.layers else _nothing(work)
    return _Stage(tree, f"--from={origin}")


def _nothing(work: Work) -> TreeView:
    """The tree of no layers: still a directory, which can be copied and has nothing in it."""
    directory = Path(tempfile.mkdtemp(prefix="empty-", dir=work.scratch))
    directory.chmod(0o755)
    return TreeView([directory])
