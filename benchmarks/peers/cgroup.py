"""A control group that counts the processor time of a daemon and of all that it starts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from benchmarks.peers.program import BenchmarkError

__all__ = ["Meter", "meter"]

_TRIES = 50


@frozen
class Meter:
    """A group of version 2, which counts without any controller."""

    directory: Path

    def around(self, command: Sequence[str | Path]) -> list[str | Path]:
        """Return the command that enters the group and becomes the given one."""
        enter = 'echo 0 >"$0/cgroup.procs" && exec "$@"'
        return ["sh", "-c", enter, self.directory, *command]

    def processor_seconds(self) -> float:
        for line in (self.directory / "cpu.stat").read_text().splitlines():
            name, value = line.split()
            if name == "usage_usec":
                return int(value) / 1e6
        raise BenchmarkError(f"{self.directory}/cpu.stat does not say usage_usec")


@contextlib.contextmanager
def meter(name: str) -> Iterator[Meter]:
    """Make a group below this process's own; what is still in it at the end is killed."""
    directory = _own() / f"benchmark-{name}-{os.getpid()}"
    directory.mkdir()
    try:
        yield Meter(directory)
    finally:
        _remove(directory)


def _own() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if source.startswith("cgroup2 "):
            path = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()
            return Path(mount.split()[4]) / path.lstrip("/")
    raise BenchmarkError("no cgroup2 is mounted, which would count a daemon's processor time")


def _remove(directory: Path) -> None:
    (directory / "cgroup.kill").write_text("1")
    for _ in range(_TRIES):
        for group in [*directory.glob("**/"), directory]:
            with contextlib.suppress(OSError):
                group.rmdir()
        if not directory.exists():
            return
        time.sleep(0.1)
    raise BenchmarkError(f"{directory} cannot be removed")
