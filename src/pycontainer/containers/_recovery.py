"""What is done for containers whose monitor is gone: killed, or ended by a reboot.

Whoever first uses the containers of a store through a new handle does it.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from pycontainer.containers import _home, _record
from pycontainer.containers._inside import close_descriptor
from pycontainer.containers._startable import start_of, taken_over
from pycontainer.containers._upkeep import HELD, Upkeep
from pycontainer.containers._view import exclusive_files
from pycontainer.errors import Error
from pycontainer.oci.runtime import RuntimeSpec
from pycontainer.runtime import boot_id, clear, is_watched, last_exit, read_state
from pycontainer.snapshots import RootfsPlan

if TYPE_CHECKING:
    from pathlib import Path

    from pycontainer.content import Store
    from pycontainer.runtime import Exit, State

__all__ = ["revive"]

_SECONDS: Final = 30.0
_log = logging.getLogger("pycontainer.containers")


def revive(store: Store, home: Path, record: _record.Record) -> None:
    """Give a detached container that nobody looks after a new monitor, or do what its own left undone.

    One that runs is adopted; one that has ended is cleaned up, and started again if its policy says
    so. What goes wrong with it is logged: it is not the caller's concern.
    """
    state, ended = read_state(home), last_exit(home)
    over = ended is not None and (state is None or state.run <= ended.run)
    if state is None or (over and not _is_due(home, record, state, ended)):
        return
    with contextlib.suppress(BlockingIOError), exclusive_files(home, wait=False):
        if is_watched(home) or read_state(home) != state:  # somebody else is at it
            return
        spec = RuntimeSpec.parse((home / "config.json").read_bytes())
        new = _record.New(
            _home.named(store, record), home, spec, RootfsPlan.from_wire(record.rootfs)
        )
        try:
            if state.alive:
                taken_over(store, new, state).let_go()
                return
            clear(home)
            if _is_due(home, record, state, ended if over else None):
                running, stdin = start_of(store, new, timeout=_SECONDS, again=True)
                running.let_go()
                close_descriptor(stdin)
        except Error as error:
            _log.warning("container %s is left as it is: %s", record.name, error)


def _is_due(home: Path, record: _record.Record, state: State, ended: Exit | None) -> bool:
    """Whether a container that does not run is to be started by its policy."""
    policy = Upkeep.from_json(record.upkeep).restart
    rebooted, held = state.boot != boot_id(), (home / HELD).exists()
    if policy.name == "always":
        return rebooted or not held
    if policy.name == "unless-stopped":
        return not held
    if policy.name == "on-failure":
        # Of an end that nobody saw: it was no success.
        left = not policy.most or state.restarts < policy.most
        waits = ended is None or ended.next_start is not None
        return waits and left and not held
    return False
