"""How cost grows with the size of the work: curves."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from attrs import define, field, frozen

from benchmarks.measure import Samples, Side, described
from benchmarks.peers import scratch

__all__ = ["CURVES", "Curve", "Rate", "Series", "curve", "exponent", "line", "trace"]

Prepare = Callable[[Path, int], AbstractContextManager[Sequence[Side]]]
_LAST = 3


@frozen
class Rate:
    """How the cost of one more is said: ``Rate("{:.0f} µs a file", 1e6)``.

    Attributes:
        text: With the place of the number.
        scale: What the cost in seconds is multiplied by.
        inverse: Whether it is how many in a second that is said.
    """

    text: str
    scale: float
    inverse: bool = False

    def __call__(self, cost: float) -> str:
        if self.inverse:
            return self.text.format(self.scale / cost) if cost > 0 else "no time"
        return self.text.format(cost * self.scale)


@frozen
class Curve:
    """What grows. `prepare` gets an empty directory and the size, and gives the sides to measure.

    Attributes:
        name: Of the curve, and of its files.
        title: The heading.
        text: What is done, and what bounds it.
        prepare: Makes the sides for one size.
        axis: What the size counts.
        points: The sizes.
        rate: How the cost of one more is said.
        rounds: How often each is measured.
        value: What is measured; other than seconds, it is what a side's call returns.
        limit: What the value may not exceed.
        group: Several curves that are run together.
        cpu: False where the work is done by processes that nobody counts.
    """

    name: str
    title: str
    text: str
    prepare: Prepare
    axis: str
    points: Sequence[int]
    rate: Rate
    rounds: int
    value: str
    limit: float | None
    group: str = "growth"
    cpu: bool = True


CURVES: dict[str, Curve] = {}


def curve(
    title: str,
    *,
    axis: str,
    points: Sequence[int],
    rate: Rate,
    rounds: int = 3,
    value: str = "seconds",
    limit: float | None = None,
    group: str = "growth",
    cpu: bool = True,
) -> Callable[[Prepare], Prepare]:
    """Register the decorated function as a curve; its docstring describes it in the report."""

    def register(prepare: Prepare) -> Prepare:
        name, text = described(prepare)
        CURVES[name] = Curve(
            name, title, text, prepare, axis, points, rate, rounds, value, limit, group, cpu
        )
        return prepare

    return register


@define
class Series:
    """What one side took at each size.

    Attributes:
        name: Of the side.
        sizes: The sizes.
        values: What was measured at each, once a round.
        cpu: Processor seconds, likewise; empty where no time is measured.
        stages: How long each stage of the last was busy, where the side says so.
    """

    name: str
    sizes: list[int] = field(factory=list)
    values: list[list[float]] = field(factory=list)
    cpu: list[list[float]] = field(factory=list)
    stages: dict[str, float] = field(factory=dict)

    def medians(self) -> list[float]:
        return [statistics.median(values) for values in self.values]

    def take(self, curve: Curve, size: int, side: Side, samples: Samples) -> None:
        """Enter what was measured at one size."""
        self.sizes.append(size)
        self.values.append(samples.wall)
        if curve.value == "seconds" and curve.cpu:
            self.cpu.append(samples.cpu)
        if side.stages is not None and size == curve.points[-1]:
            self.stages = side.stages()


def trace(curve: Curve, parent: Path | None, rounds: int) -> list[Series]:
    """Measure all points of a curve, its sides in turn."""
    by_name: dict[str, Series] = {}
    for size in curve.points:
        with scratch(parent) as directory, curve.prepare(directory, size) as sides:
            all_samples = [Samples(side.name) for side in sides]
            for _ in range(rounds):
                for side, samples in zip(sides, all_samples, strict=True):
                    _take(curve, side, samples)
            for side, samples in zip(sides, all_samples, strict=True):
                series = by_name.setdefault(side.name, Series(side.name))
                series.take(curve, size, side, samples)
    return list(by_name.values())


def _take(curve: Curve, side: Side, samples: Samples) -> None:
    if curve.value == "seconds":
        samples.take(side)
        return
    side.before()
    try:
        value = side.call()
        assert isinstance(value, float)
        samples.wall.append(value)
    finally:
        side.after()


def line(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """The straight line nearest to some points: what one more costs, and what none costs.

    >>> line([1, 2, 3], [12, 14, 16])
    (2.0, 10.0)
    """
    slope, intercept = statistics.linear_regression(sizes, values)
    return slope, intercept


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The power of the size that the last values grow by: 1 where they are proportional to it.

    >>> exponent([1, 10, 100, 1000], [5, 30, 300, 3000])
    1.0
    """
    pairs = [(math.log(x), math.log(y)) for x, y in zip(sizes, values, strict=True) if x and y > 0]
    last = pairs[-_LAST:]
    slope, _ = line([x for x, _ in last], [y for _, y in last])
    return round(slope, 6)
