"""The container's control groups, made and removed as planned by `pycontainer.runtime.cgroups`.

Runs in the monitor, in init and in the collector. A plan is the dictionary that
`CgroupPlan.to_wire` gives; an empty one asks for nothing, and every function then does nothing.
"""

from __future__ import annotations

import errno
import os
import time

from pycontainer._linux import bpf

__all__ = [
    "adjust",
    "create",
    "destroy",
    "filter_devices",
    "freeze",
    "gather",
    "is_frozen",
    "join",
    "join_opened",
    "kill",
    "oom_killed",
    "open_v2",
    "thaw",
]

_KILL = 9
_TRIES = 100
_PATIENCE = 5.0
_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.02


class _Tolerant:
    """Go on after an `OSError`; contextlib, which has the like, takes too long to import here."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


def create(plan: object, *, limited: bool = True) -> None:
    """Make the groups and set the limits, or undo all of it; `filter_devices` is to follow.

    Args:
        plan: What to make.
        limited: Whether the limits are set, too; else `adjust` is to follow.

    Raises:
        OSError: The kernel refused; `filename` is the file or directory.
    """
    assert isinstance(plan, dict)
    if not plan:
        return
    try:
        _make_directories(plan["parents"], plan["directories"])
        for path, data, required in plan["writes"] if limited else ():
            try:
                _write(path, data)
            except FileNotFoundError:
                if required:
                    raise
    except OSError:
        destroy(plan)
        raise


def filter_devices(plan: object, group: int) -> None:
    """Attach the device filter to the v2 directory that `open_v2` has opened.

    Raises:
        OSError: The kernel refused.
    """
    assert isinstance(plan, dict)
    if plan and plan["device_program"]:
        bpf.attach_device_program(plan["device_program"], group)


def adjust(plan: object) -> None:
    """Make the groups that are not there yet, and set the limits of a container that runs.

    Raises:
        OSError: The kernel refused; `filename` is the file or directory.
    """
    assert isinstance(plan, dict)
    if not plan:
        return
    _make_directories(plan["parents"], plan["directories"])
    # A limit of memory must not rise above that of memory and swap, nor this fall below it.
    writes, late = plan["writes"], []
    for path, data, required in writes:
        try:
            _write(path, data)
        except FileNotFoundError:
            if required:
                raise
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            late.append((path, data))
    for path, data in late:
        _write(path, data)


def gather(plan: object, directories: list[str]) -> None:
    """Move all processes of a container that runs into further groups of v1."""
    assert isinstance(plan, dict)
    for directory in directories:
        moved: set[int] = set()
        while new := set(_processes(plan["freezer"])) - moved:
            moved |= new
            for pid in new:
                try:
                    _write(f"{directory}/cgroup.procs", str(pid))
                except ProcessLookupError:
                    pass


def open_v2(plan: object) -> int:
    """A descriptor of the v2 directory, for CLONE_INTO_CGROUP; -1 if there is none."""
    assert isinstance(plan, dict)
    if not plan or not plan["v2"]:
        return -1
    return os.open(plan["v2"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def join(plan: object) -> None:
    """Move the calling thread, the only one of its process, into the v1 groups.

    Raises:
        OSError: The kernel refused, such as a real-time process in a CPU group (EINVAL).
    """
    assert isinstance(plan, dict)
    if not plan:
        return
    for directory in plan["join"]:
        # Writing another process to cgroup.procs waits for an RCU grace period; this does not.
        _write(f"{directory}/tasks", "0")


def join_opened(files: object) -> None:
    """Do as `join`, by ``tasks`` files that somebody has opened who may join, which is what counts."""
    assert isinstance(files, list)
    for fd in files:
        os.write(fd, b"0")
        os.close(fd)


def kill(plan: object) -> None:
    """Kill all processes of the container; those that are being forked as well."""
    assert isinstance(plan, dict)
    if not plan or not plan["freezer"]:
        return
    try:
        _write(f"{plan['freezer']}/cgroup.kill", "1")
    except OSError:  # a kernel before 5.14, or v1, or no such group (any more)
        _kill_one_by_one(plan)


def freeze(plan: object, timeout: float = 10.0) -> None:
    """Stop all processes of the container until `thaw`.

    Raises:
        OSError: There is no group to freeze; or it does not freeze within the time (ETIMEDOUT).
    """
    _set_frozen(plan, frozen=True, timeout=timeout)


def thaw(plan: object, timeout: float = 10.0) -> None:
    """Let the processes that `freeze` stopped go on.

    Raises:
        OSError: As `freeze` does.
    """
    _set_frozen(plan, frozen=False, timeout=timeout)


def is_frozen(plan: object) -> bool:
    """Whether `freeze` has stopped the container's processes, or is about to."""
    assert isinstance(plan, dict)
    if not plan or not plan["freezer"]:
        return False
    directory = plan["freezer"]
    if directory == plan["v2"]:
        return _read(f"{directory}/cgroup.freeze") == "1\n"
    return _read(f"{directory}/freezer.state") not in ("", "THAWED\n")


