"""The host program's end of the zygote: starting it, sending it requests.

There is one zygote for each host process, started on first use. A forked child of the host starts
its own: containers belong to the process that started them.
"""

from __future__ import annotations

import array
import atexit
import errno
import fcntl
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pycontainer._linux import mount
from pycontainer.errors import UnsupportedFeature
from pycontainer.runtime._inside import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Zygote", "current", "submit"]

_log = logging.getLogger("pycontainer.runtime")
_STDERR = 2
_TRIES = 3
_AT_ONCE = 0.001  # zero would make a socket non-blocking
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EBADF)  # the last: another thread saw it first
_KEPT = ("LD_LIBRARY_PATH",)  # some interpreters do not start without it
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from pycontainer.runtime._inside.zygote import main; "
    "main(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])"
)


class Zygote:
    """A running zygote process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = ours
        self._ready = False
        self._lock = threading.Lock()
        theirs = socket.socket(fileno=_beside_standard_streams(theirs.detach()))
        user_namespace = "" if os.geteuid() == 0 else f"{os.geteuid()} {os.getegid()}"
        package_root = str(Path(__file__).resolve().parents[2])
        arguments = [package_root, str(theirs.fileno()), str(os.getpid()), user_namespace]
        protected = _beside_standard_streams(_protected_interpreter())
        try:
            self._process = subprocess.Popen(  # noqa: S603  (our own interpreter)
                [sys.executable, "-I", "-S", "-c", _BOOT, *arguments],
                executable=sys.executable if protected < 0 else f"/proc/self/fd/{protected}",
                pass_fds=[theirs.fileno()] + ([protected] if protected >= 0 else []),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
            )
        finally:
            theirs.close()
            if protected >= 0:
                os.close(protected)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def send(self, fds: Sequence[int]) -> None:
        """Send the descriptors of one request; they stay the caller's.

        Raises:
            UnsupportedFeature: This user may not have a user namespace.
            BrokenPipeError: The zygote has died.
        """
        self._wait_ready()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        self._channel.sendmsg([b"r"], rights, socket.MSG_NOSIGNAL)

    def _wait_ready(self) -> None:
        with self._lock:
            if self._ready:
                return
            packet = wire.receive(self._channel)
            if packet is None:
                raise BrokenPipeError(errno.EPIPE, "the container launcher died at its start")
            if packet[0] == "refused":
                raise UnsupportedFeature(
                    "a user namespace for an ordinary user's containers",
                    str(packet[2]),
                    remedy="run as root, or allow them: sysctl kernel.unprivileged_userns_clone=1, "
                    "user.max_user_namespaces above 0 and, on Ubuntu, "
                    "kernel.apparmor_restrict_unprivileged_userns=0",
                )
            self._ready = True
            _log.debug("zygote %s is ready", packet[1])

    def close(self) -> None:
        """Let the process go; containers' monitors do not need it."""
        if self._channel.fileno() >= 0:  # a fork of this process may hold it open as well
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        """Forget a zygote inherited by fork: it is the parent's, and so are its containers."""
        self._channel.close()
        self._process.returncode = 0


def _protected_interpreter() -> int:
    """A descriptor of the interpreter's file on a read-only mount of its own, or -1.

    A container's root could have the kernel execute ``/proc/self/exe`` while that is still the
    host's interpreter, and then write to it (CVE-2019-5736). Through this mount it cannot. An
    ordinary user may not make such a mount here: their zygote does so in its user namespace.
    """
    if os.geteuid() != 0:
        return -1
    try:
        tree = mount.bind(os.path.realpath(sys.executable), recursive=False)
    except OSError:
        return -1
    try:
        mount.set_attributes(tree, mount.RDONLY)
    except OSError:
        os.close(tree)
        return -1
    return tree


def _beside_standard_streams(fd: int) -> int:
    """The same under a number above 2: a program that has closed its streams gets theirs."""
    if not 0 <= fd <= _STDERR:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
    finally:
        os.close(fd)


_guard = threading.Lock()
_zygote: Zygote | None = None
_owner = 0


def _after_fork() -> None:
    """In a forked child: another thread of the parent may have held the lock, and will never give it."""
    global _guard, _zygote
    _guard = threading.Lock()
    inherited, _zygote = _zygote, None
    if inherited is not None:
        inherited.abandon()


os.register_at_fork(after_in_child=_after_fork)


def current() -> Zygote:
    """This process's zygote, started if there is none or it has died."""
    global _zygote, _owner
    with _guard:
        if _zygote is None or not _zygote.alive:
            if _zygote is not None:
                _zygote.close()
            _zygote, _owner = Zygote(), os.getpid()
        return _zygote


def submit(
    request: Mapping[str, object],
    fds: Sequence[int],
    timeout: float | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> socket.socket:
    """Send a request to this process's zygote, again if that died before anybody had read it.

    Args:
        request: With what ``operation`` needs.
        fds: Descriptors that go with it; they stay the caller's.
        timeout: Seconds until the answer; what is left of them is the socket's own time-out.
        meanwhile: Done once the request is on its way.

    Returns:
        The socket on which the answer has come, or may yet come if it was not in time.

    Raises:
        UnsupportedFeature: This user may not have a user namespace.
        OSError: The zygote died again and again.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    for _ in range(_TRIES):
        zygote = current()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                _send(zygote, request, ours, [theirs.fileno(), *fds])
            if meanwhile is not None:
                meanwhile()
            if deadline is not None:
                ours.settimeout(max(_AT_ONCE, deadline - time.monotonic()))
            if not _is_lost(ours):
                return ours
        except OSError as error:
            ours.close()
            if error.errno not in _GONE:
                raise
            _replace(zygote)
        except BaseException:
            ours.close()
            raise
        else:
            ours.close()
    raise BrokenPipeError(errno.EPIPE, f"the container launcher died {_TRIES} times")


def _send(
    zygote: Zygote, request: Mapping[str, object], ours: socket.socket, fds: list[int]
) -> None:
    body = wire.put_request(ours, dict(request))
    try:
        zygote.send(fds if body < 0 else [fds[0], body, *fds[1:]])
    finally:
        if body >= 0:
            os.close(body)


def _is_lost(ours: socket.socket) -> bool:
    """Wait for an answer; whether there will be none, as nobody has even read the request."""
    timeout = ours.gettimeout()
    waiter = select.poll()
    waiter.register(ours, select.POLLIN)
    waiter.poll(None if timeout is None else timeout * 1000)
    return ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


def _replace(dead: Zygote) -> None:
    """Let a zygote go whose socket is closed; its process may still be about to go."""
    global _zygote
    with _guard:
        if _zygote is dead:
            dead.close()
            _zygote = None


@atexit.register
def _at_exit() -> None:
    if _zygote is not None and _owner == os.getpid():
        _zygote.close()
