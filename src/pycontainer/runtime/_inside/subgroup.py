"""A control group below the container's for one command beside its own: to end all that it started.

Whoever looks after the command enters the container's mount namespace, where the path of the group
leads nowhere: what is needed later is held by descriptors.
"""

from __future__ import annotations

import os
import time

__all__ = ["Subgroup"]

_KILL = 9
_PATIENCE = 2.0
_PAUSE = 0.001
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Subgroup:
    """The group of one command; without effect where the container has none, or may make none."""

    def __init__(self, plan: object) -> None:
        """Make the group.

        Args:
            plan: The container's, as `CgroupPlan.to_wire` gives it.

        Raises:
            FileNotFoundError: The container's group has gone.
        """
        assert isinstance(plan, dict)
        self._parent = self._group = -1
        self._name = f"exec-{os.urandom(6).hex()}"
        self._v2 = bool(plan) and plan["freezer"] == plan["v2"]
        if not plan or not plan["freezer"]:
            return
        self._parent = os.open(plan["freezer"], _DIRECTORY)
        try:
            os.mkdir(self._name, 0o755, dir_fd=self._parent)
        except FileNotFoundError:
            raise
        except OSError:  # as many as may be; or an ordinary user's
            self._v2 = False
            return
        self._group = os.open(self._name, _DIRECTORY, dir_fd=self._parent)

    def open_v2(self, otherwise: int) -> int:
        """The descriptor for CLONE_INTO_CGROUP."""
        return self._group if self._v2 else otherwise

    def join(self) -> None:
        """Where there is only v1, move this process there, whose children then are born there."""
        if self._group >= 0 and not self._v2:
            self._write("tasks", b"0")

    def kill(self) -> None:
        """Kill all that is in the group."""
        if self._group < 0:
            return
        try:
            self._write("cgroup.kill", b"1")
        except OSError:  # v1, or a kernel before 5.14
            deadline = time.monotonic() + _PATIENCE
            while (pids := self._others()) and time.monotonic() < deadline:
                for pid in pids:
                    try:
                        os.kill(pid, _KILL)
                    except OSError:
                        pass
                time.sleep(_PAUSE)

    def remove(self, *, patience: float = 0.0) -> None:
        """Remove the group; what the command left running in it keeps it until the container's end."""
        if self._group < 0:
            return
        deadline = time.monotonic() + patience
        while True:
            try:
                os.rmdir(self._name, dir_fd=self._parent)
            except FileNotFoundError:
                return
            except OSError:
                if time.monotonic() >= deadline:
                    return
                time.sleep(_PAUSE)
            else:
                return

    def _others(self) -> list[int]:
        fd = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._group)
        try:
            words = os.read(fd, 1 << 16).split()
        finally:
            os.close(fd)
        return [pid for pid in map(int, words) if pid not in (0, os.getpid())]

    def _write(self, name: str, data: bytes) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._group)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
