"""From a Dockerfile to the build graph: which stages are wanted, and what they begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field, frozen

from pycontainer.build._graph import Vertex
from pycontainer.build._sources import (
    ImageSource,
    LocalSource,
    ScratchSource,
    StoredImageSource,
    inherited,
)
from pycontainer.build.dockerfile._instructions import Copy, From, Onbuild
from pycontainer.build.dockerfile._lines import LineReader
from pycontainer.build.dockerfile._location import nearest
from pycontainer.build.dockerfile._parser import parse_instructions
from pycontainer.build.dockerfile._scope import Scope, is_predefined, platform_args
from pycontainer.build.dockerfile._steps import StageSteps
from pycontainer.errors import BuildError, DockerfileError, Error, SpecError
from pycontainer.images import Image, find_image
from pycontainer.oci import ContainerConfig, Platform, Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pycontainer.build.dockerfile._document import Dockerfile, Stage
    from pycontainer.build.dockerfile._instructions import Instruction
    from pycontainer.build.dockerfile._location import Location
    from pycontainer.content import Store

__all__ = ["Lowered", "NamedContext", "Request", "lower"]

_IMAGE_SCHEME: Final = "docker-image://"

NamedContext = Vertex | Image | str
"""What a named context is: a stage or directory, an image at hand, or an image's name."""


@frozen(kw_only=True)
class Request:
    """What is to be made of a Dockerfile.

    Attributes:
        dockerfile: The Dockerfile.
        context: The directory that COPY takes files from.
        ignore: Patterns of what is not to be seen of it.
        target: Name or number of the wanted stage; None for the last.
        args: Build arguments.
        contexts: Named contexts, which go before stages and images of the same name.
        platform: For which platform to build.
        store: Where base images are, or are pulled to.
    """

    dockerfile: Dockerfile
    context: Path
    ignore: tuple[str, ...] = ()
    target: str | None = None
    args: Mapping[str, str] = field(factory=dict)
    contexts: Mapping[str, NamedContext] = field(factory=dict)
    platform: Platform = field(factory=Platform.current)
    store: Store


@frozen
class Lowered:
    """A stage in the graph.

    Attributes:
        target: What it gives.
        first: What it begins with.
        config: What its containers do; known before anything is built.
        args: The build arguments that stages based on it have.
    """

    target: Vertex
    first: Vertex
    config: ContainerConfig
    args: Mapping[str, str] = field(factory=dict)


def lower(request: Request) -> Lowered:
    """Make the graph of the wanted stage and of all that it needs, and of nothing else.

    Base images of these stages are pulled where the store has none: their environments and triggers
    decide what instructions mean.

    Raises:
        DockerfileError: An instruction cannot be carried out.
        RegistryError: A base image cannot be pulled.
    """
    lowering = Lowering(request)
    wanted = lowering.find_target()
    try:
        for index in lowering.needed(wanted):
            lowering.stage(index)
        lowered = lowering.stage(wanted)
    except RecursionError as error:
        raise DockerfileError(
            "stages refer to each other too deeply", file=request.dockerfile.file
        ) from error
    lowering.refuse_unknown_args()
    return lowered


