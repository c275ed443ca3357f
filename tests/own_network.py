"""A network namespace of a test's own, so that tests meet neither each other nor the machine's rules."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from pycontainer._linux import loopback, process

__all__ = ["inside", "ip", "own_network"]

_NETWORK = process.NAMESPACE_FLAGS["network"]


@contextlib.contextmanager
def own_network() -> Iterator[int]:
    """Put this thread, and the processes it starts, into a new network namespace.

    Containers, too: the launcher that was running is let go, and so is the one started meanwhile.

    Yields:
        A descriptor of the new namespace.
    """
    _let_launcher_go()
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    process.unshare(_NETWORK)
    new = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        loopback.up()
        yield new
    finally:
        _let_launcher_go()
        process.setns(before, _NETWORK)
        os.close(before)
        os.close(new)


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Put this thread into another network namespace for a while."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    process.setns(namespace, _NETWORK)
    try:
        yield
    finally:
        process.setns(before, _NETWORK)
        os.close(before)


def ip(command: str) -> str:
    """Run iproute2's ip(8) here."""
    done = subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def _let_launcher_go() -> None:
    zygote: Any = sys.modules.get("pycontainer.runtime._zygote")
    if zygote is not None:
        with zygote._guard:
            if zygote._zygote is not None:
                zygote._zygote.close()
                zygote._zygote = None
