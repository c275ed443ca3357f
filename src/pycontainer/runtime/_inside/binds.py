"""Binds: what of the host a container sees at some place, with which owners, attributes and propagation."""

from __future__ import annotations

import errno
import os

from pycontainer._linux import mount
from pycontainer._linux.path import open_in_root

__all__ = ["clone_source", "map_owners", "shape"]


def clone_source(entry: dict[str, object]) -> int:
    """Clone what a bind shows."""
    source, subpath = str(entry["source"]), str(entry["subpath"])
    recursive = bool(entry["recursive"])
    if entry["owner"]:
        from pycontainer.runtime._inside import namespaces

        return namespaces.borrow_mount(source, entry["owner"])
    if not subpath:
        return mount.bind(source, recursive=recursive)
    # By descriptor: what is in a volume belongs to containers, which may exchange it meanwhile.
    top = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    place = open_in_root(top, subpath, os.O_PATH)
    os.close(top)
    tree = mount.bind("", recursive=recursive, directory=place)
    os.close(place)
    return tree


def map_owners(tree: int, user_namespace: int, source: str, *, recursive: bool) -> None:
    """Show the owners of a detached mount as a user namespace maps them.

    Raises:
        OSError: EOPNOTSUPP: its file system cannot do that.
    """
    try:
        mount.map_ids(tree, user_namespace, recursive=recursive)
    except OSError as error:
        raise OSError(errno.EOPNOTSUPP, "its file system cannot map owners", source) from error


def shape(tree: int, entry: dict[str, object]) -> None:
    """Give a detached bind its owners, attributes and propagation."""
    id_map, recursive = entry["id_map"], bool(entry["recursive"])
    if id_map is not None:
        assert isinstance(id_map, dict)
        map_owners(tree, id_map["fd"], str(entry["source"]), recursive=recursive)
    own, all_below = entry["attributes"], entry["recursive_attributes"]
    assert isinstance(own, int)
    assert isinstance(all_below, int)
    if own:
        mount.set_attributes(tree, own)
    if all_below:
        mount.set_attributes(tree, all_below, recursive=True)
    propagation = entry["propagation"]
    assert isinstance(propagation, int)
    if propagation:
        mount.set_attributes(tree, 0, propagation=propagation, recursive=recursive)
