"""Places in the image that is being built, found and made without mounting it."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING, Final

from pycontainer.build._entries import Look
from pycontainer.errors import BuildError, UnknownUser
from pycontainer.layers import Entry, Kind, Ownership, read_entry
from pycontainer.runtime import resolve_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pycontainer.oci import ContainerConfig
    from pycontainer.snapshots import TreeView

__all__ = [
    "absolute",
    "directories",
    "lookup_owner",
    "read_file",
    "refuse_conflicts",
    "resolve",
]

_MOST_SYMLINKS: Final = 40  # as the kernel's path_resolution(7)
_NEW_DIRECTORY: Final = 0o755


def absolute(path: str, config: ContainerConfig) -> str:
    """A path seen from the image's working directory, without ``.`` and ``..``."""
    return posixpath.normpath(posixpath.join("/", config.working_dir, path)).replace("//", "/")


def resolve(tree: TreeView, path: str) -> str:
    """An absolute path with all symlinks in it followed; what is missing of it stays as it is.

    Raises:
        BuildError: Something on the way is no directory, or symlinks go round in circles.
    """
    done = "/"
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            done = posixpath.dirname(done)
            continue
        here = posixpath.join(done, name)
        node = tree.lookup(here, follow=False)
        if node is not None and node.is_symlink:
            links += 1
            if links > _MOST_SYMLINKS:
                raise BuildError(f"{path} in the image: too many symlinks on the way")
            todo += node.link.split("/")[::-1]
            done = "/" if node.link.startswith("/") else done
            continue
        if node is not None and not node.is_dir and any(part not in ("", ".") for part in todo):
            raise BuildError(f"{path} in the image: {here} is not a directory")
        done = here
    return done


def directories(
    tree: TreeView, path: str, *, owner: tuple[int, int], epoch: int
) -> Iterator[Entry]:
    """A directory and those above it, as entries: existing ones as they are, missing ones new.

    A layer has to say of each directory that it puts something into what that directory is like: who
    unpacks it alone would make one up, which would then hide the one below.

    Args:
        tree: The image so far.
        path: The directory, resolved.
        owner: User and group id of new ones.
        epoch: The time of all.
    """
    above = ""
    look = Look(owner=None, mode=None, epoch=epoch)
    for name in path.split("/"):
        if not name:
            continue
        above = f"{above}/{name}"
        entry_path = os.fsencode(above.lstrip("/"))
        node = tree.lookup(above, follow=False)
        if node is None:
            entry = Entry(entry_path, Kind.DIRECTORY, _NEW_DIRECTORY, *owner)
        else:
            entry = read_entry(node.host_path, entry_path, ownership=Ownership.current())
        yield from look.give([entry])


def refuse_conflicts(tree: TreeView, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Pass entries on that replace no directory by something else, nor the other way round.

    Raises:
        BuildError: One would. With a symlink to a directory (such as ``/lib``) in the place of a
            directory, all that is behind it would vanish.
    """
    absent: bytes | None = None  # below a directory that the image does not have there is nothing
    for entry in entries:
        if absent is None or not entry.path.startswith(absent):
            path = "/" + os.fsdecode(entry.path)
            node = tree.lookup(path, follow=False)
            if node is None:
                absent = entry.path + b"/"
            elif entry.kind is Kind.DIRECTORY and not node.is_dir:
                what = "a symlink" if node.is_symlink else "not a directory"
                raise BuildError(
                    f"cannot copy a directory to {path}: in the image that is {what}",
                    remedy="copy to the place where it leads" if node.is_symlink else None,
                )
            elif entry.kind is not Kind.DIRECTORY and node.is_dir:
                raise BuildError(f"cannot copy a file to {path}: in the image that is a directory")
        yield entry


def lookup_owner(text: str, tree: TreeView) -> tuple[int, int]:
    """User and group id of ``user``, ``user:group`` or numbers, by the image's own files.

    A number without a group stands for the group too.

    Raises:
        BuildError: The image does not know a name.
    """
    try:
        user = resolve_user(
            f"{text}:{text}" if text.isdecimal() else text, lambda path: read_file(tree, path)
        )
    except UnknownUser as error:
        raise BuildError(f"owner {text!r}: {error.message}", remedy=error.remedy) from error
    return user.uid, user.gid


def read_file(tree: TreeView, path: str) -> bytes | None:
    """The content of a file of the image; None if there is none."""
    try:
        return tree.read_bytes(path)
    except FileNotFoundError:
        return None
