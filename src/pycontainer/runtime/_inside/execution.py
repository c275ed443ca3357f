"""The second kind of process the zygote clones: it runs a command in a container that runs already.

It joins the container's namespaces, clones the command into them and waits for it, so that the exit
code has somewhere to go.
"""

from __future__ import annotations

import _socket
import os
import select

from pycontainer._linux import erofs, process
from pycontainer.runtime._inside import cgroup, init, wire
from pycontainer.runtime._inside.identity import apply_process, execute, own_streams, raise_limits
from pycontainer.runtime._inside.streams import Streams
from pycontainer.runtime._inside.subgroup import Subgroup
from pycontainer.runtime._inside.terminal import become_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main"]

_KILL = 9
_PATIENCE = 2.0


def main(request: dict[str, object], owner: _socket.socket, fds: list[int], host: int) -> None:
    """Run one command in a container.

    Args:
        request: ``process`` as in a plan, ``namespaces`` to join, ``cgroup``, ``tty``.
        owner: The socket of who asked.
        fds: A pidfd of the container's init, stdin, stdout, stderr.
        host: A pidfd of the host program, or -1 if the command is to outlive it.
    """
    erofs.forget()
    execution = _Execution(owner, host)
    try:
        execution.start(request, fds[0], fds[1:])
    except init.StepFailed as error:
        wire.send(execution.owner, "failed", error.step, error.errno, error.text)
    except OSError as error:
        wire.send(execution.owner, "failed", "enter the container", error.errno or 0, str(error))
    else:
        execution.run()
    finally:
        if execution.subgroup is not None:
            execution.subgroup.remove(patience=_PATIENCE if execution.killed else 0.0)


class _Execution:
    def __init__(self, owner: _socket.socket, host: int) -> None:
        self.owner = owner
        self.host = host
        self.streams = Streams()
        self.subgroup: Subgroup | None = None
        self.killed = False
        self.pid = 0
        self.pidfd = -1

    def start(self, request: dict[str, object], container: int, stdio: list[int]) -> None:
        """Enter the container and execute the command there, or raise."""
        payload = self.streams.open(stdio, log=False, tty=bool(request["tty"]))
        cgroup.join(request["cgroup"])
        self.subgroup = Subgroup(request["cgroup"])
        self.subgroup.join()
        group = self.subgroup.open_v2(otherwise=cgroup.open_v2(request["cgroup"]))
        report_r, report_w = os.pipe()
        console, console_inside = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        namespaces, spec = request["namespaces"], request["process"]
        assert isinstance(namespaces, int)
        assert isinstance(spec, dict)
        root = request["root"]
        if isinstance(root, list):  # of a user namespace
            own_streams(payload, *root)
            raise_limits(spec)
        # Pids are the host's here for good; after setns(2) the path would lead to the container's.
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # Root in the container could otherwise trace this process or open its executable, the
        # host's interpreter, through /proc (CVE-2016-9962, CVE-2019-5736).
        process.set_dumpable(False)
        process.setns(container, namespaces)
        self.pid, self.pidfd = process.clone3(0, cgroup=group)
        if self.pid == 0:
            terminal = console_inside if request["tty"] else None
            _become(spec, payload, report_w, terminal, mapped=root is not None)
        os.close(report_w)
        console_inside.close()
        self.streams.close_payload_side()
        if request["tty"]:
            self.streams.take_terminal(console)
        if failure := wire.read_all(report_r):
            os.waitpid(self.pid, 0)
            raise init.StepFailed.from_wire(failure)
        wire.send(self.owner, "running", self.pid, process.start_time(self.pid, proc=proc))
        os.close(proc)

    def run(self) -> None:
        """Wait for the command; kill it when the host program or the owner is gone."""
        poll = select.poll()
        for fd in (self.pidfd, self.owner.fileno(), self.host):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        self.streams.register(poll)
        while True:
            for fd, _ in poll.poll():
                if fd == self.pidfd:
                    self._ended(poll)
                    return
                if fd == self.host:
                    poll.unregister(fd)
                    self._kill()
                elif fd == self.owner.fileno():
                    self._command(poll)
                else:
                    self.streams.handle(fd, poll)

    def _command(self, poll: select.poll) -> None:
        packet = wire.receive(self.owner)
        if packet is None:
            poll.unregister(self.owner.fileno())
            if self.host >= 0:
                self._kill()
        elif packet[0] in ("kill", "delete"):
            self._kill()
        elif packet[0] == "signal" and isinstance(packet[1], int):
            self._signal(packet[1])
        elif packet[0] == "resize":
            self.streams.resize(*packet[1:])

    def _kill(self) -> None:
        """Kill the command and all that it has started."""
        self.killed = True
        assert self.subgroup is not None
        self.subgroup.kill()
        self._signal(_KILL)

    def _signal(self, number: int) -> None:
        try:
            process.kill_by_pidfd(self.pidfd, number)
        except ProcessLookupError:
            pass

    def _ended(self, poll: select.poll) -> None:
        if self.killed:  # also what it has started since
            assert self.subgroup is not None
            self.subgroup.kill()
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self.streams.drain(poll)
        wire.send(self.owner, "exit", code if code >= 0 else 128 - code, False)


def _become(
    spec: dict[str, object],
    stdio: list[int],
    report: int,
    console: _socket.socket | None,
    *,
    mapped: bool,
) -> NoReturn:
    step = "open the standard streams"
    try:
        if mapped:  # until now the machine's root, whom the user namespace does not know
            process.set_groups([])
            process.set_ids(0, 0)
        os.setsid()
        if console is not None:
            uid = spec["uid"]
            assert isinstance(uid, int)
            become_terminal("/dev/pts", uid, console)
        for number, fd in enumerate(stdio):
            os.dup2(fd, number, inheritable=True)
        step = "take the process's identity"
        apply_process(spec, report)
        step = "execute"
        execute(spec)
    except BaseException as error:
        init.report_failure(report, step, error)
