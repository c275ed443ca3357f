"""A container whose first process another runtime makes, such as runc: by a bundle of the OCI.

The monitor stays the container's parent and does all else as ever: control groups and limits, log,
networks, the end. Only what `init` does between clone(2) and execve(2) is the runtime's. Loaded only by
the monitors of such containers.

Root file system and whatever only this library can open are mounted in a mount namespace that the
runtime starts in: the host sees no mount, and none is left when all is killed.
"""

from __future__ import annotations

import _json  # what `json` is made of; itself it takes ten milliseconds to import
import _socket
import errno
import os
import stat
import time

from pycontainer._linux import erofs, mount, process
from pycontainer._linux.tree import remove_tree
from pycontainer.runtime._inside import cgroup, files, init, wire
from pycontainer.runtime._inside.identity import reset_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pycontainer.runtime._inside.monitor import Monitor

__all__ = ["BOOT", "DIRECTORY", "bring_to_life"]

DIRECTORY = "bundle"
"""What the bundle is called in the container's directory; the runtime keeps its state in it, too."""
BOOT = "boot"
"""The file in it, of JSON, that names the boot of which the process is that the runtime's state names."""

_PATIENCE = 10.0
_PAUSE = 0.0005
_COMMAND_NAME = 64
_NO_SUCH_COMMAND = ("no such file or directory", "not found in $path", "not a directory")
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

Bundle = dict[str, object]


def bring_to_life(monitor: Monitor, payload: list[int]) -> None:
    """Create the container, connect it to its networks, and start its command.

    Args:
        monitor: What is to be the container's parent.
        payload: Descriptors for the command's 0, 1 and 2; empty where it gets a terminal.

    Raises:
        StepFailed: The runtime refused, or the command cannot be executed.
    """
    bundle = monitor.plan["bundle"]
    assert isinstance(bundle, dict)
    name = str(bundle["name"])
    monitor.step = "write the bundle"
    console = _write(bundle, str(monitor.plan["boot_id"]), tty=bool(monitor.plan["tty"]))
    monitor.step = "prepare what the container joins and mounts"
    joined = _open_what_is_needed(monitor.plan)
    monitor.step = "filter devices"
    group = cgroup.open_v2(monitor.cgroup)
    cgroup.filter_devices(monitor.cgroup, group)
    monitor.step = f"create the container by {name}"
    arguments = ["create", "--bundle", ".", "--pid-file", "pid"]
    arguments += ["--console-socket", "console.sock"] if console is not None else []
    process.set_child_subreaper()  # the runtime leaves the container's first process to us
    try:
        born = group if bundle["born_in_group"] else -1
        _run(monitor, arguments, stdio=payload, joined=joined, group=born)
    finally:
        erofs.forget()
        if group >= 0:
            os.close(group)
        for fd in joined.values():
            os.close(fd)
    monitor.pid = int(_read(f"{DIRECTORY}/pid"))
    monitor.pidfd = os.pidfd_open(monitor.pid)
    process.set_child_subreaper(enabled=False)  # what else loses its parent is no concern of ours
    monitor.streams.close_payload_side()
    if console is not None:
        _take_terminal(monitor, console)
    monitor.step = "set the limits"  # now, since the runtime itself may need more than these
    cgroup.adjust(monitor.cgroup)
    if monitor.network is not None:
        monitor.step = "connect to the network"
        monitor.network.connect(monitor.pid)
    _start(monitor, name)


