"""What is written down of a container when it is made: ``container.json`` in its directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from attrs import asdict, field, frozen

from pycontainer.containers._upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pycontainer.oci.runtime import RuntimeSpec
    from pycontainer.snapshots import RootfsPlan

__all__ = ["New", "Record", "read_record", "write_record"]

_RECORD: Final = "container.json"


@frozen
class Record:
    """What is written down of a container when it is made.

    Attributes:
        rootfs: How its files are mounted: a plan's plain values.
        manifest: Descriptor of the image, likewise.
        config: The image's config with what the caller wanted instead, likewise.
        stdin: Whether its standard input is open.
        remove: Whether it goes with its end.
        kept: Whether it was made to be started later.
        upkeep: What is done beyond one run, likewise.
        network: How it is connected, likewise.
    """

    id: str
    name: str
    image: str
    labels: Mapping[str, str]
    created_at: float
    detached: bool
    stop_signal: str
    rootfs: Mapping[str, Any]
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]
    stdin: bool = False
    remove: bool = False
    kept: bool = False
    upkeep: Mapping[str, Any] = field(factory=lambda: Upkeep().to_json())
    network: Mapping[str, Any] = field(factory=dict)

    def event_attributes(self) -> dict[str, str]:
        """What events of the container tell of it."""
        return {**self.labels, "image": self.image, "name": self.name}


@frozen
class New:
    """A container that is ready to be launched.

    Attributes:
        record: What is written down of it.
        directory: Its own.
        spec: What it is.
        rootfs: How its files are mounted.
        complete: Makes the files that are mounted, if they are still to be made.
    """

    record: Record
    directory: Path
    spec: RuntimeSpec
    rootfs: RootfsPlan
    complete: Callable[[], None] | None = None

    @property
    def events(self) -> tuple[str, str, str]:
        """Where its monitor records events, and as whose."""
        place = str(self.directory.parent.parent / "events")
        return place, self.record.id, json.dumps(self.record.event_attributes())[1:-1]

    def write_down(self) -> None:
        """Write its record into its directory."""
        write_record(self.directory, self.record)


def write_record(home: Path, record: Record) -> None:
    """Write down what a container is, in place of what was written before."""
    new = home / f".{_RECORD}.new"
    new.write_text(json.dumps(asdict(record)))
    new.replace(home / _RECORD)


def read_record(home: Path) -> Record | None:
    """What is written down of a container; None if it is gone, in the making, or of another version."""
    try:
        return Record(**json.loads((home / _RECORD).read_bytes()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None  # gone; or in the making; or of a version that wrote down other things
