"""One image, many containers: a pool of workers, each in a container of its own."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pycontainer as pc

CODE = "import sys; n = int(sys.argv[1]); print(sum(range(n)))"


def main() -> None:
    image = pc.Image.from_interpreter(tag="python:here")

    def work(n: int) -> int:
        return int(pc.run(image, ["python", "-c", CODE, str(n)], check=True).text)

    begun = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(0, 20_000, 1000)))
    assert results == [sum(range(n)) for n in range(0, 20_000, 1000)]
    print(f"{len(results)} containers in {time.perf_counter() - begun:.2f} s")


if __name__ == "__main__":
    main()
