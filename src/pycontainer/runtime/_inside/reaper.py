"""The first process of a container that asks for one: it reaps, and passes signals on.

The kernel kills a process namespace with its first process, gives it all orphans and ignores the
signals that it does not handle (pid_namespaces(7)). Few programs are made for that.
"""

from __future__ import annotations

import _signal
import os

from pycontainer._linux import capability, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["stay_first"]

# Faults of this very process, and what nobody can catch or libc keeps to itself.
_NOT_PASSED_ON = frozenset(
    (
        _signal.SIGABRT,
        _signal.SIGBUS,
        _signal.SIGFPE,
        _signal.SIGILL,
        _signal.SIGKILL,
        _signal.SIGSEGV,
        _signal.SIGSTOP,
        _signal.SIGTRAP,
        32,
        33,
    )
)


def stay_first(capabilities: object, *, tty: bool) -> None:
    """Return in a child, which becomes the container's command; stay behind as its parent.

    Args:
        capabilities: The command's sets; this process keeps of them what it takes to send signals.
        tty: Whether there is a terminal, whose foreground the child becomes.
    """
    passed_on = [n for n in range(1, _signal.NSIG) if n not in _NOT_PASSED_ON]
    _signal.pthread_sigmask(_signal.SIG_BLOCK, passed_on)
    pid, pidfd = process.clone3(0)
    if pid == 0:
        if tty:  # else ^C would reach the command twice: from the terminal, and from its parent
            os.setpgid(0, 0)
            os.tcsetpgrp(0, os.getpid())
        return
    os.close(pidfd)
    try:
        _confine(capabilities)
        _serve(pid, passed_on)
    finally:
        os._exit(127)


def _confine(capabilities: object) -> None:
    """Hold nothing open, and be of no use to whoever is root in the container."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.closerange(3, (1 << 31) - 1)
    os.chdir("/")
    process.set_name("init")
    process.set_dumpable(False)
    process.set_child_subreaper()  # where it is not the first of its process namespace
    assert isinstance(capabilities, dict)
    to_signal = capabilities["bounding"] & capability.mask(("CAP_KILL",))
    capability.drop_bounding(to_signal)
    capability.set_capabilities(to_signal, to_signal, 0)
    process.set_no_new_privileges()


def _serve(command: int, signals: list[int]) -> NoReturn:
    while True:
        number = _signal.sigwait(signals)
        if number != _signal.SIGCHLD:
            try:
                os.kill(command, number)
            except ProcessLookupError:
                pass
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == command and not os.WIFSTOPPED(status):
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
            if pid == 0:
                break
