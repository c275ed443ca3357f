"""Checkpoints: all processes of a container as files, by CRIU, and what it takes to go on from them.

What a container has of the host cannot be in the files: its log, its networks, what is mounted from
outside. CRIU is told of each by a name (``--external``), and at the restore what stands for it
(``--inherit-fd``); `pycontainer.runtime._inside.restoring` provides that.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pycontainer.errors import ContainerError, TimeoutExpired, UnsupportedFeature

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontainer.oci.runtime import RuntimeSpec
    from pycontainer.runtime.cgroups import Hierarchies
    from pycontainer.runtime.state import State

__all__ = ["criu_refusal", "dump", "plan_restore"]

_NOTE: Final = "pycontainer.json"
_LOG: Final = "dump.log"
_OWN: Final = ("pid", "ipc", "uts", "mount")
_STREAMS: Final = {"out.fifo": 1, "err.fifo": 2, "null": 0}
_COMMON: Final = ("--manage-cgroups=ignore", "--file-locks")
_REMEDY: Final = "install a CRIU that knows this kernel (on Debian: apt-get install criu)"


def criu_refusal() -> str:
    """Why there can be no checkpoints here; empty if there can be."""
    if os.geteuid() != 0:
        return "CRIU takes root"
    program = _criu()
    if program is None:
        return "there is no program criu in PATH"
    checked = subprocess.run(  # noqa: S603  (the administrator's program)
        [program, "check"], capture_output=True, text=True, check=False, timeout=60
    )
    if checked.returncode == 0:
        return ""
    return f"criu check: {_last_error(checked.stderr)}"


def dump(
    state: State,
    spec: RuntimeSpec,
    target: Path,
    *,
    name: str,
    leave_running: bool,
    timeout: float | None,
) -> None:
    """Write the processes of a container that runs to files.

    Args:
        state: The container's.
        spec: Its document.
        target: An empty directory.
        name: Of the container.
        leave_running: Whether they go on afterwards; else they are killed.
        timeout: Seconds.

    Raises:
        UnsupportedFeature: CRIU is not there or does not work, or the container is of a kind that
            cannot be restored.
        ContainerError: CRIU cannot write this container down; it goes on running.
        TimeoutExpired: It took too long; the container goes on running.
    """
    _check(spec, state)
    mounted = _mounts(state.pid)
    inherited = dict(_inherited(state, {number for number, _, _ in mounted}))
    outside = _outside(spec, mounted)
    arguments = [argument for path in outside for argument in ("--external", f"mnt[{path}]:{path}")]
    for key in inherited.values():
        arguments += ["--external", key] if key.startswith("file") else []
    if "network" in state.namespaces:
        arguments += ["--external", f"net[{os.stat(f'/proc/{state.pid}/ns/net').st_ino}]:net"]
    if leave_running:
        arguments.append("--leave-running")
    command = [_criu() or "criu", "dump", "-t", str(state.pid), "-D", str(target), "-o", _LOG]
    _run([*command, *_COMMON, *arguments], target, name, timeout)
    note = {"container": name, "inherited": inherited, "outside": outside}
    (target / _NOTE).write_text(json.dumps(note))


def plan_restore(
    spec: RuntimeSpec, images: Path, *, name: str, group: str, found: Hierarchies
) -> dict[str, Any]:
    """What a monitor has to know to restore a container.

    Args:
        spec: The container's document.
        images: What `dump` has written.
        name: Of the container.
        group: The path of its control group in each hierarchy.
        found: The machine's control groups.

    Raises:
        ContainerError: It is no checkpoint of this container.
        UnsupportedFeature: CRIU is not there.
    """
    try:
        note = json.loads((images / _NOTE).read_bytes())
    except (OSError, ValueError) as error:
        raise ContainerError(f"{images} holds no checkpoint: {error}") from error
    if note["container"] != name:
        raise ContainerError(
            f"the checkpoint {images} is of container {note['container'][:12]}",
            remedy="restore that one: only it has the files that its processes have open",
        )
    program = _criu()
    if program is None:
        raise _unsupported()
    own = "network" in spec.namespace_types()
    return {
        "program": program,
        "images": str(images.resolve()),
        "options": list(_COMMON),
        "inherited": note["inherited"],
        "outside": note["outside"],
        "network": own,
        "groups": dict(_groups(group, found)),
    }


def _groups(group: str, found: Hierarchies) -> Iterator[tuple[str, str]]:
    """Where on the host what a container sees of control groups is, by its mount points."""
    top = "/sys/fs/cgroup"
    for hierarchy in (*found.v1.values(), *found.named.values()):
        yield f"{top}/{os.path.basename(hierarchy.mount_point)}", f"{hierarchy.mount_point}/{group}"
    if found.v2 is not None:
        point = f"{top}/{os.path.basename(found.v2.mount_point)}" if found.v1 else top
        yield point, f"{found.v2.mount_point}/{group}"


def _criu() -> str | None:
    return shutil.which(
        "criu", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    )


def _unsupported() -> UnsupportedFeature:
    return UnsupportedFeature("a checkpoint", criu_refusal() or "CRIU failed", remedy=_REMEDY)


def _check(spec: RuntimeSpec, state: State) -> None:
    if os.geteuid() != 0 or _criu() is None:
        raise _unsupported()
    shared = [kind for kind in _OWN if kind not in spec.namespace_types()]
    if shared or any(space.path or space.type == "user" for space in spec.namespaces):
        raise UnsupportedFeature(
            "a checkpoint of a container that shares namespaces, or has users of its own",
            "CRIU restores whole trees of processes, as the machine's root",
        )
    if spec.process.terminal:
        raise UnsupportedFeature(
            "a checkpoint of a container with a terminal",
            "the terminal's other end is the monitor's and ends with it",
            remedy="start it without tty=True",
        )
    if not state.cgroup:
        raise UnsupportedFeature("a checkpoint without control groups", "nothing would freeze it")


def _run(command: Sequence[str], target: Path, name: str, timeout: float | None) -> None:
    try:
        done = subprocess.run(  # noqa: S603  (the administrator's program)
            command, capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutExpired(f"the checkpoint took more than {timeout} seconds") from error
    if done.returncode == 0:
        return
    if criu_refusal():
        raise _unsupported()
    log = target / _LOG
    said = _last_error(log.read_text(errors="replace") if log.exists() else done.stderr)
    raise ContainerError(
        f"CRIU cannot write container {name[:12]} down: {said}",
        remedy=f"it goes on running; {log} tells more",
    )


def _last_error(text: str) -> str:
    errors = [line for line in text.splitlines() if "Error" in line]
    # The first is the cause, but for what the kernel refuses without harm.
    errors = [line for line in errors if "rlimit" not in line]
    return errors[0] if errors else (text.strip().splitlines() or ["it gave no reason"])[-1]


# --- what is not the container's own ---------------------------------------------------------


def _mounts(pid: int) -> list[tuple[int, str, str]]:
    """Id, mount point and kind of each mount that the container sees."""
    found = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        point = fields[4].replace("\\040", " ").replace("\\134", "\\")
        found.append((int(fields[0]), point, after.split(" ")[0]))
    return found


def _outside(spec: RuntimeSpec, mounted: Sequence[tuple[int, str, str]]) -> list[str]:
    """Mount points of what is mounted from the host, and of control groups."""
    binds = [
        entry.destination
        for entry in spec.mounts
        if entry.type == "bind" or {"bind", "rbind"} & set(entry.options)
    ]
    return [
        point
        for _, point, kind in mounted
        if kind.startswith("cgroup")
        or any(point == bind or point.startswith(f"{bind}/") for bind in binds)
    ]


def _inherited(state: State, mounted: set[int]) -> Iterator[tuple[str, str]]:
    """The standard streams that processes of the container have, by number, as CRIU names them."""
    for pid in _processes(state):
        for fd in _entries(f"/proc/{pid}/fd"):
            try:
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
                info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
                inode = os.stat(f"/proc/{pid}/fd/{fd}").st_ino
            except OSError:  # closed meanwhile
                continue
            if link.startswith("pipe:") and (int(pid), fd) == (state.pid, "0"):
                yield "0", link
            mount = int(info.partition("mnt_id:")[2].split()[0])
            stream = _STREAMS.get(os.path.basename(link))
            if mount not in mounted and stream is not None:
                yield (str(stream) if stream else f"null-{mount}"), f"file[{mount:x}:{inode:x}]"


def _processes(state: State) -> list[str]:
    namespace = os.readlink(f"/proc/{state.pid}/ns/pid")
    found = []
    for pid in _entries("/proc"):
        try:
            if pid.isdecimal() and os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                found.append(pid)
        except OSError:  # ended meanwhile
            continue
    return sorted(found, key=int)


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
