"""``python -m benchmarks.starting STORE HEAP THREADS``: how long a start takes in a program of that size.

The program fills so many MiB of its heap and has so many threads, which wait; then it runs containers, and
as often forks. Printed are the medians in milliseconds: from start to exit of a container, and of a fork.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pycontainer as pc

__all__: list[str] = []

_MIB = 1 << 20
_STARTS = 15
_WARM_UP = 3


def _milliseconds(call: Callable[[], object]) -> float:
    for _ in range(_WARM_UP):
        call()
    taken = []
    for _ in range(_STARTS):
        begun = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken)


def _fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def main(place: str, mib: str, threads: str) -> None:
    heap = [os.urandom(1024) * 1024 for _ in range(int(mib))]
    release = threading.Event()
    waiting = [threading.Thread(target=release.wait, daemon=True) for _ in range(int(threads) - 1)]
    for thread in waiting:
        thread.start()
    with pc.Store.open(Path(place)) as store:
        (image,) = pc.Image.list(store=store)

        def start() -> None:
            pc.run(image, ["/bin/true"], check=True, store=store)

        print(_milliseconds(start), _milliseconds(_fork))
    release.set()
    assert len(heap) == int(mib)


if __name__ == "__main__":
    main(*sys.argv[1:])
