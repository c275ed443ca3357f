"""Builds for several platforms, and what is attached to their images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from built_images import contents_of
from pycontainer.build import Builder, Event, LocalCache, Output, VertexFinished
from pycontainer.build import _foreign as foreign
from pycontainer.content import Store
from pycontainer.errors import BuildError, ImageNotFound, PlatformNotFound
from pycontainer.images import Image, ImageIndex
from pycontainer.oci import Manifest, Platform
from pycontainer.snapshots import TreeView

BOTH = ["linux/amd64", "linux/arm64"]
HERE = Platform.current()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    (path / "a").write_text("A")
    return path


@pytest.fixture
def builder(context: Path) -> Builder:
    return Builder.scratch(context=context).copy("a", "/").env({"A": "1"})


def test_an_index_has_an_image_for_each_platform(builder: Builder, store: Store) -> None:
    events: list[Event] = []
    index = builder.build_index("app:1", platforms=BOTH, store=store, progress=events.append)
    assert [str(platform) for platform in index.platforms] == BOTH
    for platform in BOTH:
        image = index.image(platform)
        assert str(image.platform) == platform
        assert contents_of(image) == {"a": b"A"}
    assert index.image("linux/amd64").layers == index.image("linux/arm64").layers
    titles = {event.title for event in events if isinstance(event, VertexFinished)}
    assert {f"[{platform}] COPY a /" for platform in BOTH} <= titles
    with pytest.raises(PlatformNotFound):
        index.image("linux/s390x")


def test_the_same_build_gives_the_same_index(
    builder: Builder, store: Store, tmp_path: Path
) -> None:
    first = builder.build_index(platforms=BOTH, store=store, sbom=True, provenance=True)
    with Store.open(tmp_path / "other") as other:
        second = builder.build_index(platforms=BOTH, store=other, sbom=True, provenance=True)
        assert second.digest == first.digest


def test_names_lead_to_the_index_and_to_an_image(builder: Builder, store: Store) -> None:
    index = builder.build_index("app:1", platforms=BOTH, store=store)
    assert ImageIndex.get("app:1", store=store) == index
    assert ImageIndex.list(store=store) == (index,)
    assert Image.get("app:1", store=store).digest in {index.image(each).digest for each in BOTH}
    store.collect()
    assert contents_of(index.image("linux/arm64")) == {"a": b"A"}
    index.delete()
    with pytest.raises(ImageNotFound):
        ImageIndex.get("app:1", store=store)
    with pytest.raises(ImageNotFound):
        Image.get("app:1", store=store)
    assert Image.list(store=store) == ()


def test_a_stage_begins_with_an_index_of_the_store(
    builder: Builder, store: Store, context: Path
) -> None:
    base = builder.build_index("base:1", platforms=BOTH, store=store)
    (context / "b").write_text("B")
    derived = Builder("base:1", context=context).copy("b", "/")
    index = derived.build_index(platforms=BOTH, store=store)
    for platform in BOTH:
        image = index.image(platform)
        assert str(image.platform) == platform
        assert image.layers[:1] == base.image(platform).layers


def test_a_stage_of_another_platform_stays_that(store: Store, context: Path) -> None:
    tools = Builder.scratch(platform="linux/riscv64", context=context).copy("a", "/tool")
    index = (
        Builder.scratch().copy("/tool", "/", from_=tools).build_index(platforms=BOTH, store=store)
    )
    assert [str(platform) for platform in index.platforms] == BOTH


def test_an_image_at_hand_is_for_one_platform(builder: Builder, store: Store) -> None:
    image = builder.build(store=store)
    other = next(each for each in BOTH if not HERE.matches(Platform.parse(each)))
    with pytest.raises(BuildError, match=f"the build for {other}"):
        Builder(image).build_index(platforms=[str(HERE), other], store=store)


def test_an_index_in_files(builder: Builder, store: Store, tmp_path: Path) -> None:
    outputs = [Output("oci-archive", tmp_path / "a.tar"), Output("oci-layout", tmp_path / "layout")]
    index = builder.build_index("app:1", platforms=BOTH, store=store, outputs=outputs, sbom=True)
    for output in outputs:
        for platform in BOTH:
            with Store.open(tmp_path / f"{output.format}-{platform[-5:]}") as other:
                (image,) = Image.load(output.path, platform=platform, store=other)
                assert image.digest == index.image(platform).digest
                assert image.reference == index.reference
    with pytest.raises(BuildError, match="holds one image"):
        builder.build_index(store=store, outputs=Output("docker-archive", tmp_path / "x"))


def test_a_cache_of_all_platforms(builder: Builder, store: Store, tmp_path: Path) -> None:
    cache = LocalCache(tmp_path / "cache")
    builder.build_index(platforms=BOTH, store=store, cache_to=cache)
    assert (cache.path / "index.json").is_file()


def test_mistakes_are_found_at_once(builder: Builder) -> None:
    with pytest.raises(ValueError, match="without a tag"):
        builder.build_index(push=True)


# --- attestations --------------------------------------------------------------------------------

DPKG = """\
Package: base-files
Status: install ok installed
Version: 12.4+deb12u5
Description: files
 with: a colon

