"""Processes with their standard streams: what `exec` returns, and what `run` is made of."""

from __future__ import annotations

import os
import selectors
import time
from typing import TYPE_CHECKING, Final, Literal, Self

from attrs import frozen

from pycontainer.errors import ProcessFailed, TimeoutExpired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pycontainer.runtime import Running

__all__ = ["Completed", "Process", "start_process"]

_CHUNK: Final = 1 << 16
_TAIL: Final = 2000
Stream = Literal["stdout", "stderr"]


@frozen
class Completed:
    """A command that has run to its end in a container.

    Attributes:
        args: Command and arguments.
        exit_code: 128 + n where signal n ended it.
        stdout: What it wrote to its standard output; with a terminal all that it wrote.
        stderr: What it wrote to its standard error.
        seconds: From the call to the end.
        oom_killed: Whether the kernel killed some of it for want of memory.
    """

    args: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    oom_killed: bool = False

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")

    def check(self) -> Self:
        """Return itself if the exit code is 0.

        Raises:
            ProcessFailed: It is another.
        """
        if self.exit_code != 0:
            raise _failed(self.args, self.exit_code, self.stdout, self.stderr)
        return self


class Process:
    """A command in a container, with its output captured.

    Made by `Container.exec`. Leaving it as a context manager, or `close`, ends it with all that it has
    started, unless it is detached: that one lives on.

    Attributes:
        args: Command and arguments.
    """

    def __init__(
        self,
        args: Sequence[str],
        running: Running,
        stdin: int,
        outputs: dict[int, Stream],
    ) -> None:
        self.args = tuple(args)
        self._running = running
        self._stdin = stdin
        self._outputs = outputs
        self._captured: dict[Stream, list[bytes]] = {"stdout": [], "stderr": []}
        self._begun = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process id on the host."""
        return self._running.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, 128 + n after signal n; None while it runs."""
        return self._running.exit_code

    @property
    def stdout(self) -> bytes:
        """What has been captured of its standard output so far."""
        return b"".join(self._captured["stdout"])

    @property
    def stderr(self) -> bytes:
        """What has been captured of its standard error so far."""
        return b"".join(self._captured["stderr"])

    def stream(self, timeout: float | None = None) -> Iterator[tuple[Stream, bytes]]:
        """Give its output as it comes, until its end; the output is captured all the same.

        Raises:
            TimeoutExpired: It still runs after that many seconds; it goes on running.
        """
        yield from self._pump(None, timeout)
        self._running.wait(None if timeout is None else max(0.0, self._left(timeout)))

    def write(self, data: bytes) -> None:
        """Write to its standard input, which must have been asked for."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._stdin, view) :]

    def close_stdin(self) -> None:
        """End its standard input."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def wait(
        self, timeout: float | None = None, *, input: bytes | None = None, check: bool = False
    ) -> int:
        """Capture its output until its end and return its exit code.

        Args:
            timeout: Seconds.
            input: Written to its standard input, which then ends; None leaves that alone.
            check: Whether another exit code than 0 raises.

        Raises:
            TimeoutExpired: It still runs; it goes on running.
            ProcessFailed: Its exit code is not 0 and `check` is set.
        """
        self._begun = time.monotonic()
        for _ in self._pump(input, timeout):
            pass
        code = self._running.wait(None if timeout is None else max(0.0, self._left(timeout)))
        if check and code != 0:
            raise _failed(self.args, code, self.stdout, self.stderr)
        return code

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._running.signal(number)

    def kill(self) -> None:
        """Kill it with all that it has started (SIGKILL)."""
        self._running.kill()

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal."""
        self._running.resize(rows, columns)

    def close(self) -> None:
        """End it if it still runs, and let its streams go."""
        # The streams first: who looks after its terminal would wait for somebody to read them.
        self.close_stdin()
        outputs, self._outputs = self._outputs, {}
        for fd in outputs:
            os.close(fd)
        self._running.close()

    def completed(self, seconds: float) -> Completed:
        """The result of one that has ended."""
        code = self.exit_code
        assert code is not None
        return Completed(
            self.args, code, self.stdout, self.stderr, seconds, self._running.out_of_memory
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _left(self, timeout: float) -> float:
        return self._begun + timeout - time.monotonic()

    def _pump(self, data: bytes | None, timeout: float | None) -> Iterator[tuple[Stream, bytes]]:
        """Write the input and read the outputs until both have ended, or the process has.

        A grandchild may hold the outputs open after the process itself; what has been written by
        then counts.
        """
        pending = memoryview(data or b"")
        if data is not None and not pending:
            self.close_stdin()
        with selectors.DefaultSelector() as selector:
            for fd in self._outputs:
                selector.register(fd, selectors.EVENT_READ)
            selector.register(self._running, selectors.EVENT_READ)
            if self._stdin >= 0 and pending:
                os.set_blocking(self._stdin, False)
                selector.register(self._stdin, selectors.EVENT_WRITE)
            while self._outputs:
                left = None if timeout is None else self._left(timeout)
                if left is not None and left <= 0:
                    raise TimeoutExpired(f"{self.args[0]!r} still runs after {timeout} seconds")
                ready = [key.fd for key, _ in selector.select(left)]
                if self._stdin in ready:
                    pending = self._feed(pending, selector)
                for fd in ready:
                    if fd in self._outputs:
                        yield from self._read(fd, selector)
                if ready == [self._running.fileno()]:  # it has ended, and its streams are empty
                    return

    def _feed(self, pending: memoryview, selector: selectors.BaseSelector) -> memoryview:
        try:
            pending = pending[os.write(self._stdin, pending[:_CHUNK]) :]
        except BlockingIOError:
            return pending
        except BrokenPipeError:  # it reads no more
            pending = pending[:0]
        if not pending:
            selector.unregister(self._stdin)
            self.close_stdin()
        return pending

    def _read(self, fd: int, selector: selectors.BaseSelector) -> Iterator[tuple[Stream, bytes]]:
        data = os.read(fd, _CHUNK)
        if data:
            self._captured[self._outputs[fd]].append(data)
            yield self._outputs[fd], data
            return
        selector.unregister(fd)
        del self._outputs[fd]
        os.close(fd)


def start_process(
    args: Sequence[str],
    start: Callable[[int | None, int, int], Running],
    *,
    stdin: bool,
    tty: bool,
) -> Process:
    """Start something with pipes for its streams.

    Args:
        args: For the result.
        start: Gets the descriptors of stdin (or None), stdout and stderr, and starts it.
        stdin: Whether there is standard input; a terminal always has.
        tty: Whether stdout and stderr are one.
    """
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    in_r, in_w = os.pipe() if stdin or tty else (-1, -1)
    theirs = [fd for fd in (in_r, out_w, err_w) if fd >= 0]
    ours = [fd for fd in (in_w, out_r, err_r) if fd >= 0]
    try:
        running = start(in_r if in_r >= 0 else None, out_w, err_w)
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return Process(args, running, in_w, {out_r: "stdout", err_r: "stderr"})


def _failed(args: Sequence[str], code: int, stdout: bytes, stderr: bytes) -> ProcessFailed:
    tail = (stderr or stdout)[-_TAIL:].decode("utf-8", "replace").strip()
    said = f"; its last output:\n{tail}" if tail else ""
    return ProcessFailed(
        f"{' '.join(args)!r} ended with exit code {code}{said}",
        exit_code=code,
        stdout=stdout,
        stderr=stderr,
    )
