"""What is mounted into a container from outside: directories, files, tmpfs, volumes."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from attrs import evolve, frozen

from pycontainer.containers._volume import Volume
from pycontainer.errors import ContainerError
from pycontainer.oci import runtime as oci
from pycontainer.runtime import SUBPATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.content import Store

__all__ = ["IdRange", "Mount"]

Propagation = Literal[
    "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"
]
_PROPAGATIONS: Final = tuple(
    f"{prefix}{kind}"
    for kind in ("private", "slave", "shared", "unbindable")
    for prefix in ("", "r")
)
_ANONYMOUS: Final = "volumes"


@frozen
class IdRange:
    """Owners of files, as they are on disk and as a container sees them.

    Attributes:
        on_disk: The first user and group id on disk.
        seen: The id that the container sees in its place.
        count: How many ids, one after the other.
    """

    on_disk: int
    seen: int
    count: int = 1


@frozen
class Mount:
    """One mount; make it with `bind`, `tmpfs` or `volume`.

    Attributes:
        kind: ``bind``, ``tmpfs`` or ``volume``.
        target: Where in the container; made if it is not there.
        source: Path on the host, or the volume's name; empty for a volume without one.
        read_only: Whether the container may only read it, with all that is mounted below it.
        size: Of a tmpfs, in bytes; None for half of the memory.
        mode: Of a tmpfs's root.
        propagation: Whether later mounts below it pass from the host to the container (``rslave``), both
            ways (``rshared``) or not at all.
        recursive: Whether what is mounted below it on the host comes along.
        ids: Owners that the container sees in place of those on disk; all others are seen as nobody.
        copy: Whether an empty volume first gets what the image has at the target.
        subpath: The part of a volume that is mounted.
    """

    kind: Literal["bind", "tmpfs", "volume"]
    target: str
    source: str = ""
    read_only: bool = False
    size: int | None = None
    mode: int = 0o1777
    propagation: Propagation = "rprivate"
    recursive: bool = True
    ids: tuple[IdRange, ...] = ()
    copy: bool = True
    subpath: str = ""

    @classmethod
    def bind(
        cls,
        source: str | os.PathLike[str],
        target: str,
        *,
        read_only: bool = False,
        propagation: Propagation = "rprivate",
        recursive: bool = True,
        ids: Sequence[IdRange] = (),
    ) -> Mount:
        """Show a directory or file of the host in the container.

        Args:
            source: Path on the host.
            target: Where in the container.
            read_only: Whether the container may only read it, with all that is mounted below it.
            propagation: ``rslave`` passes later mounts on the host on to the container, ``rshared`` also
                those in the container to the host, for which `source` must be on a shared mount.
            recursive: Whether what is mounted below it on the host comes along.
            ids: Owners that the container sees in place of those on disk, and that what it makes gets
                in turn; all others are seen as nobody. Needs root, and a file system that can.
        """
        return cls(
            "bind",
            target,
            os.fspath(source),
            read_only,
            propagation=propagation,
            recursive=recursive,
            ids=tuple(ids),
        )

    @classmethod
    def tmpfs(cls, target: str, *, size: int | None = None, mode: int = 0o1777) -> Mount:
        """An empty file system in memory, gone with the container."""
        return cls("tmpfs", target, size=size, mode=mode)

    @classmethod
    def volume(
        cls,
        name: str | None,
        target: str,
        *,
        read_only: bool = False,
        copy: bool = True,
        subpath: str = "",
    ) -> Mount:
        """A volume of the store.

        Args:
            name: Its name; it is made if it is not there, and stays when the container goes. None for
                one of the container's own, which goes with it.
            target: Where in the container.
            read_only: Whether the container may only read it.
            copy: Whether an empty volume first gets what the image has at the target, with owners and
                modes. Only for a whole volume.
            subpath: The directory or file of the volume that is mounted, in place of all of it. Symbolic
                links in it do not lead out of the volume.
        """
        return cls("volume", target, name or "", read_only, copy=copy, subpath=subpath)

    def to_oci(self, store: Store, home: Path) -> oci.Mount:
        """The mount as the runtime specification has it; makes a volume that is not there.

        Args:
            store: Where volumes are.
            home: The container's own directory, for a volume without a name.

        Raises:
            ContainerError: The source is not there, the target is no absolute path, or an option does
                not exist.
        """
        target = PurePosixPath(self.target)
        if not target.is_absolute() or ".." in target.parts or target == PurePosixPath("/"):
            raise ContainerError(
                f"cannot mount at {self.target!r}",
                remedy="give an absolute path below / without '..'",
            )
        if self.kind == "tmpfs":
            options = ["nosuid", "nodev", f"mode={self.mode:o}"]
            if self.size is not None:
                options.append(f"size={self.size}")
            return oci.Mount(self.target, "tmpfs", "tmpfs", tuple(options))
        source = self.volume_path(store, home) if self.kind == "volume" else self._bind_source()
        access = ("rro",) if self.read_only else ("rw",)
        mount = oci.Mount(
            self.target,
            "bind",
            str(source.resolve()),
            ("rbind" if self.recursive else "bind", self.propagation, *access),
        )
        if self.subpath:
            mount = evolve(mount, extra={SUBPATH: self._checked_subpath(source)})
        maps = tuple(oci.IDMapping(ids.on_disk, ids.seen, ids.count) for ids in self.ids)
        return evolve(mount, uid_mappings=maps, gid_mappings=maps)

    def volume_path(self, store: Store, home: Path) -> Path:
        """Where a volume's files are; it is made if it is not there."""
        if self.source:
            return Volume.create(self.source, store=store, exist_ok=True).path
        path = home / _ANONYMOUS / self.target.strip("/").replace("%", "%25").replace("/", "%2F")
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)
        return path

    def _bind_source(self) -> Path:
        source = Path(self.source)
        if not source.exists():
            raise ContainerError(
                f"cannot mount {self.source!r} at {self.target}: there is no such file or directory",
                remedy="make it first, or mount a volume",
            )
        if self.propagation not in _PROPAGATIONS:
            raise ContainerError(
                f"{self.propagation!r} is no propagation of mounts",
                remedy=f"choose from {', '.join(_PROPAGATIONS)}",
            )
        wanted = self.propagation.removeprefix("r")
        if wanted in ("shared", "slave") and not _passes_on(source.resolve(), wanted):
            raise ContainerError(
                f"cannot mount {self.source!r} as {self.propagation}: on the host it is on a mount "
                "that passes nothing on",
                remedy=f"mount --make-shared {_mount_point(source.resolve())}",
            )
        return source

    def _checked_subpath(self, volume: Path) -> str:
        path = PurePosixPath(self.subpath)
        if path.is_absolute() or ".." in path.parts:
            raise ContainerError(
                f"subpath={self.subpath!r} does not lie in the volume",
                remedy="give a relative path without '..'",
            )
        if not os.path.lexists(volume / path):
            raise ContainerError(
                f"there is no {self.subpath!r} in the volume at {self.target}",
                remedy="make it first, with a container that mounts the whole volume",
            )
        return str(path)


def _mount_point(path: Path) -> str:
    while not path.is_mount():
        path = path.parent
    return str(path)


def _passes_on(path: Path, wanted: str) -> bool:
    """Whether the mount that a path is on is in a peer group, or at least gets from one."""
    point = _mount_point(path)
    tags = ("shared:",) if wanted == "shared" else ("shared:", "master:")
    found = False
    with open("/proc/self/mountinfo") as file:
        for line in file:  # the last of those at one point is on top (proc_pid_mountinfo(5))
            fields = line.partition(" - ")[0].split(" ")
            if fields[4].replace("\\040", " ") == point:
                found = any(field.startswith(tags) for field in fields[6:])
    return found
