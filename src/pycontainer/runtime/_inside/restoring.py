"""Going on from a checkpoint: CRIU makes the container's processes, in place of `init`.

CRIU runs where they are to live: in the container's control groups, in its network, with its root
mounted. It restores the rest. The monitor becomes the parent of the first process, and does all else
as ever. Loaded only by the monitors that restore something.
"""

from __future__ import annotations

import os
import stat

from pycontainer._linux import erofs, loopback, mount, process
from pycontainer._linux.tree import remove_tree
from pycontainer.runtime._inside import cgroup, init, wire
from pycontainer.runtime._inside.identity import reset_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pycontainer.runtime._inside.monitor import Monitor

__all__ = ["bring_to_life"]

_DIRECTORY = "restore"
_LOG = "restore.log"
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

Plan = dict[str, object]


def bring_to_life(monitor: Monitor, payload: list[int]) -> None:
    """Restore the container's processes; once, as later starts are starts.

    Args:
        monitor: What is to be their parent.
        payload: Descriptors for the standard streams.

    Raises:
        StepFailed: CRIU refused.
    """
    restore = monitor.plan.pop("restore")
    assert isinstance(restore, dict)
    remove_tree(_DIRECTORY)
    os.makedirs(f"{_DIRECTORY}/sources", mode=0o700)
    monitor.step = "map the owners of a mount"
    if monitor.plan["id_maps"]:
        from pycontainer.runtime._inside import namespaces

        namespaces.make_id_maps(monitor.plan["id_maps"])
    monitor.step = "filter devices"
    group = cgroup.open_v2(monitor.cgroup)
    cgroup.filter_devices(monitor.cgroup, group)
    monitor.step = "restore the processes by CRIU"
    process.set_child_subreaper()  # CRIU leaves the first process to us
    try:
        _run(monitor, restore, payload, group)
    finally:
        erofs.forget()
        if group >= 0:
            os.close(group)
    monitor.pid = int(_read(f"{_DIRECTORY}/pid"))
    monitor.pidfd = os.pidfd_open(monitor.pid)
    process.set_child_subreaper(enabled=False)
    monitor.streams.close_payload_side()
    monitor.step = "set the limits"
    cgroup.adjust(monitor.cgroup)
    monitor.announce(monitor.prepare_state())


def _run(monitor: Monitor, restore: Plan, payload: list[int], group: int) -> None:
    """Execute CRIU in the container's surroundings, and wait for its end."""
    report_r, report_w = os.pipe()
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()
    pid, pidfd = process.clone3(0, cgroup=group)
    if pid == 0:
        for fd in (report_r, ready_r, go_w):
            os.close(fd)
        _become_criu(monitor.plan, restore, payload, (report_w, ready_w, go_r))
    for fd in (report_w, ready_w, go_r, pidfd):
        os.close(fd)
    if os.read(ready_r, 1):  # it has its network
        if monitor.network is not None:
            monitor.network.connect(pid)
        os.write(go_w, b"n")
    os.close(ready_r)
    os.close(go_w)
    failure = wire.read_all(report_r)
    _, status = os.waitpid(pid, 0)
    if failure:
        raise init.StepFailed.from_wire(failure)
    if status:
        raise init.StepFailed(monitor.step, 0, _reason())


def _become_criu(
    plan: Plan, restore: Plan, payload: list[int], pipes: tuple[int, int, int]
) -> NoReturn:
    report, ready, go = pipes
    step = "enter the container's namespaces"
    try:
        monitor = os.getppid()
        process.set_parent_death_signal(9)
        if os.getppid() != monitor:  # it was killed before
            os._exit(1)
        place = os.getcwd()
        cgroup.join(plan["cgroup"])
        flags = process.NAMESPACE_FLAGS["mount"]
        flags |= process.NAMESPACE_FLAGS["cgroup"] if plan["cgroup_namespace"] else 0
        flags |= process.NAMESPACE_FLAGS["network"] if restore["network"] else 0
        process.unshare(flags)
        if restore["network"]:
            loopback.up()
        os.write(ready, b"r")
        if not os.read(go, 1):
            os._exit(1)
        step = "mount the root file system"
        paths = _mount(plan, place)
        step = f"execute {restore['program']}"
        os.chdir(f"{place}/{_DIRECTORY}")
        arguments = _arguments(plan, restore, payload, paths, place)
        reset_signals()
        os.execve(arguments[0], arguments, _ENVIRONMENT)  # noqa: S606
    except BaseException as error:
        init.report_failure(report, step, error)


def _arguments(
    plan: Plan, restore: Plan, payload: list[int], paths: dict[str, str], place: str
) -> list[str]:
    options, outside, groups = restore["options"], restore["outside"], restore["groups"]
    assert isinstance(options, list)
    assert isinstance(outside, list)
    assert isinstance(groups, dict)
    arguments = [str(restore["program"]), "restore", "-D", str(restore["images"]), *options]
    arguments += ["-W", ".", "-o", _LOG, "--restore-detached", "--pidfile", f"{place}/restore/pid"]
    arguments += ["--root", str(plan["mountpoint"])]
    for point in outside:
        path = groups.get(point) or _source(point, paths)
        arguments += ["--external", f"mnt[{point}]:{path}"]
    for key, fd in _inherited(restore, payload):
        arguments += ["--inherit-fd", f"fd[{fd}]:{key}"]
    return arguments


def _inherited(restore: Plan, payload: list[int]) -> list[tuple[str, int]]:
    """What stands for each of the checkpoint's descriptors of the host, from 3 on."""
    named = restore["inherited"]
    assert isinstance(named, dict)
    null = os.open("/dev/null", os.O_RDWR)
    found = [(key, payload[int(n)] if n.isdecimal() else null) for n, key in named.items()]
    if restore["network"]:
        found.append(("net", os.open("/proc/self/ns/net", os.O_RDONLY)))
    kept = [(key, os.dup(fd)) for key, fd in found]
    for fd in range(3):
        os.dup2(null, fd, inheritable=True)
    process.close_on_exec_from(3)
    for _, fd in kept:
        os.set_inheritable(fd, True)
    return kept


def _mount(plan: Plan, place: str) -> dict[str, str]:
    """Mount the root, and beside it what binds show; give the paths of that by the binds' targets."""
    mounts = plan["mounts"]
    assert isinstance(mounts, list)
    binds = [number for number, entry in enumerate(mounts) if entry["kind"] == "bind"]
    trees = init.prepare_root(plan, binds)
    sources = f"{place}/{_DIRECTORY}/sources"
    top = mount.filesystem("tmpfs", mount.NOSUID | mount.NODEV, (("mode", "700"),))
    mount.attach(top, sources)
    os.close(top)
    paths = {}
    for name, tree in trees.items():
        path = f"{sources}/{name}"
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            os.mkdir(path)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        mount.attach(tree, path)
        os.close(tree)
        paths[str(mounts[int(name)]["target"])] = path
    return paths


def _source(point: str, paths: dict[str, str]) -> str:
    """Where what was mounted at a point, or below a bind, is found now."""
    target, rest = point, ""
    while target not in paths and target != "/":
        target, _, name = target.rpartition("/")
        target, rest = target or "/", f"/{name}{rest}"
    return paths.get(target, "") + rest


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 64).decode()
    finally:
        os.close(fd)


def _reason() -> str:
    """The first error that CRIU has written down, which is the cause of the others."""
    try:
        with open(f"{_DIRECTORY}/{_LOG}", encoding="utf-8", errors="replace") as file:
            said = [line.strip() for line in file if "Error" in line and "rlimit" not in line]
    except OSError:
        said = []
    return said[0] if said else "it gave no reason"
