"""Copying trees between host and container, by the rules of ``docker cp``."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pycontainer._linux.path import open_in_root
from pycontainer.errors import ContainerFileError, LayerError
from pycontainer.layers import Extractor, Kind, Ownership, read_entry, walk_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pycontainer.containers._view import Root
    from pycontainer.layers import Entry

__all__ = ["copy_in", "copy_out"]

_PATH: Final = os.O_PATH
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY
_GRANTING: Final = ("security.", "trusted.")  # attributes that belong to an owner's rights
_SET_IDS: Final = stat.S_ISUID | stat.S_ISGID


def copy_in(opened: Root, source: str, target: str, *, archive: bool) -> None:
    """Copy from the host beneath a container's root directory.

    Raises:
        ContainerFileError: The paths do not fit each other, or something cannot be copied.
        OSError: A path leads nowhere.
    """
    root = opened.fd
    if ".." in target.split("/"):
        raise ContainerFileError(f"the target {target} leads upwards", code=errno.EINVAL)
    status = os.lstat(source.removesuffix("/.") or "/")
    name = os.path.basename(os.path.abspath(source))
    there = _directory_in(root, target)
    prefix, into = _placed(source, name, target, is_dir=stat.S_ISDIR(status.st_mode), there=there)
    path = os.fsencode(prefix.strip("/"))
    if not there:  # the parent must be there: nobody has asked for one
        os.close(open_in_root(root, os.path.dirname(target.rstrip("/")), _PATH | os.O_DIRECTORY))
    if stat.S_ISDIR(status.st_mode):
        entries = walk_tree(Path(source), prefix=path, ownership=Ownership.ROOT)
    else:
        entries = iter([read_entry(Path(source), path, ownership=Ownership.ROOT)])
    if not archive:
        entries = _granting_nothing(entries, owner=(0, 0))
    _extract(
        opened.owners.going_in(entries),
        Path(f"/proc/self/fd/{root}"),
        Ownership.current(),
        skip=path if into else None,
    )


def copy_out(opened: Root, source: str, target: str, *, archive: bool) -> None:
    """Copy from beneath a container's root directory to the host.

    Raises:
        ContainerFileError: The paths do not fit each other, or something cannot be copied.
        OSError: A path leads nowhere.
    """
    root = opened.fd
    with ExitStack() as stack:
        plain = source.removesuffix("/.").rstrip("/")
        above, _, name = plain.rpartition("/")
        if name in ("", ".."):
            above, name = plain, "."
        parent = open_in_root(root, above, _DIRECTORY)
        stack.callback(os.close, parent)
        flags = _PATH if source.endswith("/.") else _PATH | os.O_NOFOLLOW
        place = open_in_root(root, plain, flags)
        stack.callback(os.close, place)
        is_dir = stat.S_ISDIR(os.stat(place).st_mode)
        there = os.path.isdir(target)
        final, into = _placed(source, name, target, is_dir=is_dir, there=there)
        onto = os.path.abspath(final)
        path = os.fsencode(os.path.basename(onto))
        if is_dir:
            tree = os.open(f"/proc/self/fd/{place}", _DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, tree)
            entries = walk_tree(Path(f"/proc/self/fd/{tree}"), prefix=path)
        else:
            entries = iter([read_entry(Path(f"/proc/self/fd/{parent}/{name}"), path)])
        entries = opened.owners.coming_out(entries)
        if not archive:
            entries = _granting_nothing(entries, owner=(os.geteuid(), os.getegid()))
        _extract(entries, Path(onto).parent, Ownership.ROOT, skip=path if into else None)


def _placed(source: str, name: str, target: str, *, is_dir: bool, there: bool) -> tuple[str, bool]:
    """Where a copy goes, and whether it is a directory that is there and stays as it is."""
    contents = source.endswith("/.") or name in ("", ".")
    if contents and not is_dir:
        raise ContainerFileError(f"{source} is not a directory", code=errno.ENOTDIR)
    if there:
        return (target, True) if contents else (f"{target.rstrip('/')}/{name}", False)
    if not is_dir and target.endswith("/"):
        raise ContainerFileError(f"{target} is not a directory", code=errno.ENOTDIR)
    return target.rstrip("/"), False


def _directory_in(root: int, path: str) -> bool:
    try:
        os.close(open_in_root(root, path, _PATH | os.O_DIRECTORY))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _extract(
    entries: Iterable[Entry], root: Path, ownership: Ownership, *, skip: bytes | None
) -> None:
    try:
        with Extractor(root, ownership, apply=True) as extractor:
            for entry in entries:
                if entry.path != skip:
                    extractor.put(entry)
            extractor.finish()
    except LayerError as error:
        cause = error.__cause__
        code = cause.errno if isinstance(cause, OSError) else None
        raise ContainerFileError(error.message, code=code or 0, remedy=error.remedy) from error


def _granting_nothing(entries: Iterable[Entry], *, owner: tuple[int, int]) -> Iterator[Entry]:
    """The entries as another owner's, who must not lend his rights to what is in them."""
    for entry in entries:
        if entry.kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE):
            continue
        entry.uid, entry.gid = owner
        entry.mode &= ~_SET_IDS
        if entry.xattrs:
            entry.xattrs = {
                key: value for key, value in entry.xattrs.items() if not key.startswith(_GRANTING)
            }
        yield entry
