"""The zygote: a small single-threaded process that clones the monitors of containers.

The host program starts one (`pycontainer.runtime._zygote`) and never forks itself, so its threads,
its heap and its interpreter lock do not matter. The zygote ends with the host's end of its socket;
the monitors live on as long as they have to.
"""

from __future__ import annotations

import _signal
import _socket
import gc
import os
import sys

from pycontainer._linux import erofs, mount, process
from pycontainer.runtime._inside import execution, monitor, reach, view, wire

__all__ = ["main"]

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
    while (received := wire.receive_request(channel)) is not None:
        request, fds = received
        _serve(request, fds, host, channel)


def _serve(request: dict[str, object], fds: list[int], host: int, channel: _socket.socket) -> None:
    if "rootfs" in request:
        _keep_images(request["rootfs"])
    try:
        pid, pidfd = process.clone3(0)
    except OSError as error:
        reply = _socket.socket(fileno=fds.pop(0))
        wire.send(reply, "failed", "clone the monitor", error.errno or 0, str(error))
        reply.close()
        pid, pidfd = -1, -1
    if pid == 0:
        channel.close()
        if request["detach"]:
            os.close(host)
            host = -1
        try:
            _ROLES[str(request["operation"])](request, fds, host)
        finally:  # whatever happened: this process must not go on as a second zygote
            os._exit(0)
    for fd in (*fds, pidfd):
        if fd >= 0:
            os.close(fd)


def _keep_images(rootfs: object) -> None:
    """Mount the images among the layers, once for all containers that will need them."""
    assert isinstance(rootfs, dict)
    images = [lower for lower in rootfs["lowers"] if lower.endswith(erofs.SUFFIX)]
    if images:
        erofs.keep(images)


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