Package: gone
Status: deinstall ok config-files
Version: 1
"""
APK = "P:musl\nV:1.2.4-r2\nL:MIT\n\nP:busybox\nV:1.36\n"


def statements(index: ImageIndex, image: Image) -> Mapping[str, Any]:
    """The statements about an image, by the kinds of their predicates."""
    (manifest,) = index.attestations(image)
    found = {}
    for layer in manifest.layers:
        assert layer.media_type == "application/vnd.in-toto+json"
        document = json.loads(index.store.blobs.read_bytes(layer))
        assert document["_type"] == "https://in-toto.io/Statement/v0.1"
        assert layer.annotations == {"in-toto.io/predicate-type": document["predicateType"]}
        assert document["subject"][0]["digest"] == {"sha256": image.digest.hex}
        found[document["predicateType"]] = document
    return found


def packages(store: Store, context: Path, files: Mapping[str, str]) -> dict[str, str]:
    for name, text in files.items():
        path = context / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    builder = Builder.scratch(context=context).copy("root", "/")
    index = builder.build_index("app:1", store=store, sbom=True)
    predicate = statements(index, index.image())["https://spdx.dev/Document"]["predicate"]
    assert predicate["spdxVersion"] == "SPDX-2.3"
    image, *listed = predicate["packages"]
    assert image["checksums"][0]["checksumValue"] == index.image().digest.hex
    related = {each["relatedSpdxElement"] for each in predicate["relationships"]}
    assert related == {each["SPDXID"] for each in predicate["packages"]}
    return {each["externalRefs"][0]["referenceLocator"]: each["versionInfo"] for each in listed}


def test_packages_of_debian(store: Store, context: Path) -> None:
    files = {"var/lib/dpkg/status": DPKG, "etc/os-release": 'NAME="x"\nID=debian\n'}
    assert packages(store, context, files) == {
        "pkg:deb/debian/base-files@12.4+deb12u5": "12.4+deb12u5"
    }


def test_packages_of_images_without_dpkg(store: Store, context: Path) -> None:
    files = {"var/lib/dpkg/status.d/tzdata": "Package: tzdata\nVersion: 2024a\n"}
    assert packages(store, context, files) == {"pkg:deb/debian/tzdata@2024a": "2024a"}


def test_packages_of_alpine(store: Store, context: Path) -> None:
    files = {"lib/apk/db/installed": APK, "etc/os-release": "ID=alpine\n"}
    assert packages(store, context, files) == {
        "pkg:apk/alpine/musl@1.2.4-r2": "1.2.4-r2",
        "pkg:apk/alpine/busybox@1.36": "1.36",
    }


def test_packages_of_python(store: Store, context: Path) -> None:
    place = "usr/lib/python3/site-packages"
    files = {
        f"{place}/Zope_Interface-6.1.dist-info/METADATA": "Name: Zope.Interface\nVersion: 6.1\n",
        f"{place}/zope/METADATA": "Name: no\nVersion: 1\n",
    }
    assert packages(store, context, files) == {"pkg:pypi/zope-interface@6.1": "6.1"}


def test_an_image_without_packages(store: Store, context: Path) -> None:
    assert packages(store, context, {"f": "x"}) == {}


def test_where_an_image_comes_from(store: Store, context: Path, builder: Builder) -> None:
    base = builder.build("base:1", store=store)
    derived = Builder("base:1", context=context).copy("a", "/b")
    index = derived.build_index("app:1", store=store, provenance=True, source_date_epoch=7)
    document = statements(index, index.image())["https://slsa.dev/provenance/v1"]
    definition = document["predicate"]["buildDefinition"]
    assert definition["internalParameters"]["steps"] == ["COPY a /b"]
    assert definition["externalParameters"] == {"platform": str(HERE), "SOURCE_DATE_EPOCH": 7}
    assert definition["resolvedDependencies"] == [
        {"uri": "pkg:docker/base:1", "digest": {"sha256": base.digest.hex}}
    ]


def test_attestations_stand_in_the_index_as_buildkits_do(store: Store, builder: Builder) -> None:
    index = builder.build_index("app:1", store=store, sbom=True, provenance=True)
    image, attestation = index.index.manifests
    assert attestation.platform == Platform("unknown", "unknown")
    assert attestation.annotations == {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(image.digest),
    }
    manifest = Manifest.parse(store.blobs.read_bytes(attestation))
    config = json.loads(store.blobs.read_bytes(manifest.config))
    assert config["architecture"] == config["os"] == "unknown"
    assert config["rootfs"]["diff_ids"] == [str(layer.digest) for layer in manifest.layers]
    assert index.platforms == (HERE,)
    store.collect()
    assert all(store.blobs.exists(layer.digest) for layer in manifest.layers)


# --- other processors ----------------------------------------------------------------------------

QEMU = """\
enabled
interpreter /usr/bin/qemu-s390x-static
flags: {flags}
offset 0
magic 7f454c4602020100000000000000000000020016
mask ffffffffffffff00fffffffffffffffffffeffff
"""


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel says is registered."""
    path = tmp_path / "binfmt_misc"
    path.mkdir()
    (path / "register").touch()
    (path / "status").write_text("enabled\n")
    monkeypatch.setattr(foreign, "_REGISTERED", path)
    return path


