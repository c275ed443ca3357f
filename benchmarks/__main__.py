"""``python -m benchmarks NAME...``: measure the cases and curves named, or all."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from pathlib import Path

from benchmarks import cases, plots, profile, report, results
from benchmarks.growth import CURVES, Curve, trace
from benchmarks.measure import CASES, Case, Samples, compare
from benchmarks.peers import BenchmarkError, scratch

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_DOCUMENTATION = _ROOT / "docs" / "benchmarks"


def main(arguments: list[str]) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    known: list[Case | Curve] = [*CASES.values(), *CURVES.values()]
    groups = {each.group for each in known} - {""}
    if options.list:
        for each in known:
            print(f"{each.name:22} {each.group:8} {each.title}")
        return 0
    if unknown := set(options.names) - {each.name for each in known}:
        parser.error(f"no such case: {', '.join(sorted(unknown))}; --list names them")
    if unknown := set(options.group) - groups:
        parser.error(f"no such group: {', '.join(unknown)}; there are {', '.join(sorted(groups))}")
    chosen = [
        each.name for each in known if each.name in options.names or each.group in options.group
    ]
    if not options.names and not options.group and not options.render:
        chosen = [each.name for each in known]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that all is cleared up
    failures = [name for name in chosen if not _measure(name, options)]
    _render(options.output)
    if failures:
        print(f"failed: {', '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=cases.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases and curves; else all")
    parser.add_argument("--list", action="store_true", help="list the cases and curves")
    parser.add_argument(
        "--group", action="append", default=[], help="all cases of a group, such as layers, growth"
    )
    parser.add_argument("--rounds", type=int, help="calls of each side; else as the case says")
    parser.add_argument(
        "--directory", type=Path, help="where to measure (default: an ext4 in memory, for root)"
    )
    parser.add_argument(
        "--no-analysis", action="store_true", help="leave out roof-lines, stages and profiles"
    )
    parser.add_argument(
        "--render", action="store_true", help="measure nothing, write pages and plots anew"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=_DOCUMENTATION,
        help="where results go (default: %(default)s)",
    )
    return parser


def _measure(name: str, options: argparse.Namespace) -> bool:
    """Measure a case or curve, and print and keep the result; False if it does not work."""
    begun = time.monotonic()
    result: results.Compared | results.Traced
    try:
        if name in CASES:
            result = _compare(CASES[name], options)
        else:
            curve = CURVES[name]
            series = trace(curve, options.directory, options.rounds or curve.rounds)
            result = results.Traced.of(curve, series)
    except BenchmarkError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    except Exception:  # the others can still be measured
        print(f"{name}: {traceback.format_exc()}", file=sys.stderr)
        return False
    results.write(result, options.output)
    print(f"{report.section(result)}\n({time.monotonic() - begun:.0f} s)\n", flush=True)
    return True


def _compare(case: Case, options: argparse.Namespace) -> results.Compared:
    stages: dict[str, float] = {}
    shares: dict[str, float] = {}
    with scratch(options.directory) as directory, case.prepare(directory) as (ours, peer):
        samples = compare(ours, peer, options.rounds or case.rounds, case.warm_up)
        if case.floor is not None and not options.no_analysis:
            stages = {} if ours.stages is None else ours.stages()
            shares = profile.shares(lambda: Samples(ours.name).take(ours))
    floor = () if case.floor is None or options.no_analysis else case.floor(options.directory)
    return results.Compared.of(case, samples).with_analysis(floor, stages, shares)


def _render(output: Path) -> None:
    """Write the pages and plots of all results that there are, and the README's figures."""
    found = report.results(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.md").write_text(report.page(found))
    for result in found:
        plots.draw(result, output / f"{result.name}.png")
    if output == _DOCUMENTATION:
        readme = _ROOT / "README.md"
        readme.write_text(report.replace_figures(readme.read_text(), found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
