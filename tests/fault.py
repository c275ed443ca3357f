"""Deaths at chosen lines: the program's own, or those of the processes behind a container.

A point is a role and a number: the process of that role kills itself by SIGKILL before that line of the
product, counted from its beginning. The roles behind a container are those of `pycontainer.runtime`:
``zygote``, its clone ``waiting`` for a request, ``monitor`` and its child ``init``, ``executor`` and its
child ``command``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import pycontainer

__all__ = ["Point", "die_at"]

_PRODUCT = os.path.dirname(pycontainer.__file__)
_TESTS = os.path.dirname(__file__)
_SIZE = 64
_MAIN = {"monitor.py": "monitor", "execution.py": "executor"}
_CHILD = {"zygote": "waiting", "monitor": "init", "executor": "command"}


def die_at(line: int) -> None:
    """Let the calling thread die before the n-th line of the product from here on."""
    count = 0

    def step(code: CodeType) -> None:
        nonlocal count
        if count == line:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    _trace(step)


def _trace(step: Callable[[CodeType], None]) -> None:
    """Call a function before each line of the product."""

    def follow(frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(_PRODUCT):
            return None
        if event == "line":
            step(frame.f_code)
        return follow

    sys.settrace(follow)


class Point:
    """Where the next process behind a container dies; nowhere at first."""

    def __init__(self) -> None:
        # With a name: an ordinary user's zygote may not open this process's descriptors.
        self._file = tempfile.NamedTemporaryFile()  # noqa: SIM115  (closed by `close`)
        self._file.truncate(_SIZE)
        self._memory = mmap.mmap(self._file.fileno(), _SIZE)

    def set(self, role: str, line: int) -> None:
        """Have processes that begin from now on, and the zygote, die there."""
        self._memory[:] = f"{role} {line}".encode().ljust(_SIZE, b"\0")

    def clear(self) -> bool:
        """Have none die any more; return whether one has since `set`."""
        died = self._memory[0] == 0
        self._memory[:] = bytes(_SIZE)
        return died

    def boot(self, boot: str) -> str:
        """What zygotes run at their start, with this point watched."""
        head, _, main = boot.rpartition("; ")
        watch = f"fault.watch({self._file.name!r})"
        return f"{head}; sys.path.insert(0, {_TESTS!r}); import fault; {watch}; {main}"

    def close(self) -> None:
        """Forget it."""
        self._memory.close()
        self._file.close()


def watch(path: str) -> None:
    """In a zygote: die, and let its children die, where the file at `path` says."""
    point = _Watch(path)
    _trace(point.step)


class _Watch:
    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.memory = mmap.mmap(fd, _SIZE)  # stays where a child closes its descriptors
        os.close(fd)
        self.process = os.getpid()
        self.role, self.count, self.last = "zygote", 0, self._last("zygote")

    def _last(self, role: str) -> int:
        """The line at which a process is to die; -1 for never."""
        wanted, _, line = self.memory[:].rstrip(b"\0").decode().partition(" ")
        return int(line) if role == wanted else -1

    def step(self, code: CodeType) -> None:
        if os.getpid() != self.process:
            self.process, self.count, self.last = os.getpid(), 0, -1
            self.role = _CHILD.get(self.role, "")
        if self.role == "waiting" and code.co_name == "main":  # else it is rehearsed
            role = _MAIN.get(os.path.basename(code.co_filename))
            self.role, self.count = role or self.role, 0 if role else self.count
        if not self.role:
            return
        if self.count == 0:
            self.last = self._last(self.role)
        if self.count == self.last:
            self.memory[0] = 0
            os.kill(os.getpid(), signal.SIGKILL)
            ctypes.string_at(0)  # the first process of a namespace takes no signal from within
        self.count += 1
