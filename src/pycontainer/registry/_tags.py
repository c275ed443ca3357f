"""The tags of a repository, page by page ("Listing Tags")."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from pycontainer.errors import ManifestNotFound, RegistryError
from pycontainer.registry._pages import next_link
from pycontainer.registry._requests import Request, resolve

if TYPE_CHECKING:
    from pycontainer.registry._requests import Answer
    from pycontainer.registry._transport import Transport

__all__ = ["list_tags"]

_LARGEST: Final = 32 << 20


def list_tags(
    transport: Transport, repository: str, *, page: int | None, after: str | None
) -> list[str]:
    """All tags, in the registry's order; see `Client.tags`.

    Raises:
        ManifestNotFound: There is no such repository.
        RegistryError: The registry cannot be reached, refuses, or answers against the rules.
    """
    asked = {"n": page, "last": after}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    path = f"/v2/{repository}/tags/list"
    what = f"list the tags of {transport.base.partition('://')[2]}/{repository}"
    target: str | None = f"{path}?{query}" if query else path
    tags: list[str] = []
    seen: set[str] = set()
    while target is not None:
        if target in seen:
            raise RegistryError(f"cannot {what}: the list goes in a circle")
        seen.add(target)
        request = Request(
            "GET",
            target,
            what,
            scopes=(f"repository:{repository}:pull",),
            missing=ManifestNotFound,
            largest=_LARGEST,
        )
        answer = transport.call(request)
        tags += _tags_of(answer, what)
        link = next_link(answer.headers.get("link"))
        target = resolve(answer.url, link, what) if link is not None else None
    return tags


def _tags_of(answer: Answer, what: str) -> list[str]:
    try:
        document = json.loads(answer.data)
        tags = document["tags"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise RegistryError(
            f"cannot {what}: the answer is no list", status=answer.status
        ) from error
    if tags is None:  # how some registries write an empty list
        return []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise RegistryError(f"cannot {what}: the answer is no list of tags", status=answer.status)
    return tags
