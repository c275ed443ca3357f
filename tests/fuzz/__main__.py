"""Fuzz the parsers of what comes from outside: ``./dev fuzz [TARGET...] [--seconds N] [--keep]``."""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ("tar", "decompress", "unpack", "oci", "reference", "protocol", "dockerfile")
SHARES = {"tar": 3, "unpack": 4, "decompress": 2, "dockerfile": 2}
"""How much more time than the others some targets get."""

LONGEST_INPUT = 8192
SECONDS_AN_INPUT = 20
MEMORY_MB = 1500
LARGEST_FILE = 64 << 20


def main() -> int:
    """Fuzz one target after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=float, default=60, help="in all (60)")
    parser.add_argument("--keep", action="store_true", help="put what was found into the corpus")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if arguments.worker:
        work(arguments.targets[0], Path(arguments.worker), arguments.seconds)
    targets = arguments.targets or NAMES
    shares = {target: SHARES.get(target, 1) for target in targets}
    failed = []
    for target in targets:
        seconds = arguments.seconds * shares[target] / sum(shares.values())
        if not fuzz(target, seconds, keep=arguments.keep):
            failed.append(target)
    if failed:
        print(f"fuzz: bugs in: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def fuzz(target: str, seconds: float, *, keep: bool) -> bool:
    """Fuzz one target; True if nothing was found."""
    from fuzz import corpus

    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="fuzz-", dir=memory if memory.is_dir() else None
    ) as directory:
        inputs = Path(directory, "inputs")
        inputs.mkdir()
        for number, data in enumerate([*corpus.seeds(target), *corpus.load(target)]):
            (inputs / f"{number:05}").write_bytes(data)
        print(f"fuzz: {target} for {seconds:.0f} s", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "fuzz", target, "--worker", str(inputs)]
        # It ends without clean-up, so its files are made where this process removes them.
        environment = {**os.environ, "TMPDIR": directory}
        done = subprocess.run([*command, f"--seconds={seconds}"], check=False, env=environment)
        if done.returncode:
            return False
        if keep:
            found = [path.read_bytes() for path in sorted(inputs.iterdir())]
            kept = corpus.save(target, corpus.select(target, found))
            print(f"fuzz: {target}: {kept} of {len(found)} inputs kept", file=sys.stderr)
    return True


def work(target: str, inputs: Path, seconds: float) -> None:
    """Fuzz until time is up or something is found, which ends the process with an error."""
    import atheris

    # What a few bytes claim to be large shall not fill the memory that the files are in.
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with atheris.instrument_imports(
        include=[f"pycontainer.{room}" for room in ("layers", "oci", "registry", "build")]
    ):
        from fuzz.targets import TARGETS
    from fuzz.mutations import MUTATORS, changed_bytes

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        return mutator(data, rng)[:most]

    options = [f"-max_len={LONGEST_INPUT}", f"-timeout={SECONDS_AN_INPUT}"]
    options += [f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={os.getcwd()}/fuzz-{target}-"]
    options += [f"-max_total_time={max(1, round(seconds))}", "-print_final_stats=1"]
    mutator = MUTATORS.get(target, changed_bytes)
    atheris.Setup([sys.argv[0], *options, str(inputs)], TARGETS[target], custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
