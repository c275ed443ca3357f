"""Directories full of files."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.peers.program import call

__all__ = ["count", "extract_tar"]


def count(directory: Path) -> int:
    """How many files and directories are below a directory."""
    return sum(len(names) + len(files) for _, names, files in os.walk(directory))


def extract_tar(archive: Path, directory: Path) -> Path:
    """Return the directory made and filled from a tar."""
    directory.mkdir()
    call("tar", "-xf", archive, "-C", directory)
    return directory
