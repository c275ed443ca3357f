"""The instructions of a stage, one after the other, as steps of the build graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from pycontainer.build._configure import Configure, DropTriggers
from pycontainer.build._destination import absolute
from pycontainer.build._graph import Vertex
from pycontainer.build._workdir import Workdir as SetWorkdir
from pycontainer.build.dockerfile import _instructions as ins
from pycontainer.build.dockerfile._copies import copies
from pycontainer.build.dockerfile._location import Location
from pycontainer.build.dockerfile._runs import run
from pycontainer.build.dockerfile._settings import setting
from pycontainer.errors import DockerfileError, SpecError

if TYPE_CHECKING:
    from pycontainer.build._graph import Operation, Source, Step
    from pycontainer.build.dockerfile._lowering import Lowering
    from pycontainer.build.dockerfile._scope import Scope
    from pycontainer.oci import ContainerConfig

__all__ = ["StageSteps"]


class StageSteps:
    """A stage in the making.

    Args:
        lowering: Knows the other stages and the context.
        index: The stage's number.
        base: What it begins with.
        config: What containers of that do.
        scope: Its variables.

    Attributes:
        vertex: What the stage gives so far.
        config: What its containers do so far.
        location: Where the instruction stands that is carried out.
        has_cmd: Whether the stage itself has set a default command.
    """

    def __init__(
        self, lowering: Lowering, index: int, base: Vertex, config: ContainerConfig, scope: Scope
    ) -> None:
        self.lowering = lowering
        self.index = index
        self.vertex = base
        self.config = config
        self.scope = scope
        self.location = Location("", 0, ())
        self.has_cmd = False
        self._see_env()

    def _see_env(self) -> None:
        self.scope.env = dict(each.partition("=")[::2] for each in self.config.env)

    def carry_out(self, instruction: ins.Instruction) -> None:
        """Add what an instruction does.

        Raises:
            DockerfileError: It cannot be carried out.
        """
        self.location = instruction.location or self.location
        try:
            if isinstance(instruction, ins.Run):
                run(self, instruction)
            elif isinstance(instruction, ins.Copy):
                copies(self, instruction)
            elif isinstance(instruction, ins.Arg):
                for name, default in instruction.pairs:
                    self.scope.declare(name, default)
            else:
                self.then(setting(self, instruction))
        except DockerfileError:
            raise
        except (ValueError, SpecError) as error:
            message = error.message if isinstance(error, SpecError) else str(error)
            raise self.location.error(f"{instruction.name}: {message}") from error

    def then(self, operation: Step, *others: Vertex) -> None:
        """Add a step."""
        self.vertex = Vertex(operation, (self.vertex, *others), location=self.location)
        self.config = self.changed(operation, self.config)
        self._see_env()

    def origin(self, name: str) -> tuple[Vertex, str]:
        """What ``--from`` names here, and how the history calls it."""
        return self.lowering.origin(name, self.index, self.location)

    def source(self, source: Source) -> Vertex:
        """A source that this instruction brings with it."""
        return Vertex(source, location=self.location)

    @staticmethod
    def changed(operation: Operation, config: ContainerConfig) -> ContainerConfig:
        """What containers do after a step."""
        if isinstance(operation, Configure):
            return operation.change(config)
        if isinstance(operation, SetWorkdir):
            return evolve(config, working_dir=absolute(operation.path, config))
        return config

    def drop_triggers(self, *, recorded: bool) -> None:
        """Forget the base's triggers; it is a stage that recorded them, or an image."""
        operation = DropTriggers()
        if recorded:
            self.vertex = Vertex(operation, (self.vertex,), location=self.location)
        self.config = operation.change(self.config)
