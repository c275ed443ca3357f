"""What the unpacking of a layer tells while it goes on."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

__all__ = ["LayerEvent", "StageCost", "StageName"]

StageName = Literal["receive", "digest", "decompress", "diff_id", "write"]
"""The stages of the pipeline, in the order in which a byte comes through them."""


@frozen
class StageCost:
    """What one stage has done so far.

    The stages work at the same time, so their seconds do not add up: the one that worked nearly
    all the time is what bounds the layer.

    Attributes:
        name: ``receive``: waiting for the source and reading it; ``digest``: of the compressed bytes,
            and storing them; ``decompress``; ``diff_id``: digest of the tar; ``write``: parsing the
            tar, and writing files or the index.
        seconds: How long it worked, or waited for the outer world, but not for another stage.
        bytes: What has gone through it: compressed up to ``digest``, of the tar from ``decompress``.
    """

    name: StageName
    seconds: float
    bytes: int


@frozen
class LayerEvent:
    """How far a layer has come.

    Attributes:
        received: Compressed bytes so far.
        unpacked: Uncompressed bytes so far.
        entries: Entries so far.
        seconds: Since the beginning.
        done: Whether this is the last event of the layer.
        stages: What each stage has done; exact with the last event.
    """

    received: int
    unpacked: int
    entries: int
    seconds: float
    done: bool = False
    stages: tuple[StageCost, ...] = ()