@define(eq=False)
class Lowering:
    """The lowering of one Dockerfile; stages are lowered when they are asked for, once.

    Attributes:
        request: What is wanted.
    """

    request: Request
    _globals: Scope = field(init=False)
    _stages: dict[int, Lowered | None] = field(factory=dict, init=False)
    _declared: set[str] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        request = self.request
        target = request.target or ""
        args = platform_args(request.platform, Platform.current(), target)
        escape = request.dockerfile.directives.escape
        self._globals = Scope(request.args, {}, escape, args={**args})
        for instruction in request.dockerfile.args:
            for name, default in instruction.pairs:
                try:
                    self._globals.declare(name, default)
                except ValueError as error:
                    assert instruction.location is not None
                    raise instruction.location.error(f"ARG: {error}") from error
        for stage in request.dockerfile.stages:
            for each in stage.instructions:
                self._note(each)
        self._declared |= self._globals.declared | set(args)

    def _note(self, instruction: Instruction) -> None:
        trigger = instruction.trigger if isinstance(instruction, Onbuild) else instruction
        self._declared |= {name for name, _ in getattr(trigger, "pairs", ())}

    # --- which stages ------------------------------------------------------------------------

    @property
    def _all(self) -> tuple[Stage, ...]:
        return self.request.dockerfile.stages

    def find_target(self) -> int:
        """The number of the wanted stage."""
        wanted = self.request.target
        if wanted is None:
            return len(self._all) - 1
        index = self.find(wanted, before=len(self._all))
        if index is None and wanted.isascii() and wanted.isdecimal() and len(wanted) < 10:
            index = int(wanted) if int(wanted) < len(self._all) else None
        if index is None:
            raise DockerfileError(
                f"there is no stage {wanted!r} to build",
                file=self.request.dockerfile.file,
                remedy=nearest(wanted, self.names()) or f"choose from {', '.join(self.names())}",
            )
        return index

    def names(self) -> list[str]:
        """What stages can be called."""
        return [stage.name or str(index) for index, stage in enumerate(self._all)]

    def find(self, name: str, *, before: int) -> int | None:
        """The last stage of a name among the first ones; None if there is none."""
        for index in reversed(range(before)):
            if self._all[index].name and self._all[index].name == name.lower():
                return index
        return None

    def needed(self, wanted: int) -> list[int]:
        """The stages that a stage refers to, and those that these refer to, in the file's order."""
        reached: set[int] = set()
        todo = [wanted]
        while todo:
            index = todo.pop()
            if index not in reached:
                reached.add(index)
                todo += self._referred(index)
        return sorted(reached)

    def _referred(self, index: int) -> Iterator[int]:
        stage = self._all[index]
        found = self.find(self._expanded(stage.base, stage.base.image), before=index)
        if found is not None:
            yield found
        for instruction in stage.instructions:
            if isinstance(instruction, Copy) and instruction.from_:
                found = self.numbered(instruction.from_, index)
                if found is not None:
                    yield found

    def numbered(self, name: str, at: int) -> int | None:
        """The stage that ``--from`` means at a stage, by name or number; None if it is no stage."""
        if name.isascii() and name.isdecimal() and len(name) < 10:
            return int(name) if int(name) < at else None
        found = self.find(name, before=at)
        return self.find(name, before=len(self._all)) if found is None else found

    def refuse_unknown_args(self) -> None:
        """Refuse build arguments that no instruction declares.

        Raises:
            DockerfileError: There is one.
        """
        for name in self.request.args:
            if name not in self._declared and not is_predefined(name):
                raise DockerfileError(
                    f"no ARG declares the build argument {name!r}",
                    file=self.request.dockerfile.file,
                    remedy=nearest(name, self._declared - set(self._globals.args))
                    or f"write ARG {name}, or leave it out",
                )

    # --- what they begin with ----------------------------------------------------------------

    def stage(self, index: int) -> Lowered:
        """A stage in the graph."""
        done = self._stages.get(index)
        if done is not None:
            return done
        stage = self._all[index]
        assert stage.base.location is not None
        if index in self._stages:
            raise stage.base.location.error(f"the stage {self.names()[index]} needs itself")
        self._stages[index] = None
        base = self._base(index, stage.base)
        scope = Scope(
            self.request.args, self._globals.variables, self._globals.escape, args={**base.args}
        )
        steps = StageSteps(self, index, base.target, base.config, scope)
        triggers = base.config.on_build
        if triggers:
            steps.drop_triggers(recorded=bool(base.target.inputs))
            for trigger in self._triggers(triggers, stage.base):
                self._note(trigger)
                steps.carry_out(trigger)
        for instruction in stage.instructions:
            steps.carry_out(instruction)
        lowered = Lowered(steps.vertex, base.target, steps.config, scope.args)
        self._stages[index] = lowered
        return lowered

    def _expanded(self, base: From, text: str) -> str:
        expander = self._globals.expander()
        try:
            value = expander.word(text)
        except ValueError as error:
            assert base.location is not None
            raise base.location.error(f"FROM: {error}", near=text) from error
        if expander.missing and not value:
            name = min(expander.missing)
            assert base.location is not None
            raise base.location.error(
                f"FROM: the argument {name} has no value",
                near=text,
                remedy=nearest(name, self._globals.variables)
                or f"write ARG {name}=… before the first FROM, or give it when you build",
            )
        return value

    def _base(self, index: int, base: From) -> Lowered:
        assert base.location is not None
        name = self._expanded(base, base.image)
        platform = self.request.platform
        if base.platform:
            try:
                platform = Platform.parse(self._expanded(base, base.platform))
            except SpecError as error:
                raise base.location.error(error.message, near="--platform") from error
        given = self._named(name)
        if given is not None:
            return self._begin(given, base, platform)
        found = self.find(name, before=index)
        if found is not None:
            return self.stage(found)
        if name == "scratch":
            vertex = Vertex(ScratchSource(platform), location=base.location)
            return Lowered(vertex, vertex, ContainerConfig())
        return self._begin(name, base, platform)

    def _named(self, name: str) -> NamedContext | None:
        for key, value in self.request.contexts.items():
            if key.lower() == name.lower():
                return value
        return None

    def _begin(self, given: NamedContext, base: From, platform: Platform) -> Lowered:
        assert base.location is not None
        if isinstance(given, Vertex):
            if isinstance(given.operation, LocalSource):
                raise base.location.error(
                    "FROM: a directory cannot be built on", remedy="name an image or a stage"
                )
            return Lowered(given, given, config_of(given, self.request.store))
        if isinstance(given, Image):
            vertex = Vertex(StoredImageSource(given), location=base.location)
            return Lowered(vertex, vertex, inherited(given.config.config, triggers=True))
        image = self.pull(given.removeprefix(_IMAGE_SCHEME), base.location, platform)
        source = StoredImageSource(image, chosen=bool(base.platform))
        vertex = Vertex(source, location=base.location)
        return Lowered(vertex, vertex, inherited(image.config.config, triggers=True))

    def pull(self, name: str, location: Location, platform: Platform) -> Image:
        """An image by its name, which may have been meant to be a stage's.

        Raises:
            DockerfileError: That is no name.
            RegistryError: It is not in the store and cannot be pulled.
        """
        known = [*(each for each in self.names() if not each.isdecimal()), *self.request.contexts]
        hint = None if "/" in name else nearest(name, known)
        try:
            reference = Reference.parse(name)
        except SpecError as error:
            raise location.error(error.message, near=name, remedy=hint or error.remedy) from error
        try:
            return find_image(reference, platform, self.request.store)
        except Error as error:
            if hint is not None:
                error.remedy = f"{hint} {error.remedy or ''}".rstrip()
            location.note(error, name)
            raise

    # --- what instructions refer to ----------------------------------------------------------

    def context(self) -> Vertex:
        """The build context."""
        return Vertex(LocalSource(self.request.context, self.request.ignore))

    def origin(self, name: str, at: int, location: Location) -> tuple[Vertex, str]:
        """What ``--from`` names at a stage, and how the history calls it.

        Raises:
            DockerfileError: There is no such thing.
            RegistryError: It is an image that cannot be pulled.
        """
        given = self._named(name)
        if isinstance(given, Vertex):
            return given, name
        if isinstance(given, Image):
            return Vertex(StoredImageSource(given)), name
        index = self.numbered(name, at) if given is None else None
        if index is not None:
            return self.stage(index).target, self.names()[index]
        if given is None and (name == "scratch" or name.isdecimal()):
            what = "scratch, which holds nothing" if name == "scratch" else f"stage {name}"
            raise location.error(f"cannot take files from {what}", near=name)
        image = self.pull(
            (given or name).removeprefix(_IMAGE_SCHEME), location, self.request.platform
        )
        return Vertex(StoredImageSource(image)), name

    def _triggers(self, triggers: tuple[str, ...], base: From) -> Iterator[Instruction]:
        for text in triggers:
            reader = LineReader(text, f"ONBUILD of {base.image}")
            for instruction, _ in parse_instructions(reader):
                if isinstance(instruction, From | Onbuild):
                    assert base.location is not None
                    raise base.location.error(f"ONBUILD cannot hold {instruction.name}")
                yield evolve(instruction, location=base.location)


def config_of(vertex: Vertex, store: Store) -> ContainerConfig:
    """What containers of a stage do, as far as it is known before it is built.

    Raises:
        BuildError: The stage gives no image.
    """
    chain = [vertex]
    while chain[-1].inputs:
        chain.append(chain[-1].inputs[0])
    config = _config_of_source(chain.pop(), store)
    for step in reversed(chain):
        config = StageSteps.changed(step.operation, config)
    return config


def _config_of_source(vertex: Vertex, store: Store) -> ContainerConfig:
    source = vertex.operation
    if isinstance(source, ScratchSource):
        return ContainerConfig()
    if isinstance(source, StoredImageSource):
        return inherited(source.image.config.config)
    if isinstance(source, ImageSource):
        image = find_image(source.reference, source.platform, store)
        return inherited(image.config.config)
    raise BuildError(f"{vertex.title} gives no image")
