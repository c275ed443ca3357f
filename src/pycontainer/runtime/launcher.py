"""Starting containers, and commands in them, from the host program."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pycontainer._linux import process as linux
from pycontainer.errors import (
    CommandNotExecutable,
    CommandNotFound,
    ContainerStateError,
    SpecError,
    StartError,
    TimeoutExpired,
    UnsupportedFeature,
)
from pycontainer.runtime import _zygote, cgroups, seccomp
from pycontainer.runtime._inside import files, wire
from pycontainer.runtime._joining import join_others
from pycontainer.runtime._running import Running
from pycontainer.runtime._spec import is_rootless
from pycontainer.runtime.plan import RUNTIME, SYSTEM, compile_plan, compile_process
from pycontainer.runtime.state import State, last_run, write_intent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from pycontainer.oci.runtime import Process, RuntimeSpec
    from pycontainer.snapshots import RootfsPlan

__all__ = ["adopt", "execute", "launch", "plan_group", "warm_up", "write_spec"]

_SIGKILL = 9
_ENTERED = ("mount", "uts", "ipc", "pid", "cgroup", "network")


def warm_up() -> None:
    """Start the launcher's process unless it runs; returns before it is ready.

    For callers that have something to do before `launch`: the first container then does not wait.
    """
    _zygote.current()


def launch(
    spec: RuntimeSpec,
    rootfs: RootfsPlan,
    directory: Path,
    *,
    name: str,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    log: bool = False,
    live: bool = False,
    detach: bool = False,
    remove: bool = True,
    keep: bool = False,
    upkeep: Mapping[str, object] | None = None,
    events: tuple[str, str, str] | None = None,
    network: Mapping[str, object] | None = None,
    kept_open: Sequence[int] = (),
    checkpoint: Path | None = None,
    complete: Callable[[], None] | None = None,
    write_down: Callable[[], None] | None = None,
    timeout: float | None = None,
) -> Running:
    """Start a container.

    Args:
        spec: What it is. Where its ``linux.seccomp`` is left out, Docker's default filter is used.
        rootfs: How its root file system is mounted.
        directory: A directory of its own, on which its monitor keeps state, log and lock.
        name: Of its control group unless the document has ``linux.cgroupsPath``; unique on this
            machine.
        stdin: Descriptor for its standard input; None is ``/dev/null``. The caller's to close.
        stdout: Likewise, unless `log` or `live`.
        stderr: Likewise, unless `log` or `live`.
        log: Whether output goes to the log in `directory`.
        live: Whether, without a log, output goes to who is attached.
        detach: Whether it outlives this program.
        remove: Whether `directory` goes with the container's end, also by itself. An attached
            container's goes in any case when this program ends.
        keep: Whether `directory` stays where the start fails: it held the container before.
        upkeep: What the monitor does beyond one run, as `Upkeep.to_wire` of the containers gives it.
        events: Where the monitor records events: the directory of the journal, the container's id, and
            its attributes as members of a JSON object; None for nowhere.
        network: Interfaces to make in its network namespace, as `pycontainer.network.join` plans them.
        kept_open: Descriptors that are to be open as long as it is looked after, such as of ports.
        checkpoint: A directory with the processes that it goes on with, in place of its command.
        complete: Makes what the container's files are mounted from, where that is still to be done;
            if possible while its processes are made.
        write_down: Writes into `directory` what its caller wants to find there; done before this
            returns, for a container that goes with this program while it is being made.
        timeout: Seconds to wait for the start.

    Raises:
        CommandNotFound: There is no such command in the container.
        CommandNotExecutable: It cannot be executed.
        StartError: Another step failed.
        SpecError: The document asks for what does not exist, or holds what is not UTF-8.
        UnsupportedFeature: The kernel or this user's rights lack something.
        TimeoutExpired: The start took too long; it was undone.
    """
    plan = _plan(spec, rootfs, directory, name, upkeep)
    plan.update(
        log=log, live=live, detach=detach, remove=remove, keep=keep, events=list(events or ())
    )
    join_others(plan, spec)
    plan["run"] = last_run(directory) + 1 if keep else 1

    def record() -> None:
        write_spec(spec, directory)
        if write_down is not None:
            write_down()

    # Before anything is made: whoever finds this directory knows what may have to be undone.
    late = not (detach or keep)
    if late:
        _check_encodable(spec)
    else:
        record()
    user = plan["user"]
    write_intent(
        directory, {n.type for n in spec.namespaces}, plan["cgroup"], user and user["root"]
    )
    if complete is not None and not (late and _can_wait(plan)):
        complete()
        complete = None
    plan["network"] = dict(network or {})
    if complete is None:
        (directory / "rootfs").mkdir(exist_ok=True)
    if checkpoint is not None:
        from pycontainer.runtime.checkpoint import plan_restore

        own, found = "/".join(_group_path(spec, name)), _hierarchies(os.getpid())
        plan["restore"] = plan_restore(spec, checkpoint, name=name, group=own, found=found)
        plan["namespaces"] = 0  # CRIU makes them
    streams = (stdin, stdout, stderr, *kept_open)
    meanwhile = _unless_gone(record) if late else None
    if complete is None:
        return _start(plan, streams, detached=detach, timeout=timeout, meanwhile=meanwhile)
    plan["waits"] = True
    with _gate(complete, directory) as (gate, opened):

        def both() -> None:
            opened()
            assert meanwhile is not None
            meanwhile()

        return _start(plan, (gate, *streams), detached=detach, timeout=timeout, meanwhile=both)


def _can_wait(plan: Mapping[str, Any]) -> bool:
    """Whether its init mounts its files, and so can wait for them."""
    return not plan["user"] and "bundle" not in plan


@contextlib.contextmanager
def _gate(
    complete: Callable[[], None], directory: Path
) -> Iterator[tuple[int, Callable[[], None]]]:
    """Give a descriptor at which init waits, and a function that completes its files and lets it on.

    Where the function raises, or this program ends, init hears that there will be none.
    """
    wait, go = os.pipe()
    done = False

    def opened() -> None:
        nonlocal done
        if not done:  # a request that nobody has read is sent again
            try:
                (directory / "rootfs").mkdir(exist_ok=True)
                complete()
            except FileNotFoundError:
                if directory.exists():
                    raise
                return  # the monitor has removed it, and will say why
        done = True
        os.write(go, b"m")

    try:
        yield wait, opened
    finally:
        os.close(wait)
        os.close(go)


def _unless_gone(write: Callable[[], None]) -> Callable[[], None]:
    """Make a function of what writes into a container's directory that may go with its end meanwhile."""

    def attempt() -> None:
        with contextlib.suppress(FileNotFoundError):
            write()

    return attempt


