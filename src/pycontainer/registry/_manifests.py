"""What a registry server makes of a manifest that is pushed to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.errors import SpecError
from pycontainer.oci import Descriptor, Digest, Index, Manifest, media_types, parse_manifest
from pycontainer.registry._codes import ApiError
from pycontainer.registry._storage import StoredManifest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontainer.registry._storage import Storage

__all__ = ["Received", "parts_of", "receive", "referrers_index", "store"]

_KINDS: Final = media_types.MANIFESTS | media_types.INDEXES


@frozen
class Received:
    """A manifest that is well-formed and fits the name that it was pushed to."""

    document: Manifest | Index
    stored: StoredManifest
    tag: str | None


def receive(data: bytes, content_type: str, target: str | Digest) -> Received:
    """Read a pushed manifest.

    Args:
        data: The request's body.
        content_type: The request's ``Content-Type``, or empty.
        target: The tag or digest it was pushed to.

    Raises:
        ApiError: It is no manifest, contradicts its content type, or has another digest.
    """
    announced = content_type.partition(";")[0].strip()
    try:
        document = parse_manifest(data, announced or None)
    except SpecError as error:
        raise ApiError("MANIFEST_INVALID", str(error)) from error
    if announced and announced != document.media_type:
        raise ApiError(
            "MANIFEST_INVALID",
            f"sent as {announced}, but it says that it is {document.media_type}",
            detail={"mediaType": document.media_type},
        )
    algorithm = target.algorithm if isinstance(target, Digest) else "sha256"
    digest = Digest.of(data, algorithm)
    if isinstance(target, Digest) and target != digest:
        raise ApiError(
            "DIGEST_INVALID", f"the manifest's digest is {digest}", detail={"digest": str(target)}
        )
    stored = StoredManifest(data, document.media_type, digest)
    return Received(document, stored, target if isinstance(target, str) else None)


def store(storage: Storage, repository: str, received: Received) -> None:
    """Store a manifest if the repository holds all that it refers to.

    Raises:
        ApiError: Something is missing, or of another size.
    """
    subject = received.document.subject
    stored = received.stored

    def check_and_put() -> None:
        _check_parts(storage, repository, parts_of(received.document))
        about = None if subject is None else subject.digest
        storage.put_manifest(repository, stored, subject=about)

    storage.undisturbed(check_and_put)
    if received.tag is not None:
        storage.put_tag(repository, received.tag, stored.digest)


def parts_of(document: Manifest | Index) -> tuple[Descriptor, ...]:
    """What a manifest is made of."""
    if isinstance(document, Index):
        return document.manifests
    return (document.config, *document.layers)


def _check_parts(storage: Storage, repository: str, parts: Iterable[Descriptor]) -> None:
    for part in parts:
        size = _size_of(storage, repository, part)
        if size is None:
            if part.urls:  # layers that may not be distributed are fetched from there
                continue
            raise ApiError(
                "MANIFEST_BLOB_UNKNOWN",
                f"{repository} does not hold {part.digest}",
                detail={"digest": str(part.digest)},
            )
        if size != part.size:
            raise ApiError(
                "MANIFEST_INVALID",
                f"{part.digest} has {size} bytes, the manifest says {part.size}",
                detail={"digest": str(part.digest)},
            )


def _size_of(storage: Storage, repository: str, part: Descriptor) -> int | None:
    if part.media_type in _KINDS:
        manifest = storage.manifest(repository, part.digest)
        return None if manifest is None else len(manifest.data)
    return storage.blob_size(repository, part.digest)


def referrers_index(
    storage: Storage, repository: str, subject: Digest, artifact_type: str | None
) -> bytes:
    """The index that lists the referrers of a manifest ("Listing Referrers").

    Args:
        storage: Where to look.
        repository: The repository.
        subject: What they refer to.
        artifact_type: Only those of this type, if given.
    """
    entries = storage.referrers(repository, subject)
    if artifact_type is not None:
        entries = [entry for entry in entries if entry.artifact_type == artifact_type]
    return Index(manifests=tuple(entries)).encode()
