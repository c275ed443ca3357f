"""Waiting until a container is ready, and not merely started: `pycontainer.ready`.

A check is made by `port`, `http`, `log`, `exec` or `all`, or is any function that takes the
container and tells whether it is ready; an `OSError` or `Error` that it raises means: not yet. It is
asked again and again, first after a millisecond, then after twice that, up to a tenth of a second.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Final, Literal

from attrs import frozen
from typing_extensions import override

from pycontainer.errors import (
    ContainerError,
    ContainerStateError,
    Error,
    NotReady,
    NotReadyInTime,
    TimeoutExpired,
)
from pycontainer.runtime import is_watched

if TYPE_CHECKING:
    from pycontainer.containers._container import Container
    from pycontainer.containers._logs import LogReader

__all__ = ["Check", "Ready", "all", "exec", "health", "http", "log", "port", "wait_until_ready"]

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.1
_ATTEMPT_SECONDS: Final = 5.0
_RECORD_SECONDS: Final = 5.0
_LAST_LINES: Final = 20
_LISTENING: Final = {
    "tcp": "0A",
    "udp": "07",
}  # st of /proc/net/tcp (proc(5)); UDP knows no listening


class Check(ABC):
    """What makes a container ready."""

    @abstractmethod
    @contextmanager
    def begin(self, container: Container) -> Iterator[Callable[[], bool]]:
        """Give a function that tells whether the container is ready, to be called often."""


Ready = Check | Callable[["Container"], bool]


@frozen
class _Call(Check):
    """Any function of the container."""

    function: Callable[[Container], bool]

    @override
    @contextmanager
    def begin(self, container: Container) -> Iterator[Callable[[], bool]]:
        yield lambda: bool(self.function(container))

    def __str__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


@frozen
class _Port(Check):
    number: int
    protocol: Literal["tcp", "udp"]

    @override
    @contextmanager
    def begin(self, container: Container) -> Iterator[Callable[[], bool]]:
        yield lambda: self._listens(container.pid)

    def _listens(self, pid: int | None) -> bool:
        if pid is None:
            return False
        wanted, state = f":{self.number:04X}", _LISTENING[self.protocol]
        for table in (self.protocol, f"{self.protocol}6"):
            with open(f"/proc/{pid}/net/{table}") as sockets:
                for line in sockets:
                    fields = line.split(None, 4)
                    if fields[1].endswith(wanted) and fields[3] == state:
                        return True
        return False

    def __str__(self) -> str:
        return f"{self.protocol} port {self.number}"


@frozen
class _Http(Check):
    path: str
    number: int
    status: Collection[int]

    @override
    @contextmanager
    def begin(self, container: Container) -> Iterator[Callable[[], bool]]:
        yield lambda: self._answers(container)

    def _answers(self, container: Container) -> bool:
        with container._socket_inside() as channel:  # noqa: SLF001
            channel.settimeout(_ATTEMPT_SECONDS)
            channel.connect(("127.0.0.1", self.number))
            connection = HTTPConnection("127.0.0.1", self.number)
            connection.sock = channel
            try:
                connection.request("GET", self.path, headers={"Connection": "close"})
                return connection.getresponse().status in self.status
            except HTTPException:
                return False
            finally:
                connection.close()

    def __str__(self) -> str:
        return f"http port {self.number}, {self.path}"


@frozen
class _Log(Check):
    pattern: re.Pattern[str]
    stream: Literal["stdout", "stderr"] | None

    @override
    @contextmanager
    def begin(self, container: Container) -> Iterator[Callable[[], bool]]:
        with container._log_reader() as reader:  # noqa: SLF001
            yield lambda: self._found(reader)

    def _found(self, reader: LogReader) -> bool:
        return any(
            self.stream in (None, line.stream) and self.pattern.search(str(line))
            for lines in (reader.read(), reader.rest())
            for line in lines
        )

    def __str__(self) -> str:
        return f"{self.pattern.pattern!r} in the log"


@frozen
class _Health(Check):
    @override
    @contextmanager
    def begin(self, container: Container) -> Iterator[Callable[[], bool]]:
        def is_ready() -> bool:
            health = container.health
            if health is None:
                raise ContainerError(
                    "it has no health check", remedy="give one: healthcheck=HealthCheck(...)"
                )
            if health.status != "healthy" and health.log:
                last = health.log[-1]
                raise ContainerError(
                    f"{health.status}: exit code {last.exit_code}, {last.output!r}"
                )
            return health.status == "healthy"

        yield is_ready

    def __str__(self) -> str:
        return "health"


@frozen
class _Exec(Check):
    args: Sequence[str] | str
    user: str | None

    @override
    @contextmanager
    def begin(self, container: Container) -> Iterator[Callable[[], bool]]:
        yield (
            lambda: (
                container.exec(self.args, user=self.user, timeout=_ATTEMPT_SECONDS).exit_code == 0
            )
        )

    def __str__(self) -> str:
        return f"command {self.args!r}"


@frozen
class _All(Check):
    """Several; each that has held once is not asked again."""

    checks: tuple[Check, ...]

    @override
    @contextmanager
    def begin(self, container: Container) -> Iterator[Callable[[], bool]]:
        left = list(self.checks)
        with _begun(left, container) as functions:

            def are_ready() -> bool:
                while functions and functions[0]():
                    functions.pop(0)
                return not functions

            yield are_ready

    def __str__(self) -> str:
        return " and ".join(map(str, self.checks))


@contextmanager
def _begun(checks: Sequence[Check], container: Container) -> Iterator[list[Callable[[], bool]]]:
    if not checks:
        yield []
        return
    with checks[0].begin(container) as first, _begun(checks[1:], container) as others:
        yield [first, *others]


def port(number: int, *, protocol: Literal["tcp", "udp"] = "tcp") -> Check:
    """Something in the container listens on a port, whether that is published or not.

    Nothing connects to it: the kernel's table of sockets is read.
    """
    return _Port(number, protocol)


def http(
    path: str = "/", *, port: int = 80, status: int | Collection[int] = range(200, 400)
) -> Check:
    """A GET request to the container's port from inside is answered with one of these statuses."""
    return _Http(path, port, (status,) if isinstance(status, int) else status)


