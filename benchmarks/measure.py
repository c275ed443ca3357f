"""Times two callables alternately and says how they compare."""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from attrs import define, field, frozen

from benchmarks.peers.program import BenchmarkError
from benchmarks.roofline import Floor

__all__ = ["CASES", "Bounds", "Case", "Ratio", "Samples", "Side", "case", "compare"]

_WARM_UP = 3
_RESAMPLES = 4000


def _nothing() -> None:
    pass


def _none() -> float:
    return 0.0


@frozen
class Side:
    """One of the two: `call` is timed; `before` and `after` surround it untimed.

    Attributes:
        name: As the report calls it.
        call: The work.
        before: Makes ready for it.
        after: Takes away what it made.
        daemons: Processor seconds so far of those who work for `call` and are no children of this
            process.
        seconds: Asked after `call` for the time that counts, where that is not the time it took.
        count: Looks at what `call` made; both sides must have made as much.
        stages: Does the work once more and says how long each stage of it was busy.
    """

    name: str
    call: Callable[[], object]
    before: Callable[[], object] = _nothing
    after: Callable[[], object] = _nothing
    daemons: Callable[[], float] = _none
    seconds: Callable[[], float] | None = None
    count: Callable[[], int] | None = None
    stages: Callable[[], dict[str, float]] | None = None


Prepare = Callable[[Path], AbstractContextManager[tuple[Side, Side]]]


@frozen
class Bounds:
    """What share of the peer's time was asked for: wall clock and processor."""

    wall: float
    cpu: float


@frozen
class Case:
    """What is compared. `prepare` gets an empty directory and gives ours and the peer.

    Attributes:
        name: Of the case, and of its files.
        title: The heading.
        text: What each side does.
        prepare: Makes both sides.
        rounds: How often each is measured.
        warm_up: How often each is called before that.
        cpu: False where the work is done by processes that nobody counts.
        group: Several cases that are run together.
        bounds: What was asked for.
        floor: What the machine has to do at least.
    """

    name: str
    title: str
    text: str
    prepare: Prepare
    rounds: int
    warm_up: int = _WARM_UP
    cpu: bool = True
    group: str = ""
    bounds: Bounds | None = None
    floor: Floor | None = None


CASES: dict[str, Case] = {}


def described(prepare: Callable[..., object]) -> tuple[str, str]:
    """The name of a case or curve, and its docstring as one paragraph."""
    return getattr(prepare, "__name__", ""), " ".join((prepare.__doc__ or "").split())


def case(
    title: str,
    *,
    rounds: int,
    warm_up: int = _WARM_UP,
    cpu: bool = True,
    group: str = "",
    bounds: Bounds | None = None,
    floor: Floor | None = None,
) -> Callable[[Prepare], Prepare]:
    """Register the decorated function as a case; its docstring describes it in the report."""

    def register(prepare: Prepare) -> Prepare:
        name, text = described(prepare)
        CASES[name] = Case(name, title, text, prepare, rounds, warm_up, cpu, group, bounds, floor)
        return prepare

    return register


@define
class Samples:
    """Seconds of each call of one side, wall clock and processor."""

    name: str
    wall: list[float] = field(factory=list)
    cpu: list[float] = field(factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.wall)

    @property
    def cpu_median(self) -> float:
        return statistics.median(self.cpu)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.wall) == 1:
            return self.wall[0], self.wall[0]
        low, _, high = statistics.quantiles(self.wall, n=4, method="inclusive")
        return low, high

    def take(self, side: Side) -> int | None:
        """Measure one call; gives what it made, where that can be counted."""
        side.before()
        try:
            cpu = _processor_seconds() + side.daemons()
            start = time.perf_counter()
            side.call()
            took = time.perf_counter() - start
            self.wall.append(took if side.seconds is None else side.seconds())
            self.cpu.append(_processor_seconds() + side.daemons() - cpu)
            return None if side.count is None else side.count()
        finally:
            side.after()


@frozen
class Ratio:
    """How many times the peer's median ours is, and where 95 of 100 ratios lie when rounds are drawn anew."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2g} ({self.low:.2g} to {self.high:.2g})"

    @classmethod
    def of(cls, ours: Sequence[float], peer: Sequence[float]) -> Ratio:
        ratios = sorted(_resampled(ours, peer))
        low, high = ratios[len(ratios) * 25 // 1000], ratios[len(ratios) * 975 // 1000 - 1]
        return cls(statistics.median(ours) / statistics.median(peer), low, high)


def _resampled(ours: Sequence[float], peer: Sequence[float]) -> Iterator[float]:
    draw = random.Random(1)
    rounds = range(len(ours))
    for _ in range(_RESAMPLES):
        chosen = draw.choices(rounds, k=len(rounds))
        median = statistics.median(ours[i] for i in chosen)
        yield median / statistics.median(peer[i] for i in chosen)


def compare(
    ours: Side, peer: Side, rounds: int, warm_up: int = _WARM_UP
) -> tuple[Samples, Samples]:
    """Call both in turn, a different one first each round, so that a machine's moods hit both."""
    for _ in range(warm_up):
        made = [Samples(side.name).take(side) for side in (ours, peer)]
        if made[0] != made[1] and None not in made:
            message = f"{ours.name} made {made[0]}, {peer.name} {made[1]}: not the same work"
            raise BenchmarkError(message)
    samples = (Samples(ours.name), Samples(peer.name))
    turns = list(zip(samples, (ours, peer), strict=True))
    for _ in range(rounds):
        for each, side in turns:
            each.take(side)
        turns.reverse()
    return samples


def _processor_seconds() -> float:
    """Return what this process and its ended children have used."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
