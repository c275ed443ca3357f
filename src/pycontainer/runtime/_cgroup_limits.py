"""The limits of a container as files to write: for the v1 controllers and for v2."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer.errors import SpecError

if TYPE_CHECKING:
    from pycontainer.oci.runtime import Resources

__all__ = ["NO_LIMIT", "Limit", "Write", "limits"]

_PERIOD = 100_000
NO_LIMIT = -1
"""What the runtime specification writes for a limit that is to be lifted."""


@frozen
class Write:
    """A file to write. One that does not exist is an error only if it is `required`."""

    path: str
    data: str
    required: bool = True


@frozen
class Limit:
    """What one controller is asked for: the same in the files of v1 and of v2.

    Attributes:
        feature: What the limit is called in errors.
        controller: The controller's name in v1.
        v1: Files of the v1 controller to write.
        v2: Files of the v2 controller to write; empty where it has none for this.
        v2_controller: The controller's name in v2, where that is another.
    """

    feature: str
    controller: str
    v1: tuple[Write, ...]
    v2: tuple[Write, ...]
    v2_controller: str = ""

    @property
    def in_v2(self) -> str:
        """The controller's name in v2."""
        return self.v2_controller or self.controller


def limits(resources: Resources, *, lift: bool = False) -> list[Limit]:
    """What the controllers are asked for.

    Args:
        resources: The limits.
        lift: Whether those that are `NO_LIMIT` are there now; a new group has none.

    Raises:
        SpecError: The limits contradict each other.
    """
    made = (
        _no_memory_limit(resources, lift=lift) or _memory(resources),
        _memory_reservation(resources),
        *_v1_memory(resources),
        _cpu(resources, lift=lift),
        _cpuset(resources),
        _pids(resources, lift=lift),
        _block_io(resources),
    )
    return [limit for limit in made if limit is not None]


def _no_memory_limit(resources: Resources, *, lift: bool) -> Limit | None:
    if not lift or resources.memory != NO_LIMIT:
        return None
    # In this order: the limit of memory cannot be above that of memory and swap.
    v1 = (
        Write("memory.memsw.limit_in_bytes", "-1", required=False),
        Write("memory.limit_in_bytes", "-1"),
    )
    v2 = (Write("memory.max", "max"), Write("memory.swap.max", "max", required=False))
    return Limit("no memory limit", "memory", v1, v2)


def _memory(resources: Resources) -> Limit | None:
    limit, total = resources.memory, resources.memory_swap
    if limit is None or limit <= 0:
        if total is not None and total > 0:
            raise SpecError(
                "a limit of memory and swap needs one of memory", path="linux.resources.memory.swap"
            )
        return None
    # As Docker does, unless told otherwise: as much swap as memory.
    wanted = total or 2 * limit
    if 0 < wanted < limit:
        raise SpecError(
            f"the limit of memory and swap, {wanted}, is below that of memory, {limit}",
            path="linux.resources.memory.swap",
        )
    swap = "max" if wanted < 0 else str(wanted - limit)
    # Kernels without swap accounting lack these files.
    required = bool(total) and wanted > 0
    return Limit(
        "a memory limit",
        "memory",
        (
            Write("memory.limit_in_bytes", str(limit)),
            Write("memory.memsw.limit_in_bytes", str(wanted), required),
        ),
        (Write("memory.max", str(limit)), Write("memory.swap.max", swap, required)),
    )


def _memory_reservation(resources: Resources) -> Limit | None:
    reserved = resources.memory_reservation
    if reserved is None or reserved <= 0:
        return None
    return Limit(
        "a memory reservation",
        "memory",
        (Write("memory.soft_limit_in_bytes", str(reserved)),),
        (Write("memory.low", str(reserved)),),
    )


def _v1_memory(resources: Resources) -> list[Limit]:
    """What only the v1 controller can do."""
    made = []
    if resources.swappiness is not None:
        write = Write("memory.swappiness", str(resources.swappiness))
        made.append(Limit("a swappiness of its own", "memory", (write,), ()))
    if resources.disable_oom_killer:
        write = Write("memory.oom_control", "1")
        made.append(Limit("waiting for memory in place of the OOM killer", "memory", (write,), ()))
    return made


def _cpu(resources: Resources, *, lift: bool) -> Limit | None:
    v1, v2 = list[Write](), list[Write]()
    quota, period = resources.cpu_quota, resources.cpu_period or _PERIOD
    if resources.cpu_period and (quota is None or quota <= 0) and not (lift and quota == NO_LIMIT):
        v1.append(Write("cpu.cfs_period_us", str(period)))
        v2.append(Write("cpu.max", f"max {period}"))
    if lift and quota == NO_LIMIT:
        v1.append(Write("cpu.cfs_quota_us", "-1"))
        v2.append(Write("cpu.max", f"max {period}"))
    elif quota is not None and quota > 0:
        v1 += [Write("cpu.cfs_period_us", str(period)), Write("cpu.cfs_quota_us", str(quota))]
        v2.append(Write("cpu.max", f"{quota} {period}"))
    if resources.cpu_shares:
        v1.append(Write("cpu.shares", str(resources.cpu_shares)))
        v2.append(Write("cpu.weight", str(_weight(resources.cpu_shares))))
    return Limit("a CPU limit", "cpu", tuple(v1), tuple(v2)) if v1 else None


def _weight(shares: int) -> int:
    """The v2 weight for v1 shares, so that the lowest, default and highest values correspond.

    These are 2, 1024 and 262144 there, and 1, 100 and 10000 here; a parabola in the exponents leads
    through the three points, as in the current releases of runc and crun.
    """
    power = math.log2(min(max(shares, 2), 262144))
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def _cpuset(resources: Resources) -> Limit | None:
    wanted = {"cpuset.cpus": resources.cpuset, "cpuset.mems": resources.cpuset_mems}
    writes = tuple(Write(name, value) for name, value in wanted.items() if value)
    return Limit("a set of CPUs", "cpuset", writes, writes) if writes else None


def _pids(resources: Resources, *, lift: bool) -> Limit | None:
    most = resources.pids
    if most is None or (most <= 0 and not (lift and most == NO_LIMIT)):
        return None
    writes = (Write("pids.max", "max" if most == NO_LIMIT else str(most)),)
    return Limit("a limit of processes", "pids", writes, writes)


def _block_io(resources: Resources) -> Limit | None:
    """The weight of the bfq scheduler, the one that is left of those which had weights."""
    weight = resources.block_io_weight
    if not weight:
        return None
    writes = (Write("blkio.bfq.weight", str(weight)),)
    return Limit(
        "a weight of block I/O", "blkio", writes, (Write("io.bfq.weight", str(weight)),), "io"
    )