def adopt(
    state: State,
    spec: RuntimeSpec,
    rootfs: RootfsPlan,
    directory: Path,
    *,
    name: str,
    log: bool,
    live: bool,
    remove: bool,
    upkeep: Mapping[str, object],
    events: tuple[str, str, str],
    network: Mapping[str, object] | None = None,
    kept_open: Sequence[int] = (),
    timeout: float | None,
) -> Running:
    """Give a detached container that runs a new monitor, since its own was killed.

    Arguments and errors as for `launch`.

    Raises:
        ContainerStateError: The container has ended.
        StartError: Somebody else looks after it.
    """
    plan = _plan(spec, rootfs, directory, name, upkeep)
    plan.update(
        log=log,
        live=live,
        detach=True,
        remove=remove,
        keep=True,
        events=list(events),
        run=state.run,
    )
    with contextlib.suppress(ContainerStateError):  # only a restart by its policy needs the others
        join_others(plan, spec)
    if state.cgroup:
        plan["cgroup"] = {"device_program": b"", **plan["cgroup"], **state.cgroup}
    plan["adopted"] = {
        "pid": state.pid,
        "start_time": state.start_time,
        "started_at": state.started_at,
        "restarts": state.restarts,
    }
    plan["network"] = dict(network or {})
    pidfd = state.open_pidfd()
    try:
        streams = (None, None, None, *kept_open)
        return _start(plan, streams, pidfd=pidfd, detached=True, timeout=timeout)
    finally:
        os.close(pidfd)


