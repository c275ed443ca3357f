"""Requests to a registry and its answers, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

from attrs import field, frozen

from pycontainer.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainer.registry._body import FileBody

__all__ = ["Answer", "Request", "resolve"]


@frozen
class Request:
    """One request to a registry.

    Attributes:
        method: HTTP method.
        target: Path on the registry's host, or a URL that the registry itself gave.
        what: What it tries, for messages: ``read manifest app:1``.
        expect: Statuses that are answers and no errors.
        headers: Beyond those that every request has.
        body: Bytes, or a file, of which nothing is sent twice.
        scopes: What a token must allow for it, such as ``repository:app:pull``.
        confidential: Whether its body must not be sent on to another host.
        repeatable: Whether it may be carried out twice; GET and HEAD always may.
        missing: The error that a 404 means.
        largest: How many bytes an answer that is read whole may have.
    """

    method: str
    target: str
    what: str
    expect: frozenset[int] = frozenset({200})
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes | FileBody | None = None
    scopes: tuple[str, ...] = ()
    confidential: bool = False
    repeatable: bool = field()
    missing: type[RegistryError] = RegistryError
    largest: int = 4 << 20

    @repeatable.default
    def _(self) -> bool:
        return self.method in {"GET", "HEAD"}


@frozen
class Answer:
    """A response that has been read whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    data: bytes
    url: str


def resolve(base: str, target: str, what: str) -> str:
    """The URL that a registry's answer means by a ``Location`` or a link.

    Raises:
        RegistryError: It is no URL.
    """
    try:
        return urljoin(base, target)
    except ValueError as error:
        shown = target.partition("?")[0][:200]  # queries hold signatures that let anybody in
        raise RegistryError(f"cannot {what}: sent on to {shown!r}, no URL") from error
