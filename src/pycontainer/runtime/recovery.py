"""Finishing containers whose monitor was killed: nobody else will."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from pycontainer._linux import process as linux
from pycontainer._linux.tree import remove_tree
from pycontainer.errors import ContainerStateError
from pycontainer.runtime._inside import cgroup, guard
from pycontainer.runtime.state import (
    State,
    is_watched,
    read_created_state,
    read_intent,
    read_prepared_state,
    read_state,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["clear", "finish"]

_SIGKILL = 9


def finish(directory: Path, *, timeout: float = 10.0) -> bool:
    """Kill what runs of an unwatched container and remove its control group and directory.

    Args:
        directory: The container's.
        timeout: Seconds to wait for its processes to go.

    Returns:
        Whether that was done: False if a monitor looks after it after all, or a process of it does
        not die; then what tells of its control groups stays.
    """
    if is_watched(directory) or not clear(directory, timeout=timeout):
        return False
    remove_tree(directory)
    return True


def clear(directory: Path, *, timeout: float = 10.0) -> bool:
    """Kill what runs of an unwatched container and remove its control group.

    Args:
        directory: The container's.
        timeout: Seconds to wait for its processes to go.

    Returns:
        Whether that was done: False if a process of it does not die.
    """
    group = read_intent(directory).get("cgroup", {})
    cgroup.kill(group)
    # The second is of a monitor that was killed as its container's command began, the third of one that
    # was killed before that, when another runtime had made the first process.
    readers = (read_state, read_prepared_state, read_created_state)
    for state in (read(directory) for read in readers):
        if state is not None and state.alive:
            _kill(state)
            _await_end(state, timeout)
    _await_guard(directory, timeout)
    return not cgroup.destroy(group, timeout)


def _await_end(state: State, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while state.alive and time.monotonic() < deadline:
        time.sleep(0.001)


def _await_guard(directory: Path, timeout: float) -> None:
    """Wait for the end of what connected the container, which has the ports of the host until then."""
    pidfd = guard.find(str(directory))
    if pidfd >= 0:
        waiter = select.poll()
        waiter.register(pidfd, select.POLLIN)
        waiter.poll(timeout * 1000)
        os.close(pidfd)


def _kill(state: State) -> None:
    try:
        pidfd = state.open_pidfd()
    except ContainerStateError:  # the control group's end was its end
        return
    try:
        linux.kill_by_pidfd(pidfd, _SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
