"""Checkpoints of containers, and going on from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pycontainer.containers import _record
from pycontainer.containers._startable import Startable
from pycontainer.containers._upkeep import HELD, RestartPolicy, Upkeep
from pycontainer.containers._view import exclusive_files
from pycontainer.errors import ContainerError, ContainerStateError
from pycontainer.oci.runtime import RuntimeSpec
from pycontainer.runtime import change_policy, dump

if TYPE_CHECKING:
    import os

__all__ = ["Restorable"]


class Restorable(Startable):
    """The part of `Container` that writes its processes down and goes on from there."""

    def checkpoint(
        self,
        directory: str | os.PathLike[str],
        *,
        leave_running: bool = False,
        timeout: float | None = 60.0,
    ) -> None:
        """Write all its processes down, with their memory, to go on from there later by `restore`.

        By CRIU, which has to be installed and to know the kernel. Commands of `exec` are not written
        down. Connections over TCP cannot be; sockets that listen can.

        Args:
            directory: Where; is made if it is not there, else has to be empty. What processes have in
                memory may be secret: it is made for its owner alone.
            leave_running: Whether it goes on running; its files then may be others by the time of a
                restore. Else it ends, and its restart policy does not start it again.
            timeout: Seconds.

        Raises:
            ContainerStateError: It does not run, or is removed with its end.
            UnsupportedFeature: CRIU is not there or does not work here; or the container has a terminal,
                shares namespaces, or has users of its own.
            ContainerError: The directory is not empty, or CRIU cannot write this container down; it goes
                on running.
            TimeoutExpired: It took too long; it goes on running.
        """
        if self._record.remove and not leave_running:
            raise ContainerStateError(
                f"container {self.name} is removed with its end",
                remedy="start it without remove=True",
            )
        place = Path(directory)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise ContainerError(f"{place} is not empty", remedy="give a new directory")
        with exclusive_files(self._directory):
            if self.state == "paused":
                raise ContainerStateError(
                    f"container {self.name} is paused", remedy="let it go on with unpause()"
                )
            state = self._state()
            spec = RuntimeSpec.parse((self._directory / "config.json").read_bytes())
            if not leave_running:
                self._hold()
            try:
                dump(state, spec, place, name=self.id, leave_running=leave_running, timeout=timeout)
            except BaseException:
                if not leave_running:
                    self._go_by_policy()
                raise
        self._record_event("checkpoint")
        if not leave_running:
            self.wait(timeout)

    def _go_by_policy(self) -> None:
        """Undo `_hold`."""
        (self._directory / HELD).unlink(missing_ok=True)
        record = _record.read_record(self._directory)
        if record is not None:
            policy = Upkeep.from_json(record.upkeep).restart
            if policy != RestartPolicy():
                change_policy(self._directory, policy.name, policy.most)

    def restore(self, directory: str | os.PathLike[str], *, timeout: float | None = 60.0) -> None:
        """Start it from a checkpoint of it: its processes go on where they were.

        Its files, volumes, networks and log are its own as ever: they have to be as they were.

        Args:
            directory: What `checkpoint` has written.
            timeout: Seconds to wait for the start.

        Raises:
            ContainerStateError: It runs, is gone, or is attached to another program.
            ContainerError: It is no checkpoint of this container.
            StartError: CRIU cannot restore it.
            UnsupportedFeature: CRIU is not there.
            TimeoutExpired: It took too long; it was undone.
        """
        with exclusive_files(self._directory):
            if self.state in ("running", "paused", "creating"):
                raise ContainerStateError(
                    f"container {self.name} runs", remedy="stop it before it is restored"
                )
            self._launch_again(timeout, checkpoint=Path(directory))
        self._record_event("restore")
