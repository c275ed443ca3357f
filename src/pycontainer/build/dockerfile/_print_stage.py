"""Steps that follow each other as the instructions of a stage, or of several where one cannot hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from pycontainer.build._configure import DropTriggers, SetCmd, SetEntrypoint
from pycontainer.build._copy import Copy
from pycontainer.build._run import Run
from pycontainer.build.dockerfile._document import Stage
from pycontainer.build.dockerfile._instructions import Arg, From
from pycontainer.build.dockerfile._print_runs import run_instruction
from pycontainer.build.dockerfile._print_steps import (
    checked,
    copy_instruction,
    refusal,
    setting_instruction,
)
from pycontainer.build.dockerfile._quoting import written_word
from pycontainer.build.dockerfile._steps import StageSteps
from pycontainer.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from pycontainer.build._graph import Vertex
    from pycontainer.build.dockerfile._instructions import Instruction
    from pycontainer.oci import ContainerConfig

    class Origins(Protocol):
        """Knows how the Dockerfile calls things."""

        def new_stage(self) -> str:
            """The name of a further stage."""

        def called(self, vertex: Vertex, label: str) -> str:
            """How ``--from`` calls what files come from; empty for the context and what has no name."""


__all__ = ["StagePrinter"]


@define(eq=False)
class StagePrinter:
    """Writes one chain of steps.

    Attributes:
        origins: Knows how the Dockerfile calls things.
        base: The FROM that begins the stage.
        config: What containers of the base do.
        continues: Whether the base is a stage of the same Dockerfile.
        args: The build arguments that are set; those of the stage that is continued are.
        stages: Those that are complete.
    """

    origins: Origins
    base: From
    config: ContainerConfig
    continues: bool
    args: dict[str, str]
    stages: list[Stage] = field(factory=list, init=False)
    _written: list[Instruction] = field(factory=list, init=False)
    _has_cmd: bool = field(default=False, init=False)

    def write(self, steps: Sequence[Vertex], name: str) -> list[Stage]:
        """The stages of the steps.

        Args:
            steps: They follow each other.
            name: What the last stage is called; empty for nothing.

        Raises:
            BuildError: A step cannot be written.
        """
        steps = self._begin(steps)
        while steps:
            self._step(steps[0])
            steps = steps[1:]
            if steps and isinstance(steps[0].operation, DropTriggers):
                self._split(steps[0])
                steps = self._begin(steps)
        self._finish(name)
        return self.stages

    def _begin(self, steps: Sequence[Vertex]) -> Sequence[Vertex]:
        """Without the steps that FROM brings about: the triggers of its image or stage."""
        if not self.config.on_build:
            return steps
        count = int(bool(steps) and isinstance(steps[0].operation, DropTriggers))
        if count != self.continues:
            first = steps[0].operation if steps else None
            raise BuildError(
                f"FROM {self.base.image} would carry out its ONBUILD instructions, "
                f"which {'the build' if first is None else repr(first.title)} does not",
            )
        while count < len(steps) and _is_triggered(steps[count]):
            count += 1
        if not count:
            raise BuildError(
                f"FROM {self.base.image} would carry out its ONBUILD instructions, "
                "which the Builder does not",
                remedy="write them as steps of a Builder on another image",
            )
        for vertex in steps[:count]:
            self._has_cmd |= isinstance(vertex.operation, SetCmd)
            self.config = StageSteps.changed(vertex.operation, self.config)
        return steps[count:]

    def _step(self, vertex: Vertex) -> None:
        step = vertex.operation
        if isinstance(step, Run):
            self._declare(step)
            written = run_instruction(
                step, self.config, lambda number: self._mounted(vertex, number)
            )
        elif isinstance(step, Copy):
            origin = vertex.inputs[1]
            called = self.origins.called(origin, step.origin)
            written = checked(step, copy_instruction(step, origin.operation, called))
        else:
            if isinstance(step, SetEntrypoint):
                self._fit_cmd(vertex, step)
            written = checked(step, setting_instruction(step))
        self._written.append(written)
        self._has_cmd |= isinstance(step, SetCmd)
        self.config = StageSteps.changed(step, self.config)

    def _mounted(self, vertex: Vertex, number: int) -> str:
        """How ``from=`` calls what the mounts of an input show: a copy was made of it."""
        copy = vertex.inputs[1 + number]
        assert isinstance(copy.operation, Copy), "what is mounted is copied before"
        return self.origins.called(copy.inputs[1], copy.operation.origin)

    def _fit_cmd(self, vertex: Vertex, step: SetEntrypoint) -> None:
        """ENTRYPOINT drops the CMD of former stages, and keeps that of its own."""
        if self._has_cmd and not step.keep_cmd:
            self._split(vertex)
        elif step.keep_cmd and not self._has_cmd and self.config.cmd is not None:
            raise refusal(step, "it would drop the command of the stage before")

    def _declare(self, step: Run) -> None:
        """Have just the variables of a command set by ARG."""
        wanted = dict(step.env)
        env = {entry.partition("=")[0] for entry in self.config.env}
        for name in wanted:
            if name in env:
                raise refusal(
                    step,
                    f"for this command alone {name} is another than in the image, where ARG says nothing",
                    remedy="set it with env() before and after",
                )
        others = [name for name in self.args if name not in wanted and name not in env]
        if others:
            raise refusal(
                step,
                f"it would see {others[0]} of a command before, as ARG holds in all that follows",
                remedy="give env= to both, or set the variable within the command that needs it",
            )
        new = [(name, text) for name, text in wanted.items() if self.args.get(name) != text]
        if new:
            pairs = tuple((written_word(name), written_word(text)) for name, text in new)
            self._written.append(checked(step, Arg(pairs)))
            self.args.update(new)

    def _split(self, vertex: Vertex) -> None:
        """Go on in a new stage: it does not know whether the former one has set a command."""
        dropped = isinstance(vertex.operation, DropTriggers)
        if self.config.on_build and not dropped:
            raise refusal(vertex.operation, "ONBUILD would be carried out before it")
        name = self.origins.new_stage()
        self._finish(name)
        self.base, self.continues = From(name), True
        self._written, self._has_cmd = [], False

    def _finish(self, name: str) -> None:
        base = From(self.base.image, self.base.platform, name)
        self.stages.append(Stage(base, tuple(self._written)))


def _is_triggered(vertex: Vertex) -> bool:
    """Whether a step stands where a Dockerfile has a FROM: only triggers do."""
    place = vertex.location
    return place is not None and "".join(place.lines[:1]).upper().split()[:1] == ["FROM"]