def runnable(tmp_path: Path, platform: str = "linux/s390x") -> None:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    foreign.check_runnable(Platform.parse(platform), TreeView([root]), "RUN make")


def test_commands_for_this_machine_run(registered: Path, tmp_path: Path) -> None:
    runnable(tmp_path, str(HERE))


def test_commands_for_others_need_an_interpreter(registered: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"RUN make: the image is for linux/s390x.*") as caught:
        runnable(tmp_path)
    assert "qemu-user-static" in str(caught.value.remedy)
    (registered / "python3").write_text(
        "enabled\ninterpreter /usr/bin/python3\nflags: \noffset 0\n"
    )
    (registered / "off").write_text(QEMU.format(flags="F").replace("enabled", "disabled"))
    with pytest.raises(BuildError):
        runnable(tmp_path)
    with pytest.raises(BuildError):
        runnable(tmp_path, "windows/s390x")


def test_an_interpreter_that_is_open_serves_all(registered: Path, tmp_path: Path) -> None:
    (registered / "qemu-s390x").write_text(QEMU.format(flags="OCF"))
    runnable(tmp_path)
    with pytest.raises(BuildError):
        runnable(tmp_path, "linux/riscv64")


def test_another_interpreter_must_be_in_the_image(registered: Path, tmp_path: Path) -> None:
    (registered / "qemu-s390x").write_text(QEMU.format(flags=""))
    with pytest.raises(BuildError, match="is not in the image"):
        runnable(tmp_path)
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "root/usr/bin/qemu-s390x-static").touch()
    runnable(tmp_path)
