"""Digests, descriptors and platforms."""

from __future__ import annotations

import copy
import hashlib
import pickle

import pytest

from pycontainer.errors import SpecError
from pycontainer.oci import Descriptor, Digest, Platform, media_types

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def descriptor(**members: object) -> dict[str, object]:
    return {"mediaType": media_types.OCI_LAYER, "digest": EMPTY, "size": 0, **members}


# --- digests ---------------------------------------------------------------------------------


def test_a_digest_is_read_and_written() -> None:
    digest = Digest.parse(EMPTY)
    assert (digest.algorithm, digest.short, str(digest)) == ("sha256", "e3b0c44298fc", EMPTY)
    assert digest == Digest.of(b"")
    assert digest.hasher().hexdigest() == digest.hex


def test_sha512_is_known() -> None:
    digest = Digest.of(b"x", "sha512")
    assert digest.hex == hashlib.sha512(b"x").hexdigest()
    assert Digest.parse(str(digest)) == digest


def test_digests_have_an_order_and_a_hash() -> None:
    one, two = sorted([Digest("sha256", "b" * 64), Digest("sha256", "a" * 64)])
    assert one < two
    assert len({one, two, Digest.parse(str(one))}) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "e3b0c442",
        EMPTY.upper(),
        EMPTY.replace("e3b0", "E3B0"),
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY + "\n",
        " " + EMPTY,
        EMPTY.replace("e3b0", "g3b0"),
        EMPTY.replace("e3b0", "٣3b0"),
        EMPTY.replace("sha256", "sha512"),
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha256:../../../../etc/passwd",
        ":" + "0" * 64,
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"^layers\[0\].digest: not a digest") as caught:
        Digest.parse(text, path="layers[0].digest")
    assert caught.value.path == "layers[0].digest"


def test_an_impossible_digest_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        Digest("sha256", "../x")


# --- descriptors -----------------------------------------------------------------------------


def test_a_descriptor_keeps_what_it_does_not_know() -> None:
    document = descriptor(
        urls=["https://example.org/x"],
        annotations={"b": "2", "a": "1"},
        platform={"os": "linux", "architecture": "arm", "variant": "v7", "new": [1]},
        artifactType="a/b",
        data="",
        **{"x.y": {"z": None}},
    )
    value = Descriptor.from_json(document)
    assert value.extra == {"x.y": {"z": None}}
    assert value.platform is not None
    assert value.platform.extra == {"new": [1]}
    assert value.data == b""
    assert value.to_json() == document
    assert Descriptor.from_json(value.to_json()) == value


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], ""),
        ({}, "mediaType"),
        (descriptor(mediaType=1), "mediaType"),
        (descriptor(digest=None), "digest"),
        (descriptor(digest="sha256:1"), "digest"),
        (descriptor(size=None), "size"),
        (descriptor(size=-1), "size"),
        (descriptor(size=True), "size"),
        (descriptor(size=1 << 63), "size"),
        (descriptor(size="0"), "size"),
        (descriptor(annotations={"a": 1}), "annotations.a"),
        (descriptor(annotations=[]), "annotations"),
        (descriptor(urls=["a", 1]), "urls[1]"),
        (descriptor(platform={"os": 1}), "platform.os"),
        (descriptor(platform={"os.features": ["a", None]}), 'platform["os.features"][1]'),
        (descriptor(data="?"), "data"),
        (descriptor(data="QQ=="), "data"),
        (descriptor(data="QQ==", size=1), "data"),
    ],
)
def test_a_bad_descriptor_is_refused_with_the_path(document: object, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        Descriptor.from_json(document, "config")
    assert caught.value.path == ("config." + path if path else "config")


def test_a_descriptor_is_frozen_throughout() -> None:
    annotations = {"a": "1"}
    value = Descriptor("a/b", Digest.parse(EMPTY), 0, annotations=annotations, extra={"x": [1]})
    annotations["a"] = "2"
    assert value.annotations == {"a": "1"}
    assert not hasattr(value.annotations, "__setitem__")
    assert {value: 1}[copy.deepcopy(value)] == 1
    assert pickle.loads(pickle.dumps(value)) == value


def test_content_has_no_negative_size() -> None:
    with pytest.raises(ValueError, match="-1 bytes"):
        Descriptor("a/b", Digest.parse(EMPTY), -1)


# --- platforms -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/arm64/v8", Platform("linux", "arm64", "v8")),
        ("Linux/x86_64", Platform("linux", "amd64")),
        ("linux/aarch64", Platform("linux", "arm64")),
        ("linux/armhf", Platform("linux", "arm", "v7")),
        ("arm64", Platform("linux", "arm64")),
        ("riscv64", Platform("linux", "riscv64")),
        ("windows/amd64", Platform("windows", "amd64")),
    ],
)
def test_platforms_are_read(text: str, platform: Platform) -> None:
    assert Platform.parse(text) == platform


@pytest.mark.parametrize(
    "text", ["", "linux", "/", "linux/", "a/b/c/d", "linux/amd 64", "linux//v8"]
)
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="write it like linux/amd64"):
        Platform.parse(text)


def test_this_machine_runs_linux_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert Platform.current() == Platform("linux", "arm64")
    monkeypatch.setattr("platform.machine", lambda: "Vax")
    assert Platform.current() == Platform("linux", "vax")


@pytest.mark.parametrize(
    ("there", "wanted", "distance"),
    [
        ("linux/amd64", "linux/amd64", 0),
        ("linux/arm64", "linux/arm64/v8", 0),
        ("linux/arm64/v8", "linux/arm64", 0),
        ("linux/arm", "linux/arm/v7", 0),
        ("linux/amd64/v1", "linux/amd64", 0),
        ("linux/arm/v6", "linux/arm/v7", 10_000),
        ("linux/arm64/v8", "linux/arm64/v8.2", 2),
        ("linux/amd64", "linux/amd64/v3", 20_000),
        ("linux/amd64/v3", "linux/amd64", None),
        ("linux/arm/v7", "linux/arm/v6", None),
        ("linux/arm/v7", "linux/arm64", None),
        ("windows/amd64", "linux/amd64", None),
        ("linux/arm/odd", "linux/arm", None),
        ("linux/arm/odd", "linux/arm/odd", 0),
    ],
)
def test_processors_run_programs_for_older_variants(
    there: str, wanted: str, distance: int | None
) -> None:
    found = Platform.parse(there).distance(Platform.parse(wanted))
    assert found == distance
    assert Platform.parse(there).matches(Platform.parse(wanted)) == (distance == 0)


def test_a_wanted_version_of_the_system_must_be_met() -> None:
    there = Platform("windows", "amd64", os_version="10.0.1")
    assert there.matches(Platform("windows", "amd64"))
    assert there.matches(Platform("windows", "amd64", os_version="10.0.1"))
    assert not there.matches(Platform("windows", "amd64", os_version="10.0.2"))


def test_a_platform_is_written_as_people_write_it() -> None:
    assert str(Platform("linux", "arm", "v7")) == "linux/arm/v7"
    assert str(Platform("linux", "amd64")) == "linux/amd64"
