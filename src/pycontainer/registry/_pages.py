"""Pages of tags and repositories: ``n``, ``last`` and the ``Link`` header (RFC 8288)."""

from __future__ import annotations

import bisect
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from pycontainer.registry._codes import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["in_order", "next_link", "page_of"]

_MOST_DIGITS: Final = 18
_LINK: Final = re.compile(r"<([^>]*)>((?:[^,\"]|\"(?:[^\"\\]|\\.)*\")*)")
_RELATION: Final = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,]+))", re.IGNORECASE)


def next_link(header: str | None) -> str | None:
    """The target of the link with relation ``next``; None on the last page."""
    for target, parameters in _LINK.findall(header or ""):
        for quoted, token in _RELATION.findall(parameters):
            if "next" in (quoted or token).lower().split():
                return str(target)
    return None


def in_order(name: str) -> tuple[str, str]:
    """The key by which tags are sorted: whatever their case ("Listing Tags")."""
    return name.casefold(), name


def page_of(
    names: Sequence[str], path: str, *, n: str | None, last: str | None
) -> tuple[list[str], str | None]:
    """One page of sorted names, and the ``Link`` header to the next one if there is one.

    Args:
        names: All of them, sorted by `in_order`.
        path: Where the list is served.
        n: The query's ``n``: how many at most; all if absent.
        last: The query's ``last``: only names after it.

    Raises:
        ApiError: `n` is not a count.
    """
    rest = names[bisect.bisect_right(names, in_order(last), key=in_order) :] if last else names
    if n is None:
        return list(rest), None
    if not (n.isascii() and n.isdigit() and len(n) <= _MOST_DIGITS):
        raise ApiError("PAGINATION_NUMBER_INVALID", "n must be a number", detail={"n": n[:80]})
    page = list(rest[: int(n)])
    if not page or len(page) == len(rest):
        return page, None
    return page, f'<{path}?{urlencode({"n": n, "last": page[-1]})}>; rel="next"'
