"""A whole Dockerfile as a value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from pycontainer.build.dockerfile._instructions import Arg, From, Instruction
from pycontainer.build.dockerfile._lines import Directives, LineReader
from pycontainer.build.dockerfile._parser import parse_instructions
from pycontainer.errors import DockerfileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Dockerfile", "Stage"]


@frozen
class Stage:
    """A stage: its FROM, and the instructions up to the next one."""

    base: From
    instructions: tuple[Instruction, ...] = ()

    @property
    def name(self) -> str:
        """Its name in small letters, as others refer to it; empty if it has none."""
        return self.base.alias.lower()


@frozen
class Dockerfile:
    """A Dockerfile, taken apart; ``str`` puts it together again.

    Attributes:
        stages: The stages, in their order.
        args: The build arguments that are declared before the first stage.
        directives: What its first comments set.
        file: Its name.
        gaps: Numbers of the empty lines within instructions.
        comments: The comments that stand right above instructions, by the numbers of their first lines;
            of several lines the last.
    """

    stages: tuple[Stage, ...]
    args: tuple[Arg, ...] = ()
    directives: Directives = field(factory=Directives)
    file: str = field(default="Dockerfile", eq=False)
    gaps: tuple[int, ...] = field(default=(), eq=False, repr=False)
    comments: Mapping[int, str] = field(factory=dict, eq=False, repr=False)

    @classmethod
    def parse(cls, text: str | bytes, *, file: str = "Dockerfile") -> Dockerfile:
        """Read a Dockerfile's text.

        Args:
            text: All of it; bytes are UTF-8.
            file: What errors call it.

        Raises:
            DockerfileError: It cannot be read; the error shows the line.
        """
        reader = LineReader(_decoded(text, file), file)
        args: list[Arg] = []
        stages: list[tuple[From, list[Instruction]]] = []
        gaps = []
        for instruction, gap in parse_instructions(reader):
            if gap:
                gaps.append(gap)
            if isinstance(instruction, From):
                stages.append((instruction, []))
            elif stages:
                stages[-1][1].append(instruction)
            elif isinstance(instruction, Arg):
                args.append(instruction)
            else:
                assert instruction.location is not None
                raise instruction.location.error(
                    f"{instruction.name} stands before the first FROM",
                    remedy="begin with FROM; only ARG may come before it",
                )
        if not stages:
            raise DockerfileError(
                "there is no FROM in it", file=file, remedy="begin with FROM and an image"
            )
        return cls(
            tuple(Stage(base, tuple(rest)) for base, rest in stages),
            tuple(args),
            reader.directives,
            file,
            tuple(gaps),
            reader.comments,
        )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Dockerfile:
        """Read a file.

        Raises:
            DockerfileError: There is none, or it is no Dockerfile.
        """
        file = Path(path)
        try:
            data = file.read_bytes()
        except OSError as error:
            raise DockerfileError(
                f"cannot read the Dockerfile: {error.strerror}", file=os.fspath(path)
            ) from error
        return cls.parse(data, file=os.fspath(path))

    def __iter__(self) -> Iterator[Instruction]:
        """All instructions in their order."""
        yield from self.args
        for stage in self.stages:
            yield stage.base
            yield from stage.instructions

    def __str__(self) -> str:
        return str(self.directives) + "".join(f"{instruction}\n" for instruction in self)


def _decoded(text: str | bytes, file: str) -> str:
    try:
        data = text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        line = error.object.count("\n", 0, error.start) + 1
        raise DockerfileError("not Unicode", file=file, line=line) from error
    try:
        decoded = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DockerfileError("not UTF-8", file=file, line=line) from error
    if "\0" in decoded:
        line = decoded.count("\n", 0, decoded.index("\0")) + 1
        raise DockerfileError("a NUL byte is in it", file=file, line=line)
    return decoded
