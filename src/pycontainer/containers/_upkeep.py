"""What is done for a container beyond one run of it: how it is stopped, and started again."""

from __future__ import annotations

import signal as signals
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from attrs import asdict, evolve, field, frozen

from pycontainer.containers._health import HealthCheck, resolve
from pycontainer.containers._logs import LogOptions
from pycontainer.errors import ContainerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainer.oci import ContainerConfig

__all__ = ["GRACE_SECONDS", "HELD", "RestartPolicy", "Upkeep", "signal_number"]

GRACE_SECONDS: Final = 10.0
HELD: Final = "held"
"""The file in a container's directory that says: whoever may, has stopped it on purpose."""

_POLICIES: Final = ("no", "on-failure", "always", "unless-stopped")


@frozen
class RestartPolicy:
    """When a container that has ended is started again.

    Attributes:
        name: ``no``, ``on-failure``, ``always`` or ``unless-stopped``.
        most: Of ``on-failure`` how many restarts at most; 0 for any number.
    """

    name: str = "no"
    most: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what Docker writes, such as ``on-failure:3``.

        Raises:
            ContainerError: It is no policy.
        """
        name, colon, number = text.partition(":")
        if name not in _POLICIES or (colon and (name != "on-failure" or not number.isdecimal())):
            raise ContainerError(
                f"{text!r} is no restart policy",
                remedy="use no, on-failure, on-failure:<most restarts>, always or unless-stopped",
            )
        return cls(name, int(number or 0))

    def __str__(self) -> str:
        return f"{self.name}:{self.most}" if self.most else self.name


@frozen(kw_only=True)
class Upkeep:
    """The options of a container that matter when it ends.

    Attributes:
        stop_signal: What `Container.stop` sends first; None for the image's, else SIGTERM.
        stop_timeout: Seconds that `Container.stop` waits after it.
        restart: Its restart policy.
        healthcheck: How it is asked for its health.
        log: What becomes of its output.
        health: That as its monitor has to know it, once the image is known.
    """

    stop_signal: str | None = None
    stop_timeout: float = GRACE_SECONDS
    restart: RestartPolicy = RestartPolicy()
    healthcheck: HealthCheck | Literal["image", "none"] | None = None
    log: LogOptions = field(factory=LogOptions)
    health: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        *,
        stop_signal: str | None,
        stop_timeout: float,
        restart: str,
        healthcheck: HealthCheck | Literal["image", "none"] | None,
        log: LogOptions | Literal["none"] | None,
    ) -> Self:
        """The options as a caller gives them.

        Raises:
            ContainerError: There is no such signal or policy.
        """
        if stop_signal is not None:
            signal_number(stop_signal)
        return cls(
            stop_signal=stop_signal,
            stop_timeout=stop_timeout,
            restart=RestartPolicy.parse(restart),
            healthcheck=healthcheck,
            log=LogOptions.of(log),
        )

    def for_image(self, config: ContainerConfig) -> Self:
        """The options with what the image says.

        Raises:
            ContainerError: The health check makes no sense.
        """
        return evolve(self, health=resolve(self.healthcheck, config))

    def to_json(self) -> dict[str, Any]:
        """What is written down in the container's record."""
        return {
            "stop_timeout": self.stop_timeout,
            "restart": str(self.restart),
            "health": self.health,
            "log": asdict(self.log),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What `to_json` wrote."""
        return cls(
            stop_timeout=document["stop_timeout"],
            restart=RestartPolicy.parse(document["restart"]),
            health=document["health"],
            log=LogOptions(**document["log"]),
        )

    def to_wire(self) -> dict[str, object]:
        """What the monitor has to know; empty where it is nothing."""
        if self.restart.name == "no" and self.health is None and self.log.max_size is None:
            return {}
        return {
            "restart": [self.restart.name, self.restart.most],
            "health": None if self.health is None else dict(self.health),
            "log": [] if self.log.max_size is None else [self.log.max_size, self.log.max_files],
        }


def signal_number(signal: int | str) -> int:
    """The number of a signal by its name, with or without ``SIG``, or its number.

    Raises:
        ContainerError: There is none such.
    """
    if isinstance(signal, int) or signal.isdecimal():
        number = int(signal)
        if 0 < number < signals.NSIG:
            return number
    else:
        name = signal.upper()
        name = name if name.startswith("SIG") else f"SIG{name}"
        base, plus, offset = name.partition("+")
        if base in signals.Signals.__members__:
            number = signals.Signals[base].value
            return number + int(offset) if plus and offset.isdecimal() else number
    raise ContainerError(
        f"there is no signal {signal!r}", remedy="write it as signal(7) does, such as SIGTERM"
    )
