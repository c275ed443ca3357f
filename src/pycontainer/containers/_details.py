"""All that is known of a container at one moment, as a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer.containers._health import Health, read_health
from pycontainer.containers._record import Record, read_record
from pycontainer.containers._upkeep import Upkeep
from pycontainer.errors import ContainerStateError
from pycontainer.oci import ContainerConfig, Digest
from pycontainer.oci.runtime import RuntimeSpec
from pycontainer.runtime import name_of, numbers, read_exit, read_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pycontainer.containers._life import Status

__all__ = ["Details", "look"]


@frozen(kw_only=True)
class Details:
    """What `Container.inspect` tells.

    Attributes:
        id: 64 hexadecimal digits.
        name: The name it has.
        image: Reference of the image, or its id where it has no name.
        image_digest: Digest of the image's manifest.
        labels: What the caller wrote on it.
        state: As `Container.state`.
        detached: Whether it outlives the program that started it.
        created_at: Seconds since the epoch.
        started_at: Likewise; None before its command was executed.
        finished_at: Likewise; None as long as it runs, or if nobody saw it end.
        pid: Of its first process on the host; None when it does not run.
        exit_code: 128 + n after signal n; None while it runs, or if nobody saw it end.
        oom_killed: Whether the kernel killed some of it for want of memory.
        stop_signal: What `Container.stop` sends first.
        stop_timeout: Seconds that it then waits.
        restart: Its restart policy.
        restart_count: How often that has started it again since somebody started it.
        health: What its health checks have told; None if it has none.
        log_path: The file with its output; the newest, where there are several.
        config: The image's config with what the caller wanted instead.
        spec: The runtime-spec document by which it was started.
    """

    id: str
    name: str
    image: str
    image_digest: Digest
    labels: Mapping[str, str]
    state: Status
    detached: bool
    created_at: float
    started_at: float | None
    finished_at: float | None
    pid: int | None
    exit_code: int | None
    oom_killed: bool
    stop_signal: str
    stop_timeout: float
    restart: str
    restart_count: int
    health: Health | None
    log_path: Path
    config: ContainerConfig
    spec: RuntimeSpec


def look(home: Path, record: Record, name: str, status: Status) -> Details:
    """Read what is written down of a container.

    Raises:
        ContainerStateError: It is gone, or not yet started.
    """
    try:
        spec = RuntimeSpec.parse((home / "config.json").read_bytes())
    except FileNotFoundError as error:
        raise ContainerStateError(f"container {name} is gone, or not yet started") from error
    state, ended = read_state(home), read_exit(home)
    upkeep = Upkeep.from_json((read_record(home) or record).upkeep)
    return Details(
        id=record.id,
        name=name,
        image=record.image,
        image_digest=Digest.parse(record.manifest["digest"]),
        labels=record.labels,
        state=status,
        detached=record.detached,
        created_at=record.created_at,
        started_at=state.started_at if state is not None else None,
        finished_at=ended.finished_at if ended is not None else None,
        pid=state.pid if state is not None and status in ("running", "paused") else None,
        exit_code=ended.exit_code if ended is not None else None,
        oom_killed=ended is not None and ended.oom_killed,
        stop_signal=record.stop_signal,
        stop_timeout=upkeep.stop_timeout,
        restart=str(upkeep.restart),
        restart_count=max((said.restarts for said in (state, ended) if said), default=0),
        health=read_health(home),
        log_path=home / name_of(max(numbers(str(home)), default=0)),
        config=ContainerConfig.from_json(record.config),
        spec=spec,
    )
