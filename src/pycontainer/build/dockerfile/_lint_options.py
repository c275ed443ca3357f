"""What ``# check=`` says: which checks are left out, and whether warnings are errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHECK_ARG", "LintOptions"]

CHECK_ARG: Final = "BUILDKIT_DOCKERFILE_CHECK"
"""The build argument that goes before the directive."""

_ALL: Final = "all"
_TRUE: Final = ("1", "t", "true")
_FALSE: Final = ("0", "f", "false")


@frozen
class LintOptions:
    """Options of the checks; names of rules are in small letters.

    Attributes:
        skipped: Rules whose warnings are left out; ``all`` for all of them.
        tried: Experimental rules that are applied; ``all`` for all of them.
        error: Whether a warning ends the build.
    """

    skipped: frozenset[str] = frozenset()
    tried: frozenset[str] = frozenset()
    error: bool = False

    @classmethod
    def parse(cls, text: str) -> LintOptions:
        """Read ``skip=A,B;error=true;experimental=C``.

        Raises:
            ValueError: It is not written so.
        """
        options = dict(_options(text))
        return cls(
            _names(options.get("skip", "")),
            _names(options.get("experimental", "")),
            _switch(options.get("error", "false")),
        )

    def shows(self, rule: str, *, experimental: bool) -> bool:
        """Whether the warnings of a rule are to be shown."""
        if experimental and not {rule.lower(), _ALL} & self.tried:
            return False
        return not {rule.lower(), _ALL} & self.skipped


def _options(text: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, map(str.strip, text.split(";"))):
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not equals or name not in ("skip", "error", "experimental"):
            raise ValueError(f"check has no option {part!r}; write skip=RULE,… or error=true")
        yield name, value.strip()


def _names(text: str) -> frozenset[str]:
    return frozenset(filter(None, (each.strip().lower() for each in text.split(","))))


def _switch(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError(f"check: error is either true or false, not {text!r}")
    return text.lower() in _TRUE
