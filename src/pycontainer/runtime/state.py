"""What a container's directory says of it, read from any process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from attrs import frozen

from pycontainer._linux import process as linux
from pycontainer.errors import ContainerError, ContainerStateError
from pycontainer.runtime._inside import files, wire
from pycontainer.runtime.plan import boot_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "Exit",
    "State",
    "await_end",
    "change_network",
    "is_watched",
    "last_exit",
    "last_run",
    "open_control",
    "read_created_state",
    "read_exit",
    "read_intent",
    "read_prepared_state",
    "read_state",
    "request_audience",
    "request_deletion",
    "request_hold",
    "request_input",
    "request_release",
    "request_resize",
    "write_intent",
]


_INTENT = "plan.json"
_OF_RUNTIMES = (  # where runc and crun write down the process that they create, and as what
    ("state.json", "init_process_pid", "init_process_start"),
    ("status", "pid", "process-start-time"),
)


@frozen
class State:
    """A container that was started.

    Attributes:
        pid: Of its init, seen from the host.
        start_time: When that began, in clock ticks since boot; with the pid it is unique.
        monitor: Pid of its monitor.
        started_at: Seconds since the epoch.
        boot: The boot that it belongs to.
        run: How often it has been started.
        restarts: How often of these by its restart policy, since somebody last started it.
        namespaces: Kinds of namespace that it does not share with the host.
        cgroup: The plan of its control group.
        root: User and group id on the host of its root, where it has a user namespace; else None.
    """

    pid: int
    start_time: int
    monitor: int
    started_at: float
    boot: str
    run: int
    restarts: int
    namespaces: frozenset[str]
    cgroup: dict[str, Any]
    root: tuple[int, int] | None = None

    @property
    def alive(self) -> bool:
        """Whether its init still runs."""
        if self.boot != boot_id():
            return False
        try:
            return linux.start_time(self.pid) == self.start_time and not _is_zombie(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            return False

    def open_pidfd(self) -> int:
        """A pidfd of its init.

        Raises:
            ContainerStateError: It has ended.
        """
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            fd = -1
        if fd < 0 or not self.alive:
            if fd >= 0:
                os.close(fd)
            raise ContainerStateError("the container has ended")
        return fd


@frozen
class Exit:
    """How a container ended.

    Attributes:
        exit_code: 128 + n after signal n.
        oom_killed: Whether the kernel killed something of it for want of memory.
        finished_at: Seconds since the epoch.
        next_start: When its restart policy has it start again, seconds since the epoch; else None.
        run: Which run of the container it was, from 1 on.
        restarts: As in `State`.
    """

    exit_code: int
    oom_killed: bool
    finished_at: float
    next_start: float | None
    run: int
    restarts: int


def write_intent(
    directory: Path,
    namespaces: Iterable[str],
    cgroup: Mapping[str, Any],
    root: Sequence[int] | None = None,
) -> None:
    """Write down what a container will have, before it has any of it."""
    group = {name: value for name, value in cgroup.items() if name != "device_program"}
    document = {"namespaces": sorted(namespaces), "cgroup": group, "root": root}
    files.write_new(f"{directory}/{_INTENT}", json.dumps(document).encode())


def read_intent(directory: Path) -> dict[str, Any]:
    """What `write_intent` wrote; empty if it came not that far."""
    document: dict[str, Any] | None = _read(directory / _INTENT)
    return document or {}


def read_state(directory: Path) -> State | None:
    """The state that the monitor wrote when the container ran; None before."""
    return _read_state(directory, "state.json")


def read_prepared_state(directory: Path) -> State | None:
    """What a monitor has written down of a start that it has not told of; None mostly."""
    return _read_state(directory, ".state.json.new")


def read_created_state(directory: Path) -> State | None:
    """What another runtime has written down of the process that it created; None mostly.

    A monitor that is killed before the runtime has ended, or a little later, has written down nothing.
    """
    from pycontainer.runtime._inside.bundle import BOOT, DIRECTORY  # few containers have one

    boot = _read(directory / DIRECTORY / BOOT)
    for name, pid, start_time in _OF_RUNTIMES if boot is not None else ():
        found = _read(directory / DIRECTORY / "state" / directory.name / name)
        if found is not None:
            return State(found[pid], found[start_time], 0, 0.0, boot, 0, 0, frozenset(), {})
    return None


def _read_state(directory: Path, name: str) -> State | None:
    document = _read(directory / name)
    if document is None:
        return None
    plan = read_intent(directory)
    return State(
        document["pid"],
        document["start_time"],
        document["monitor"],
        document["started_at"],
        document["boot_id"],
        document["run"],
        document["restarts"],
        frozenset(plan.get("namespaces", ())),
        plan.get("cgroup", {}),
        None if plan.get("root") is None else tuple(plan["root"]),
    )


def read_exit(directory: Path) -> Exit | None:
    """How the container's last run ended; None if it has not, or nobody could tell."""
    ended = last_exit(directory)
    if ended is None:
        return None
    started = _read(directory / "state.json")
    if started is not None and started["run"] > ended.run:
        return None
    return ended


