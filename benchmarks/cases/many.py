"""What many containers cost, and what a start costs in a large program."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pycontainer as pc
from benchmarks import peers
from benchmarks.cases._stores import imported
from benchmarks.growth import Rate, curve
from benchmarks.measure import Side
from pycontainer.content import Store

__all__: list[str] = []

Sides = Sequence[Side]
_MB = 1e6
_OWN = ("pycontainer",)  # as the zygote and all that it clones call themselves


@curve(
    "Containers at once",
    axis="containers",
    points=(10, 25, 50, 100, 200),
    rate=Rate("{:.0f} starts a second", 1, inverse=True),
    cpu=False,
    group="containers",
)
@contextlib.contextmanager
def grow_scale(directory: Path, size: int) -> Iterator[Sides]:
    """`Container.scale` starts so many containers of one image, each isolated in full, until all run.

    What bounds it are the processors, of whose time most is the kernel's: it clones two processes for each,
    makes six namespaces and twelve mounts, and executes the command. Asked were 100 starts a second on two
    cores.
    """
    with imported(directory) as image:
        running: list[pc.Container] = []

        def start() -> None:
            running.extend(pc.Container.scale(image, size, ["sleep", "3600"], store=image.store))

        def end() -> None:
            for container in running:
                container.close()
            running.clear()

        pc.run(image, ["/bin/true"], store=image.store)
        yield (Side("pycontainer", start, after=end),)


@curve(
    "Memory of containers at once",
    axis="containers",
    points=(25, 50, 100, 200),
    rate=Rate("{:.2f} MB", 1),
    rounds=1,
    value="MB of our own a container",
    limit=3,
    group="containers",
)
@contextlib.contextmanager
def grow_container_memory(directory: Path, size: int) -> Iterator[Sides]:
    """So many containers run `sleep` at the same time; what all processes of ours take, for each of them.

    These are a zygote, the process that it has ready, and a monitor for each container. A page counts by its
    share (PSS in `/proc/PID/smaps_rollup`): monitors are clones of the zygote and share what they have not
    written to. What bounds it are the pages that the interpreter writes to when it counts references.
    """
    with imported(directory) as image:
        running: list[pc.Container] = []

        def start() -> None:
            running.extend(pc.Container.scale(image, size, ["sleep", "3600"], store=image.store))

        def end() -> None:
            for container in running:
                container.close()
            running.clear()

        yield (Side("pycontainer", lambda: _own_memory(size) / size, before=start, after=end),)


def _own_memory(monitors: int) -> float:
    """MB of all processes of ours that this program has started, of which so many are monitors."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
                names[int(entry.name)] = name
                children.setdefault(int(rest.split()[1]), []).append(int(entry.name))
    own = Path("/proc/self").resolve().name
    found, looked_at = (
        list[float](),
        [pid for pid in children.get(int(own), ()) if names[pid] in _OWN],
    )
    while looked_at:
        pid = looked_at.pop()
        found.append(_share(pid))
        looked_at += [child for child in children.get(pid, ()) if names[child] in _OWN]
    if len(found) <= monitors:
        raise peers.BenchmarkError(f"{len(found)} processes of ours for {monitors} containers")
    return sum(found)


def _share(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / _MB
    raise peers.BenchmarkError(f"no Pss of process {pid}")


def _starts(directory: Path, *, heap: int, threads: int) -> Sides:
    with Store.open(directory / "store") as store:
        pc.Image.import_rootfs(peers.minbase(), tag="benchmark:1", store=store)

    def measure(which: int) -> float:
        command = [sys.executable, "-m", "benchmarks.starting"]
        said = peers.call(*command, directory / "store", str(heap), str(threads))
        return float(said.split()[which])

    return (
        Side("start to exit", lambda: measure(0)),
        Side("fork of the program", lambda: measure(1)),
    )


@curve(
    "Start in a program with a large heap",
    axis="MiB of heap",
    points=(10, 100, 500, 1000, 2000),
    rate=Rate("{:.2f} ms for each further GiB", 1024),
    value="milliseconds",
    group="containers",
)
@contextlib.contextmanager
def grow_heap(directory: Path, size: int) -> Iterator[Sides]:
    """A fresh program whose heap has so many MiB runs containers; beside it, what a fork of it takes.

    The program itself never forks: it sends the request to its zygote, a small process. So a start is bounded
    by the kernel's work for the container, whatever the program has in memory; a fork copies page tables.
    """
    yield _starts(directory, heap=size, threads=1)


@curve(
    "Start in a program with many threads",
    axis="threads",
    points=(1, 4, 16, 64),
    rate=Rate("{:.3f} ms for each further thread", 1),
    value="milliseconds",
    group="containers",
)
@contextlib.contextmanager
def grow_threads(directory: Path, size: int) -> Iterator[Sides]:
    """A fresh program with so many threads, which wait for something, runs containers from one of them.

    A start costs the program one message and one answer; what bounds it happens in processes without
    threads. Threads that compute in Python would make it wait for the interpreter's lock, as they do with
    everything.
    """
    yield _starts(directory, heap=10, threads=size)
