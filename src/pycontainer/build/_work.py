"""The surroundings in which a build's steps work."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from attrs import field, frozen
from attrs.validators import ge, le

from pycontainer.errors import BuildError
from pycontainer.oci import Compression, History

if TYPE_CHECKING:
    from pycontainer.content import Store
    from pycontainer.oci import Platform

__all__ = ["Cancellation", "Cancelled", "Work", "default_epoch"]

_LAST_EPOCH: Final = 253402300799
"""The end of the year 9999, the last that RFC 3339 can write."""

Log = Callable[[Literal["stdout", "stderr"], str], None]


class Cancelled(BuildError):
    """A step was given up because another one failed or the build was told to end."""

    def __init__(self) -> None:
        super().__init__("the step was given up because the build ended")


class Cancellation:
    """Tells the steps of a build to end; threads wait for nothing longer than that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._callbacks: dict[object, Callable[[], None]] = {}

    def check(self) -> None:
        """Raise `Cancelled` once `cancel` was called."""
        if self._cancelled:
            raise Cancelled

    def cancel(self) -> None:
        """Tell everybody, once."""
        with self._lock:
            self._cancelled = True
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
        for callback in callbacks:
            callback()

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Have `callback` called by `cancel` as long as the block runs.

        Raises:
            Cancelled: The build has ended before or during the block.
        """
        token = object()
        with self._lock:
            self.check()
            self._callbacks[token] = callback
        try:
            yield
            self.check()
        finally:
            with self._lock:
                self._callbacks.pop(token, None)


@frozen(kw_only=True)
class Work:
    """What the operations of a build may use.

    Attributes:
        store: Where layers and images are.
        epoch: Seconds since 1970; no time in the image is later.
        context: The directory for those who copy from "the context".
        platform: What is built for, where a stage does not say itself; None for this machine.
        compression: Of new layers.
        level: How hard it tries; None for the usual.
        cancellation: Told when the build ends early.
        log: Takes what the current step's command writes.
        scratch: A directory that lives as long as the build.
        secrets: What ``RUN --mount=type=secret`` shows, by id. Like all that follows, it gets into no
            cache key, layer, history or event.
        ssh: Sockets of agents, or files of keys, for ``RUN --mount=type=ssh``, by id.
        proxies: Variables for commands that the image is not to depend on.
        insecure: Whether commands may ask for ``--security=insecure``.
    """

    store: Store
    epoch: int = field(default=0, validator=[ge(0), le(_LAST_EPOCH)])
    context: Path = Path()
    platform: Platform | None = None
    compression: Compression = Compression.GZIP
    level: int | None = None
    cancellation: Cancellation = field(factory=Cancellation)
    log: Log = lambda stream, text: None  # noqa: ARG005  (a default that drops both)
    scratch: Path = Path()
    secrets: Mapping[str, bytes | Path] = field(factory=dict, repr=False)
    ssh: Mapping[str, tuple[Path, ...]] = field(factory=dict, repr=False)
    proxies: Mapping[str, str] = field(factory=dict, repr=False)
    insecure: bool = False

    def history(self, created_by: str) -> History:
        """How a step is recorded."""
        created = datetime.fromtimestamp(self.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return History(created=created, created_by=created_by, comment="pycontainer")


def default_epoch() -> int:
    """``SOURCE_DATE_EPOCH`` (reproducible-builds.org), else 0.

    Raises:
        BuildError: The variable is set to something else than a number of seconds.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not (text.isdecimal() and int(text) <= _LAST_EPOCH):
        raise BuildError(
            f"SOURCE_DATE_EPOCH is {text!r}, not a number of seconds since 1970",
            remedy="unset it or set it to a number, such as that of `git log -1 --format=%ct`",
        )
    return int(text or 0)
