"""Stopping all processes of a container for a while, by its control group (cgroups(7))."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pycontainer.errors import ContainerError, UnsupportedFeature
from pycontainer.runtime._inside import cgroup

if TYPE_CHECKING:
    from pycontainer.runtime.state import State

__all__ = ["freeze", "is_frozen", "thaw"]


def freeze(state: State) -> None:
    """Stop all processes of a container; return once none runs.

    Raises:
        UnsupportedFeature: It has no control group that can.
        ContainerError: A process does not stop.
    """
    try:
        cgroup.freeze(state.cgroup)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise UnsupportedFeature(
                "pausing a container",
                str(error.strerror),
                remedy="run the program as root, or with a delegated control group",
            ) from error
        cgroup.thaw(state.cgroup)
        raise ContainerError(
            f"cannot pause the container: {error}",
            remedy="a process of it may hang in the kernel; try again later",
        ) from error


def thaw(state: State) -> None:
    """Let the processes of a container go on.

    Raises:
        ContainerError: The kernel refuses.
    """
    try:
        cgroup.thaw(state.cgroup)
    except OSError as error:
        raise ContainerError(f"cannot let the container go on: {error}") from error


def is_frozen(state: State) -> bool:
    """Whether a container's processes are stopped by `freeze`."""
    return cgroup.is_frozen(state.cgroup)
