"""The guard of a program that connects an ordinary user's container: pasta or slirp4netns.

It lives as long as the container does: it waits on a pidfd of the container's init, not on the monitor, and
is the first process of a process namespace in which the program is the only other. So whoever kills the
guard, or the container, has the kernel kill the program; and who kills the monitor of a detached container
leaves that its network.
"""

from __future__ import annotations

import _signal
import _socket
import fcntl
import os
import select
import time

from pycontainer._linux import mount, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["NAME", "Program", "find", "main"]

Program = dict[str, object]

NAME = "network.guard"
"""The file in a container's directory that has the guard's pid and start time."""

# Names in the container's directory, which is the working directory; the plan's arguments have them, too.
_READY = "network.ready"
_NAMESPACE = "network.ns"
_SOCKET = "network.sock"

_KILL = 9
_STDERR = 2
_OUT_OF_THE_WAY = 16
_MOST_DESCRIPTORS = 1 << 20
_MOST_TEXT = 2000
_BUFFER = 1 << 12
_PAUSE = 1.0


def main(programs: list[Program], container: int, init: int, tell: int) -> NoReturn:
    """Keep a program running as long as the container's init does; then end, and it with this.

    Args:
        programs: Of which the first is kept that works.
        container: Pid of init.
        init: A pidfd of it.
        tell: A pipe on which to tell ``ready``, or why no program works.
    """
    guard = _Guard(init, tell)
    try:
        # The monitor's lock, above all, is not to outlive the monitor.
        _close_all_but(init, tell)
        process.set_name("pycontainer-net")
        mount.mount("none", "/", None, mount.MS_REC | mount.MS_PRIVATE)
        # By a name: the programs drop the right to open that of another process before they do so.
        os.close(os.open(_NAMESPACE, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        mount.mount(f"/proc/{container}/ns/net", _NAMESPACE, None, mount.MS_BIND)
        works = next(program for program in programs if guard.keep(program))
    except StopIteration:
        guard.answer(b"; ".join(guard.refusals))
    except OSError as error:
        guard.answer(str(error).encode())
    else:
        while True:
            time.sleep(_PAUSE)
            guard.keep(works)
    os._exit(1)


def find(directory: str) -> int:
    """A pidfd of the guard of a container; -1 if it has none (any more).

    Args:
        directory: The container's.
    """
    try:
        fd = os.open(f"{directory}/{NAME}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    pid, begun = map(int, os.read(fd, _BUFFER).split())
    os.close(fd)
    pidfd = -1
    try:
        pidfd = os.pidfd_open(pid)
        if process.start_time(pid) == begun:
            return pidfd
    except (FileNotFoundError, ProcessLookupError):
        pass
    if pidfd >= 0:
        os.close(pidfd)
    return -1


class _Guard:
    def __init__(self, init: int, tell: int) -> None:
        self._init = init
        self._tell = tell
        self.refusals: list[bytes] = []

    def keep(self, program: Program) -> bool:
        """Run a program until it ends; return whether it was ready before. Ends with the container."""
        ready, pipe, child = _spawn(program)
        poll = select.poll()
        for fd in (self._init, ready, pipe, child):
            poll.register(fd, select.POLLIN)
        said, works = b"", False
        while True:
            for fd, _ in poll.poll():
                if fd == self._init:
                    os._exit(0)
                elif fd == pipe:
                    text = os.read(pipe, _BUFFER)
                    said = (said + text)[-_MOST_TEXT:]
                    if not text:
                        poll.unregister(pipe)
                elif fd == ready:
                    poll.unregister(ready)
                    refused = _request(program["requests"])
                    said += refused
                    works = not refused
                    if works:
                        self.answer(b"ready")
                    else:
                        process.kill_by_pidfd(child, _KILL)
                else:
                    os.wait()
                    said += _rest(pipe)
                    for each in (ready, pipe, child):
                        os.close(each)
                    self.refusals.append(b"%s: %s" % (str(program["name"]).encode(), said.strip()))
                    return works

    def answer(self, text: bytes) -> None:
        """Tell the monitor, the first time."""
        if self._tell < 0:
            return
        try:
            os.write(self._tell, text)
        except BrokenPipeError:  # it was killed
            pass
        os.close(self._tell)
        self._tell = -1


def _spawn(program: Program) -> tuple[int, int, int]:
    """Run a program.

    Returns:
        What is readable when it is ready, what it says, and a pidfd of it.
    """
    for name in (_READY, _SOCKET):
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass
    os.mkfifo(_READY, 0o600)
    ready = os.open(_READY, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    pipe, said = os.pipe()
    os.set_blocking(pipe, False)
    pid, child = process.clone3(0)
    if pid == 0:
        _execute(program, said)
    os.close(said)
    return ready, pipe, child


def _execute(program: Program, said: int) -> NoReturn:
    arguments = program["arguments"]
    assert isinstance(arguments, list)
    try:
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # which the interpreter ignores
            _signal.signal(number, _signal.SIG_DFL)
        null, ready = os.open(os.devnull, os.O_RDONLY), os.open(_READY, os.O_WRONLY)
        streams = [
            fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
            for fd in (null, said, said, ready)
        ]
        for number, fd in enumerate(streams):
            os.dup2(fd, number, inheritable=True)
        os.execve(arguments[0], arguments, {"PATH": os.defpath})  # noqa: S606
    except OSError as error:
        os.write(said, f"cannot be executed: {error}".encode())
    finally:
        os._exit(127)


def _request(requests: object) -> bytes:
    """Ask for what the program does not take as arguments; return its refusal, or nothing."""
    assert isinstance(requests, list)
    for request in requests:
        with _Connection(_SOCKET) as made:
            made.sendall(request.encode())
            made.shutdown(_socket.SHUT_WR)
            answer = made.recv(_BUFFER)
        if b'"error"' in answer or not answer:
            return answer or b"it closed its socket"
    return b""


class _Connection:
    """A connection to a Unix socket; `socket.socket` would have to be imported first."""

    def __init__(self, path: str) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._path = path

    def __enter__(self) -> _socket.socket:
        self._socket.connect(self._path)
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _rest(pipe: int) -> bytes:
    """What a program that has ended said last."""
    try:
        return os.read(pipe, _BUFFER)
    except BlockingIOError:
        return b""


def _close_all_but(*kept: int) -> None:
    low = _STDERR + 1
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, _MOST_DESCRIPTORS)
