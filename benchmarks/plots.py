"""Draws what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.growth import CURVES, Curve, Series, exponent, line
from benchmarks.results import Compared, Traced

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_INK, _OURS, _PEER, _THIRD = "#333333", "#2a7f62", "#b0562c", "#4a5fa5"
_RESOLUTION = 120


def draw(result: Compared | Traced, path: Path) -> None:
    """Write the plot of a result."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    height = 2.2 if isinstance(result, Compared) else 3.8
    figure, axes = plt.subplots(figsize=(7, height), layout="constrained")
    if isinstance(result, Compared):
        _calls(axes, result)
    else:
        _curves(axes, CURVES[result.name], result)
    axes.set_title(result.title, loc="left", color=_INK)
    figure.savefig(path, dpi=_RESOLUTION)
    plt.close(figure)


def _calls(axes: Axes, result: Compared) -> None:
    both = [(result.peer, _PEER), (result.ours, _OURS)]
    unit, scale = ("seconds", 1) if result.peer.median >= 1 else ("milliseconds", 1000)
    for row, (samples, colour) in enumerate(both, start=1):
        times = [seconds * scale for seconds in samples.wall]
        spread = [row + 0.28 * ((i * 0.618) % 1 - 0.5) for i in range(len(times))]
        axes.scatter(times, spread, s=9, color=colour, alpha=0.6, linewidths=0)
        at = samples.median * scale
        axes.vlines(at, row - 0.32, row + 0.32, color=colour, linewidth=2)
        axes.annotate(f"{at:.3g}", (at, row + 0.36), ha="center", color=colour)
    axes.set_yticks(range(1, len(both) + 1), [samples.name for samples, _ in both])
    axes.set_ylim(0.5, len(both) + 0.75)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{unit} a call; the line is the median", color=_INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=_INK, left=False)


def _curves(axes: Axes, curve: Curve, result: Traced) -> None:
    for series, colour in zip(result.series, (_OURS, _PEER, _THIRD), strict=False):
        sizes = [size for size in series.sizes if size]  # a logarithmic axis has no 0
        values = series.medians()[-len(sizes) :]
        label = _label(curve, series)
        axes.plot(sizes, values, color=colour, marker="o", markersize=3.5, label=label)
        for size, each in zip(series.sizes, series.values, strict=True):
            axes.scatter([size] * len(each), each, s=6, color=colour, alpha=0.5, linewidths=0)
    axes.set_xscale("log")
    if curve.limit is None:
        axes.set_yscale("log")
    else:
        axes.axhline(curve.limit, color=_INK, linewidth=1, linestyle="--", label="asked for")
        axes.set_ylim(bottom=0)
    axes.set_xlabel(curve.axis, color=_INK)
    axes.set_ylabel(curve.value, color=_INK)
    axes.grid(visible=True, which="major", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)
    axes.legend(frameon=False, fontsize=9)


def _label(curve: Curve, series: Series) -> str:
    values = series.medians()
    if curve.limit is not None:
        return series.name
    slope, _ = line(series.sizes, values)
    power = exponent(series.sizes, values)
    return f"{series.name}: {curve.rate(slope)}, exponent {power:.2f}"
