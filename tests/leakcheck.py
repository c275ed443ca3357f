"""What a test session may not leave behind on the machine, and how that is found out.

`Machine` is a picture of the machine; the difference of two pictures is what leaked in between. A
session marks its processes by an environment variable and keeps its files below one directory, and
on a machine that others use at the same time only what carries one of the two counts as its own. Where the
session has the machine to itself (``strict``, as in CI), all that is new counts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from attrs import field, frozen

MARK = "PYCONTAINER_TEST_SESSION"
_LINUX = sys.platform == "linux"
_SHOWN = 200


@frozen
class Machine:
    """What is there at one moment, as lines of text by kind."""

    found: dict[str, frozenset[str]] = field(factory=dict)

    @classmethod
    def look(cls, mark: str, base: Path, *, strict: bool) -> Machine:
        """Take the picture.

        Args:
            mark: The value of the environment variable `MARK` in the session's processes.
            base: The directory that holds all the session's files.
            strict: Whether all that is on the machine counts, or only what is the session's.
        """
        if not _LINUX:
            return cls({"file": frozenset(_files())})
        processes = dict(_processes(mark, str(base), strict=strict))
        return cls(
            {
                "process": frozenset(processes.values()),
                "mount": frozenset(m for m in _mounts() if strict or str(base) in m),
                "cgroup": frozenset(_cgroups(processes, strict=strict)),
                "interface": frozenset(os.listdir("/sys/class/net")) if strict else frozenset(),
                "firewall rule": frozenset(_rules()) if strict else frozenset(),
                "file": frozenset(_files()),
            }
        )

    def since(self, before: Machine) -> list[str]:
        """What this picture shows that an earlier one does not."""
        return [
            f"{kind}: {line}"
            for kind, lines in self.found.items()
            for line in sorted(lines - before.found.get(kind, frozenset()))
        ]


def settled(before: Machine, mark: str, base: Path, *, strict: bool, patience: float) -> list[str]:
    """Return what has leaked, giving what is about to end some seconds to do so."""
    deadline = time.monotonic() + patience
    while True:
        leaks = Machine.look(mark, base, strict=strict).since(before)
        if not leaks or time.monotonic() > deadline:
            return leaks
        time.sleep(0.1)


def open_files() -> Counter[str]:
    """Return what this process's descriptors lead to, and how many lead there."""
    if not _LINUX:
        return Counter()
    own = f"/proc/{os.getpid()}/"  # the directory that is being read
    return Counter(target for target in _targets("self") if not target.startswith(own))


def _targets(process: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(f"/proc/{process}/fd/{name}")


def _read(path: str) -> str:
    """Return a file of /proc, or nothing when its process has gone or is another user's."""
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _processes(mark: str, base: str, *, strict: bool) -> Iterator[tuple[int, str]]:
    """Yield the processes that belong to the session and do not run its tests."""
    marked = f"{MARK}={mark}"
    own_namespace = os.readlink("/proc/self/ns/pid")
    for name in filter(str.isdigit, os.listdir("/proc")):
        stat = _read(f"/proc/{name}/stat")
        if int(name) == os.getpid() or not stat or stat.rpartition(")")[2].split()[0] in "ZX":
            continue
        command = _read(f"/proc/{name}/cmdline").replace("\0", " ").strip()
        namespace = own_namespace
        with contextlib.suppress(OSError):
            namespace = os.readlink(f"/proc/{name}/ns/pid")
        apart = namespace != own_namespace
        if (
            marked in _read(f"/proc/{name}/environ").split("\0")
            or base in command
            or (apart and base in _read(f"/proc/{name}/mountinfo"))
            or ("pycontainer" in command and any(base in target for target in _targets(name)))
            or (strict and (apart or "pycontainer" in command))
        ):
            started = stat.rpartition(")")[2].split()[19]
            shown = " ".join(command.split())[:_SHOWN] or stat.split()[1]
            yield int(name), f"{name} (started at tick {started}): {shown}"


def _mounts() -> Iterator[str]:
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        yield f"{left.split()[4]} ({right})"


def _cgroups(processes: dict[int, str], *, strict: bool) -> Iterator[str]:
    """Yield pycontainer's cgroups in every hierarchy.

    Another session's are told from ours by their processes; one that has none left is a leak, whosever.
    """
    for mount in _mounts():
        point, _, rest = mount.partition(" (")
        if not rest.startswith("cgroup"):
            continue
        for directory, names, _ in os.walk(point):
            names[:] = [name for name in names if not Path(directory, name).is_symlink()]
            if "pycontainer" not in directory:
                continue
            members = {int(pid) for pid in _read(f"{directory}/cgroup.procs").split()}
            if strict or members & processes.keys() or not (members or names):
                yield directory


def _rules() -> Iterator[str]:
    for command in (["nft", "--stateless", "list", "ruleset"], ["iptables-save"]):
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            for line in done.stdout.splitlines():
                if not line.startswith(("#", ":")):
                    yield f"{command[0]}: {line.strip()}"


def _files() -> Iterator[str]:
    """Yield what lies outside the session's directory and looks like ours."""
    for path in Path(tempfile.gettempdir()).glob("*pycontainer*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.getuid():
                yield str(path)
    for path in (Path("/var/lib/pycontainer"), Path("~/.local/share/pycontainer").expanduser()):
        if path.exists():
            yield str(path)
