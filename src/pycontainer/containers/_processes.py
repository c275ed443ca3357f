"""The processes of a container and what they use, as the kernel tells it (proc(5), cgroups(7))."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pycontainer.runtime import State

__all__ = ["NetworkUsage", "ProcessInfo", "Usage", "list_processes", "measure"]

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@frozen
class ProcessInfo:
    """One process of a container.

    Attributes:
        pid: Its number on the host.
        container_pid: Its number in the container.
        parent_pid: Its parent's number on the host.
        uid: Whose it is, seen from the host.
        state: As ps(1) has it: ``R``, ``S``, ``D``, ``T``, ``Z``.
        threads: How many it has.
        cpu_seconds: Processor time it has used.
        memory: Bytes of it that are in memory.
        elapsed: Seconds since it began.
        args: Command and arguments; of one without, its name.
    """

    pid: int
    container_pid: int
    parent_pid: int
    uid: int
    state: str
    threads: int
    cpu_seconds: float
    memory: int
    elapsed: float
    args: tuple[str, ...]


@frozen
class NetworkUsage:
    """What went through a network interface: bytes and packets received and sent."""

    received_bytes: int
    received_packets: int
    sent_bytes: int
    sent_packets: int


@frozen
class Usage:
    """What a container uses, at one moment.

    Attributes:
        time: The moment, seconds since the epoch.
        cpu_seconds: Processor time used since its start; the difference of two over that of their times
            is the number of processors it keeps busy.
        memory: Bytes: what is charged to its control group where that counts memory, else what its
            processes have in memory, each counting what they share.
        memory_limit: Bytes; None for none.
        pids: Processes and threads.
        read_bytes: Read from block devices by the processes that it has.
        written_bytes: Written to them.
        network: By the name of the interface in the container.
    """

    time: float
    cpu_seconds: float
    memory: int
    memory_limit: int | None
    pids: int
    read_bytes: int
    written_bytes: int
    network: Mapping[str, NetworkUsage] = field(factory=dict, hash=False)


def list_processes(state: State) -> tuple[ProcessInfo, ...]:
    """The processes in the container's PID namespace, by number; none if it has ended."""
    found = (_look(pid) for pid in _pids(state))
    return tuple(info for info in found if info is not None)


def measure(state: State) -> Usage:
    """What a container uses now."""
    processes = list_processes(state)
    memory, limit = _memory(state)
    read = written = 0
    for info in processes:
        io = _fields(_read(f"/proc/{info.pid}/io"), ":")
        read += io.get("read_bytes", 0)
        written += io.get("write_bytes", 0)
    return Usage(
        time=time.time(),
        cpu_seconds=_cpu(state, processes),
        memory=sum(info.memory for info in processes) if memory is None else memory,
        memory_limit=limit,
        pids=sum(info.threads for info in processes),
        read_bytes=read,
        written_bytes=written,
        network=dict(_interfaces(state.pid)),
    )


def _pids(state: State) -> Iterator[int]:
    try:
        namespace = os.readlink(f"/proc/{state.pid}/ns/pid")
    except OSError:  # it has ended
        return
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                yield pid
        except OSError:  # ended meanwhile, or another user's
            continue


def _look(pid: int) -> ProcessInfo | None:
    stat, status = _read(f"/proc/{pid}/stat"), _read(f"/proc/{pid}/status")
    if not stat or not status:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(") ")
    values = rest.split()
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    args = tuple(_read(f"/proc/{pid}/cmdline").split("\0")[:-1])
    return ProcessInfo(
        pid=pid,
        container_pid=int(lines["NSpid"].split()[-1]),
        parent_pid=int(values[1]),
        uid=int(lines["Uid"].split()[1]),
        state=values[0],
        threads=int(values[17]),
        cpu_seconds=(int(values[11]) + int(values[12])) / _TICKS,
        memory=int(values[21]) * _PAGE,
        elapsed=max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(values[19]) / _TICKS),
        args=args or (name,),
    )


def _cpu(state: State, processes: tuple[ProcessInfo, ...]) -> float:
    """Of the v2 group, which counts those that have ended too, also where no controller is v2's."""
    if directory := state.cgroup.get("v2"):
        used = _fields(_read(f"{directory}/cpu.stat"), " ").get("usage_usec")
        if used is not None:
            return used / 1e6
    return sum(info.cpu_seconds for info in processes)


def _memory(state: State) -> tuple[int | None, int | None]:
    """Bytes charged, and the limit; None for what no control group of the container tells."""
    for directory in state.cgroup.get("directories", ()):
        for used, limit in (
            ("memory.current", "memory.max"),
            ("memory.usage_in_bytes", "memory.limit_in_bytes"),
        ):
            text = _read(f"{directory}/{used}").strip()
            if text:
                most = _read(f"{directory}/{limit}").strip()
                return int(text), int(most) if _is_limit(most) else None
    return None, None


def _is_limit(text: str) -> bool:
    """Whether it is one: without, v2 says so, and v1 writes the largest number of whole pages."""
    return text.isdecimal() and int(text) < (1 << 63) - _PAGE


def _interfaces(pid: int) -> Iterator[tuple[str, NetworkUsage]]:
    for line in _read(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        yield name.strip(), NetworkUsage(numbers[0], numbers[1], numbers[8], numbers[9])


def _fields(text: str, separator: str) -> dict[str, int]:
    pairs = (line.split(separator, 1) for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _read(path: str) -> str:
    """The text of a file; empty if there is none, or none for this user."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
