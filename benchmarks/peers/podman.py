"""Podman with a storage of its own."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from benchmarks.peers.program import call
from benchmarks.peers.trees import count

__all__ = ["Podman"]


@frozen
class Podman:
    """Podman, whose files are all in one directory; each call is a process that does all its work."""

    directory: Path

    def __call__(self, *arguments: str | Path) -> None:
        temporary = self.directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        options: list[str | Path] = ["--root", self.directory / "root"]
        options += ["--runroot", self.directory / "run", "--tmpdir", self.directory / "libpod"]
        options += ["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]
        options += ["--events-backend", "none"]
        call("podman", *options, *arguments, env={"TMPDIR": str(temporary)})

    def transport(self, name: str) -> str:
        """How skopeo calls an image in this storage."""
        return f"containers-storage:[overlay@{self.directory}/root+{self.directory}/run]{name}"

    def entries(self) -> int:
        """How many files and directories its layers hold."""
        return sum(map(count, self.directory.glob("root/overlay/*/diff")))
