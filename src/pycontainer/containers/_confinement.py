"""What few containers need of rights and limits, kept out of the long lists of options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from pycontainer._linux import capability
from pycontainer.errors import ContainerError
from pycontainer.oci.runtime import Capabilities
from pycontainer.runtime import is_rootless

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainer.oci.runtime import Mount, Process, Resources, RuntimeSpec

__all__ = ["Limits", "Security"]

_PREFIX: Final = "CAP_"
_ALL: Final = "ALL"


@frozen(kw_only=True)
class Security:
    """Rights of a container beside or below the default ones.

    Attributes:
        cap_add: Capabilities that it gets, with or without ``CAP_``; ``ALL`` for all that this
            program has.
        cap_drop: Capabilities that it does not get; ``ALL`` for none but those of `cap_add`.
        sysctls: Kernel parameters of its own namespaces, such as ``net.ipv4.ip_forward``.
        masked_paths: Paths that show nothing, in place of the default ones.
        readonly_paths: Paths that can only be read, in place of the default ones.
    """

    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    sysctls: Mapping[str, str] = field(factory=dict)
    masked_paths: Sequence[str] | None = None
    readonly_paths: Sequence[str] | None = None

    def apply(self, spec: RuntimeSpec) -> RuntimeSpec:
        """The document with these rights.

        Raises:
            ContainerError: There is no such capability.
        """
        changes: dict[str, object] = {"process": self._with_capabilities(spec.process)}
        if self.sysctls:
            changes["sysctl"] = {**spec.sysctl, **self.sysctls}
        if self.masked_paths is not None:
            changes["masked_paths"] = tuple(self.masked_paths)
        if self.readonly_paths is not None:
            changes["readonly_paths"] = tuple(self.readonly_paths)
        return spec.evolve(**changes)

    def _with_capabilities(self, process: Process) -> Process:
        add, drop = _names(self.cap_add), _names(self.cap_drop)
        base = process.capabilities.bounding
        if _ALL in add:
            base = _all_that_can_be_given()
        elif _ALL in drop:
            base = ()
        kept = [name for name in base if name not in drop]
        names = tuple(dict.fromkeys([*kept, *(name for name in add if name != _ALL)]))
        active = names if process.user.uid == 0 else ()
        return evolve(
            process,
            capabilities=Capabilities(bounding=names, effective=active, permitted=active),
        )


@frozen(kw_only=True)
class Limits:
    """Limits of a container beside ``memory``, ``cpus`` and ``pids``.

    Attributes:
        memory_swap: Bytes of memory and swap together, at least `memory`; -1 for no limit of swap.
        cpu_shares: Its weight where processors are scarce; others have 1024.
        cpuset: The processors it may use, such as ``0-2,4``.
        oom_score_adj: From -1000 to 1000: how soon the kernel kills it for want of memory.
        shm_size: Bytes of ``/dev/shm``; None for 64 MiB.
    """

    memory_swap: int | None = None
    cpu_shares: int | None = None
    cpuset: str = ""
    oom_score_adj: int | None = None
    shm_size: int | None = None

    def apply(self, spec: RuntimeSpec) -> RuntimeSpec:
        """The document with these limits."""
        process, mounts = spec.process, spec.mounts
        if self.oom_score_adj is not None:
            process = evolve(process, oom_score_adj=self.oom_score_adj)
        if self.shm_size is not None:
            mounts = tuple(self._sized(mount) for mount in mounts)
        resources = self._of(spec.resources)
        return spec.evolve(process=process, mounts=mounts, resources=resources)

    def _of(self, resources: Resources) -> Resources:
        return evolve(
            resources,
            memory_swap=self.memory_swap,
            cpu_shares=self.cpu_shares,
            cpuset=self.cpuset,
        )

    def _sized(self, mount: Mount) -> Mount:
        if mount.destination != "/dev/shm" or mount.type != "tmpfs":  # noqa: S108
            return mount
        options = [option for option in mount.options if not option.startswith("size=")]
        return evolve(mount, options=(*options, f"size={self.shm_size}"))


def _all_that_can_be_given() -> tuple[str, ...]:
    """Of root those that this process has; an ordinary user's user namespace has all."""
    if is_rootless():
        return capability.NAMES
    with open("/proc/self/status") as status:
        permitted = int(status.read().partition("CapPrm:")[2].split()[0], 16)
    return tuple(name for bit, name in enumerate(capability.NAMES) if permitted >> bit & 1)


def _names(words: Sequence[str]) -> list[str]:
    names = []
    for word in words:
        name = word.upper()
        if name != _ALL and not name.startswith(_PREFIX):
            name = _PREFIX + name
        if name != _ALL and name not in capability.NAMES:
            raise ContainerError(
                f"there is no capability {word!r}",
                remedy="write it as capabilities(7) does, such as NET_ADMIN",
            )
        names.append(name)
    return names
