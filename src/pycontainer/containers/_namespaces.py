"""What a container shares with the host or with another container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from pycontainer.containers._owners import Owners
from pycontainer.errors import ContainerError, UnsupportedFeature
from pycontainer.oci.runtime import IDMapping, Mount, Namespace, RuntimeSpec
from pycontainer.runtime import OWNER, is_rootless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Ids = tuple[IDMapping, ...]

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
        user: Whose users its users are. ``host``: those of the machine, so that its root is the
            machine's; None for that. ``private``: its own, each of whom is an id of the machine
            that nobody has: of a range that ``/etc/subuid`` and ``/etc/subgid`` set aside for
            ``pycontainer`` or ``root``, and no other container of the store. ``container:``: another
            container's. An ordinary user's container always has its own, of whom only root exists.
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

    def apply(
        self,
        spec: RuntimeSpec,
        find: Callable[[str], Path],
        allocate: Callable[[], tuple[Ids, Ids]],
        *,
        store: Path,
    ) -> RuntimeSpec:
        """The document with these namespaces.

        Args:
            spec: The document.
            find: Gives the directory of a container by name or id.
            allocate: Gives ids of the machine for users of its own.
            store: The store's directory: what is mounted of that has owners as the container sees them.

        Raises:
            ContainerError: A mode is none, or does not go with another.
            ContainerNotFound: There is no such container.
            UnsupportedFeature: Users cannot be shared like that, or the machine has none to give.
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
        if self.user in (None, "host") or is_rootless():
            return spec
        return self._with_users(spec, find, allocate, store)

    def _with_users(
        self,
        spec: RuntimeSpec,
        find: Callable[[str], Path],
        allocate: Callable[[], tuple[Ids, Ids]],
        store: Path,
    ) -> RuntimeSpec:
        assert self.user is not None
        path = ""
        if self.user == "private":
            uids, gids = allocate()
        else:
            path = str(find(self.user.removeprefix(_OTHER)))
            other = RuntimeSpec.parse((Path(path) / "config.json").read_bytes())
            uids, gids = other.uid_mappings, other.gid_mappings
        self._check_others(spec, path)
        if not uids:  # the other one's users are the machine's
            return spec
        owners = Owners(uids, gids)
        mounts = []
        for mount in spec.mounts:
            is_bind = {"bind", "rbind"}.intersection(mount.options)
            ours = is_bind and Path(mount.source).is_relative_to(store) and OWNER not in mount.extra
            mounts.append(owners.mapped(mount) if ours or mount.uid_mappings else mount)
            if is_bind and {"shared", "rshared"}.intersection(mount.options):
                raise UnsupportedFeature(
                    f"mounts that {mount.destination} passes to the host, of a container with users "
                    "of its own",
                    "the kernel lets nothing that such users mount get out of their container",
                    remedy="propagation='rslave'",
                )
        return spec.evolve(
            namespaces=(*spec.namespaces, Namespace("user", path)),
            uid_mappings=uids,
            gid_mappings=gids,
            mounts=tuple(mounts),
        )

    def _check_others(self, spec: RuntimeSpec, owner: str) -> None:
        """Refuse namespaces that belong to other users than the container's."""
        for namespace in spec.namespaces:
            if namespace.path and namespace.path != owner:
                raise ContainerError(
                    f"a container with users of its own cannot share {namespace.type} with another",
                    remedy="share the users of the same container: user='container:…'",
                )
        for kind in ("pid", "ipc", "cgroup"):
            if getattr(self, kind) == "host":
                raise ContainerError(
                    f"a container with users of its own cannot have {kind}='host': the kernel mounts "
                    "nothing of that for them",
                    remedy=f"leave {kind} out, or the users",
                )

    def _check_user(self) -> None:
        if self.user in (None, "private"):
            return
        if self.user != "host" and not self.user.startswith(_OTHER):
            raise ContainerError(
                f"user={self.user!r} is no mode of a namespace",
                remedy="choose 'private', 'host' or 'container:<name>', or leave it out",
            )
        if is_rootless():
            raise UnsupportedFeature(
                f"user={self.user!r} for an ordinary user's container",
                "its users are always its own",
                remedy="leave it out, or start the program as root",
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