def _plan(
    spec: RuntimeSpec,
    rootfs: RootfsPlan,
    directory: Path,
    name: str,
    upkeep: Mapping[str, object] | None,
) -> dict[str, Any]:
    program = seccomp.compile_filter_of(spec.seccomp, spec.process.capabilities.bounding)
    plan = compile_plan(spec, rootfs, directory, cgroup=plan_group(spec, name), seccomp=program)
    plan.update(upkeep=dict(upkeep or {}), adopted={}, network={}, waits=False)
    if RUNTIME in spec.annotations:
        from pycontainer.runtime.bundle import have_runtime_start  # few containers need it

        own = "/".join(_group_path(spec, name))
        have_runtime_start(plan, spec, directory, group=own, found=_hierarchies(os.getpid()))
    if health := plan["upkeep"].get("health"):
        check = evolve(spec.process, args=tuple(health["args"]), terminal=False)
        plan["upkeep"]["health"] = {
            **health,
            "exec": _execution(
                check,
                program,
                kinds={n.type for n in spec.namespaces},
                cgroup=plan["cgroup"],
                detach=True,
                root=plan["user"] and plan["user"]["root"],
            ),
        }
    return plan


def plan_group(spec: RuntimeSpec, name: str, *, lift: bool = False) -> cgroups.CgroupPlan:
    """Plan the control group of a container; arguments and errors as for `launch`."""
    parent, own = _group_path(spec, name)
    return cgroups.plan(
        own,
        spec.resources,
        hierarchies=_hierarchies(os.getpid()),
        parent=parent,
        delegate=spec.annotations.get(SYSTEM) == "true",
        lift=lift,
    )


def _group_path(spec: RuntimeSpec, name: str) -> tuple[str, str]:
    """The parent of a container's control group, and what that is called in it."""
    parent, _, own = spec.cgroups_path.strip("/").rpartition("/")
    return parent or "pycontainer", own or name


def write_spec(spec: RuntimeSpec, directory: Path) -> None:
    """Write down what a container is, to be started now or later.

    Raises:
        SpecError: It holds what is not UTF-8.
    """
    try:
        document = spec.encode()
    except UnicodeEncodeError as error:
        raise _not_utf8(error) from error
    files.replace(f"{directory}/config.json", document)


def _check_encodable(spec: RuntimeSpec) -> None:
    """Refuse at once what `write_spec` would refuse when the container runs already."""
    process = spec.process
    paths = (path for m in spec.mounts for path in (m.source, m.destination))
    try:
        "".join((*process.args, *process.env, process.cwd, *paths)).encode()
    except UnicodeEncodeError as error:
        raise _not_utf8(error) from error


def _not_utf8(error: UnicodeEncodeError) -> SpecError:
    around = error.object[max(0, error.start - 20) : error.end + 20]
    return SpecError(f"not UTF-8, as the document must be: {around!r}")


def execute(
    state: State,
    process: Process,
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    detach: bool = False,
    seccomp_profile: Mapping[str, object] | None = None,
    timeout: float | None = None,
) -> Running:
    """Run a command in a container that runs.

    Arguments and errors as for `launch`; `seccomp_profile` is the container's ``linux.seccomp``.

    Raises:
        ContainerStateError: The container has ended.
    """
    program = seccomp.compile_filter_of(seccomp_profile, process.capabilities.bounding)
    plan = _execution(
        process,
        program,
        kinds=state.namespaces,
        cgroup=state.cgroup,
        detach=detach,
        root=state.root,
    )
    pidfd = state.open_pidfd()
    try:
        return _start(plan, (stdin, stdout, stderr), pidfd=pidfd, detached=detach, timeout=timeout)
    finally:
        os.close(pidfd)


