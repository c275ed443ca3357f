"""Where copies take files from: patterns to what they select, and that to entries."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from attrs import frozen
from typing_extensions import override

from pycontainer.build._entries import tree_of
from pycontainer.build._flatten import entries_below
from pycontainer.build._glob import PatternError, compile_name, literal
from pycontainer.build._graph import Directory
from pycontainer.errors import BuildError
from pycontainer.layers import Entry, Kind, read_entry, walk_tree
from pycontainer.snapshots import TreeView

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pycontainer.build._graph import Result
    from pycontainer.build._work import Work
    from pycontainer.snapshots import Node

__all__ = ["FileSource", "Selected", "open_source"]


@frozen
class Selected:
    """What a pattern names: the last part of its path, and the file or directory found there."""

    name: str
    node: Node


class FileSource(ABC):
    """A tree to copy from.

    Args:
        tree: Its files.
        label: What errors call it.
    """

    def __init__(self, tree: TreeView, label: str) -> None:
        self._tree = tree
        self.label = label

    def select(self, pattern: str) -> list[Selected]:
        """What a path names, seen from the root; parts of it may be patterns.

        Symlinks are followed, the last one too.

        Raises:
            BuildError: It names nothing, leads out of the tree, or is no sound pattern.
        """
        paths = [""]
        for part in self._parts(pattern):
            try:
                paths = [found for path in paths for found in self._match(path, part)]
            except PatternError as error:
                raise BuildError(f"copy {pattern!r}: not a pattern: {error}") from error
        selected = []
        for path in paths:
            if self._tree.lookup(path, follow=False) is None:
                continue
            node = self._tree.lookup(path)
            if node is None:
                raise self._dangling(pattern, path)
            selected.append(Selected(path.rpartition("/")[2], node))
            if stat.S_ISSOCK(node.status.st_mode):
                raise BuildError(f"copy {pattern!r}: {path.lstrip('/')} is a socket")
        if not selected:
            raise self._missing(pattern)
        return selected

    @abstractmethod
    def entries(self, selected: Selected) -> Iterator[Entry]:
        """A file, under the empty path, or a directory with what is below it.

        A file's content can be read until the next entry is asked for.
        """

    def _parts(self, pattern: str) -> list[str]:
        parts: list[str] = []
        for part in pattern.split("/"):
            if part == "..":
                if not parts:
                    raise BuildError(
                        f"copy {pattern!r}: the path leads out of {self.label}",
                        remedy="choose a context that holds all the files to copy",
                    )
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return parts

    def _match(self, path: str, part: str) -> Iterator[str]:
        name = literal(part)
        if name is not None:
            yield f"{path}/{name}"
            return
        names = compile_name(part)
        node = self._tree.lookup(path)
        if node is not None and node.is_dir:
            for child in self._tree.iterdir(node.path):
                child_name = child.path.rpartition("/")[2]
                if names.fullmatch(child_name):
                    yield f"{path}/{child_name}"

    def _missing(self, pattern: str) -> BuildError:
        return BuildError(f"copy {pattern!r}: there is no such file in {self.label}")

    def _dangling(self, pattern: str, path: str) -> BuildError:
        return BuildError(
            f"copy {pattern!r}: {path.lstrip('/')} is a symlink that leads nowhere within "
            f"{self.label}",
            remedy="copy the directory that holds it, which keeps it a symlink, or its target",
        )


class _Context(FileSource):
    """A directory of this machine: owners and attributes are this machine's affair and stay here."""

    def __init__(self, directory: Path) -> None:
        super().__init__(TreeView([directory]), f"the context {directory}")

    @override
    def entries(self, selected: Selected) -> Iterator[Entry]:
        host_path = selected.node.host_path
        if not selected.node.is_dir:
            yield _plain(read_entry(host_path, b""))
            return
        for entry in walk_tree(host_path):
            if entry.kind is Kind.HARD_LINK:
                # Whether two names share an inode depends on how the files got here: no link is one.
                entry = read_entry(host_path / os.fsdecode(entry.path), entry.path)
            yield _plain(entry)


def _plain(entry: Entry) -> Entry:
    entry.uid = entry.gid = 0
    entry.xattrs = {}
    return entry


class _Stage(FileSource):
    """The files of an image or another stage, with their owners and attributes."""

    @override
    def entries(self, selected: Selected) -> Iterator[Entry]:
        return entries_below(self._tree, selected.node.path)


def open_source(result: Result, work: Work, origin: str) -> FileSource:
    """The files of what a vertex gave.

    Args:
        result: What it gave.
        work: Where its layers are.
        origin: What a stage or image is called.
    """
    if isinstance(result, Directory):
        return _Context(result.path)
    return _Stage(tree_of(result, work), f"--from={origin}")
