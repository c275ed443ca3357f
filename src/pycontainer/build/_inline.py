"""Files that a Dockerfile holds itself (heredocs of COPY and ADD)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer.build._graph import Directory, Source

if TYPE_CHECKING:
    from pycontainer.build._work import Work

__all__ = ["InlineSource"]


@frozen
class InlineSource(Source):
    """A directory with one file.

    Attributes:
        name: The file's name.
        content: Its text.
    """

    name: str
    content: str

    @property
    def title(self) -> str:
        """As a Dockerfile announces it."""
        return f"<<{self.name}"

    def load(self, work: Work) -> Directory:
        """The directory, which the build's end removes."""
        directory = Path(tempfile.mkdtemp(prefix="inline-", dir=work.scratch))
        file = directory / self.name
        file.write_text(self.content, errors="surrogateescape", newline="")
        file.chmod(0o644)
        return Directory(directory)
