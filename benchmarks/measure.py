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

__all__ = ["CASES", "Case", "Comparison", "Samples", "Side", "case", "compare"]

_WARM_UP = 3
_RESAMPLES = 4000


def _nothing() -> None:
    pass


@frozen
class Side:
    """One of the two: `call` is timed; `before` and `after` surround it untimed."""

    name: str
    call: Callable[[], object]
    before: Callable[[], object] = _nothing
    after: Callable[[], object] = _nothing


Prepare = Callable[[Path], AbstractContextManager[tuple[Side, Side]]]


@frozen
class Case:
    """What is compared. `prepare` gets an empty directory and gives ours and the peer.

    `cpu` is false where the work is done by processes that are no children of this one.
    """

    name: str
    title: str
    text: str
    prepare: Prepare
    rounds: int
    cpu: bool


CASES: dict[str, Case] = {}


def case(title: str, *, rounds: int, cpu: bool = True) -> Callable[[Prepare], Prepare]:
    """Register the decorated function as a case; its docstring describes it in the report."""

    def register(prepare: Prepare) -> Prepare:
        name = getattr(prepare, "__name__", "")
        text = " ".join((prepare.__doc__ or "").split())
        CASES[name] = Case(name, title, text, prepare, rounds, cpu)
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
    def quartiles(self) -> tuple[float, float]:
        low, _, high = statistics.quantiles(self.wall, n=4, method="inclusive")
        return low, high

    def take(self, side: Side) -> None:
        side.before()
        cpu = _processor_seconds()
        start = time.perf_counter()
        side.call()
        self.wall.append(time.perf_counter() - start)
        self.cpu.append(_processor_seconds() - cpu)
        side.after()


@frozen
class Comparison:
    """The samples of both sides, and how many times the peer's time ours is."""

    ours: Samples
    peer: Samples

    @property
    def ratio(self) -> float:
        return self.ours.median / self.peer.median

    def interval(self) -> tuple[float, float]:
        """Return the bounds between which 95 of 100 ratios lie when rounds are drawn anew."""
        ratios = sorted(self._resampled())
        return ratios[len(ratios) * 25 // 1000], ratios[len(ratios) * 975 // 1000 - 1]

    def _resampled(self) -> Iterator[float]:
        draw = random.Random(1)
        rounds = range(len(self.ours.wall))
        for _ in range(_RESAMPLES):
            chosen: Sequence[int] = draw.choices(rounds, k=len(rounds))
            ours = statistics.median(self.ours.wall[i] for i in chosen)
            yield ours / statistics.median(self.peer.wall[i] for i in chosen)


def compare(ours: Side, peer: Side, rounds: int) -> Comparison:
    """Call both in turn, a different one first each round, so that a machine's moods hit both."""
    for _ in range(_WARM_UP):
        Samples(ours.name).take(ours)
        Samples(peer.name).take(peer)
    comparison = Comparison(Samples(ours.name), Samples(peer.name))
    turns = [(comparison.ours, ours), (comparison.peer, peer)]
    for _ in range(rounds):
        for samples, side in turns:
            samples.take(side)
        turns.reverse()
    return comparison


def _processor_seconds() -> float:
    """Return what this process and its ended children have used."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
