"""``WWW-Authenticate`` challenges (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Challenge", "parse_challenges"]

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  (a grammar, no secret)
_PARAMETER: Final = re.compile(rf"\s*({_TOKEN})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|({_TOKEN}))\s*")
_SCHEME: Final = re.compile(rf"\s*({_TOKEN})(?:\s+([A-Za-z0-9._~+/-]+=*)(?=\s*(?:,|$)))?\s*")


@frozen
class Challenge:
    """One way to authenticate that a server offers.

    Attributes:
        scheme: In lower case: ``basic``, ``bearer``.
        parameters: Such as ``realm``, ``service``, ``scope``; names in lower case.
    """

    scheme: str
    parameters: Mapping[str, str] = field(factory=dict, hash=False)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Read all challenges of all headers; from the first unreadable part on a header is ignored."""
    return tuple(challenge for header in headers for challenge in _parse(header))


def _parse(header: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    parameters: dict[str, str] = {}
    position = 0
    while position < len(header):
        if header[position] in ", \t":
            position += 1
        elif challenges and (found := _PARAMETER.match(header, position)):
            name, quoted, token = found.groups()
            value = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(name.lower(), value)
            position = found.end()
        elif found := _SCHEME.match(header, position):
            parameters = {}
            challenges.append(Challenge(found[1].lower(), parameters))
            position = found.end()
        else:
            break
    return challenges
