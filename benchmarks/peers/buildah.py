"""Buildah with a storage of its own."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from benchmarks.peers.program import call

__all__ = ["Buildah"]


@frozen
class Buildah:
    """Buildah, whose files are all in one directory; each call is a process that does all its work."""

    directory: Path

    def __call__(self, *arguments: str | Path) -> None:
        temporary = self.directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        options: list[str | Path] = ["--root", self.directory / "root"]
        options += ["--runroot", self.directory / "run", "--storage-driver", "overlay"]
        call("buildah", *options, *arguments, env={"TMPDIR": str(temporary)})

    def build(self, tag: str, context: Path, *options: str) -> None:
        """Build the Dockerfile of a context with a cache of layers, as docker does."""
        fixed = ["--layers", "--quiet", "--network", "host", "--runtime", "runc"]
        self("build", *fixed, *options, "--tag", tag, context)
