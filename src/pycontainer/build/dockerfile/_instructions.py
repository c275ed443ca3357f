"""The instructions of a Dockerfile as values; `str` gives them back as text.

Words are kept as they are written: variables, quotes and escapes in them mean something only when the
instruction is carried out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

from attrs import field, frozen

from pycontainer.build.dockerfile._heredocs import Heredoc, parse_heredoc
from pycontainer.build.dockerfile._lines import SPACE
from pycontainer.build.dockerfile._words import json_text, quoted_flag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontainer.build.dockerfile._location import Location

__all__ = [
    "Add",
    "Arg",
    "Cmd",
    "Command",
    "Copy",
    "Entrypoint",
    "Env",
    "Expose",
    "From",
    "Healthcheck",
    "Instruction",
    "Label",
    "Maintainer",
    "Onbuild",
    "Pair",
    "Run",
    "Shell",
    "StopSignal",
    "User",
    "Volume",
    "Workdir",
]

Command = tuple[str, ...] | str
"""Words to execute (exec form), or a text for the shell (shell form)."""

Pair = tuple[str, str]
"""A name and its value."""

_UNITS: Final = (("h", 3600 * 10**9), ("m", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("us", 10**3))


@frozen(kw_only=True)
class Instruction(ABC):
    """One instruction.

    Attributes:
        location: Where it stands; None if it was not read from a file. Makes no difference to equality.
        spelled: Its name as it is written there.
    """

    name: ClassVar[str]

    location: Location | None = field(default=None, eq=False, repr=False)
    spelled: str = field(default="", eq=False, repr=False)

    @abstractmethod
    def arguments(self) -> str:
        """What stands behind the flags."""

    def flags(self) -> Iterable[str]:
        """The flags."""
        return ()

    def bodies(self) -> Iterable[Heredoc]:
        """The heredocs that follow its line."""
        return ()

    def __str__(self) -> str:
        arguments = self.arguments()
        words = [self.name, *self.flags()]
        if arguments.startswith("--"):
            words.append("--")
        line = " ".join([*words, arguments])
        return "\n".join([line, *(heredoc.body for heredoc in self.bodies())])


@frozen
class From(Instruction):
    """FROM: begins a stage.

    Attributes:
        image: An image, a former stage, or ``scratch``.
        platform: ``--platform``; empty if there is none.
        alias: The stage's name; empty if it has none.
        joint: The word before the name, as it is written.
    """

    name: ClassVar[str] = "FROM"

    image: str
    platform: str = ""
    alias: str = ""
    joint: str = field(default="AS", eq=False, repr=False)

    def flags(self) -> Iterable[str]:
        return [quoted_flag("platform", self.platform)] if self.platform else []

    def arguments(self) -> str:
        return f"{self.image} AS {self.alias}" if self.alias else self.image


@frozen
class Arg(Instruction):
    """ARG: declares build arguments; None stands for one without a default."""

    name: ClassVar[str] = "ARG"

    pairs: tuple[tuple[str, str | None], ...]

    def arguments(self) -> str:
        return " ".join(key if value is None else f"{key}={value}" for key, value in self.pairs)


@frozen
class _Pairs(Instruction):
    """Sets names to values.

    Attributes:
        pairs: The names and values.
        legacy: Whether it is written ``NAME value``: one pair, whose value may hold spaces.
    """

    pairs: tuple[Pair, ...]
    legacy: bool = False

    def arguments(self) -> str:
        joint = " " if self.legacy else "="
        return " ".join(f"{key}{joint}{value}" for key, value in self.pairs)


@frozen
class Env(_Pairs):
    """ENV: sets environment variables."""

    name: ClassVar[str] = "ENV"


@frozen
class Label(_Pairs):
    """LABEL: sets labels."""

    name: ClassVar[str] = "LABEL"


@frozen
class Run(Instruction):
    """RUN: executes a command.

    Attributes:
        command: What to execute.
        heredocs: The texts that it announces.
        mounts: The values of ``--mount``.
        network: ``none``, ``host`` or ``default``.
        security: ``sandbox`` or ``insecure``.
    """

    name: ClassVar[str] = "RUN"

    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[str, ...] = ()
    network: str = "default"
    security: str = "sandbox"

    def flags(self) -> Iterable[str]:
        flags = [quoted_flag("mount", mount) for mount in self.mounts]
        if self.network != "default":
            flags.append(quoted_flag("network", self.network))
        if self.security != "sandbox":
            flags.append(quoted_flag("security", self.security))
        return flags

    def arguments(self) -> str:
        return _written(self.command)

    def bodies(self) -> Iterable[Heredoc]:
        return self.heredocs


@frozen
class Copy(Instruction):
    """COPY: copies files.

    Attributes:
        sources: Paths, patterns and heredocs.
        destination: Where to.
        from_: A stage, image or named context; empty for the context.
        chown: Owner; empty for root.
        chmod: Permissions; empty to keep them.
        link: Whether the layer is to be independent of the ones below.
        parents: Whether the directories above the sources are kept.
        exclude: Patterns of what is left out.
    """

    name: ClassVar[str] = "COPY"

    sources: tuple[str | Heredoc, ...]
    destination: str
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()

    def flags(self) -> Iterable[str]:
        texts = {"from": self.from_, "chown": self.chown, "chmod": self.chmod}
        flags = [quoted_flag(name, value) for name, value in texts.items() if value]
        flags += [f"--{name}" for name in ("link", "parents") if getattr(self, name)]
        return [*flags, *(quoted_flag("exclude", pattern) for pattern in self.exclude)]

    def arguments(self) -> str:
        marks = [each.mark if isinstance(each, Heredoc) else each for each in self.sources]
        words = [*marks, self.destination]
        plain = [each for each in self.sources if isinstance(each, str)]
        if len(plain) < len(self.sources):
            return " ".join(words)
        if any(parse_heredoc(each) for each in plain):
            return json_text(words)
        return _listed(words)

    def bodies(self) -> Iterable[Heredoc]:
        return [each for each in self.sources if isinstance(each, Heredoc)]


@frozen
class Add(Copy):
    """ADD: copies files, unpacks archives, and fetches URLs and git repositories.

    Attributes:
        checksum: What the digest of a URL has to be; empty for any.
        keep_git_dir: Whether a repository's ``.git`` is kept.
        unpack: Whether archives are unpacked; None for local ones only.
    """

    name: ClassVar[str] = "ADD"

    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None

    def flags(self) -> Iterable[str]:
        flags = list(super().flags())
        if self.checksum:
            flags.append(quoted_flag("checksum", self.checksum))
        if self.keep_git_dir:
            flags.append("--keep-git-dir")
        if self.unpack is not None:
            flags.append(f"--unpack={str(self.unpack).lower()}")
        return flags


@frozen
class _One(Instruction):
    """Takes the rest of the line."""

    value: str

    def arguments(self) -> str:
        return self.value


@frozen
class Workdir(_One):
    """WORKDIR: sets the working directory."""

    name: ClassVar[str] = "WORKDIR"


@frozen
class User(_One):
    """USER: sets who executes commands."""

    name: ClassVar[str] = "USER"


@frozen
class StopSignal(_One):
    """STOPSIGNAL: sets the signal that asks a container to end."""

    name: ClassVar[str] = "STOPSIGNAL"


@frozen
class Maintainer(_One):
    """MAINTAINER: sets the image's author."""

    name: ClassVar[str] = "MAINTAINER"


