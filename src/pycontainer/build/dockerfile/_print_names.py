"""What a printed Dockerfile calls its stages, images and contexts."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final

from attrs import define, field

from pycontainer.build._git import GitSource
from pycontainer.build._sources import ImageSource, LocalSource, StoredImageSource
from pycontainer.build.dockerfile._ignore_file import read_ignore
from pycontainer.build.dockerfile._print_steps import refusal
from pycontainer.errors import BuildError, ImageNotFound, PlatformNotFound
from pycontainer.images import Image, ImageIndex

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pycontainer.build._graph import Vertex
    from pycontainer.content import Store
    from pycontainer.oci import Platform, Reference

__all__ = ["Names", "image_of"]

_NAME: Final = re.compile(r"[a-z][a-z0-9\-_.]*")


@define(eq=False)
class Names:
    """The names of one Dockerfile; each means one thing.

    Attributes:
        main: What COPY takes files from where it names nothing.
        platform: What is built for, where nothing else is said.
        contexts: The contexts that have to be given by name.
    """

    main: LocalSource
    platform: Platform
    contexts: dict[str, Path | Image | str] = field(factory=dict, init=False)
    _taken: set[str] = field(factory=lambda: {"scratch"}, init=False)
    _known: dict[Vertex, str] = field(factory=dict, init=False)

    def new(self, wanted: str, otherwise: str) -> str:
        """A name that nothing has yet: the wanted one, if it is one."""
        base = wanted.lower() if _NAME.fullmatch(wanted.lower()) else otherwise
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}-{number}"
        self._taken.add(name)
        return name

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Give back the names of what cannot be written in the way that is tried."""
        before = dict(self.contexts), set(self._taken), dict(self._known)
        try:
            yield
        except BuildError:
            self.contexts, self._taken, self._known = before
            raise

    def image(self, vertex: Vertex) -> tuple[str, str]:
        """The name of an image, and the platform that has to be said; both as FROM has them."""
        source = vertex.operation
        if isinstance(source, ImageSource):
            platform = source.platform
            other = platform is not None and platform != self.platform
            return _written(source.reference), str(platform) if other else ""
        assert isinstance(source, StoredImageSource), f"{vertex.title} is no image"
        image = source.image
        if (
            image.reference is None
            or image_of(image.reference, image.platform, image.store) != image
        ):
            return self._named(vertex, image, image.reference), ""
        other = not image.platform.matches(self.platform)
        return _written(image.reference), str(image.platform) if other else ""

    def context(self, vertex: Vertex, wanted: str) -> str:
        """The name of a directory; empty for the main one.

        Raises:
            BuildError: Its ignore file would hide other files there.
        """
        source = vertex.operation
        assert isinstance(source, LocalSource), f"{vertex.title} is no directory"
        if source == self.main:
            return ""
        if vertex not in self._known:
            assert source.path is not None, "the one without a path is the main one"
            if read_ignore(source.path) != source.ignore:
                raise refusal(source, "its .dockerignore leaves out files that the build does not")
            self._known[vertex] = self.new(wanted, "context")
            self.contexts[self._known[vertex]] = source.path
        return self._known[vertex]

    def repository(self, vertex: Vertex, wanted: str) -> str:
        """The name of a git repository that files are copied from."""
        assert isinstance(vertex.operation, GitSource), f"{vertex.title} is no repository"
        if vertex not in self._known:
            self._known[vertex] = self.new(wanted, "repository")
            self.contexts[self._known[vertex]] = vertex.operation.written
        return self._known[vertex]

    def _named(self, vertex: Vertex, image: Image, reference: Reference | None) -> str:
        if vertex not in self._known:
            wanted = "" if reference is None else reference.repository.rpartition("/")[2]
            self._known[vertex] = self.new(wanted, "image")
            self.contexts[self._known[vertex]] = image
        return self._known[vertex]


def image_of(reference: Reference, platform: Platform, store: Store) -> Image | None:
    """The image of a name and platform in a store; None if there is none."""
    with contextlib.suppress(ImageNotFound):
        found = Image.get(reference, store=store)
        if found.platform.matches(platform):
            return found
    with contextlib.suppress(ImageNotFound, PlatformNotFound):
        return ImageIndex.get(reference, store=store).image(platform)
    return None


def _written(reference: Reference) -> str:
    """A name with its tag, which no name of a stage looks like."""
    named = reference.tag is not None or reference.digest is not None
    return reference.familiar if named else f"{reference.familiar}:{reference.target}"
