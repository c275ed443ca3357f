"""Manifests and indexes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycontainer.errors import PlatformNotFound, SpecError
from pycontainer.oci import (
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    media_types,
    parse_manifest,
)

DIGEST = "sha256:" + "ab" * 32
CONFIG = {"mediaType": media_types.OCI_CONFIG, "digest": DIGEST, "size": 2}
LAYER = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": DIGEST, "size": 3}


def manifest(**changes: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": CONFIG,
        "layers": [LAYER],
        **changes,
    }
    return json.dumps({k: v for k, v in document.items() if v is not ...}, indent=3).encode()


def index(*platforms: str | None, **changes: Any) -> bytes:
    entries = []
    for number, text in enumerate(platforms):
        entry: dict[str, Any] = {
            "mediaType": media_types.OCI_MANIFEST,
            "digest": str(Digest.of(bytes([number]))),
            "size": number,
        }
        if text is not None:
            parts = text.split("/")
            entry["platform"] = dict(zip(("os", "architecture", "variant"), parts, strict=False))
        entries.append(entry)
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": entries,
        **changes,
    }
    return json.dumps({k: v for k, v in document.items() if v is not ...}).encode()


# --- bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [manifest(), index("linux/amd64")])
def test_a_parsed_document_keeps_its_bytes(data: bytes) -> None:
    document = parse_manifest(data)
    assert document.encode() == data
    assert document.digest == Digest.of(data)
    assert document.descriptor() == Descriptor(document.media_type, Digest.of(data), len(data))


def test_a_changed_copy_has_new_bytes_and_what_we_do_not_know() -> None:
    document = Manifest.parse(manifest(annotations={"b": "2", "a": "1"}, future={"x": [None]}))
    changed = document.evolve(annotations={"c": "3"})
    assert json.loads(changed.encode()) == {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": CONFIG,
        "layers": [LAYER],
        "annotations": {"c": "3"},
        "future": {"x": [None]},
    }
    assert changed.digest != document.digest
    assert document.evolve() == document
    assert document.evolve().encode() != document.encode()


def test_what_is_encoded_anew_is_always_the_same() -> None:
    one = Manifest.parse(manifest(z=1, y=2, annotations={"b": "2", "a": "1"})).evolve()
    two = Manifest.parse(manifest(y=2, z=1, annotations={"a": "1", "b": "2"})).evolve()
    assert one.encode() == two.encode()
    assert one.encode().startswith(b'{"schemaVersion":2,"mediaType":"application/vnd.oci')


# --- which one is it -------------------------------------------------------------------------


def test_the_document_says_what_it_is() -> None:
    docker = manifest(mediaType=media_types.DOCKER_MANIFEST)
    assert (
        parse_manifest(docker, media_types.OCI_MANIFEST).media_type == media_types.DOCKER_MANIFEST
    )
    assert isinstance(parse_manifest(index(mediaType=media_types.DOCKER_LIST)), Index)


def test_what_it_was_announced_as_counts_where_it_says_nothing() -> None:
    silent = manifest(mediaType=...)
    announced = f"{media_types.DOCKER_MANIFEST}; charset=utf-8"
    assert parse_manifest(silent, announced).media_type == media_types.DOCKER_MANIFEST
    assert parse_manifest(silent, "application/json").media_type == media_types.OCI_MANIFEST
    assert parse_manifest(silent).media_type == media_types.OCI_MANIFEST
    assert parse_manifest(index(mediaType=...)).media_type == media_types.OCI_INDEX


def test_lists_that_go_writes_as_null_are_empty() -> None:
    assert Manifest.parse(manifest(layers=None)).layers == ()
    assert Index.parse(index(manifests=None)).manifests == ()


@pytest.mark.parametrize(
    ("data", "announced"),
    [
        (manifest(manifests=[]), None),
        (index(layers=[]), None),
        (index(config=CONFIG, mediaType=...), None),
        (manifest(mediaType=media_types.OCI_INDEX), None),
        (index(mediaType=media_types.DOCKER_MANIFEST), None),
        (manifest(), media_types.OCI_INDEX),
        (index(), media_types.DOCKER_MANIFEST),
        (manifest(mediaType=...), media_types.DOCKER_LIST),
        (index(mediaType=...), media_types.OCI_MANIFEST),
    ],
)
def test_what_can_be_read_as_either_is_refused(data: bytes, announced: str | None) -> None:
    with pytest.raises(SpecError, match="an index and an image manifest at once"):
        parse_manifest(data, announced)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"{}", "neither an image manifest nor an index"),
        (b'{"schemaVersion": 2}', "neither an image manifest nor an index"),
        (manifest(mediaType="application/x"), "says it is 'application/x'"),
        (manifest(schemaVersion=3), "schemaVersion: unknown version 3"),
        (manifest(schemaVersion="2"), "schemaVersion: expected an integer"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "schema 1.*push the image again"),
        (manifest(mediaType=media_types.DOCKER_SCHEMA_1[1]), "schema 1"),
        (manifest(config=...), "config: missing"),
        (manifest(config={}), "config.mediaType: missing"),
        (manifest(layers={}), "layers: expected a list"),
        (manifest(layers=[LAYER, {**LAYER, "digest": "x"}]), r"layers\[1\].digest: not a digest"),
        (manifest(subject={**LAYER, "size": -1}), "subject.size: -1 is not in 0 to"),
        (manifest(annotations={"k": 1}), "annotations.k: expected a string"),
        (index(manifests=[None]), r"manifests\[0\]: expected an object, found null"),
    ],
)
def test_a_bad_document_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        parse_manifest(data)


def test_the_other_kind_is_refused_where_one_is_wanted() -> None:
    with pytest.raises(SpecError, match="expected an index, found an image manifest"):
        Index.parse(manifest())
    with pytest.raises(SpecError, match="expected an image manifest, found an index"):
        Manifest.parse(index())


def test_artifacts_and_subjects_survive() -> None:
    document = Manifest.parse(manifest(artifactType="a/b", subject=LAYER))
    assert document.artifact_type == "a/b"
    assert document.subject == Descriptor.from_json(LAYER)
    assert Manifest.parse(document.evolve().encode()) == document


# --- selecting -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "wanted", "position"),
    [
        (["linux/arm64", "linux/amd64", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64", "linux/amd64/v3"], "linux/amd64/v3", 1),
        (["linux/amd64", "linux/amd64/v2"], "linux/amd64/v4", 1),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", 1),
        (["linux/arm64/v8"], "linux/arm64", 0),
        ([None], "linux/amd64", 0),
    ],
)
def test_the_best_manifest_is_selected(there: list[str | None], wanted: str, position: int) -> None:
    document = Index.parse(index(*there))
    assert document.select(Platform.parse(wanted)) == document.manifests[position]


@pytest.mark.parametrize(
    ("there", "complaint"),
    [
        ([], "only for no platform at all"),
        ([None, None], "only for no platform at all"),
        (["linux/arm64", "unknown/unknown"], r"only for linux/arm64 \(remedy"),
        (["linux/amd64/v2"], "only for linux/amd64/v2"),
    ],
)
def test_a_missing_platform_is_told_with_what_there_is(
    there: list[str | None], complaint: str
) -> None:
    with pytest.raises(PlatformNotFound, match=f"no image for linux/amd64, {complaint}"):
        Index.parse(index(*there)).select(Platform("linux", "amd64"))
