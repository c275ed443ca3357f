"""Writes the pages of the documentation, and the README's figures, from what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.growth import CURVES, Curve, Series, exponent, line
from benchmarks.measure import CASES
from benchmarks.results import Compared, Traced, read
from benchmarks.roofline import critical_path, total

__all__ = ["figures", "page", "replace_figures", "results", "section"]

_BEGIN, _END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
_IN_README = (
    "start_exit_filtered",
    "pull_gzip_large",
    "pull_gzip_eight",
    "pull_zstd",
    "extract_gzip",
    "create_gzip",
    "push_docker",
    "push_skopeo",
)
_CORES = 2


def results(directory: Path) -> list[Compared | Traced]:
    """All results that a directory holds, in the order of cases and curves."""
    found = (read(name, directory) for name in [*CASES, *CURVES])
    return [result for result in found if result is not None]


def page(found: Iterable[Compared | Traced]) -> str:
    """The page of all results."""
    found = list(found)
    compared = [result for result in found if isinstance(result, Compared)]
    return "\n".join(["## At a glance\n", overview(compared), *map(section, found)])


def section(result: Compared | Traced) -> str:
    """What there is to say of one result."""
    body = _comparison(result) if isinstance(result, Compared) else _growth(result)
    plot = f"![{result.title}]({result.name}.png)"
    paragraphs = [f"## {result.title}", result.text, *body, plot, result.machine]
    return "\n\n".join(paragraphs) + "\n"


def overview(compared: Sequence[Compared]) -> str:
    """A table of the ratios, with what was asked for."""
    rows = [
        [
            result.title,
            result.peer.name,
            str(result.wall_ratio),
            f"{result.bounds.wall:g}" if result.bounds else "",
            str(result.cpu_ratio) if result.cpu else "",
            f"{result.bounds.cpu:g}" if result.bounds and result.cpu else "",
        ]
        for result in compared
    ]
    head = ["Work", "Peer", "Time", "asked ≤", "Processor", "asked ≤"]
    return (
        _table(head, rows, left=2)
        + "\n\nOurs as a share of the peer's; in brackets, where 95 of 100 lie when rounds are drawn anew.\n"
    )


def figures(found: Iterable[Compared | Traced]) -> str:
    """The README's table."""
    by_name = {result.name: result for result in found if isinstance(result, Compared)}
    chosen = [by_name[name] for name in _IN_README if name in by_name]
    rows = [
        [
            result.title,
            f"`{result.peer.name}`",
            f"{result.wall_ratio.median:.2g} times",
            f"{result.cpu_ratio.median:.2g} times" if result.cpu else "",
        ]
        for result in chosen
    ]
    return _table(["Work", "Compared with", "Time", "Processor"], rows, left=2)


def replace_figures(readme: str, found: Iterable[Compared | Traced]) -> str:
    """The README with its table of figures made anew."""
    before, _, rest = readme.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n\n{figures(found)}\n\n{_END}{after}"


# --- comparisons -----------------------------------------------------------------------------


def _comparison(result: Compared) -> list[str]:
    columns = ["", "median", "min", "quartiles"] + ["CPU"] * result.cpu
    rows = []
    for samples in (result.ours, result.peer):
        low, high = samples.quartiles
        cells = [_ms(samples.median), _ms(min(samples.wall)), f"{_ms(low)} to {_ms(high)}"]
        rows.append([samples.name, *cells] + [_ms(samples.cpu_median)] * result.cpu)
    parts = [
        _table(columns, rows),
        f"Milliseconds; {len(result.ours.wall)} rounds. {_ratios(result)}",
    ]
    if result.floor:
        parts.append(_roofline(result))
    if result.stages:
        parts.append(_busy(result.stages, result.ours.median))
    if result.profile:
        parts.append(_profile(result.profile))
    return parts


def _ratios(result: Compared) -> str:
    asked = result.bounds
    wall = f"Time: **{result.wall_ratio}**" + (f", asked ≤ {asked.wall:g}" if asked else "")
    cpu = f"; processor: **{result.cpu_ratio}**" + (f", asked ≤ {asked.cpu:g}" if asked else "")
    return wall + cpu * result.cpu + "."


def _roofline(result: Compared) -> str:
    floor = result.floor
    rows = [[part.name, _ms(part.seconds)] for part in floor]
    least, sum_ = critical_path(floor, _CORES), total(floor)
    return (
        _table(["What the machine has to do, each alone", "ms"], [*rows, ["sum", _ms(sum_)]])
        + f"\n\nNo schedule on two cores takes less than {_ms(least)} ms of time and {_ms(sum_)} ms of "
        f"processor; ours takes {result.ours.median / least:.2f} and "
        f"{result.ours.cpu_median / sum_:.2f} times as much."
    )


def _busy(stages: dict[str, float], seconds: float) -> str:
    ordered = sorted(stages.items(), key=lambda stage: -stage[1])
    shares = ", ".join(f"{name} {_ms(busy)}" for name, busy in ordered)
    return f"Stages run at the same time; each was busy for so many of {_ms(seconds)} ms: {shares}."


def _profile(profile: dict[str, float]) -> str:
    told = [f"{name} {share:.0%}" for name, share in profile.items() if share >= 0.01]
    return f"Where this process spent its processor time: {', '.join(told)}."


# --- growth ----------------------------------------------------------------------------------


def _growth(result: Traced) -> list[str]:
    curve = CURVES[result.name]
    names = [series.name for series in result.series]
    sizes = result.series[0].sizes
    medians = [series.medians() for series in result.series]
    shown = _ms if curve.value == "seconds" else "{:.1f}".format
    rows = [
        [f"{size:,}", *(shown(values[i]) for values in medians)] for i, size in enumerate(sizes)
    ]
    unit = "Milliseconds" if curve.value == "seconds" else curve.value
    facts = [_fact(curve, series) for series in result.series]
    return [_table([curve.axis, *names], rows, left=0), f"{unit}. {' '.join(facts)}"]


def _fact(curve: Curve, series: Series) -> str:
    values = series.medians()
    if curve.limit is not None:
        return f"{series.name}: at most {max(values):.3g}, asked ≤ {curve.limit:g}."
    slope, _ = line(series.sizes, values)
    told = f"{series.name}: {curve.rate(slope)}, exponent {exponent(series.sizes, values):.2f}"
    if not series.cpu:
        return told + "."
    busy = median(series.cpu[-1]) / values[-1]
    told += f", {busy:.1f} processors busy at the last."
    return told + (f" {_busy(series.stages, values[-1])}" if series.stages else "")


# --- both ------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def _ms(seconds: float) -> str:
    ms = seconds * 1000
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"
