"""What in a Dockerfile is allowed and yet most often a mistake: the build checks of BuildKit."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from pycontainer.build._ignore import IgnorePatterns
from pycontainer.build.dockerfile import _instructions as ins
from pycontainer.build.dockerfile._lint_options import LintOptions
from pycontainer.build.dockerfile._location import Location, nearest
from pycontainer.build.dockerfile._scope import PROXIES, Scope, platform_args
from pycontainer.errors import DockerfileError, SpecError
from pycontainer.oci import Platform, Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pycontainer.build.dockerfile._document import Dockerfile, Stage

__all__ = ["BuildWarning", "check", "lint_options"]

_SECRET: Final = re.compile(
    r"(?:^|_)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:$|_)",
    re.IGNORECASE,
)
_NO_SECRET: Final = re.compile(r"(?:^|_)public(?:$|_)", re.IGNORECASE)
_RESERVED: Final = ("context", "scratch")
_EXPERIMENTAL: Final = ("InvalidDefinitionDescription",)
_ONCE: Final = (ins.Cmd, ins.Entrypoint, ins.Healthcheck)


@frozen
class BuildWarning:
    """Something that is most often a mistake.

    Attributes:
        rule: Its name, as ``docker build --check`` has it, such as ``StageNameCasing``.
        message: What was found, and what to do about it.
        location: Where it stands.
    """

    rule: str
    message: str
    location: Location = field(repr=lambda place: f"{place.file}:{place.first}")

    def __str__(self) -> str:
        return f"{self.location.file}:{self.location.first}: {self.rule}: {self.message}"


def check(
    dockerfile: Dockerfile, *, ignore: Iterable[str] = (), options: str | None = None
) -> tuple[BuildWarning, ...]:
    """Look for what is most often a mistake; nothing is pulled or built.

    Rules that the file names in ``# check=skip=…`` are left out; experimental ones are applied if it names
    them in ``# check=experimental=…``.

    Args:
        dockerfile: The Dockerfile.
        ignore: The patterns of its ``.dockerignore``.
        options: What goes before the file's own ``# check=``, written alike.

    Raises:
        DockerfileError: The options are not written as they must be.
    """
    chosen = lint_options(dockerfile, options)
    lint = _Lint(dockerfile, IgnorePatterns(tuple(ignore)))
    lint.run()
    found = [
        each
        for each in lint.found
        if chosen.shows(each.rule, experimental=each.rule in _EXPERIMENTAL)
    ]
    return tuple(sorted(found, key=lambda each: (each.location.first, each.rule)))


def lint_options(dockerfile: Dockerfile, given: str | None) -> LintOptions:
    """How a Dockerfile is to be checked.

    Raises:
        DockerfileError: The options are not written as they must be.
    """
    try:
        return LintOptions.parse(dockerfile.directives.check if given is None else given)
    except ValueError as error:
        raise DockerfileError(str(error), file=dockerfile.file) from error


@define(eq=False)
class _Lint:
    dockerfile: Dockerfile
    ignore: IgnorePatterns
    found: list[BuildWarning] = field(factory=list, init=False)
    rooted: set[str] = field(factory=set, init=False)
    """The stages whose working directory the file says."""
    shelled: set[str] = field(factory=set, init=False)
    """The stages whose shell the file says: who chooses one wants it."""

    def run(self) -> None:
        self._casing()
        for number in self.dockerfile.gaps:
            place = Location(self.dockerfile.file, number, ("",))
            self._warn("NoEmptyContinuation", place, "an empty line within an instruction")
        escape = self.dockerfile.directives.escape
        here = platform_args(Platform.current(), Platform.current(), "")
        scope = Scope({}, {}, escape, args=here)
        for instruction in self.dockerfile.args:
            self._secrets(instruction)
            self._description(instruction, [name for name, _ in instruction.pairs])
            self._declare(instruction, scope)
        names: Counter[str] = Counter()
        scopes: dict[str, Scope] = {}
        for stage in self.dockerfile.stages:
            self._from(stage, scope, names)
            base = scopes.get(stage.base.image.lower(), Scope({}, {}, escape))
            own = Scope({}, scope.variables, escape, {**base.args}, {**base.env}, {*base.declared})
            self._stage(stage, own)
            scopes[stage.name] = own

    def _warn(self, rule: str, place: Location | ins.Instruction, message: str) -> None:
        location = place if isinstance(place, Location) else place.location
        if location is not None:
            self.found.append(BuildWarning(rule, message, location))

    @staticmethod
    def _declare(instruction: ins.Arg, scope: Scope) -> None:
        with suppress(ValueError):  # building says so
            for name, default in instruction.pairs:
                scope.declare(name, default)

    def _casing(self) -> None:
        spelled = [each for each in self.dockerfile if each.spelled]
        small = sum(each.spelled.islower() for each in spelled)
        wanted = str.lower if small > len(spelled) - small else str.upper
        for each in spelled:
            if each.spelled != wanted(each.spelled):
                message = f"write {wanted(each.spelled)} as the other instructions are written"
                self._warn("ConsistentInstructionCasing", each, message)

    def _from(self, stage: Stage, scope: Scope, names: Counter[str]) -> None:
        base = stage.base
        self._description(base, [base.alias] if base.alias else [])
        if base.alias != base.alias.lower():
            self._warn("StageNameCasing", base, f"write the stage's name as {base.alias.lower()}")
        if base.alias and base.joint.islower() != base.spelled.islower():
            self._warn("FromAsCasing", base, f"write {base.spelled} and {base.joint} in one case")
        if stage.name in _RESERVED:
            self._warn("ReservedStageName", base, f"{stage.name} means something else")
        names[stage.name] += 1
        if stage.name and names[stage.name] > 1:
            self._warn("DuplicateStageName", base, f"a former stage is called {stage.name} too")
        platform = base.platform
        if platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            self._warn("RedundantTargetPlatform", base, f"--platform={platform} is the default")
        elif (
            platform
            and "$" not in platform
            # A stage that is called by its platform is meant to be of it.
            and not any(part in stage.name for part in platform.lower().split("/"))
        ):
            message = f"--platform={platform} builds for the same platform whatever is asked for"
            self._warn("FromPlatformFlagConstDisallowed", base, message)
        self._arguments(base, scope)

    def _arguments(self, base: ins.From, scope: Scope) -> None:
        """Find what FROM says with arguments that nothing declares, or that mean nothing by default."""
        undeclared = _missing(scope, [base.image, base.platform]) - scope.declared
        for name in sorted(undeclared):
            hint = nearest(name, scope.variables)
            message = f"no ARG before the first FROM gives {name} a value"
            self._warn("UndefinedArgInFrom", base, f"{message}; {hint}" if hint else message)
        if "$" not in base.image or undeclared:
            return
        try:
            Reference.parse(scope.word(base.image))
        except (SpecError, ValueError):
            message = f"without build arguments {base.image} names no image; give ARG a default"
            self._warn("InvalidDefaultArgInFrom", base, message)

    def _stage(self, stage: Stage, scope: Scope) -> None:
        inherits = stage.base.image != "scratch"
        once: Counter[type[ins.Instruction]] = Counter()
        rooted = stage.base.image.lower() in self.rooted
        shelled = stage.base.image.lower() in self.shelled
        for each in stage.instructions:
            once[type(each)] += 1
            if isinstance(each, _ONCE) and once[type(each)] > 1:
                message = f"only the last {each.name} of a stage counts"
                self._warn("MultipleInstructionsDisallowed", each, message)
            if isinstance(each, ins.Workdir):
                if not each.value.startswith(("/", "$")) and not rooted:
                    message = f"{each.value} is relative to a directory that the file does not show"
                    self._warn("WorkdirRelativePath", each, message)
                rooted = True
            shelled = shelled or isinstance(each, ins.Shell)
            if isinstance(each, ins.Cmd | ins.Entrypoint) and not shelled:
                self._command(each)
            self._instruction(each)
            self._variables(each, scope, inherits=inherits)
        if stage.name:
            self.rooted |= {stage.name} if rooted else set()
            self.shelled |= {stage.name} if shelled else set()

    def _command(self, each: ins.Cmd | ins.Entrypoint) -> None:
        if isinstance(each.command, str):
            message = (
                f'write {each.name} ["program", "argument"]: a shell would not pass signals on'
            )
            self._warn("JSONArgsRecommended", each, message)

    def _instruction(self, each: ins.Instruction) -> None:
        self._secrets(each)
        if isinstance(each, ins.Arg):
            self._description(each, [name for name, _ in each.pairs])
        elif isinstance(each, ins.Maintainer):
            self._warn(
                "MaintainerDeprecated", each, "write LABEL org.opencontainers.image.authors="
            )
        elif isinstance(each, ins.Env | ins.Label) and each.legacy:
            message = f"write {each.name} {each.pairs[0][0]}=VALUE"
            self._warn("LegacyKeyValueFormat", each, message)
        elif isinstance(each, ins.Expose):
            self._ports(each)
        elif isinstance(each, ins.Copy) and not each.from_:
            for source in each.sources:
                path = source.strip("/").removeprefix("./") if isinstance(source, str) else ""
                if path and self.ignore.ignores(path) and not self.ignore.takes_back:
                    self._warn("CopyIgnoredFile", each, f".dockerignore leaves {path} out")

    def _ports(self, each: ins.Expose) -> None:
        for port in each.ports:
            plain = re.sub(r"\$\{[^}]*\}", "", port)
            if plain != plain.lower() and "$" not in port:
                self._warn("ExposeProtoCasing", each, f"write {port.lower()}")
            if ":" in plain:
                message = (
                    f"{port} names an address or a port of the host; write the container's port"
                )
                self._warn("ExposeInvalidFormat", each, message)

    def _description(self, each: ins.Instruction, names: Sequence[str]) -> None:
        """Look at the comment right above a stage or an argument: it should be about that."""
        place = each.location
        comment = self.dockerfile.comments.get(place.first, "") if place else ""
        if comment and names and comment.split(" ")[0] not in names:
            message = f"begin the comment above with {names[0]}, or leave a line empty after it"
            self._warn("InvalidDefinitionDescription", each, message)

    def _secrets(self, each: ins.Instruction) -> None:
        if not isinstance(each, ins.Arg | ins.Env):
            return
        for name, _ in each.pairs:
            if _SECRET.search(name) and not _NO_SECRET.search(name):
                message = f"{name} stays in the image; use RUN --mount=type=secret"
                self._warn("SecretsUsedInArgOrEnv", each, message)

    def _variables(self, each: ins.Instruction, scope: Scope, *, inherits: bool) -> None:
        """Note what an instruction declares, and variables that nothing has set."""
        if isinstance(each, ins.Arg):
            self._declare(each, scope)
            return
        missing = _missing(scope, _expanded(each))
        if isinstance(each, ins.Env):
            with suppress(ValueError):
                scope.env |= {name: scope.word(value) for name, value in each.pairs}
        for name in sorted(missing - scope.declared - PROXIES):
            hint = nearest(name, scope.variables)
            if hint is not None or not inherits:  # the base image may have set it
                message = f"nothing has set {name}"
                self._warn("UndefinedVar", each, f"{message}; {hint}" if hint else message)


def _missing(scope: Scope, texts: Iterable[str]) -> set[str]:
    """The variables in texts that nothing has set; of texts that are no words, none."""
    expander = scope.expander()
    try:
        for text in texts:
            expander.word(text)
    except ValueError:
        return set()
    return expander.missing


def _expanded(each: ins.Instruction) -> list[str]:
    """The texts of an instruction in which variables are replaced."""
    if isinstance(each, ins.Env | ins.Label):
        return [value for _, value in each.pairs]
    if isinstance(each, ins.Workdir | ins.User | ins.StopSignal):
        return [each.value]
    if isinstance(each, ins.Copy):
        return [*(word for word in each.sources if isinstance(word, str)), each.destination]
    if isinstance(each, ins.Expose):
        return list(each.ports)
    return list(each.paths) if isinstance(each, ins.Volume) else []
