"""What a container has changed of its image's files, and its files as a tar."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from attrs import frozen

from pycontainer.containers import _view
from pycontainer.errors import ContainerError
from pycontainer.layers import walk_tree, write_tar
from pycontainer.oci.runtime import RuntimeSpec
from pycontainer.snapshots import Snapshot, TreeView, without_noise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontainer.layers import Entry
    from pycontainer.snapshots import RootfsPlan

__all__ = ["Change", "changed_entries", "export", "list_changes"]

_HIDDEN: Final = b".wh."  # the image-spec's mark of what is gone (layer.md, *Whiteouts*)
_OPAQUE: Final = b".wh..wh..opq"


@frozen(order=True)
class Change:
    """A difference between a container's files and its image's.

    Attributes:
        path: Where, absolute.
        kind: ``added``, ``modified`` (content, owner, mode or attributes; of a directory also that
            something in it has changed) or ``deleted``.
    """

    path: str
    kind: Literal["added", "modified", "deleted"]


def list_changes(home: Path, plan: RootfsPlan) -> tuple[Change, ...]:
    """The changes by path; the container is frozen while they are looked for.

    Raises:
        LayerError: A file cannot be read.
    """
    with _view.frozen(home):
        return tuple(sorted(_changes(home, plan)))


def changed_entries(home: Path, plan: RootfsPlan) -> Iterator[Entry]:
    """The changes as the entries of a layer, without what the runtime made to mount on."""
    base = _base(plan)
    points = _mount_points(home, base)
    entries = Snapshot(home, plan).changes(exclude=points)
    return without_noise(entries, base, points)


def export(home: Path, plan: RootfsPlan, target: str | os.PathLike[str] | BinaryIO) -> None:
    """Write all files as a tar; the container is frozen meanwhile.

    Raises:
        ContainerError: The tar cannot be written.
        LayerError: A file cannot be read.
    """
    with ExitStack() as stack:
        root = stack.enter_context(_view.opened_layers(home, plan))
        tree = os.open(f"/proc/self/fd/{root}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, tree)
        chunks = write_tar(walk_tree(Path(f"/proc/self/fd/{tree}")))
        try:
            if isinstance(target, (str, os.PathLike)):
                target = stack.enter_context(open(target, "wb"))
            for chunk in chunks:
                target.write(chunk)
        except OSError as error:
            raise ContainerError(f"cannot write the tar of the container: {error}") from error


def _base(plan: RootfsPlan) -> TreeView:
    return TreeView([Path(lower) for lower in reversed(plan.lowers)])


def _changes(home: Path, plan: RootfsPlan) -> Iterator[Change]:
    base = _base(plan)
    there: set[bytes] = set()
    opaque: list[bytes] = []
    for entry in changed_entries(home, plan):
        above, _, name = entry.path.rpartition(b"/")
        if name == _OPAQUE:
            opaque.append(above)
        elif name.startswith(_HIDDEN):
            yield Change(_path(above, name.removeprefix(_HIDDEN)), "deleted")
        else:
            there.add(entry.path)
            path = _path(above, name)
            known = base.lookup(path, follow=False) is not None
            yield Change(path, "modified" if known else "added")
    for directory in opaque:
        node = base.lookup("/" + os.fsdecode(directory), follow=False)
        for child in base.iterdir(node.path) if node is not None and node.is_dir else ():
            if os.fsencode(child.path.lstrip("/")) not in there:
                yield Change(child.path, "deleted")


def _path(above: bytes, name: bytes) -> str:
    return os.fsdecode(b"/%b/%b" % (above, name) if above else b"/" + name)


def _mount_points(home: Path, base: TreeView) -> set[bytes]:
    """Where something is mounted in the container; what the changes have there is the runtime's."""
    try:
        spec = RuntimeSpec.parse((home / "config.json").read_bytes())
    except FileNotFoundError:
        return set()
    found = (_resolved(base, mount.destination) for mount in spec.mounts)
    return {os.fsencode(path.lstrip("/")) for path in found}


def _resolved(tree: TreeView, path: str) -> str:
    """A path with the symlinks in it followed, as far as it is there."""
    node = tree.lookup(path)
    if node is not None:
        return node.path
    above, _, name = path.rstrip("/").rpartition("/")
    return f"{_resolved(tree, above).rstrip('/')}/{name}" if name else "/"
