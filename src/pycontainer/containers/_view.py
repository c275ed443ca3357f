"""A container's files, whether it runs or not, as a descriptor of its root directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from attrs import evolve
from attrs import frozen as frozen_value

from pycontainer.containers._owners import AS_ON_HOST, Owners
from pycontainer.errors import ContainerStateError, UnsupportedFeature
from pycontainer.oci.runtime import RuntimeSpec
from pycontainer.runtime import (
    OWNER,
    State,
    freeze,
    is_frozen,
    is_rootless,
    mounted_view,
    read_exit,
    read_state,
    thaw,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pycontainer.oci.runtime import Mount
    from pycontainer.snapshots import RootfsPlan

__all__ = [
    "Root",
    "exclusive_files",
    "frozen",
    "opened_layers",
    "opened_root",
    "running_state",
    "thaw_after_a_kill",
]

_FROZEN = "frozen"
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@frozen_value
class Root:
    """A container's root directory: a descriptor of it, and whose its files are there."""

    fd: int
    owners: Owners


@contextlib.contextmanager
def opened_root(home: Path, plan: RootfsPlan, *, still: bool = False) -> Iterator[Root]:
    """The root directory as the container sees it, with volumes and binds.

    Of one that does not run the files are mounted for this, where nobody else sees them.

    Args:
        home: The container's directory.
        plan: How its root file system is mounted.
        still: Freeze the processes of one that runs.

    Raises:
        ContainerStateError: The container is gone.
    """
    root = _running_root(home)
    if root >= 0:
        try:
            with frozen(home) if still else contextlib.nullcontext():
                yield Root(root, _owners(home))
        finally:
            os.close(root)
        return
    with exclusive_files(home), mounted_view(plan, home, _binds(home)) as root:
        yield Root(root, AS_ON_HOST)


@contextlib.contextmanager
def opened_layers(home: Path, plan: RootfsPlan) -> Iterator[int]:
    """The root directory as its layers and changes have it, with nothing mounted in it; to be read only.

    If the container runs, it is frozen meanwhile.
    """
    if plan.kind == "overlay" and plan.upper is not None:
        lowers = (plan.upper, *plan.lowers)
        plan = evolve(plan, lowers=lowers, upper=None, work=None, volatile=False, readonly=True)
    with frozen(home), mounted_view(plan, home) as root:
        yield root


@contextlib.contextmanager
def exclusive_files(home: Path, *, wait: bool = True) -> Iterator[None]:
    """Be the only one who mounts a stopped container's writable layer, starts or freezes it.

    Args:
        home: The container's directory.
        wait: Whether to wait for whoever else is.

    Raises:
        ContainerStateError: The container is gone.
        BlockingIOError: Somebody else is, and that is not to be waited for.
    """
    try:
        fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ContainerStateError(f"container {home.name[:12]} is gone") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (home / _FROZEN).exists():
            _thaw_after(home)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def frozen(home: Path) -> Iterator[None]:
    """Stop the container's processes meanwhile, if it runs, is not paused and its user may do that."""
    with exclusive_files(home):
        state = running_state(home)
        if state is None or is_frozen(state):
            yield
            return
        (home / _FROZEN).touch()  # first: who finds it, and nobody at work, thaws the container
        try:
            freeze(state)
        except UnsupportedFeature:
            (home / _FROZEN).unlink(missing_ok=True)
            yield
            return
        try:
            yield
        finally:
            _thaw_after(home)


def _thaw_after(home: Path) -> None:
    """Let the processes go on that `frozen` stopped, in this program or in one that was killed."""
    state = running_state(home)
    if state is not None and is_frozen(state):
        thaw(state)
    (home / _FROZEN).unlink(missing_ok=True)


def thaw_after_a_kill(home: Path) -> None:
    """Let a container go on that a program froze which then was killed."""
    if (home / _FROZEN).exists():
        busy = contextlib.suppress(BlockingIOError, ContainerStateError)
        with busy, exclusive_files(home, wait=False):  # who gets the lock thaws
            pass


def running_state(home: Path) -> State | None:
    """The state of a container that runs; None if it does not."""
    state = read_state(home)
    if state is None or not state.alive or read_exit(home) is not None:
        return None
    return state


def _running_root(home: Path) -> int:
    """The root directory of its first process; -1 if it does not run.

    Whatever that process has made of its root, it is in the container's own mount namespace.
    """
    state = running_state(home)
    if state is None:
        return -1
    try:
        root = os.open(f"/proc/{state.pid}/root", _ROOT)
    except (FileNotFoundError, ProcessLookupError):
        return -1
    if state.alive:  # else the number may have been another's
        return root
    os.close(root)
    return -1


def _spec(home: Path) -> RuntimeSpec | None:
    try:
        return RuntimeSpec.parse((home / "config.json").read_bytes())
    except FileNotFoundError:
        return None


def _owners(home: Path) -> Owners:
    """Whose the files of a container are that runs."""
    spec = _spec(home)
    if spec is None or is_rootless():
        return AS_ON_HOST
    return Owners(spec.uid_mappings, spec.gid_mappings)


def _binds(home: Path) -> list[Mount]:
    """The binds, with their owners as the container sees them."""
    spec = _spec(home)
    if spec is None:
        return []
    owners = Owners(spec.uid_mappings, spec.gid_mappings)
    return [
        owners.unmapped(mount)
        for mount in spec.mounts
        if {"bind", "rbind"}.intersection(mount.options)
        and OWNER not in mount.extra
        and os.path.exists(mount.source)
    ]
