"""The zygote: a small single-threaded process that clones monitors, each ahead of its request.

The host program starts one (`pycontainer.runtime._zygote`) and never forks itself, so its threads,
its heap and its interpreter lock do not matter. The zygote ends with the host's end of its socket;
the monitors live on as long as they have to.
"""

from __future__ import annotations

import _signal
import _socket
import gc
import marshal
import os
import select
import sys

from pycontainer._linux import erofs, mount, process
from pycontainer.runtime._inside import ahead, execution, monitor, reach, view, wire
from pycontainer.runtime._inside.rehearsal import rehearse

__all__ = ["main"]

_UNDISTURBED = 2  # milliseconds

_ROLES = {
    "start": monitor.main,
    "exec": execution.main,
    "view": view.main,
    "reach": reach.main,
}


def main(fd: int, host_pid: int, user_namespace: str) -> None:
    """Serve requests until the host program has gone.

    Args:
        fd: The zygote's end of a SEQPACKET socket pair.
        host_pid: The host program, which attached containers must not outlive.
        user_namespace: Empty, or ``uid gid``: whom root of a new user namespace stands for.
    """
    channel = _socket.socket(fileno=fd)
    host = os.pidfd_open(host_pid)
    if os.getppid() != host_pid:  # it died meanwhile, and its number may be another's by now
        os._exit(1)
    _reset_signals()
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)  # the terminal's ^C is for the host program
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # monitors are reaped by the kernel
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.umask(0o022)  # the host program's would narrow the mount points that are made
    try:
        if user_namespace:
            _enter_user_namespace(*map(int, user_namespace.split()))
            _execute_again(fd, host_pid)
    except OSError as error:
        wire.send(channel, "refused", error.errno or 0, str(error))
        os._exit(1)
    process.set_name("pycontainer")
    # A collection would write to every object, and so copy every page that children share.
    gc.disable()
    gc.freeze()
    wire.send(channel, "ready", os.getpid())
    made, recipe = ahead.NOTHING, ahead.Recipe()
    while (served := _serve(channel, host, made, recipe)) is not None:
        made, recipe = served


def _reset_signals() -> None:
    """What the host program ignores no container is to ignore."""
    for number in range(1, _signal.NSIG):
        if number not in (_signal.SIGPIPE, _signal.SIGXFSZ):  # errors tell of those
            try:
                _signal.signal(number, _signal.SIG_DFL)
            except (OSError, ValueError):  # SIGKILL, SIGSTOP, and those that libc keeps to itself
                pass


def _serve(
    channel: _socket.socket, host: int, made: ahead.Made, recipe: ahead.Recipe
) -> tuple[ahead.Made, ahead.Recipe] | None:
    """Clone a process that waits for the next request, and wait until it has that.

    It is cloned ahead, so that no container waits for that; it ends with the host program.

    Args:
        channel: Where requests come from.
        host: A pidfd of the host program.
        made: What is there for the next container; nothing if the last one has taken it.
        recipe: What to make otherwise.

    Returns:
        The same for the next request; None once the host program has gone.
    """
    if not made.namespaces or made.recipe != recipe:
        ahead.let_go(made)
        made = ahead.make(recipe)
        recipe = made.recipe
    taken, take = os.pipe()
    try:
        pid, pidfd = process.clone3(0)
    except OSError as error:
        os.close(taken)
        os.close(take)
        return (made, recipe) if _refuse(channel, error) else None
    if pid == 0:
        try:
            os.close(taken)
            _await_request(channel, take, host, made)
        finally:  # whatever happened: this process must not go on as a second zygote
            os._exit(0)
    os.close(pidfd)
    os.close(take)
    try:
        if not (said := os.read(taken, wire.MAX_PACKET)):
            # It was killed meanwhile, or there is no host program any more.
            return None if _is_closed(channel) else (made, recipe)
        images, uses, network, wanted = marshal.loads(said)  # noqa: S302  (from our own child)
        if images:
            erofs.keep(images)
        if uses:
            ahead.let_go(made)
        # So that the next monitors have it; most programs' containers need it not.
        if network == "program":
            import pycontainer.runtime._inside.usermode
        elif network:
            import pycontainer.runtime._inside.network  # noqa: F401
        _let_start(taken, channel)
        return made, recipe if wanted is None else wanted
    finally:
        os.close(taken)