@frozen
class Expose(Instruction):
    """EXPOSE: says on which ports containers listen."""

    name: ClassVar[str] = "EXPOSE"

    ports: tuple[str, ...]

    def arguments(self) -> str:
        return " ".join(self.ports)


@frozen
class Volume(Instruction):
    """VOLUME: says which directories hold data."""

    name: ClassVar[str] = "VOLUME"

    paths: tuple[str, ...]

    def arguments(self) -> str:
        return _listed(self.paths)


@frozen
class _Commanding(Instruction):
    """Sets a command."""

    command: Command

    def arguments(self) -> str:
        return _written(self.command)


@frozen
class Cmd(_Commanding):
    """CMD: sets the default command, or the default arguments of the entry point."""

    name: ClassVar[str] = "CMD"


@frozen
class Entrypoint(_Commanding):
    """ENTRYPOINT: sets what containers execute."""

    name: ClassVar[str] = "ENTRYPOINT"


@frozen
class Shell(Instruction):
    """SHELL: sets what executes commands in shell form."""

    name: ClassVar[str] = "SHELL"

    words: tuple[str, ...]

    def arguments(self) -> str:
        return json_text(self.words)


@frozen
class Healthcheck(Instruction):
    """HEALTHCHECK: says how a container is asked for its health. Times are nanoseconds, 0 inherits.

    Attributes:
        command: What to execute; None for no check at all.
        interval: From the end of one check to the next.
        timeout: How long a check may take.
        start_period: How long after the start failures do not count.
        start_interval: As `interval`, during that time.
        retries: How many failures in a row make it unhealthy; 0 inherits.
    """

    name: ClassVar[str] = "HEALTHCHECK"

    command: Command | None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    def flags(self) -> Iterable[str]:
        times = {
            "interval": self.interval,
            "timeout": self.timeout,
            "start-period": self.start_period,
            "start-interval": self.start_interval,
        }
        flags = [f"--{name}={_duration(value)}" for name, value in times.items() if value]
        return [*flags, f"--retries={self.retries}"] if self.retries else flags

    def arguments(self) -> str:
        return "NONE" if self.command is None else f"CMD {_written(self.command)}"


@frozen
class Onbuild(Instruction):
    """ONBUILD: an instruction for those who build on the image."""

    name: ClassVar[str] = "ONBUILD"

    trigger: Instruction

    def arguments(self) -> str:
        return str(self.trigger)


def _written(command: Command) -> str:
    return command if isinstance(command, str) else json_text(command)


def _listed(words: Iterable[str]) -> str:
    """Words as a line, or as JSON where a line would be taken apart in another way."""
    listed = list(words)
    for number, word in enumerate(listed):
        odd = not word or any(character in SPACE for character in word)
        first = number == 0 and word.startswith(("[", "--"))
        last = number == len(listed) - 1 and word.endswith(("\\", "`"))
        if odd or first or last:
            return json_text(listed)
    return " ".join(listed)


def _duration(value: int) -> str:
    for unit, size in _UNITS:
        if value % size == 0:
            return f"{value // size}{unit}"
    return f"{value}ns"
