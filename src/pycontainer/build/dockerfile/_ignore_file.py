"""The file that says what is not to be seen of a context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontainer.build._glob import PatternError
from pycontainer.build._ignore import read_patterns
from pycontainer.errors import BuildError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_ignore"]


def read_ignore(context: Path, dockerfile: Path | None = None) -> tuple[str, ...]:
    """The patterns of ``<dockerfile>.dockerignore``, or else of ``.dockerignore`` in the context.

    Raises:
        BuildError: The file cannot be read, or holds what is no pattern.
    """
    places = [context / ".dockerignore"]
    if dockerfile is not None:
        places.insert(0, dockerfile.with_name(dockerfile.name + ".dockerignore"))
    for place in places:
        try:
            text = place.read_text(errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise BuildError(f"cannot read {place}: {error.strerror}") from error
        try:
            return read_patterns(text)
        except PatternError as error:
            raise BuildError(f"{place}: {error}") from error
    return ()
