"""What of a repository's content is needed by what."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pycontainer.oci import Digest
from pycontainer.registry._manifests import parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pycontainer.oci import Index, Manifest

__all__ = ["digests_in", "reachable"]


def digests_in(document: Manifest | Index | None) -> set[Digest]:
    """What a manifest needs, if it can be read."""
    return set() if document is None else {part.digest for part in parts_of(document)}


def reachable(
    tagged: Iterable[Digest], documents: Mapping[Digest, Manifest | Index | None]
) -> set[Digest]:
    """The manifests that tags lead to, by indexes, or that refer to such ones as their subject.

    Args:
        tagged: What tags name.
        documents: All manifests of the repository, None for one that cannot be read.
    """
    about = defaultdict[Digest, list[Digest]](list)
    for digest, document in documents.items():
        if document is not None and document.subject is not None:
            about[document.subject.digest].append(digest)
    found = set[Digest]()
    todo = list(tagged)
    while todo:
        digest = todo.pop()
        if digest in found or digest not in documents:
            continue
        found.add(digest)
        todo += digests_in(documents[digest])
        todo += about[digest]
    return found
