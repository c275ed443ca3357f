"""What an index says of its images beside them: in-toto statements, attached as BuildKit does.

An attestation manifest stands in the index under the platform ``unknown/unknown`` and names by an annotation
the image that it is about. Its layers are statements (in-toto attestation framework, statement v0.1), their
kind in an annotation. What is told of the build leaves times out: the same build gives the same index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import astuple, evolve, frozen

from pycontainer.build._graph import canonical
from pycontainer.oci import Descriptor, Digest, Manifest, Platform, media_types

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pycontainer.build._graph import Material
    from pycontainer.content import Store
    from pycontainer.images import Image
    from pycontainer.oci import Reference

__all__ = ["PROVENANCE", "SBOM", "Statement", "attest", "provenance"]

SBOM: Final = "https://spdx.dev/Document"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
_STATEMENT: Final = "https://in-toto.io/Statement/v0.1"
_LAYER_TYPE: Final = "application/vnd.in-toto+json"
_PREDICATE_TYPE: Final = "in-toto.io/predicate-type"
_REFERENCE_TYPE: Final = "vnd.docker.reference.type"
_REFERENCE_DIGEST: Final = "vnd.docker.reference.digest"
_BUILD_TYPE: Final = "urn:pycontainer:build:v1"
_UNKNOWN: Final = Platform("unknown", "unknown")


@frozen
class Statement:
    """Something that is said of an image: the kind of the predicate, and the predicate."""

    kind: str
    predicate: object


def attest(
    store: Store, image: Image, reference: Reference | None, statements: Sequence[Statement]
) -> Descriptor:
    """Store an attestation manifest.

    Args:
        store: Where to.
        image: What it is about.
        reference: The image's name.
        statements: What is said.

    Returns:
        What the index is to say of it.
    """
    layers, diff_ids = [], []
    for statement in statements:
        document = {
            "_type": _STATEMENT,
            "predicateType": statement.kind,
            "subject": [_subject(image, reference)],
            "predicate": statement.predicate,
        }
        descriptor = _stored(store, _LAYER_TYPE, canonical(document))
        layers.append(evolve(descriptor, annotations={_PREDICATE_TYPE: statement.kind}))
        diff_ids.append(str(descriptor.digest))
    config = {
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = Manifest(
        config=_stored(store, media_types.OCI_CONFIG, canonical(config)), layers=tuple(layers)
    )
    _stored(store, manifest.media_type, manifest.encode())
    needs = [("blob", str(blob.digest)) for blob in (manifest.config, *manifest.layers)]
    store.link(("blob", str(manifest.digest)), needs)
    about = {_REFERENCE_TYPE: "attestation-manifest", _REFERENCE_DIGEST: str(image.digest)}
    return evolve(manifest.descriptor(), platform=_UNKNOWN, annotations=about)


def provenance(
    platform: Platform,
    steps: Sequence[str],
    materials: Iterable[Material],
    *,
    epoch: int,
    target: Digest,
) -> Statement:
    """How an image was built (SLSA provenance v1).

    Args:
        platform: What it is for.
        steps: What was done, in order.
        materials: The images, files and repositories that it was made from.
        epoch: The time that all in it bears.
        target: Names the graph that was solved.
    """
    predicate = {
        "buildDefinition": {
            "buildType": _BUILD_TYPE,
            "externalParameters": {"platform": str(platform), "SOURCE_DATE_EPOCH": epoch},
            "internalParameters": {"steps": list(steps), "graph": str(target)},
            "resolvedDependencies": [
                {"uri": each.uri, "digest": {each.algorithm: each.hex}}
                for each in sorted(materials, key=astuple)
            ],
        },
        "runDetails": {"builder": {"id": "urn:pycontainer:builder"}},
    }
    return Statement(PROVENANCE, predicate)


def _subject(image: Image, reference: Reference | None) -> dict[str, object]:
    name = "image" if reference is None else f"{reference.name}@{reference.tag or 'latest'}"
    platform = str(image.platform).replace("/", "%2F")
    digest = image.digest
    return {
        "name": f"pkg:docker/{name}?platform={platform}",
        "digest": {digest.algorithm: digest.hex},
    }


def _stored(store: Store, media_type: str, data: bytes) -> Descriptor:
    with store.blobs.writer() as blob:
        blob.write(data)
        digest = blob.commit()
    return Descriptor(media_type, digest, len(data))
