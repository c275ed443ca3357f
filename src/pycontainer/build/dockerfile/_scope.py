"""What variables a Dockerfile's instructions see: ARG and ENV, and the ones that are always there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import define, field

from pycontainer.build.dockerfile._expand import Expander

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainer.oci import Platform

__all__ = ["PROXIES", "Scope", "is_predefined", "platform_args"]

PROXIES: Final = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
"""Build arguments that need no ARG; images do not depend on them."""

_SPECIAL: Final = ("SOURCE_DATE_EPOCH",)


def platform_args(target: Platform, build: Platform, stage: str) -> dict[str, str]:
    """The arguments that say what is built for what, and where."""
    args = {"TARGETSTAGE": stage or "default"}
    for prefix, platform in (("TARGET", target), ("BUILD", build)):
        args |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    return args


def is_predefined(name: str) -> bool:
    """Whether a build argument is of use though no ARG declares it."""
    return name in PROXIES or name in _SPECIAL or name.startswith("BUILDKIT_")


@define
class Scope:
    """The variables at one point of a Dockerfile.

    Attributes:
        given: Build arguments, by the one who builds.
        inherited: What an ARG without a default takes: those declared before the first FROM.
        escape: The character that escapes others.
        args: The arguments that have a value here.
        env: The environment variables.
        declared: The names of all arguments declared so far.
    """

    given: Mapping[str, str]
    inherited: Mapping[str, str]
    escape: str
    args: dict[str, str] = field(factory=dict)
    env: dict[str, str] = field(factory=dict)
    declared: set[str] = field(factory=set)

    @property
    def variables(self) -> dict[str, str]:
        """All; an environment variable hides an argument."""
        return {**self.args, **self.env}

    def expander(self, *, quotes: bool = True) -> Expander:
        """What replaces variables here."""
        return Expander(self.variables, self.escape, quotes)

    def word(self, text: str) -> str:
        """A word with its variables replaced.

        Raises:
            ValueError: It is not written as it must be.
        """
        return self.expander().word(text)

    def declare(self, name: str, default: str | None) -> None:
        """Carry out ARG for one name.

        Raises:
            ValueError: The default is not written as it must be.
        """
        name = self.word(name)
        self.declared.add(name)
        value = self.given.get(name)
        if value is None and default is not None:
            value = self.word(default)
        elif value is None:
            value = self.inherited.get(name)
        if value is not None:
            self.args[name] = value

    def for_command(self) -> tuple[tuple[str, str], ...]:
        """The arguments that a command of RUN has in its environment."""
        return tuple((k, v) for k, v in sorted(self.args.items()) if k not in self.env)
