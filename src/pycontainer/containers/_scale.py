"""Many containers alike, started several at a time."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

from pycontainer.errors import ContainerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.containers._ending import Ending

__all__ = ["start_all"]

Started = TypeVar("Started", bound="Ending")


def start_all(start: Callable[[int], Started], count: int) -> tuple[Started, ...]:
    """Start so many containers, or none: if one fails, the others are removed.

    Args:
        start: Starts one; gets its number, from 0.
        count: How many.

    Raises:
        ContainerError: The number is none.
        Error: What the first one that failed raised.
    """
    if count < 0:
        raise ContainerError(f"cannot start {count} containers")
    # A start waits for other processes most of the time: two for each processor keep it busy.
    at_once = max(1, min(count, 2 * (os.cpu_count() or 1)))
    with ThreadPoolExecutor(at_once, thread_name_prefix="scale") as pool:
        futures = [pool.submit(start, number) for number in range(count)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
    finished = [future for future in futures if not future.cancelled()]
    started = [future.result() for future in finished if future.exception() is None]
    if len(started) == count:
        return tuple(started)
    for container in started:
        container.delete(force=True)
    failures = (future.exception() for future in finished)
    raise next((failure for failure in failures if failure is not None), KeyboardInterrupt())
