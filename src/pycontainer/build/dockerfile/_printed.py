"""A Dockerfile that was made from a Builder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from pycontainer.errors import BuildError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from pycontainer.build.dockerfile._document import Dockerfile
    from pycontainer.images import Image

__all__ = ["PrintedDockerfile"]


@frozen
class PrintedDockerfile:
    """A Dockerfile that was made from a `Builder`, and what it is to be built with; `str` gives its text.

    Attributes:
        dockerfile: The Dockerfile, as `Builder.from_dockerfile` takes it.
        context: The directory that it copies from; None for the one that a build is given.
        contexts: Further directories, images without a name and git repositories: what ``--from`` and
            FROM name beside.
        ignore: What is left out of the context, as a ``.dockerignore`` has it.
    """

    dockerfile: Dockerfile
    context: Path | None = None
    contexts: Mapping[str, Path | Image | str] = field(factory=dict)
    ignore: tuple[str, ...] = ()

    def __str__(self) -> str:
        stages = [(each.base, *each.instructions) for each in self.dockerfile.stages]
        return "\n".join("".join(f"{each}\n" for each in stage) for stage in stages)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, and beside that ``NAME.dockerignore``, which goes before other ignore files.

        Put it outside of the context, or it is among the files that ``COPY .`` copies.

        Raises:
            BuildError: The files cannot be written.
        """
        file = Path(path)
        try:
            file.write_text(str(self), newline="")
            beside = file.with_name(f"{file.name}.dockerignore")
            beside.write_text("".join(f"{pattern}\n" for pattern in self.ignore), newline="")
        except OSError as error:
            raise BuildError(f"cannot write {path}: {error.strerror}") from error
