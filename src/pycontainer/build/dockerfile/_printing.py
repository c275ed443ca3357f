"""From the build graph to a Dockerfile: the reverse of `_lowering`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attrs import define, field

from pycontainer.build._copy import Copy
from pycontainer.build._git import GitSource
from pycontainer.build._graph import Source, Vertex, depth_first
from pycontainer.build._sources import (
    ImageSource,
    LocalSource,
    ScratchSource,
    StoredImageSource,
    inherited,
)
from pycontainer.build.dockerfile._document import Dockerfile, Stage
from pycontainer.build.dockerfile._instructions import From
from pycontainer.build.dockerfile._print_names import Names, image_of
from pycontainer.build.dockerfile._print_stage import StagePrinter
from pycontainer.build.dockerfile._printed import PrintedDockerfile
from pycontainer.errors import BuildError
from pycontainer.oci import ContainerConfig, Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontainer.content import Store

__all__ = ["print_graph"]


def print_graph(
    target: Vertex,
    *,
    context: LocalSource,
    platform: Platform | None,
    store: Callable[[], Store],
) -> PrintedDockerfile:
    """Write the stage of a vertex, and all that it needs, as a Dockerfile.

    Args:
        target: What the stage gives.
        context: The Builder's own context.
        platform: What the graph was made for; None for no platform in particular.
        store: Gives the store whose images are looked at.

    Raises:
        BuildError: No Dockerfile can say what a step does.
    """
    vertices = depth_first(target)
    main = _main_context(vertices, context)
    names = Names(main, platform or Platform.current())
    printer = _GraphPrinter(names, store, platform)
    for vertex in printer.stage_ends(target, vertices):
        printer.add(vertex, is_target=vertex is target)
    text = str(Dockerfile(tuple(printer.stages)))
    return PrintedDockerfile(Dockerfile.parse(text), main.path, names.contexts, main.ignore)


def _main_context(vertices: Sequence[Vertex], own: LocalSource) -> LocalSource:
    """The directory that COPY names nothing for: one without a path has to be it."""
    found = [each.operation for each in vertices if isinstance(each.operation, LocalSource)]
    unknown = next((each for each in found if each.path is None), None)
    if unknown is not None:
        return unknown
    return found[0] if len(found) == 1 else own


@define(eq=False)
class _GraphPrinter:
    """Writes stage after stage; each needs only former ones."""

    names: Names
    store: Callable[[], Store]
    platform: Platform | None
    stages: list[Stage] = field(factory=list, init=False)
    _called: dict[Vertex, str] = field(factory=dict, init=False)
    _configs: dict[Vertex, ContainerConfig] = field(factory=dict, init=False)
    _args: dict[Vertex, dict[str, str]] = field(factory=dict, init=False)
    _labels: dict[Vertex, str] = field(factory=dict, init=False)

    def stage_ends(self, target: Vertex, vertices: Sequence[Vertex]) -> list[Vertex]:
        """What becomes a stage of its own: what is copied from, and what is continued in several ways."""
        continued = Counter(each.inputs[0] for each in vertices if each.inputs)
        ends = {each for each, count in continued.items() if count > 1 and each.inputs}
        for vertex in vertices:
            copy = vertex.operation
            if isinstance(copy, Copy) and self._needs_stage(vertex.inputs[1]):
                ends.add(vertex.inputs[1])
                self._labels.setdefault(vertex.inputs[1], copy.origin)
        return [each for each in vertices if each in ends and each != target] + [target]

    def _needs_stage(self, vertex: Vertex) -> bool:
        """Whether what is copied from is a stage, and no context, or image that has a name."""
        source = vertex.operation
        if isinstance(source, ImageSource | StoredImageSource):
            return bool(self.names.image(vertex)[1])
        return isinstance(source, ScratchSource) or not isinstance(source, Source)

    def new_stage(self) -> str:
        """The name of a further stage."""
        return self.names.new("", "stage")

    def called(self, vertex: Vertex, label: str) -> str:
        """How ``--from`` calls what files come from; empty for the context and what has no name."""
        if vertex in self._called:
            return self._called[vertex]
        source = vertex.operation
        if isinstance(source, LocalSource):
            return self.names.context(vertex, label)
        if isinstance(source, ImageSource | StoredImageSource):
            return self.names.image(vertex)[0]
        if isinstance(source, GitSource) and label:  # ADD names it itself
            return self.names.repository(vertex, label)
        return ""

    def add(self, end: Vertex, *, is_target: bool) -> None:
        """Write the stage that ends with a vertex, continuing the nearest stage that it can."""
        steps: list[Vertex] = []
        vertex = end
        refused: BuildError | None = None
        while True:
            if vertex in self._called or not vertex.inputs:
                try:
                    with self.names.attempt():
                        self._write(vertex, steps[::-1], end, is_target=is_target)
                except BuildError as error:
                    refused = refused or error
                else:
                    return
            if not vertex.inputs:
                assert refused is not None, "one way of writing it was tried"
                raise refused
            steps.append(vertex)
            vertex = vertex.inputs[0]

    def _write(
        self, base: Vertex, steps: Sequence[Vertex], end: Vertex, *, is_target: bool
    ) -> None:
        stage = self._called.get(base)
        first = From(stage) if stage is not None else self._from(base)
        config = self._configs[base] if stage is not None else self._config_of(base)
        args = {**self._args.get(base, {})}
        printer = StagePrinter(self, first, config, stage is not None, args)
        name = "" if is_target else self.names.new(self._labels.get(end, "base"), "stage")
        self.stages += printer.write(steps, name)
        self._called[end], self._configs[end], self._args[end] = name, printer.config, printer.args

    def _from(self, vertex: Vertex) -> From:
        source = vertex.operation
        if isinstance(source, ScratchSource):
            platform = source.platform
            said = platform is not None and platform != self.platform
            return From("scratch", str(platform) if said else "")
        if isinstance(source, ImageSource | StoredImageSource):
            return From(*self.names.image(vertex))
        raise BuildError(f"{vertex.title} gives no image")

    def _config_of(self, vertex: Vertex) -> ContainerConfig:
        """What is known of containers of an image: nothing where the store has none."""
        source = vertex.operation
        image = source.image if isinstance(source, StoredImageSource) else None
        if isinstance(source, ImageSource):
            image = image_of(source.reference, source.platform or self.names.platform, self.store())
        return ContainerConfig() if image is None else inherited(image.config.config, triggers=True)
