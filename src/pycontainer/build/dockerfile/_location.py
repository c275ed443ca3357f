"""Where in a Dockerfile something stands, and errors that show it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer.errors import BuildError, BuildStepFailed, DockerfileError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Location", "nearest"]


@frozen
class Location:
    """The lines of an instruction.

    Attributes:
        file: The Dockerfile's name.
        first: The number of the first line, from 1.
        lines: The lines as they are written, without line ends.
    """

    file: str
    first: int
    lines: tuple[str, ...]

    @property
    def last(self) -> int:
        """The number of the last line."""
        return self.first + len(self.lines) - 1

    def find(self, near: str) -> tuple[int, int]:
        """The line and column, both from 1, of a text; without it, of the first word."""
        for offset, line in enumerate(self.lines if near else ()):
            column = line.find(near)
            if column >= 0:
                return self.first + offset, column + 1
        first = self.lines[0] if self.lines else ""
        return self.first, len(first) - len(first.lstrip()) + 1

    def error(self, what: str, *, near: str = "", remedy: str | None = None) -> DockerfileError:
        """An error that shows the line.

        Args:
            what: What is wrong.
            near: The text at fault, as it is written.
            remedy: What to do about it.
        """
        line, column = self.find(near)
        source = self.lines[line - self.first] if self.lines else ""
        return DockerfileError(
            what, file=self.file, line=line, source=source, column=column, remedy=remedy
        )

    def note(self, error: BaseException, near: str) -> None:
        """Add the place to an error of another kind, which that has no attributes for."""
        error.add_note(str(self.error(f"needed by {near}", near=near)))

    def located(self, error: BaseException) -> BaseException:
        """The error of a step that stands here, with the place in it; others as they are."""
        if isinstance(error, BuildStepFailed):
            error.file, error.line = self.file, self.first
            error.source = self.lines[0] if self.lines else ""
            return error
        if type(error) is BuildError:
            return self.error(error.message, remedy=error.remedy)
        return error


def nearest(word: str, known: Iterable[str]) -> str | None:
    """A remedy that names what was probably meant; None where nothing is near."""
    names = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), names, n=1)
    return f"did you mean {names[found[0]]}?" if found else None
