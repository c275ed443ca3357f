"""The same work on several layers at once."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["for_each"]

T = TypeVar("T")
_FEWEST: Final = 2  # one waits for the network while the other computes


def for_each(
    items: Iterable[T],
    work: Callable[[T], object],
    *,
    give_up: Callable[[], None] = lambda: None,
) -> None:
    """Call `work` for each item, on as many threads as there are processors to run them.

    Each call sees the caller's context, and thereby its lease. After the first failure, or an
    interruption, nothing new is begun; what runs is waited for, then the failure raised.

    Args:
        items: What to work on.
        work: Done for each.
        give_up: Called after the first failure, to let what runs end soon.
    """
    with ThreadPoolExecutor(max(_FEWEST, _processors()), thread_name_prefix="image-layer") as pool:
        futures = [pool.submit(copy_context().run, work, item) for item in items]
        try:
            done, pending = wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            for future in futures:
                future.cancel()
            give_up()
            raise
        for future in pending:
            future.cancel()
        if pending:
            give_up()
        for future in futures:
            if future in done:
                future.result()
        for future in pending:
            if not future.cancelled():
                future.result()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
