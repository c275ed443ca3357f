"""What a container may use of memory, processors and disks beside the common limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from pycontainer.errors import ContainerError

if TYPE_CHECKING:
    from pycontainer.oci.runtime import Mount, Resources, RuntimeSpec

__all__ = ["Limits"]

_RANGES = {
    "cpu_period": (1_000, 1_000_000),
    "cpu_quota": (1_000, 1 << 44),
    "cpu_shares": (2, 262_144),
    "io_weight": (10, 1_000),
    "memory_reservation": (1, 1 << 62),
    "memory_swap": (-1, 1 << 62),
    "oom_score_adj": (-1_000, 1_000),
    "shm_size": (1, 1 << 62),
    "swappiness": (0, 100),
}


@frozen(kw_only=True)
class Limits:
    """Limits of a container beside ``memory``, ``cpus`` and ``pids``.

    Where the kernel's controller lacks the knob, the start raises `UnsupportedFeature`.

    Attributes:
        memory_swap: Bytes of memory and swap together, at least `memory`; -1 for no limit of swap.
        memory_reservation: Bytes of memory that are left to it when memory is scarce; below `memory`.
        swappiness: From 0 to 100: how readily its memory is swapped out. Only control groups v1.
        oom_kill_disable: Whether its processes wait for memory rather than be killed for want of it.
            Only control groups v1.
        oom_score_adj: From -1000 to 1000: how soon the kernel kills it for want of memory.
        cpu_shares: Its weight where processors are scarce; others have 1024.
        cpu_quota: Microseconds of processor time in each `cpu_period`; instead of ``cpus``.
        cpu_period: Microseconds; None for 100,000.
        cpuset: The processors it may use, such as ``0-2,4``.
        cpuset_mems: The memory nodes it may use.
        io_weight: From 10 to 1000: its weight where disks are busy.
        cgroup_parent: The control group in which its own is made, in place of ``/pycontainer``.
        shm_size: Bytes of ``/dev/shm``; None for 64 MiB.
    """

    memory_swap: int | None = None
    memory_reservation: int | None = None
    swappiness: int | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int | None = None
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpuset: str = ""
    cpuset_mems: str = ""
    io_weight: int | None = None
    cgroup_parent: str = ""
    shm_size: int | None = None

    def apply(self, spec: RuntimeSpec, container_id: str) -> RuntimeSpec:
        """The document with these limits.

        Raises:
            ContainerError: A limit is out of its range, or contradicts another.
        """
        if self == _NONE:  # as most are
            return spec
        self._check(spec.resources)
        process, mounts, path = spec.process, spec.mounts, spec.cgroups_path
        if self.oom_score_adj is not None:
            process = evolve(process, oom_score_adj=self.oom_score_adj)
        if self.shm_size is not None:
            mounts = tuple(self._sized(mount) for mount in mounts)
        if self.cgroup_parent:
            path = f"{self._parent()}/{container_id}"
        resources = self._of(spec.resources)
        return spec.evolve(process=process, mounts=mounts, resources=resources, cgroups_path=path)

    def change(self, spec: RuntimeSpec) -> RuntimeSpec:
        """The document of a container that is there with these limits in place of its own.

        Raises:
            ContainerError: A limit is out of its range, or cannot be changed any more.
        """
        if self.shm_size is not None or self.cgroup_parent or self.oom_score_adj is not None:
            raise ContainerError(
                "shm_size, cgroup_parent and oom_score_adj are of a container's start",
                remedy="make another container",
            )
        self._check(evolve(spec.resources, cpu_quota=None))
        wanted = {
            "memory_swap": self.memory_swap,
            "memory_reservation": self.memory_reservation,
            "swappiness": self.swappiness,
            "disable_oom_killer": self.oom_kill_disable or None,
            "cpu_shares": self.cpu_shares,
            "cpu_quota": self.cpu_quota,
            "cpu_period": self.cpu_period,
            "cpuset": self.cpuset or None,
            "cpuset_mems": self.cpuset_mems or None,
            "block_io_weight": self.io_weight,
        }
        changed = {name: value for name, value in wanted.items() if value is not None}
        return spec.evolve(resources=evolve(spec.resources, **changed))  # type: ignore[arg-type]

    def _check(self, resources: Resources) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ContainerError(f"{name}={value} is not in {least} to {most}")
        if self.cpu_quota is not None and resources.cpu_quota is not None:
            raise ContainerError(
                "both cpus and cpu_quota limit the processor time", remedy="give one of them"
            )
        memory, reserved = resources.memory, self.memory_reservation
        if memory is not None and reserved is not None and reserved > memory:
            raise ContainerError(f"memory_reservation={reserved} is above memory={memory}")

    def _of(self, resources: Resources) -> Resources:
        return evolve(
            resources,
            memory_swap=self.memory_swap,
            memory_reservation=self.memory_reservation,
            swappiness=self.swappiness,
            disable_oom_killer=self.oom_kill_disable,
            cpu_shares=self.cpu_shares,
            cpu_quota=resources.cpu_quota if self.cpu_quota is None else self.cpu_quota,
            cpu_period=resources.cpu_period if self.cpu_period is None else self.cpu_period,
            cpuset=self.cpuset,
            cpuset_mems=self.cpuset_mems,
            block_io_weight=self.io_weight,
        )

    def _parent(self) -> str:
        parts = self.cgroup_parent.strip("/").split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ContainerError(
                f"cgroup_parent={self.cgroup_parent!r} names no control group",
                remedy="give a path such as /jobs/nightly",
            )
        return "/" + "/".join(parts)

    def _sized(self, mount: Mount) -> Mount:
        if mount.destination != "/dev/shm" or mount.type != "tmpfs":  # noqa: S108
            return mount
        options = [option for option in mount.options if not option.startswith("size=")]
        return evolve(mount, options=(*options, f"size={self.shm_size}"))


_NONE: Final = Limits()