def log(
    pattern: str | re.Pattern[str], *, stream: Literal["stdout", "stderr"] | None = None
) -> Check:
    """A line of the container's log, be it unfinished, matches a regular expression somewhere.

    Args:
        pattern: The expression.
        stream: Only lines of that stream; None for both.
    """
    return _Log(re.compile(pattern), stream)


def health() -> Check:
    """Its health check, which it must have, says that it is healthy."""
    return _Health()


def exec(args: Sequence[str] | str, *, user: str | None = None) -> Check:
    """A command run in the container ends with exit code 0 (within five seconds)."""
    return _Exec(args, user)


def all(*checks: Ready) -> Check:
    """Each of these has held once."""
    return _All(tuple(map(_as_check, checks)))


def wait_until_ready(container: Container, ready: Ready, timeout: float | None) -> None:
    """Wait until a check holds; `Container.wait_ready` is the usual way to say so.

    Raises:
        NotReadyInTime: It does not hold after that many seconds; the container goes on.
        NotReady: The container has ended, or its monitor, which keeps its log, was killed.
    """
    check = _as_check(ready)
    deadline = None if timeout is None else time.monotonic() + timeout
    pause, error = _FIRST_PAUSE, None
    with check.begin(container) as is_ready:
        while True:
            watched = is_watched(container._directory)  # noqa: SLF001
            ended = container.state == "stopped"
            if ended:
                _wait_for_records(container)
            try:
                if is_ready():  # what it did before it ended may be what was waited for
                    return
                error = None
            except (OSError, Error) as caught:
                error = caught
            if ended:
                raise _not_ready(container, f"ended before it was ready ({check})", error)
            if not watched:
                raise _not_ready(container, f"lost its monitor, not ready ({check})", error)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise _not_ready(
                    container, f"is not ready after {timeout} seconds ({check})", error, late=True
                )
            time.sleep(pause if left is None else min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)


def _wait_for_records(container: Container) -> None:
    """Its process may be gone a moment before its last output and exit code are written down."""
    with suppress(TimeoutExpired, ContainerStateError):
        container.wait(_RECORD_SECONDS)


def _as_check(ready: Ready) -> Check:
    return ready if isinstance(ready, Check) else _Call(ready)


def _not_ready(
    container: Container, what: str, error: Exception | None, *, late: bool = False
) -> NotReady:
    state, code = container.state, container.exit_code
    lines = [str(line) for line in container.logs()][-_LAST_LINES:]
    text = f"container {container.name} {what}; it is {state}"
    if code is not None:
        text += f" with exit code {code}"
    if error is not None:
        text += f"; the last answer was: {error}"
    text += "; its last output:\n" + "\n".join(lines) if lines else "; it has written nothing"
    kind = NotReadyInTime if late else NotReady
    return kind(text, state=state, exit_code=code, log="\n".join(lines))
