"""Compares pycontainer with other programs, each doing the same work in turn."""

from __future__ import annotations

from benchmarks.cases import (
    builds,
    containers,
    creation,
    daemons,
    extraction,
    growth,
    many,
    pulls,
    pushes,
    serving,
)

__all__: list[str] = []

# In the order of the report.
_ = (containers, daemons, many, pulls, extraction, creation, pushes, serving, builds, growth)