def _execution(
    process: Process,
    program: seccomp.Filter | None,
    *,
    kinds: Collection[str],
    cgroup: Mapping[str, Any],
    detach: bool,
    root: Sequence[int] | None,
) -> dict[str, Any]:
    """The plan of a command in a container that has these namespaces and this control group.

    Its `root` is the user of the host that its root is, where it has a user namespace.
    """
    entered = [kind for kind in _ENTERED if kind in kinds] + (["user"] if root else [])
    return {
        "operation": "exec",
        "process": compile_process(process, program),
        "namespaces": sum(linux.NAMESPACE_FLAGS[kind] for kind in entered),
        "cgroup": cgroup,
        "root": root and list(root),
        "tty": process.terminal,
        "detach": detach,
    }


@functools.lru_cache(maxsize=1)
def _hierarchies(_process: int) -> cgroups.Hierarchies:
    """The machine's control groups; looked up once a process, they are mounted at boot."""
    return cgroups.discover()


def _start(
    plan: Mapping[str, Any],
    stdio: Sequence[int | None],
    *,
    pidfd: int | None = None,
    detached: bool,
    timeout: float | None,
    meanwhile: Callable[[], None] | None = None,
) -> Running:
    """Send a plan to the zygote, do what is to be done meanwhile, and wait until its command runs."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        fds = [null if fd is None else fd for fd in stdio]
        channel = _zygote.submit(plan, fds if pidfd is None else [pidfd, *fds], timeout, meanwhile)
    finally:
        os.close(null)
    running = Running(channel, detached=detached)
    try:
        packet = wire.receive(channel)
    except TimeoutError as error:
        running.close()
        raise TimeoutExpired(f"the container did not start within {timeout} seconds") from error
    except BaseException:
        running.close()
        raise
    channel.settimeout(None)
    if packet is not None and packet[0] == "running":
        assert isinstance(packet[1], int)
        assert isinstance(packet[2], int)
        running.pid, running.start_time = packet[1], packet[2]
        return running
    running.close()
    if packet is None:
        raise StartError("the container's monitor was killed while the container started")
    _, step, code, text = packet
    assert isinstance(code, int)
    raise _start_error(str(step), code, str(text), plan["process"]["args"][0])


def _start_error(step: str, code: int, text: str, command: str) -> Exception:
    if step == "execute":
        if code in (errno.ENOENT, errno.ENOTDIR):
            return CommandNotFound(
                f"cannot start {command!r}: {text}",
                step=step,
                remedy="check the command, its interpreter and PATH in the image",
            )
        return CommandNotExecutable(
            f"cannot start {command!r}: {text}",
            step=step,
            remedy="a script needs #! and its interpreter; a program for another processor an emulator "
            "that the host's kernel knows (binfmt_misc: Debian's package qemu-user-static)"
            if code == errno.ENOEXEC
            else None,
        )
    if code in (errno.EPERM, errno.EACCES) and step.startswith(("clone", "enter", "mount")):
        who = "an ordinary user" if is_rootless() else "this process"
        return UnsupportedFeature(
            f"the step {step!r} for {who}",
            text,
            remedy="`python -m pycontainer doctor` tells what this machine refuses",
        )
    if code == errno.EOPNOTSUPP and step.startswith("mount"):
        return UnsupportedFeature(
            f"the step {step!r}",
            text,
            remedy="leave the owners, or the users, as those of the machine, or keep it on ext4, xfs, "
            "btrfs or tmpfs",
        )
    if step == "make the user namespace" and code in (errno.ENOSPC, errno.EPERM, errno.EINVAL):
        return UnsupportedFeature(
            "users of its own for a container",
            f"the kernel makes no user namespace: {text}",
            remedy="sysctl user.max_user_namespaces above 0, and a kernel with CONFIG_USER_NS",
        )
    if code == errno.ENOENT and step == "create the control group":
        return UnsupportedFeature(
            "a limit that was asked for",
            f"this kernel's controller has no such file: {text}",
            remedy="leave the limit out",
        )
    return StartError(f"the container did not start: cannot {step}: {text}", step=step)
