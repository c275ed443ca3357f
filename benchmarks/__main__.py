"""``python -m benchmarks NAME...``: measure the cases named, or all."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import cases, peers, report
from benchmarks.measure import CASES, compare

__all__ = ["main"]

_DOCUMENTATION = Path(__file__).parents[1] / "docs" / "benchmarks"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=cases.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases; all if none is named")
    parser.add_argument("--list", action="store_true", help="list the cases")
    parser.add_argument("--rounds", type=int, help="calls of each side; else as the case says")
    parser.add_argument(
        "--directory", type=Path, help="where to measure (default: an ext4 in memory, for root)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=_DOCUMENTATION,
        help="where results go (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.list:
        for each in CASES.values():
            print(f"{each.name:20} {each.title}")
        return 0
    if unknown := set(options.names) - CASES.keys():
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    for name in options.names or CASES:
        each = CASES[name]
        with (
            peers.scratch(options.directory) as directory,
            each.prepare(directory) as (ours, peer),
        ):
            comparison = compare(ours, peer, options.rounds or each.rounds)
        print(f"{each.title}\n\n{report.table(each, comparison)}", flush=True)
        report.write(each, comparison, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
