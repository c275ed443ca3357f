"""Writes what was measured: JSON for each case, a plot, and one page of tables for the documentation."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import CASES, Case, Comparison, Samples

__all__ = ["table", "write"]

_INK, _OURS, _PEER = "#333333", "#2a7f62", "#b0562c"


def table(case: Case, comparison: Comparison) -> str:
    """Return the comparison as a Markdown table and the sentence below it."""
    columns = ["median", "min", "quartiles"] + ["CPU"] * case.cpu
    lines = [
        "| " + " | ".join(["", *columns]) + " |",
        "| " + " | ".join(["---"] + ["---:"] * len(columns)) + " |",
    ]
    for samples in (comparison.ours, comparison.peer):
        low, high = samples.quartiles
        cells = [_ms(samples.median), _ms(min(samples.wall)), f"{_ms(low)} to {_ms(high)}"]
        if case.cpu:
            cells.append(_ms(sum(samples.cpu) / len(samples.cpu)))
        lines.append("| " + " | ".join([samples.name, *cells]) + " |")
    low, high = comparison.interval()
    return (
        "\n".join(lines) + "\n\nMilliseconds; "
        f"{len(comparison.ours.wall)} rounds. Ratio of the medians: **{comparison.ratio:.2f}** "
        f"(95 % of resampled ratios: {low:.2f} to {high:.2f}).\n"
    )


def write(case: Case, comparison: Comparison, directory: Path) -> None:
    """Write the case's JSON and plot, and the page of all cases measured so far anew."""
    directory.mkdir(parents=True, exist_ok=True)
    low, high = comparison.interval()
    document = {
        "name": case.name,
        "title": case.title,
        "text": case.text,
        "machine": _machine(),
        "samples": [_samples(comparison.ours), _samples(comparison.peer)],
        "ratio": {"median": comparison.ratio, "low": low, "high": high},
        "table": table(case, comparison),
    }
    (directory / f"{case.name}.json").write_text(json.dumps(document, indent=1) + "\n")
    _plot(case, comparison, directory / f"{case.name}.png")
    results = (directory / f"{name}.json" for name in CASES)
    documents = [json.loads(path.read_text()) for path in results if path.exists()]
    (directory / "results.md").write_text("\n".join(map(_section, documents)))


def _section(document: dict[str, Any]) -> str:
    name, title = document["name"], document["title"]
    return (
        f"## {title}\n\n{document['text']}\n\n{document['table']}\n"
        f"![{title}: each call of both]({name}.png)\n\n{document['machine']}\n"
    )


def _samples(samples: Samples) -> dict[str, object]:
    return {"name": samples.name, "wall": samples.wall, "cpu": samples.cpu}


def _ms(seconds: float) -> str:
    ms = seconds * 1000
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def _machine() -> str:
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, {platform.machine()}, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}."
    )


def _plot(case: Case, comparison: Comparison, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 2.2), layout="constrained")
    both = [(comparison.peer, _PEER), (comparison.ours, _OURS)]
    for row, (samples, colour) in enumerate(both, start=1):
        ms = [seconds * 1000 for seconds in samples.wall]
        spread = [row + 0.28 * ((i * 0.618) % 1 - 0.5) for i in range(len(ms))]
        axes.scatter(ms, spread, s=9, color=colour, alpha=0.6, linewidths=0)
        axes.vlines(samples.median * 1000, row - 0.32, row + 0.32, color=colour, linewidth=2)
        axes.annotate(
            f"{_ms(samples.median)} ms",
            (samples.median * 1000, row + 0.36),
            ha="center",
            color=colour,
        )
    axes.set_yticks(range(1, len(both) + 1), [samples.name for samples, _ in both])
    axes.set_ylim(0.5, len(both) + 0.75)
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds a call; the line is the median", color=_INK)
    axes.set_title(case.title, loc="left", color=_INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=_INK, left=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
