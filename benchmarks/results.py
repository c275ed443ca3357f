"""What was measured, as JSON: one document for each case and curve. All else is made from these."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, field, frozen

from benchmarks.growth import Curve, Series
from benchmarks.measure import Bounds, Case, Ratio, Samples
from benchmarks.roofline import Part

__all__ = ["Compared", "Traced", "machine", "read", "write"]


def machine() -> str:
    """Say when and where the measuring is done."""
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, {platform.machine()}, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}."
    )


@frozen
class Compared:
    """The result of a case.

    Attributes:
        name: Of the case.
        title: Its title.
        text: What was done.
        group: Of the case.
        machine: When and where.
        cpu: Whether processor time means something.
        ours: Our samples.
        peer: The peer's.
        bounds: What was asked for.
        floor: What the machine has to do at least.
        stages: How long each of our stages was busy.
        profile: Share of our processor time by where it was spent.
    """

    name: str
    title: str
    text: str
    group: str
    machine: str
    cpu: bool
    ours: Samples
    peer: Samples
    bounds: Bounds | None = None
    floor: Sequence[Part] = ()
    stages: dict[str, float] = field(factory=dict)
    profile: dict[str, float] = field(factory=dict)

    @classmethod
    def of(cls, case: Case, samples: tuple[Samples, Samples]) -> Compared:
        """Enter what a case measured."""
        what = (case.name, case.title, case.text, case.group, machine(), case.cpu)
        return cls(*what, *samples, case.bounds)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Compared:
        bounds = document["bounds"]
        return cls(
            **{
                **document,
                "ours": Samples(**document["ours"]),
                "peer": Samples(**document["peer"]),
                "bounds": bounds and Bounds(**bounds),
                "floor": tuple(Part(**part) for part in document["floor"]),
            }
        )

    def with_analysis(
        self, floor: Sequence[Part], stages: dict[str, float], profile: dict[str, float]
    ) -> Compared:
        return evolve(self, floor=floor, stages=stages, profile=profile)

    @property
    def wall_ratio(self) -> Ratio:
        return Ratio.of(self.ours.wall, self.peer.wall)

    @property
    def cpu_ratio(self) -> Ratio:
        return Ratio.of(self.ours.cpu, self.peer.cpu)


@frozen
class Traced:
    """The result of a curve.

    Attributes:
        name: Of the curve.
        title: Its title.
        text: What was done, and what bounds it.
        machine: When and where.
        series: What was measured.
    """

    name: str
    title: str
    text: str
    machine: str
    series: Sequence[Series]

    @classmethod
    def of(cls, curve: Curve, series: Sequence[Series]) -> Traced:
        """Enter what a curve measured."""
        return cls(curve.name, curve.title, curve.text, machine(), series)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Traced:
        series = tuple(Series(**each) for each in document["series"])
        return cls(**{**document, "series": series})


Result = Compared | Traced


def write(result: Result, directory: Path) -> None:
    """Write a result to its file."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(result), indent=1, ensure_ascii=False)
    (directory / f"{result.name}.json").write_text(text + "\n")


def read(name: str, directory: Path) -> Result | None:
    """Read the result of that name, if there is one."""
    path = directory / f"{name}.json"
    if not path.exists():
        return None
    document = json.loads(path.read_text())
    return Traced.from_json(document) if "series" in document else Compared.from_json(document)
