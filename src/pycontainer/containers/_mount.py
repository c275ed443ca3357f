"""What is mounted into a container from outside: directories, files, tmpfs, volumes."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from pycontainer.containers._volume import Volume
from pycontainer.errors import ContainerError
from pycontainer.oci import runtime as oci

if TYPE_CHECKING:
    from pycontainer.content import Store

__all__ = ["Mount"]


@frozen
class Mount:
    """One mount; make it with `bind`, `tmpfs` or `volume`.

    Attributes:
        kind: ``bind``, ``tmpfs`` or ``volume``.
        target: Where in the container; made if it is not there.
        source: Path on the host, or the volume's name.
        read_only: Whether the container may only read it, with all that is mounted below it.
        size: Of a tmpfs, in bytes; None for half of the memory.
        mode: Of a tmpfs's root.
    """

    kind: Literal["bind", "tmpfs", "volume"]
    target: str
    source: str = ""
    read_only: bool = False
    size: int | None = None
    mode: int = 0o1777

    @classmethod
    def bind(cls, source: str | os.PathLike[str], target: str, *, read_only: bool = False) -> Mount:
        """Show a directory or file of the host in the container."""
        return cls("bind", target, os.fspath(source), read_only)

    @classmethod
    def tmpfs(cls, target: str, *, size: int | None = None, mode: int = 0o1777) -> Mount:
        """An empty file system in memory, gone with the container."""
        return cls("tmpfs", target, size=size, mode=mode)

    @classmethod
    def volume(cls, name: str, target: str, *, read_only: bool = False) -> Mount:
        """A named volume of the store, made if it is not there; it stays when the container goes."""
        return cls("volume", target, name, read_only)

    def to_oci(self, store: Store) -> oci.Mount:
        """The mount as the runtime specification has it.

        Raises:
            ContainerError: The source is not there, or the target is no absolute path.
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
        source = Path(self.source)
        if self.kind == "volume":
            source = Volume.create(self.source, store=store, exist_ok=True).path
        elif not source.exists():
            raise ContainerError(
                f"cannot mount {self.source!r} at {self.target}: there is no such file or directory",
                remedy="make it first, or mount a volume",
            )
        access = "ro" if self.read_only else "rw"
        return oci.Mount(self.target, "bind", str(source.resolve()), ("rbind", "rprivate", access))
