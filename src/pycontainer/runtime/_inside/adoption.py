"""A new monitor for a container whose own was killed: it goes on reading the output, and sees the end.

It is not the parent of the container, so that how that ended is known only where the kernel tells it
of other processes as well.
"""

from __future__ import annotations

import fcntl
import os
import time

from pycontainer.runtime._inside import files, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.runtime._inside.monitor import Monitor

__all__ = ["adopt", "exit_status"]

_EXIT_CODE = 49  # field 52 of proc_pid_stat(5), counted from behind the command's name
_GET_INFO = 0xC040FF0B  # PIDFD_GET_INFO with the first version's 64 bytes (linux/pidfd.h)
_INFO_SIZE = 64
_INFO_EXIT = 1 << 3
_PATIENCE = 0.2
_PATIENCE_FOR_REAPER = 2.0  # the machine's first process, which may be slow


def adopt(monitor: Monitor, fds: list[int]) -> None:
    """Take a container over, or end if somebody else has.

    Args:
        monitor: One that has started nothing.
        fds: A pidfd of the container's init, and streams, of no use here.
    """
    adopted = monitor.plan["adopted"]
    assert isinstance(adopted, dict)
    try:
        lock = os.open("lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        monitor.listen()
        monitor.streams.take_over(
            log=bool(monitor.plan["log"]),
            live=bool(monitor.plan["live"]),
            limit=() if monitor.keeper is None else monitor.keeper.log_limit,
        )
    except OSError as error:  # nothing was made that would have to be undone
        wire.send(monitor.owner, "failed", "adopt the container", error.errno or 0, str(error))
        os._exit(0)
    monitor.pid, monitor.pidfd = adopted["pid"], fds[0]
    adopted["readable"] = _is_readable(monitor.pid)
    if monitor.network is not None:
        monitor.network.adopt(monitor.pid)
    if monitor.keeper is not None:
        monitor.keeper.restarts = adopted["restarts"]
        monitor.keeper.began()
    monitor.describe(adopted["start_time"], adopted["started_at"])
    files.publish("state.json")
    wire.send(monitor.owner, "running", monitor.pid, adopted["start_time"])


def exit_status(adopted: object, pidfd: int) -> int | None:
    """The wait status of a process that has ended and is not a child; None if nobody knows it.

    Args:
        adopted: What the plan says of it.
        pidfd: Of it.
    """
    assert isinstance(adopted, dict)
    pid = adopted["pid"]
    deadline = time.monotonic() + (_PATIENCE if adopted["readable"] else _PATIENCE_FOR_REAPER)
    while time.monotonic() < deadline:
        of_zombie = _status_of_zombie(pid) if adopted["readable"] else None
        for status in (of_zombie, _status_of_reaped(pidfd)):
            if status is not None:
                return status
        time.sleep(0.001)
    return None


def _is_readable(pid: int) -> bool:
    """Whether this process may look into another, as it may not if that lives in a user's other namespace.

    Of those the kernel shows 0 as exit status, however they end.
    """
    try:
        os.readlink(f"/proc/{pid}/ns/pid")
    except PermissionError:
        return False
    except OSError:  # it has ended, and the kernel looks at the right first
        pass
    return True


def _status_of_zombie(pid: int) -> int | None:
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fields = os.read(fd, 4096).rpartition(b")")[2].split()
    except OSError:
        return None
    finally:
        os.close(fd)
    return int(fields[_EXIT_CODE]) if fields[0] == b"Z" else None


def _status_of_reaped(pidfd: int) -> int | None:
    wanted = _INFO_EXIT.to_bytes(8, "little") + bytes(_INFO_SIZE - 8)
    try:
        told = fcntl.ioctl(pidfd, _GET_INFO, wanted)
    except OSError:  # a kernel before 6.13
        return None
    if not int.from_bytes(told[:8], "little") & _INFO_EXIT:
        return None
    return int.from_bytes(told[-4:], "little", signed=True)
