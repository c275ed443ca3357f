"""Other programs: run to their end, or in the background for as long as something is measured."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["BenchmarkError", "await_ready", "background", "call", "processor_seconds"]

_POLL_SECONDS = 0.05
_END_SECONDS = 30
_SHOWN = 4000  # characters of a log


class BenchmarkError(Exception):
    """Something that is measured, or needed for it, does not work."""


def call(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it says.

    Args:
        command: Its words.
        env: Variables that it gets besides ours.

    Raises:
        BenchmarkError: It fails.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(env or {})},
        text=True,
        check=False,
    )
    if done.returncode:
        words = " ".join(map(str, command))
        raise BenchmarkError(f"{words} exited with {done.returncode}:\n{done.stdout}")
    return done.stdout


@contextlib.contextmanager
def background(
    command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the context ends, or this process does, whatever ends that.

    It is in a session of its own, so that the keys that interrupt this program leave it alone: it is
    needed for the clearing up.

    Args:
        command: Its words.
        log: Gets what it says.
        env: Variables that it gets besides ours.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def await_ready(
    process: subprocess.Popen[bytes], is_ready: Callable[[], bool], log: Path, seconds: float
) -> None:
    """Wait until a program in the background says that it is ready."""
    deadline = time.monotonic() + seconds
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text()[-_SHOWN:]
            raise BenchmarkError(f"{process.args!r} did not become ready:\n{said}")
        time.sleep(_POLL_SECONDS)


def processor_seconds(pid: int) -> float:
    """What a process has used so far, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