def oom_killed(plan: object) -> bool:
    """Whether the kernel has killed a process of the container for want of memory."""
    assert isinstance(plan, dict)
    if not plan or not plan["oom"]:
        return False
    for line in _read(plan["oom"]).splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count) > 0
    return False


def destroy(plan: object, timeout: float = _PATIENCE) -> list[str]:
    """Remove the groups, those that the container made in them, and parents that are now empty.

    Returns:
        The directories that could not be removed within the time, as they have processes.
    """
    assert isinstance(plan, dict)
    if not plan:
        return []
    deadline = time.monotonic() + timeout
    left = [path for path in plan["directories"] if not _remove(path, deadline)]
    for path in reversed(plan["parents"]):
        # Other containers may be in it, or have removed it.
        with _Tolerant():
            os.rmdir(path)
    return left


def _make_directories(parents: list[str], directories: list[str]) -> None:
    """Make directories, from above, though another monitor may be removing an empty parent."""
    for _ in range(_TRIES):
        try:
            for path in (*parents, *directories):
                if not os.path.isdir(path):
                    os.mkdir(path, 0o755)
        except (FileNotFoundError, FileExistsError) as error:
            lost = error
        else:
            return
    raise lost


def _remove(path: str, deadline: float) -> bool:
    """Remove a group with all below it. Dying processes keep it busy for a moment."""
    pause = _FIRST_PAUSE
    while True:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                return False
            below = _groups(path)
            gone = [_remove(group, deadline) for group in below]
            if below and all(gone):
                continue
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            return True


def _groups(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _kill_one_by_one(plan: dict[str, object]) -> None:
    """Freeze, so that nothing forks meanwhile, signal all, thaw, so that they can die.

    A frozen group of v1 does not even die of SIGKILL before it is thawed.
    """
    directory = str(plan["freezer"])
    deadline = time.monotonic() + _PATIENCE
    while (pids := _processes(directory)) and time.monotonic() < deadline:
        with _Tolerant():  # no freezer: then as often as it takes
            freeze(plan, timeout=0.5)
            pids = _processes(directory)
        for pid in pids:
            with _Tolerant():
                os.kill(pid, _KILL)
        with _Tolerant():
            thaw(plan, timeout=0.5)
        time.sleep(_FIRST_PAUSE)


def _processes(directory: str) -> list[int]:
    # A process that this PID namespace does not see is shown as 0, which kill(2) takes for us.
    pids = [int(word) for word in _read(f"{directory}/cgroup.procs").split() if word != "0"]
    for group in _groups(directory):
        pids += _processes(group)
    return pids


def _set_frozen(plan: object, *, frozen: bool, timeout: float) -> None:
    assert isinstance(plan, dict)
    if not plan or not plan["freezer"]:
        raise OSError(errno.ENOENT, "the container has no control group by which to freeze it")
    directory = plan["freezer"]
    if directory == plan["v2"]:
        _write(f"{directory}/cgroup.freeze", "1" if frozen else "0")
        state, wanted = "cgroup.events", f"frozen {int(frozen)}\n"
    else:
        wanted = "FROZEN\n" if frozen else "THAWED\n"
        _write(f"{directory}/freezer.state", wanted)
        state = "freezer.state"
    deadline = time.monotonic() + timeout
    while wanted not in _read(f"{directory}/{state}"):
        if time.monotonic() > deadline:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), directory)
        time.sleep(_FIRST_PAUSE)


def _read(path: str) -> str:
    """The text of a file; empty if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts).decode()
    except OSError:  # the group was removed meanwhile
        return ""
    finally:
        os.close(fd)


def _write(path: str, data: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)
