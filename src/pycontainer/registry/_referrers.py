"""Manifests about other manifests: the referrers API, and its fall-back, an index under a tag.

A registry that has no such API gets an index that the clients keep themselves ("Referrers Tag Schema").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlencode

from attrs import evolve

from pycontainer.errors import ManifestNotFound, RegistryError
from pycontainer.oci import Descriptor, Digest, Index, Manifest, media_types, parse_manifest
from pycontainer.registry._pages import next_link
from pycontainer.registry._requests import Request, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.registry._client import FetchedManifest
    from pycontainer.registry._requests import Answer

__all__ = ["drop_referrer", "list_referrers", "note_referrer", "referrer"]

_ATTEMPTS: Final = 5
_LARGEST: Final = 32 << 20


class _Registry(Protocol):
    def get_manifest(self, repository: str, reference: str) -> FetchedManifest: ...
    def put_manifest(
        self, repository: str, reference: str, data: bytes, media_type: str
    ) -> Digest: ...


def list_referrers(
    client: _Registry,
    call: Callable[[Request], Answer],
    repository: str,
    subject: Digest,
    artifact_type: str | None,
) -> list[Descriptor]:
    """What is about a manifest, by the API, else by the tag."""
    query = "" if artifact_type is None else f"?{urlencode({'artifactType': artifact_type})}"
    target: str | None = f"/v2/{repository}/referrers/{subject}{query}"
    what = f"list what is about {subject} in {repository}"
    found: list[Descriptor] = []
    seen: set[str] = set()
    while target is not None:
        if target in seen:
            raise RegistryError(f"cannot {what}: the list goes in a circle")
        seen.add(target)
        request = Request(
            "GET",
            target,
            what,
            expect=frozenset({200, 404, 405}),
            scopes=(f"repository:{repository}:pull",),
            headers={"Accept": media_types.OCI_INDEX},
            largest=_LARGEST,
        )
        answer = call(request)
        if answer.status != 200:
            found = list(_tagged(client, repository, subject).manifests)
            break
        found += Index.parse(answer.data, media_type=media_types.OCI_INDEX).manifests
        link = next_link(answer.headers.get("link"))
        target = resolve(answer.url, link, what) if link is not None else None
    # A registry need not know the filter.
    return [entry for entry in found if artifact_type in {None, entry.artifact_type}]


def note_referrer(client: _Registry, repository: str, document: Manifest | Index) -> None:
    """Enter a manifest with a subject into the list that is kept under a tag."""
    subject = document.subject
    assert subject is not None, "only what has a subject is noted"
    entry = referrer(document)

    def enter(index: Index) -> Index | None:
        if any(known.digest == entry.digest for known in index.manifests):
            return None
        return index.evolve(manifests=(*index.manifests, entry))

    _change(client, repository, subject.digest, enter)


def drop_referrer(client: _Registry, repository: str, subject: Digest, digest: Digest) -> None:
    """Take a manifest out of the list that is kept under a tag."""

    def drop(index: Index) -> Index | None:
        left = tuple(entry for entry in index.manifests if entry.digest != digest)
        return None if len(left) == len(index.manifests) else index.evolve(manifests=left)

    _change(client, repository, subject, drop)


def referrer(document: Manifest | Index) -> Descriptor:
    """How a list of referrers describes one."""
    artifact_type = document.artifact_type
    if artifact_type is None and isinstance(document, Manifest):
        artifact_type = document.config.media_type
    return evolve(
        document.descriptor(), artifact_type=artifact_type, annotations=document.annotations
    )


def _change(
    client: _Registry, repository: str, subject: Digest, change: Callable[[Index], Index | None]
) -> None:
    """Change the list until it stays changed: others may write it at the same time."""
    for _ in range(_ATTEMPTS):
        changed = change(_tagged(client, repository, subject))
        if changed is None:
            return
        client.put_manifest(repository, _tag(subject), changed.encode(), changed.media_type)
    raise RegistryError(
        f"the list of what is about {subject} in {repository} is always overwritten"
    )


def _tagged(client: _Registry, repository: str, subject: Digest) -> Index:
    try:
        fetched = client.get_manifest(repository, _tag(subject))
    except ManifestNotFound:
        return Index()
    document = parse_manifest(fetched.data, fetched.media_type or None)
    return document if isinstance(document, Index) else Index()


def _tag(subject: Digest) -> str:
    return f"{subject.algorithm}-{subject.hex}"[:128]