def _start(monitor: Monitor, name: str) -> None:
    """Let the command go, and see to it that it is executed."""
    begun = monitor.prepare_state()
    monitor.step = f"start the container by {name}"
    waiting = _read(f"/proc/{monitor.pid}/comm")
    _run(monitor, ["start"], stdio=[])
    deadline = time.monotonic() + _PATIENCE
    # The runtime ends before execve(2), and then nobody tells. A zombie keeps its last name.
    while _read(f"/proc/{monitor.pid}/comm") == waiting:
        if os.waitid(os.P_PID, monitor.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            if _read(f"/proc/{monitor.pid}/comm") != waiting:
                break
            raise init.StepFailed("execute", errno.ENOEXEC, os.strerror(errno.ENOEXEC))
        if time.monotonic() > deadline:
            raise init.StepFailed("execute", errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        time.sleep(_PAUSE)
    monitor.announce(begun)


# --- what the runtime finds ------------------------------------------------------------------


def _write(bundle: Bundle, boot: str, *, tty: bool) -> _socket.socket | None:
    """Make the bundle anew; give the socket on which the terminal comes."""
    remove_tree(DIRECTORY)
    os.makedirs(f"{DIRECTORY}/sources", mode=0o700)
    document = bundle["document"]
    assert isinstance(document, bytes)
    files.write_new(f"{DIRECTORY}/config.json", document)
    files.write_new(f"{DIRECTORY}/{BOOT}", b'"%s"' % boot.encode())
    if not tty:
        return None
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    listener.bind(f"{DIRECTORY}/console.sock")
    listener.listen(1)
    return listener


def _take_terminal(monitor: Monitor, listener: _socket.socket) -> None:
    fd, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
    listener.close()
    monitor.streams.take_terminal(_socket.socket(fileno=fd))


def _open_what_is_needed(plan: dict[str, object]) -> dict[str, int]:
    """Make what mounts need; give what is to be joined."""
    if not plan["joined"] and not plan["id_maps"]:
        return {}
    from pycontainer.runtime._inside import namespaces

    namespaces.make_id_maps(plan["id_maps"])
    return namespaces.open_namespaces(plan["joined"])


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _COMMAND_NAME).decode("utf-8", "replace")
    finally:
        os.close(fd)


# --- running it ------------------------------------------------------------------------------


def _run(
    monitor: Monitor,
    arguments: list[str],
    *,
    stdio: list[int],
    joined: dict[str, int] | None = None,
    group: int = -1,
) -> None:
    """Execute the runtime and wait for its end.

    Args:
        monitor: The container's.
        arguments: The runtime's command and its options.
        stdio: What the runtime passes on to the container; nothing stands for ``/dev/null``.
        joined: Namespaces that are to be found where the document says; None where no root is needed.
        group: Descriptor of the control group that it is born in, or -1.

    Raises:
        StepFailed: It failed.
    """
    plan = monitor.plan
    report_r, report_w = os.pipe()
    pid, pidfd = process.clone3(0, cgroup=group)
    if pid == 0:
        _become_runtime(plan, arguments, stdio, joined, report_w)
    os.close(report_w)
    os.close(pidfd)
    failure = wire.read_all(report_r)
    _, status = os.waitpid(pid, 0)
    if failure:
        raise init.StepFailed.from_wire(failure)
    if status:
        raise _failure(monitor.step)


def _become_runtime(
    plan: dict[str, object],
    arguments: list[str],
    stdio: list[int],
    joined: dict[str, int] | None,
    report: int,
) -> NoReturn:
    bundle, step = plan["bundle"], "enter a mount namespace"
    assert isinstance(bundle, dict)
    try:
        monitor = os.getppid()
        process.set_parent_death_signal(9)
        if os.getppid() != monitor:  # it was killed before
            os._exit(1)
        place = os.getcwd()
        process.unshare(process.NAMESPACE_FLAGS["mount"])
        if joined is None:
            mount.mount("none", "/", None, mount.MS_REC | mount.MS_PRIVATE)
        else:
            step = "mount the root file system"
            _mount(plan, bundle, joined, place)
        for path in bundle["hidden"]:
            cover = mount.filesystem("tmpfs")  # it cannot be unmounted by all users
            mount.attach(cover, path)
            os.close(cover)
        step = f"execute {bundle['program']}"
        os.chdir(f"{place}/{DIRECTORY}")
        null = os.open("/dev/null", os.O_RDWR)
        for number, fd in enumerate(stdio or [null] * 3):
            os.dup2(fd, number, inheritable=True)
        process.close_on_exec_from(3)
        reset_signals()
        options = ["--root", "state", "--log", "log", "--log-format", "json", *bundle["options"]]
        command = [str(bundle["program"]), *options, *arguments, str(bundle["id"])]
        os.execve(command[0], command, _ENVIRONMENT)  # noqa: S606
    except BaseException as error:
        init.report_failure(report, step, error)


def _mount(plan: dict[str, object], bundle: Bundle, joined: dict[str, int], place: str) -> None:
    """Mount the root, and beside it what the document names by paths that only we can make."""
    staged = bundle["staged"]
    assert isinstance(staged, list)
    trees = init.prepare_root(plan, staged)
    for kind, fd in joined.items():
        trees[f"ns-{kind}"] = mount.bind(f"/proc/self/fd/{fd}", recursive=False)
    if not trees:
        return
    sources = f"{place}/{DIRECTORY}/sources"
    top = mount.filesystem("tmpfs", mount.NOSUID | mount.NODEV, (("mode", "700"),))
    mount.attach(top, sources)
    os.close(top)
    for name, tree in trees.items():
        path = f"{sources}/{name}"
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            os.mkdir(path)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        mount.attach(tree, path)
        os.close(tree)


def _failure(step: str) -> init.StepFailed:
    """What the runtime has said; text is all that runtimes tell of an error's kind."""
    try:
        with open(f"{DIRECTORY}/log", encoding="utf-8", errors="replace") as file:
            said = [_message(line) for line in file if '"msg":' in line]
    except OSError:
        said = []
    text = said[-1] if said else "it gave no reason"
    lowered = text.lower()
    if 'exec: "' in lowered or "executable" in lowered or "exec container process" in lowered:
        if any(words in lowered for words in _NO_SUCH_COMMAND):
            return init.StepFailed("execute", errno.ENOENT, text)
        return init.StepFailed("execute", errno.EACCES, text)
    return init.StepFailed(step, 0, text)


def _message(line: str) -> str:
    text, _ = _json.scanstring(line, line.index('"msg":') + len('"msg":') + 1, True)
    return str(text)