def _let_start(taken: int, channel: _socket.socket) -> None:
    """Leave the processors to the container that starts, unless there is the next request already."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(taken, select.POLLIN)
    poll.poll()
    poll.unregister(taken)
    poll.poll(_UNDISTURBED)


def _await_request(channel: _socket.socket, take: int, host: int, made: ahead.Made) -> None:
    os.setsid()
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    rehearsed = rehearse(made.recipe)
    _look_at(rehearsed, made)
    monitor.Monitor(rehearsed, channel, host)
    received = wire.receive_request(channel)
    if received is None:
        return
    channel.close()
    request, owner, fds = received
    images, uses, recipe, said = _look_at(request, made)
    try:
        os.write(take, said)
    except BrokenPipeError:  # the zygote was killed; this goes on
        pass
    if request["operation"] == "start":
        request["starting"] = take  # closed when it has started
    else:
        os.close(take)
    if images:
        erofs.keep(images)
    if uses:
        request["ahead"] = made if recipe is None else made.without_trees()
    else:
        ahead.let_go(made)
    if request["detach"]:
        os.close(host)
        host = -1
    _ROLES[str(request["operation"])](request, owner, fds, host)


def _look_at(
    request: dict[str, object], made: ahead.Made
) -> tuple[list[str], bool, ahead.Recipe | None, bytes]:
    """What a request has to do with what is made ahead.

    Returns:
        The images among its layers; whether it wants the namespaces; what file systems it wants instead
        of those that are there, or None if it wants these; and all that as the zygote is told.
    """
    images, uses = _images(request), bool(made.namespaces) and _wants_new_namespaces(request)
    recipe = ahead.recipe_of(request) if uses else None
    if recipe == made.recipe:
        recipe = None
    return images, uses, recipe, marshal.dumps((images, uses, _network(request), recipe))


def _network(request: dict[str, object]) -> str:
    """How its monitor connects it; empty if not at all."""
    network = request.get("network", {})
    assert isinstance(network, dict)
    return str(network.get("by", "bridge")) if network else ""


def _images(request: dict[str, object]) -> list[str]:
    """The images among the layers, which the zygote is to mount once for all that come later."""
    rootfs = request.get("rootfs", {"lowers": []})
    assert isinstance(rootfs, dict)
    return [lower for lower in rootfs["lowers"] if lower.endswith(erofs.SUFFIX)]


def _wants_new_namespaces(request: dict[str, object]) -> bool:
    """Whether all that are made ahead are for this request."""
    if request["operation"] != "start" or request["joined"]:
        return False
    if request["user"] or "bundle" in request:  # those make them in their own way
        return False
    flags = request["namespaces"]
    assert isinstance(flags, int)
    return flags & ahead.FLAGS == ahead.FLAGS


def _refuse(channel: _socket.socket, error: OSError) -> bool:
    """Answer a request when there can be no process to do so; False if there was none."""
    received = wire.receive_request(channel)
    if received is None:
        return False
    _, owner, fds = received
    wire.send(owner, "failed", "clone the monitor", error.errno or 0, str(error))
    owner.close()
    for fd in fds:
        os.close(fd)
    return True


def _is_closed(channel: _socket.socket) -> bool:
    poll = select.poll()
    poll.register(channel, 0)
    return bool(poll.poll(0))


def _enter_user_namespace(uid: int, gid: int) -> None:
    """Become root of a new user namespace in which only that root exists (user_namespaces(7))."""
    process.unshare(process.NAMESPACE_FLAGS["user"])
    for name, line in (
        ("setgroups", "deny"),  # must come first: without it an ordinary user may not map groups
        ("uid_map", f"0 {uid} 1"),
        ("gid_map", f"0 {gid} 1"),
    ):
        map_fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(map_fd, line.encode())
        finally:
            os.close(map_fd)


def _execute_again(fd: int, host_pid: int) -> None:
    """Run the interpreter from a read-only mount, as the host arranges it where it may.

    Else a container could write to the user's interpreter through /proc/self/exe (CVE-2019-5736).
    """
    process.unshare(process.NAMESPACE_FLAGS["mount"])
    # By its name: /proc/self/exe itself leads to the mount of the namespace just left.
    tree = mount.bind(os.readlink("/proc/self/exe"), recursive=False)
    mount.set_attributes(tree, mount.RDONLY)
    os.set_inheritable(fd, True)
    arguments = [*sys.orig_argv[:-3], str(fd), str(host_pid), ""]
    os.execve(f"/proc/self/fd/{tree}", arguments, {})  # noqa: S606
