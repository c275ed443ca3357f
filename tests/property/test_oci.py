"""Documents keep their bytes and their meaning; references read back as themselves."""

from __future__ import annotations

import json
import pickle
from typing import Any

import attrs
from hypothesis import example, given
from hypothesis import strategies as st

from property import strategies_oci as oci
from pycontainer.errors import InvalidReference, SpecError
from pycontainer.oci import (
    Descriptor,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    Reference,
    parse_manifest,
)
from pycontainer.oci._json import Fields, decode, encode
from pycontainer.oci.runtime import RuntimeSpec

Document = Manifest | Index | ImageConfig


def parse(document: Document, data: bytes) -> Document:
    return type(document).parse(data)


# --- documents -------------------------------------------------------------------------------


@given(oci.documents)
def test_what_is_encoded_is_read_back(document: Document) -> None:
    assert parse(document, document.encode()) == document


@given(oci.documents, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_parsing_keeps_the_bytes_however_they_are_written(
    document: Document, indent: Any, sort_keys: bool
) -> None:
    data = json.dumps(json.loads(document.encode()), indent=indent, sort_keys=sort_keys).encode()
    parsed = parse(document, data)
    assert parsed.encode() == data
    assert parsed.digest == Digest.of(data)
    assert parsed.descriptor() == Descriptor(parsed.media_type, Digest.of(data), len(data))
    assert parsed == document


@given(oci.documents, st.randoms(use_true_random=False))
def test_encoding_anew_forgets_the_order_of_members(document: Document, random: Any) -> None:
    def shuffled(value: Any) -> Any:
        members = list(value.items())
        random.shuffle(members)
        return dict(members)

    data = json.dumps(shuffled(json.loads(document.encode()))).encode()
    assert parse(document, data).evolve().encode() == document.encode()


@given(oci.documents)
def test_a_changed_copy_differs_in_nothing_else(document: Document) -> None:
    changed = parse(document, document.encode()).evolve(extra={})
    assert changed == attrs.evolve(document, extra={})
    assert changed.evolve(extra=document.extra).encode() == document.encode()


@given(oci.documents)
def test_documents_are_values(document: Document) -> None:
    again = pickle.loads(pickle.dumps(document))
    assert again == document
    assert hash(again) == hash(document)


@given(oci.manifests | oci.indexes)
def test_parse_manifest_tells_the_two_apart(document: Manifest | Index) -> None:
    assert parse_manifest(document.encode(), document.media_type) == document
    silent = json.loads(document.encode())
    del silent["mediaType"]
    assert parse_manifest(json.dumps(silent).encode(), document.media_type) == document
    assert type(parse_manifest(json.dumps(silent).encode())) is type(document)


@given(oci.descriptors())
def test_descriptors_are_read_back(descriptor: Descriptor) -> None:
    document = decode(encode(descriptor.to_json()))
    assert Descriptor.from_json(document) == descriptor
    assert Descriptor.from_json(document).to_json() == document


# --- hostile input ---------------------------------------------------------------------------


@given(st.binary(max_size=40) | oci.json_values.map(encode))
@example(b'{"a":' * 3000)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (parse_manifest, ImageConfig.parse, RuntimeSpec.parse):
        try:
            read(data)
        except SpecError:
            continue


@given(oci.configs, st.data())
def test_a_wrong_member_is_refused_with_its_path_or_survives(
    config: ImageConfig, data: st.DataObject
) -> None:
    members = json.loads(config.encode())
    name = data.draw(st.sampled_from(sorted(members)))
    members[name] = data.draw(oci.json_values)
    raw = json.dumps(members).encode()
    place = path = Fields({}).at(name)
    try:
        assert ImageConfig.parse(raw).encode() == raw
    except SpecError as error:
        path = error.path
    assert path.startswith(place)


@given(oci.json_values.map(lambda value: {"top": value}))
def test_json_survives_decoding_and_encoding(document: dict[str, Any]) -> None:
    assert decode(encode(document)) == document


# --- platforms -------------------------------------------------------------------------------


@given(oci.platforms)
def test_platforms_are_read_back(platform: Platform) -> None:
    bare = Platform(platform.os, platform.architecture, platform.variant)
    assert Platform.parse(str(bare)) == bare
    assert Platform.from_json(platform.to_json()) == platform
    assert platform.matches(platform)


@given(oci.platforms, oci.platforms)
def test_only_the_same_platform_is_at_no_distance_both_ways(one: Platform, two: Platform) -> None:
    there, back = one.distance(two), two.distance(one)
    if there is not None and back is not None:
        assert there == back == 0


# --- references ------------------------------------------------------------------------------


@given(oci.references())
def test_a_reference_reads_back_as_itself(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@given(oci.references())
def test_the_familiar_form_reads_back_and_is_no_longer(reference: Reference) -> None:
    assert Reference.parse(reference.familiar) == reference
    assert len(reference.familiar) <= len(str(reference))
    assert str(reference).endswith(reference.familiar)


@given(st.text(st.sampled_from("aA0.:/@_- []é\n"), max_size=12))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference == Reference.parse(reference.familiar)


@given(oci.digests)
def test_digests_are_read_back(digest: Digest) -> None:
    assert Digest.parse(str(digest)) == digest
