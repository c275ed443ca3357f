"""Health checks: how a container is asked whether it does its work, and what it answered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import frozen

from pycontainer.errors import ContainerError
from pycontainer.oci import Healthcheck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pycontainer.oci import ContainerConfig

__all__ = ["Health", "HealthCheck", "HealthProbe", "HealthStatus", "read_health", "resolve"]

HealthStatus = Literal["starting", "healthy", "unhealthy"]
_NANOSECONDS: Final = 1e9
_SHELL: Final = ("/bin/sh", "-c")
# Docker's, where neither image nor caller says something else.
_INTERVAL: Final = 30.0
_TIMEOUT: Final = 30.0
_RETRIES: Final = 3
_START_INTERVAL: Final = 5.0
_SHORTEST: Final = 0.001


@frozen
class HealthCheck:
    """How a container is asked for its health. What is left out is the image's, else the default.

    Attributes:
        test: Command and arguments; a string is run by the image's shell. It says with exit code 0 that
            the container is healthy.
        interval: Seconds from the end of one check to the next; 30.
        timeout: Seconds that a check may take; 30.
        retries: How many failures in a row make it unhealthy; 3.
        start_period: Seconds after the start in which failures do not count; 0.
        start_interval: As `interval`, during that time, until the first success; 5.
    """

    test: Sequence[str] | str = ()
    interval: float | None = None
    timeout: float | None = None
    retries: int | None = None
    start_period: float | None = None
    start_interval: float | None = None


@frozen
class HealthProbe:
    """One health check and its result.

    Attributes:
        begun: Seconds since the epoch.
        ended: Likewise.
        exit_code: 0 is health; -1 where the command could not be run or took too long.
        output: The first 4096 bytes of what it wrote.
    """

    begun: float
    ended: float
    exit_code: int
    output: str


@frozen
class Health:
    """What the health checks of a container have told.

    Attributes:
        status: ``starting`` before the first result that counts, then ``healthy`` or ``unhealthy``.
        failing_streak: How many failures there have been since the last success.
        log: The last five checks, oldest first.
    """

    status: HealthStatus
    failing_streak: int
    log: tuple[HealthProbe, ...]


def resolve(
    wanted: HealthCheck | Literal["image", "none"] | None, config: ContainerConfig
) -> dict[str, Any] | None:
    """The check of a container as its monitor has to know it; None for no check.

    Args:
        wanted: What the caller wants.
        config: The image's config.

    Raises:
        ContainerError: A number makes no sense.
    """
    if wanted is None or wanted == "none":
        return None
    given = HealthCheck() if wanted == "image" else wanted
    of_image = config.healthcheck or Healthcheck()
    args = _command(given.test, config) or _image_command(of_image, config)
    if not args:
        if wanted != "image":
            raise ContainerError(
                "a health check without a command: neither the image nor the caller has one",
                remedy="give HealthCheck(test=...)",
            )
        return None
    check: dict[str, Any] = {
        "args": list(args),
        "interval": _seconds(given.interval, of_image.interval, _INTERVAL),
        "timeout": _seconds(given.timeout, of_image.timeout, _TIMEOUT),
        "retries": given.retries or of_image.retries or _RETRIES,
        "start_period": _seconds(given.start_period, of_image.start_period, 0.0),
        "start_interval": _seconds(given.start_interval, of_image.start_interval, _START_INTERVAL),
    }
    for name in ("interval", "timeout", "start_interval", "retries"):
        if check[name] < _SHORTEST:
            raise ContainerError(f"{name} {check[name]} of a health check is too short")
    return check


def _command(test: Sequence[str] | str, config: ContainerConfig) -> tuple[str, ...]:
    if isinstance(test, str):
        return (*(config.shell or _SHELL), test) if test else ()
    return tuple(test)


def _image_command(check: Healthcheck, config: ContainerConfig) -> tuple[str, ...]:
    kind, *words = check.test or ("NONE",)
    if kind == "CMD-SHELL":
        return _command(" ".join(words), config)
    return tuple(words) if kind == "CMD" else ()


def _seconds(given: float | None, of_image: int, default: float) -> float:
    if given is not None:
        return float(given)
    return of_image / _NANOSECONDS if of_image else default


def read_health(home: Path) -> Health | None:
    """What the monitor has written down; None if there is no check."""
    try:
        document: Mapping[str, Any] = json.loads((home / "health.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    probes = (HealthProbe(**entry) for entry in document["log"])
    return Health(document["status"], document["failing_streak"], tuple(probes))