def last_exit(directory: Path) -> Exit | None:
    """How the last run ended that has ended; the container may have been started again since."""
    document = _read(directory / "exit.json")
    if document is None:
        return None
    return Exit(
        document["exit_code"],
        document["oom_killed"],
        document["finished_at"],
        document["next"],
        document["run"],
        document["restarts"],
    )


def last_run(directory: Path) -> int:
    """How often a container has been started, or its start been tried by its restart policy."""
    documents = (_read(directory / name) for name in ("state.json", "exit.json"))
    return max((document["run"] for document in documents if document is not None), default=0)


def is_watched(directory: Path) -> bool:
    """Whether a monitor looks after the container: whether somebody holds its lock."""
    try:
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def open_control(directory: Path) -> socket.socket | None:
    """A connection to the container's monitor; None if there is none.

    The path goes through a descriptor: names of sockets may not be longer than 107 bytes.
    """
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        control.close()
        return None
    try:
        control.connect(f"/proc/self/fd/{fd}/control.sock")
    except (FileNotFoundError, ConnectionRefusedError):
        control.close()
        return None
    finally:
        os.close(fd)
    return control


def request_deletion(control: socket.socket, timeout: float) -> None:
    """Have the monitor end the container and remove its directory; wait until it has.

    Raises:
        TimeoutError: It has not within that many seconds.
    """
    _ask(control, "delete", timeout)


def await_end(control: socket.socket) -> int | None:
    """Wait until the container has ended for good, as far as its monitor knows, or that has gone.

    Returns:
        The exit code; None if the monitor did not tell.

    Raises:
        TimeoutError: The socket's time-out has passed.
    """
    deadline = None if (seconds := control.gettimeout()) is None else time.monotonic() + seconds
    while (packet := wire.receive(control)) is not None:
        if packet[0] == "exit" and isinstance(packet[1], int):
            return packet[1]
        if deadline is not None:
            control.settimeout(max(0.001, deadline - time.monotonic()))
    return None


def request_audience(control: socket.socket, timeout: float) -> None:
    """Have the monitor of a container without a log look for who is attached.

    Raises:
        TimeoutError: The monitor has not answered within that many seconds.
    """
    _ask(control, "attach", timeout, answer="changed")


def request_input(control: socket.socket, data: bytes) -> None:
    """Have the monitor type this on the container's terminal."""
    wire.send_values(control, "input", data)


def request_resize(control: socket.socket, rows: int, columns: int) -> None:
    """Have the monitor set the size of the container's terminal."""
    wire.send(control, "resize", rows, columns)


def request_hold(control: socket.socket, timeout: float) -> None:
    """Have the monitor not start the container again by its restart policy.

    A restart that it is about is done by then, so that it can be seen whether the container runs.

    Raises:
        TimeoutError: The monitor has not answered within that many seconds.
    """
    _ask(control, "hold", timeout, answer="held")


def change_network(control: socket.socket, verb: str, *what: object, timeout: float = 30.0) -> None:
    """Have the monitor of a running container put it into a network, or take it out of one.

    Args:
        control: The connection to the monitor.
        verb: ``plug`` or ``unplug``.
        what: The plan of an interface and name servers, or the id of an endpoint.
        timeout: Seconds.

    Raises:
        ContainerStateError: It has ended.
        ContainerError: The kernel refused something.
        TimeoutError: There was no answer.
    """
    control.settimeout(timeout)
    wire.send_values(control, verb, *what)
    while (packet := wire.receive(control)) is not None:
        if packet[0] == "changed":
            return
        if packet[0] == "failed":
            raise ContainerError(f"cannot {packet[1]}: {packet[3]}")
        if packet[0] == "exit":
            break
    raise ContainerStateError("the container has ended")


def request_release(control: socket.socket, timeout: float) -> None:
    """Have the monitor of a container that has ended go, and leave its directory as it is.

    Raises:
        TimeoutError: It has not within that many seconds.
    """
    _ask(control, "release", timeout)


def _ask(control: socket.socket, verb: str, timeout: float, *, answer: str | None = None) -> None:
    """Ask something of a monitor, and wait for its answer, without one until it has gone."""
    control.settimeout(timeout)
    wire.send(control, verb)
    while (packet := wire.receive(control)) is not None and packet[0] != answer:
        pass


def _is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:
        stat = file.read()
    return stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] in (b"Z", b"X")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):  # not there yet, or cut off by a crash
        return None
