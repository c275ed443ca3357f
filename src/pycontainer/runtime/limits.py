"""Changing the limits of a container that runs: its control groups made, written and entered anew."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from pycontainer.errors import ContainerError
from pycontainer.runtime._inside import cgroup, wire
from pycontainer.runtime.launcher import plan_group
from pycontainer.runtime.state import open_control, write_intent

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from pycontainer.oci.runtime import RuntimeSpec
    from pycontainer.runtime.state import State

__all__ = ["change_limits", "change_policy"]

_PATIENCE: Final = 5.0


def change_limits(state: State, spec: RuntimeSpec, directory: Path, *, name: str) -> None:
    """Give a container that runs the limits of a document.

    Args:
        state: Of the container.
        spec: The document, with the new limits.
        directory: The container's.
        name: As for `launch`.

    Raises:
        UnsupportedFeature: The kernel or this user's rights lack something; nothing has changed.
        ContainerError: The kernel refuses a limit; some of the others may be in force.
    """
    wanted = plan_group(spec, name, lift=True).to_wire()
    if not wanted:  # an ordinary user's without a delegated group, and no limit asked for
        return
    group: dict[str, Any] = {**state.cgroup, **wanted}
    for kind in ("directories", "parents", "join"):
        group[kind] = list(dict.fromkeys([*state.cgroup.get(kind, ()), *group.get(kind, ())]))
    # First, so that whoever cleans up knows of the groups.
    write_intent(directory, {n.type for n in spec.namespaces}, group, state.root)
    control = open_control(directory)
    if control is not None:
        with control:
            _tell(control, "cgroup", group)
    try:
        cgroup.adjust(group)
        cgroup.gather(group, sorted({*group["join"]} - {*state.cgroup.get("join", ())}))
    except OSError as error:
        raise ContainerError(
            f"cannot change the limits: {error.strerror}: {error.filename}",
            remedy="memory in use may be above a new limit",
        ) from error


def change_policy(directory: Path, policy: str, most: int) -> None:
    """Tell the monitor of a container when to start it again; without one there is nothing to tell."""
    control = open_control(directory)
    if control is not None:
        with control:
            _tell(control, "policy", policy, most)


def _tell(control: socket.socket, verb: str, *what: object) -> None:
    """Send the monitor what changes, and wait until it goes by that, or has gone."""
    control.settimeout(_PATIENCE)
    wire.send_values(control, verb, *what)
    with contextlib.suppress(TimeoutError):
        while (packet := wire.receive(control)) is not None:
            if packet[0] == "changed":
                return
