"""A blob that still comes from elsewhere, and is read meanwhile by whoever asked for it."""

from __future__ import annotations

import os
import threading
import weakref
from concurrent.futures import Future
from typing import BinaryIO

__all__ = ["Arriving"]


class Arriving:
    """Bytes that one thread receives and many readers follow; safe for all of them.

    Its last byte is shown once the digest was found right, so no reader ever gets all of a wrong blob.

    Args:
        size: How many bytes it will have.
        fd: Descriptor of the file in which it arrives; duplicated.

    Attributes:
        size: As given.
    """

    def __init__(self, size: int, fd: int) -> None:
        self.size = size
        self._fd = os.dup(fd)
        weakref.finalize(self, os.close, self._fd)
        self._lock = threading.Lock()
        self._come = 0
        self._failure: BaseException | None = None
        self._waiting: list[tuple[int, Future[int]]] = []

    def open(self) -> BinaryIO:
        """Open it for reading at given places (pread): all readers share one position."""
        return os.fdopen(os.dup(self._fd), "rb", buffering=0)

    def beyond(self, offset: int) -> Future[int]:
        """How many bytes can be read, once there are more than `offset`; the failure, if that is the end."""
        future: Future[int] = Future()
        with self._lock:
            if self._failure is None and self._come <= offset:
                self._waiting.append((offset, future))
                return future
        self._answer(future)
        return future

    def advance(self, come: int) -> None:
        """Tell how many bytes have come; not yet that they are the right ones."""
        self._show(min(come, self.size - 1))

    def finish(self) -> None:
        """Tell that all have come, and are right."""
        self._show(self.size)

    def fail(self, failure: BaseException) -> None:
        """Tell that no more will come; of no effect once all is there, or has failed."""
        with self._lock:
            if self._failure is None and self._come < self.size:
                self._failure = failure
            waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            self._answer(future)

    def _show(self, come: int) -> None:
        with self._lock:
            self._come = max(self._come, come)
            ready = [future for offset, future in self._waiting if offset < self._come]
            self._waiting = [each for each in self._waiting if each[0] >= self._come]
        for future in ready:
            self._answer(future)

    def _answer(self, future: Future[int]) -> None:
        if not future.set_running_or_notify_cancel():  # the reader has left
            return
        if self._failure is not None:
            future.set_exception(self._failure)
        else:
            future.set_result(self._come)
