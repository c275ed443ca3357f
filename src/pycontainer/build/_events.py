"""What a build tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from attrs import frozen

if TYPE_CHECKING:
    from pycontainer.oci import Digest

__all__ = ["Event", "Progress", "VertexCached", "VertexFinished", "VertexLog", "VertexStarted"]


@frozen
class VertexStarted:
    """A step has begun: its cache keys are computed, then it is found in the cache or executed.

    Attributes:
        vertex: Identifies the step within its build.
        title: The step as a Dockerfile would have it, such as ``COPY src /app``.
    """

    vertex: Digest
    title: str


@frozen
class VertexCached:
    """A step was not executed because a cache holds its result. `VertexFinished` follows.

    Attributes:
        vertex: Identifies the step.
        title: The step.
        imported: Whether the result came from a cache elsewhere (``cache_from``).
    """

    vertex: Digest
    title: str
    imported: bool = False


@frozen
class VertexLog:
    """A piece of what a step's command writes, as it comes: not necessarily whole lines.

    Attributes:
        vertex: Identifies the step.
        title: The step.
        stream: Which of its streams.
        text: Decoded from UTF-8; what is not UTF-8 is replaced.
    """

    vertex: Digest
    title: str
    stream: Literal["stdout", "stderr"]
    text: str


@frozen
class VertexFinished:
    """A step has ended.

    Attributes:
        vertex: Identifies the step.
        title: The step.
        seconds: How long it took.
        error: What went wrong; None if nothing did.
    """

    vertex: Digest
    title: str
    seconds: float
    error: str | None = None


Event = VertexStarted | VertexCached | VertexLog | VertexFinished
"""Everything that a build tells."""

Progress = Callable[[Event], None]
"""Receives events one at a time, from the threads of the build."""
