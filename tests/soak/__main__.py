"""Use containers from many threads of many programs on one store, and look for what is wrong or left.

``./dev soak [--cycles N] [--threads N] [--processes N]``
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pycontainer as pc
from busybox import busybox_image
from leakcheck import open_files
from pycontainer.content import Store
from pycontainer.images import Image

SECONDS = 120.0  # for one step; a machine that is much slower hangs
LINES = 50


def main() -> int:
    """Run the soak; return what the program exits with."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--cycles", type=int, default=5000, help="in all (5000)")
    parser.add_argument("--threads", type=int, default=8, help="of each program (8)")
    parser.add_argument("--processes", type=int, default=3, help="programs (3)")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.cycles, arguments.threads)
        return 0
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        return soak(Path(directory), arguments.cycles, arguments.threads, arguments.processes)


def soak(directory: Path, cycles: int, threads: int, processes: int) -> int:
    """Run the programs; return how many went wrong, what is left counting as one."""
    store_path = directory / "store"
    with Store.open(store_path) as store:
        image = busybox_image(store, directory / "busybox")
        pc.run(image, ["true"], store=store)  # makes what is made once
        before = files(store_path)
    begun = time.monotonic()
    command = [sys.executable, "-m", "soak", f"--threads={threads}", "--worker", str(store_path)]
    workers = [
        subprocess.Popen([*command, f"--cycles={cycles // processes}"]) for _ in range(processes)
    ]
    wrong = sum(worker.wait() != 0 for worker in workers)
    seconds = time.monotonic() - begun
    with Store.open(store_path) as store:
        store.collect()
        left = sorted(files(store_path) - before)
        left += [f"container {c.name}" for c in pc.Container.list(all=True, store=store)]
    left += [at for at, _, _ in os.walk("/sys/fs/cgroup") if str(directory) in at]
    left += [
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if str(directory) in line
    ]
    if left:
        print("soak: left behind:", *left[:50], sep="\n  ", file=sys.stderr)
    print(
        f"soak: {cycles} cycles in {seconds:.1f} s, {cycles / seconds:.0f} a second",
        file=sys.stderr,
    )
    return wrong + bool(left)


def files(store: Path) -> set[str]:
    """The files of a store, but for those of its database, its journal and its open handles."""
    return {
        str(path.relative_to(store))
        for path in store.rglob("*")
        if not path.name.startswith("metadata.db") and not {"sessions", "events"} & {*path.parts}
    }


# --- one of the programs ---------------------------------------------------------------------


def work(store_path: Path, cycles: int, threads: int) -> None:
    """A share of the cycles; ends with an error at the first that goes wrong."""
    failures: list[BaseException] = []
    with Store.open(store_path) as store:
        image = Image.get("busybox:test", store=store)
        pc.run(image, ["true"], store=store)
        before = open_files()
        todo = iter(range(cycles))
        lock = threading.Lock()

        def run() -> None:
            rng = random.Random()
            while not failures:
                with lock:
                    number = next(todo, None)
                if number is None:
                    return
                try:
                    rng.choice([life, life, command, killed])(image, number)
                except BaseException as error:
                    failures.append(error)

        workers = [threading.Thread(target=run) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if failures:
            raise failures[0]
        grown = open_files() - before
        assert sum(grown.values()) <= 2, Counter(grown)  # sqlite keeps one for each thread


def life(image: Image, number: int) -> None:
    """Start, a command, much output, an orderly end."""
    code = number % 100
    script = (
        f"for i in $(seq {LINES}); do echo {number} $i; done; read line; echo $line; exit {code}"
    )
    with pc.Container.start(
        image,
        ["sh", "-c", script],
        store=image.store,
        stdin=True,
        detach=number % 2 == 0,
        timeout=SECONDS,
    ) as container:
        done = container.exec(
            ["sh", "-c", f"cat; exit {code}"], input=b"x" * 70_000, timeout=SECONDS
        )
        assert (done.exit_code, done.stdout) == (code, b"x" * 70_000)
        container.write(b"bye\n")
        assert container.wait(SECONDS) == code
        lines = [str(line) for line in container.logs()]
        assert lines == [*(f"{number} {i}" for i in range(1, LINES + 1)), "bye"], lines
        container.delete()


def command(image: Image, number: int) -> None:
    """A container for one command."""
    done = pc.run(
        image,
        ["sh", "-c", f"cat; echo {number} >&2; exit 7"],
        input=b"in",
        store=image.store,
        timeout=SECONDS,
    )
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"in", b"%d\n" % number)


def killed(image: Image, number: int) -> None:
    """Ended while a command runs in it."""
    with (
        pc.Container.start(
            image, ["sleep", "1000"], store=image.store, timeout=SECONDS
        ) as container,
        container.exec(["sleep", "1000"], wait=False) as process,
    ):
        container.kill()
        assert container.wait(SECONDS) == 137
        assert process.wait(SECONDS) == 137


if __name__ == "__main__":
    sys.exit(main())
