"""What the transfer of an image tells while it goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from pycontainer.layers import StageCost
    from pycontainer.oci import Descriptor, Digest, Reference

__all__ = [
    "Event",
    "LayerDone",
    "LayerProgress",
    "LayerStarted",
    "Progress",
    "TransferDone",
    "TransferStarted",
    "one_at_a_time",
]


@frozen
class TransferStarted:
    """The manifest is known.

    Attributes:
        reference: The image's name; None where it has none.
        digest: Of the manifest.
        layers: What will be looked at, each once.
    """

    reference: Reference | None
    digest: Digest
    layers: tuple[Descriptor, ...]


@frozen
class LayerStarted:
    """The bytes of a layer begin to move."""

    layer: Descriptor


@frozen
class LayerProgress:
    """Some bytes of a layer have moved.

    Attributes:
        layer: Which one.
        done: Its compressed bytes so far.
        entries: Files and directories unpacked so far; 0 where nothing is unpacked.
        stages: What each stage of unpacking has done so far; none where nothing is unpacked.
    """

    layer: Descriptor
    done: int
    entries: int = 0
    stages: tuple[StageCost, ...] = ()


@frozen
class LayerDone:
    """A layer is where it should be.

    Attributes:
        layer: Which one.
        reused: Whether it was there already.
        seconds: How long it took, from `LayerStarted`.
        stages: What each stage of unpacking has done; none where nothing was unpacked.
    """

    layer: Descriptor
    reused: bool
    seconds: float = 0.0
    stages: tuple[StageCost, ...] = ()

    @property
    def bound(self) -> StageCost | None:
        """The stage that worked longest, and so kept the others waiting; None if there was none."""
        return max(self.stages, key=lambda stage: stage.seconds, default=None)


@frozen
class TransferDone:
    """All of the image is there, and named."""

    reference: Reference | None
    digest: Digest


Event = TransferStarted | LayerStarted | LayerProgress | LayerDone | TransferDone
Progress = Callable[[Event], None]
"""Takes the events of a transfer, one at a time, on whatever thread they happen."""


def one_at_a_time(progress: Progress | None) -> Progress:
    """Guard a callback, so that it need not care for threads."""
    if progress is None:
        return lambda event: None  # noqa: ARG005  (nobody wants to know)
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            progress(event)

    return tell
