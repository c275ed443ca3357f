"""What a container shares with the host or with another container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from pycontainer.errors import ContainerError, UnsupportedFeature
from pycontainer.oci.runtime import Mount, Namespace
from pycontainer.runtime import OWNER, is_rootless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pycontainer.oci.runtime import RuntimeSpec

__all__ = ["Namespaces"]

_OTHER: Final = "container:"
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108


@frozen(kw_only=True)
class Namespaces:
    """What a container shares.

    Each is ``private``, ``host`` or ``container:`` with the name or id of a container that runs in the
    same store; which one that is is found out at each start.

    Attributes:
        pid: The processes that it sees and may signal. Such a container ends with its first process all
            the same.
        ipc: System V and POSIX message queues, semaphores and shared memory, ``/dev/shm`` with them.
        uts: The names of host and domain.
        cgroup: What it sees as the top of the control groups; ``private`` or ``host``.
        user: ``host``: users in it are those of the machine. Of an ordinary user's container they are
            always its own, and of root's always the machine's: None for that.
    """

    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    cgroup: str = "private"
    user: str | None = None

    @property
    def own_names(self) -> bool:
        """Whether the container has names of host and domain of its own."""
        return self.uts == "private"

    def apply(self, spec: RuntimeSpec, find: Callable[[str], Path]) -> RuntimeSpec:
        """The document with these namespaces.

        Args:
            spec: The document.
            find: Gives the directory of a container by name or id.

        Raises:
            ContainerError: A mode is none.
            ContainerNotFound: There is no such container.
            UnsupportedFeature: Users cannot be shared like that.
        """
        self._check_user()
        for kind in ("pid", "ipc", "uts", "cgroup"):
            mode = getattr(self, kind)
            if mode == "private":
                continue
            others = tuple(n for n in spec.namespaces if n.type != kind)
            path = ""
            if mode.startswith(_OTHER) and kind != "cgroup":
                path = str(find(mode.removeprefix(_OTHER)))
                others = (*others, Namespace(kind, path))
            elif mode != "host":
                raise ContainerError(
                    f"{kind}={mode!r} is no mode of a namespace",
                    remedy="choose 'private', 'host'"
                    + ("" if kind == "cgroup" else " or 'container:<name>'"),
                )
            spec = spec.evolve(namespaces=others)
            if kind == "ipc":
                spec = spec.evolve(mounts=tuple(_shared(spec.mounts, path)))
        return spec

    def _check_user(self) -> None:
        usual = "private" if is_rootless() else "host"
        if self.user in (None, usual):
            return
        if self.user not in ("private", "host"):
            raise ContainerError(
                f"user={self.user!r} is no mode of a namespace",
                remedy="choose 'private' or 'host', or leave it out",
            )
        who = "an ordinary user's container" if is_rootless() else "a container of root"
        raise UnsupportedFeature(
            f"user={self.user!r} for {who}",
            f"its users are always {'its own' if is_rootless() else 'those of the machine'}",
            remedy="leave it out, or start the program as "
            + ("root" if is_rootless() else "a user"),
        )


def _shared(mounts: Iterable[Mount], owner: str) -> Iterator[Mount]:
    """The mounts, with shared memory as the host or another container has it.

    A new mount of the message queues shows those of the namespace in which it is made; but an ordinary
    user may not make one of the host's.
    """
    for mount in mounts:
        queues = mount.type == "mqueue" and not owner and is_rootless()
        if (mount.destination != _SHARED_MEMORY and not queues) or mount.type == "bind":
            yield mount
        elif owner or os.path.isdir(mount.destination):
            yield evolve(
                mount,
                type="bind",
                source=mount.destination,
                options=("rbind", "nosuid", "nodev", "noexec"),
                extra={OWNER: owner} if owner else {},
            )
