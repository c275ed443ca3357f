"""Files of the context, a stage or an image that a command sees mounted."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from attrs import frozen

from pycontainer.build._copy import Copy
from pycontainer.build._glob import literal_pattern
from pycontainer.build._graph import Vertex
from pycontainer.build._mounts import BindMount
from pycontainer.build._sources import ScratchSource
from pycontainer.oci import Platform

if TYPE_CHECKING:
    from pycontainer.build._builder import Builder
    from pycontainer.build.dockerfile._location import Location
    from pycontainer.images import Image

__all__ = ["Bound", "clean_source", "files_to_mount"]


@frozen
class Bound:
    """Files that a command of `Builder.run` sees mounted; what it writes there is dropped.

    Attributes:
        target: Where it sees them, an absolute path.
        source: The file or directory.
        from_: The stage or image that holds it; None for the context.
        writable: Whether it may write.
    """

    target: str
    source: str = "/"
    from_: Builder | Image | str | None = None
    writable: bool = False

    def of_input(self, number: int) -> BindMount:
        """The mount of a step that has the files in a further input."""
        return BindMount(self.target, clean_source(self.source), self.writable, number)


def clean_source(source: str) -> str:
    """A path seen from the root, without ``.`` and ``..``."""
    return posixpath.normpath("/" + source).replace("//", "/")


def files_to_mount(
    origin: Vertex, source: str, label: str, location: Location | None = None
) -> Vertex:
    """A stage of one layer with what is mounted, at the place where it is.

    A command sees of the context what a copy would take, whatever else lies there and is changed
    meanwhile, and the cache goes by that.

    Args:
        origin: What holds it.
        source: The file or directory.
        label: What errors call the origin.
        location: Where a Dockerfile says so.
    """
    path = clean_source(source)
    copy = Copy(
        ("." if path == "/" else literal_pattern(path.lstrip("/")),),
        "/",
        origin=label,
        parents=path != "/",
    )
    nothing = Vertex(ScratchSource(Platform.current()))
    return Vertex(copy, (nothing, origin), location=location)
