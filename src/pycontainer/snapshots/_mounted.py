"""Mounting a plan on the host, for tools and tests; containers mount theirs themselves."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pycontainer._linux import mount, overlay
from pycontainer.errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pycontainer.snapshots._plan import RootfsPlan

__all__ = ["mounted"]


@contextmanager
def mounted(plan: RootfsPlan, target: Path) -> Iterator[Path]:
    """Mount a root file system at an existing directory as long as the block runs.

    Needs root. The end detaches it even while something still has files open there.

    Raises:
        SnapshotError: The kernel refuses the mount.
    """
    try:
        _mount(plan, str(target))
    except OSError as error:
        raise SnapshotError(
            f"cannot mount {len(plan.lowers)} layers at {target}: {error}",
            remedy="mounting on the host needs root" if os.geteuid() else None,
        ) from error
    try:
        yield target
    finally:
        mount.unmount(str(target))


def _mount(plan: RootfsPlan, target: str) -> None:
    if plan.kind == "overlay":
        overlay.mount_at(
            target,
            list(plan.lowers),
            plan.upper,
            plan.work,
            userxattr=plan.userxattr,
            volatile=plan.volatile,
        )
        return
    assert plan.path is not None
    tree = mount.bind(plan.path, recursive=False)
    try:
        if plan.readonly:
            mount.set_attributes(tree, mount.RDONLY)
        mount.attach(tree, target)
    finally:
        os.close(tree)
