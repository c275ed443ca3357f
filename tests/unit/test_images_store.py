"""Images in a store: made, found, named, deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontainer.content import Store
from pycontainer.errors import BlobNotFound, ImageInUse, ImageNotFound, InvalidReference
from pycontainer.images import Image, _names, create
from pycontainer.layers import Packed
from pycontainer.oci import (
    Compression,
    ContainerConfig,
    Descriptor,
    Digest,
    ImageConfig,
    Manifest,
    Platform,
    Reference,
    media_types,
)
from pycontainer.snapshots import has_layer
from stacks import Tree, packed, pair

ARM64 = ImageConfig(os="linux", architecture="arm64", variant="v8")


def make(store: Store, *trees: Tree, tag: str | None = None, cmd: str = "x") -> Image:
    layers = [pair(packed(store, tree)) for tree in trees]
    config = ARM64.evolve(config=ContainerConfig(cmd=(cmd,)))
    return create(store, layers, config, tag=tag)


# --- making ----------------------------------------------------------------------------------


def test_an_image_is_its_documents(store: Store) -> None:
    layers: list[Packed] = [packed(store, {"a": b"1"}), packed(store, {"b": b"2"})]
    config = ARM64.evolve(config=ContainerConfig(cmd=("run",)))
    image = create(store, [pair(layer) for layer in layers], config, tag="team/app:1")
    assert image.layers == tuple(layer.descriptor for layer in layers)
    assert image.diff_ids == image.config.diff_ids == tuple(layer.diff_id for layer in layers)
    assert image.digest == Digest.of(store.blobs.path(image.digest).read_bytes())
    assert image.id == Digest.of(store.blobs.path(image.id).read_bytes())
    assert image.manifest.media_type == media_types.OCI_MANIFEST
    assert image.platform == Platform.parse("linux/arm64/v8")
    assert image.config.config.cmd == ("run",)
    assert image.reference == Reference.parse("team/app:1")
    sizes = [image.descriptor.size, image.manifest.config.size]
    assert image.size == sum(sizes) + sum(layer.size for layer in image.layers)
    assert all(has_layer(store, diff_id) for diff_id in image.diff_ids)
    assert repr(image) == f"Image('team/app:1', {image.digest})"


def test_the_same_image_made_twice_is_equal(store: Store) -> None:
    assert make(store, {"a": b"1"}) == make(store, {"a": b"1"}, tag="x")
    assert make(store, {"a": b"1"}) != make(store, {"a": b"2"})


def test_a_layer_counts_once_in_the_size(store: Store) -> None:
    image = make(store, {"a": b"1"}, {"a": b"1"})
    assert image.size == (image.descriptor.size + image.manifest.config.size + image.layers[0].size)


def test_layers_must_be_stored(store: Store) -> None:
    with Store.open(store.path.parent / "elsewhere") as other:
        layer = packed(other, {"a": b""})
        other.collect()
    with pytest.raises(BlobNotFound):
        create(store, [pair(layer)], ARM64)
    assert Image.list(store=store) == ()


# --- finding ---------------------------------------------------------------------------------


def test_images_are_found_by_name_digest_and_digits(store: Store) -> None:
    image = make(store, {"a": b"1"}, tag="team/app:1")
    for name in ("team/app:1", "docker.io/team/app:1", Reference.parse("team/app:1")):
        found = Image.get(name, store=store)
        assert (found, found.reference) == (image, image.reference)
    for key in (image.digest, image.id):
        digits: list[str | Digest] = [key, str(key), key.hex, key.short, key.hex[:6]]
        for digit in digits:
            found = Image.get(digit, store=store)
            assert (found, found.reference) == (image, None)
    pinned = image.reference.with_digest(image.digest) if image.reference else None
    assert pinned is not None
    assert Image.get(pinned, store=store) == image


@pytest.mark.parametrize("name", ["none", "abcdef", "sha256:" + "0" * 64, Digest.of(b"none")])
def test_what_is_not_there_says_so(store: Store, name: str | Digest) -> None:
    make(store, {"a": b"1"}, tag="x")
    with pytest.raises(ImageNotFound, match="no image"):
        Image.get(name, store=store)


def test_what_is_no_name_says_so(store: Store) -> None:
    with pytest.raises(InvalidReference):
        Image.get("Upper Case", store=store)


def test_digits_that_fit_several_images_are_refused(store: Store) -> None:
    for last in "12":
        digest = Digest("sha256", "abcd" + last * 60)
        _names.assign(store, Descriptor(media_types.OCI_MANIFEST, digest, 1), digest)
    with pytest.raises(ImageNotFound, match="abcd is the beginning of 2 images"):
        Image.get("abcd", store=store)


def test_a_name_goes_before_digits(store: Store) -> None:
    first = make(store, {"a": b"1"})
    second = make(store, {"a": b"2"}, tag=first.id.hex[:12])
    assert Image.get(first.id.hex[:12], store=store) == second


def test_listing_shows_each_name(store: Store) -> None:
    assert Image.list(store=store) == ()
    image = make(store, {"a": b"1"}, tag="b")
    image.tag("a")
    bare = make(store, {"a": b"2"})
    listed = Image.list(store=store)
    assert [found.reference and found.reference.familiar for found in listed] == [
        "a:latest",
        "b:latest",
        None,
    ]
    assert listed[2] == bare
    assert [tag.familiar for tag in listed[0].tags] == ["a:latest", "b:latest"]


# --- naming ----------------------------------------------------------------------------------


def test_a_name_moves_and_the_old_image_becomes_garbage(store: Store) -> None:
    old = make(store, {"a": b"1"}, tag="app")
    new = make(store, {"a": b"2"}, tag="app")
    assert Image.get("app", store=store) == new
    store.collect()
    assert store.blobs.exists(new.digest)
    assert not store.blobs.exists(old.digest)
    assert not has_layer(store, old.diff_ids[0])


def test_an_unnamed_image_is_kept_until_deleted(store: Store) -> None:
    image = make(store, {"a": b"1"})
    store.collect()
    found = Image.get(image.id, store=store)
    assert (found.tags, found.reference) == ((), None)
    found.delete()
    store.collect()
    assert Image.list(store=store) == ()
    assert not store.blobs.exists(image.digest)


def test_a_first_name_replaces_having_none(store: Store) -> None:
    image = make(store, {"a": b"1"}).tag("app")
    assert [tag.familiar for tag in image.tags] == ["app:latest"]
    assert len(Image.list(store=store)) == 1
    image.delete()
    assert Image.list(store=store) == ()
    make(store, {"a": b"1"}, tag="app")
    make(store, {"a": b"1"})  # known under a name: none needed
    assert len(Image.list(store=store)) == 1


# --- deleting --------------------------------------------------------------------------------


def test_a_named_image_needs_nothing_else(store: Store) -> None:
    image = make(store, {"a": b"1"}, {"b": b"2"}, tag="app")
    assert store.collect().removed == ()
    assert all(store.blobs.exists(layer.digest) for layer in image.layers)
    assert all(has_layer(store, diff_id) for diff_id in image.diff_ids)


def test_deleting_takes_one_name(store: Store) -> None:
    make(store, {"a": b"1"}, tag="one").tag("two")
    Image.get("one", store=store).delete()
    store.collect()
    image = Image.get("two", store=store)
    with pytest.raises(ImageNotFound):
        Image.get("one", store=store)
    image.delete()
    removed = {kind for kind, _ in store.collect().removed}
    assert removed == {"blob", "layer"}
    image.delete()  # again: nothing to do


def test_deleting_by_digest_spares_what_has_several_names(store: Store) -> None:
    image = make(store, {"a": b"1"}, tag="one")
    image.tag("two")
    with pytest.raises(ImageInUse, match=r"one:latest.*two:latest"):
        Image.get(image.id, store=store).delete()
    Image.get(image.id, store=store).delete(force=True)
    assert Image.list(store=store) == ()


def test_a_name_that_has_moved_on_is_spared(store: Store) -> None:
    old = make(store, {"a": b"1"}, tag="app")
    old.tag("kept")
    new = make(store, {"a": b"2"}, tag="app")
    old.delete()
    assert Image.get("app", store=store) == new
    assert Image.get("kept", store=store) == old


@pytest.fixture
def used(store: Store, tmp_path: Path) -> Iterator[Image]:
    """An image that a container runs on."""
    image = make(store, {"a": b"1"}, tag="app")
    home = tmp_path / "container"
    home.mkdir()
    needs = [("blob", str(image.digest)), ("layer", str(image.diff_ids[0]))]
    store.add_root("container", "c0ffee", needs, path=home)
    yield image
    store.drop_root("container", "c0ffee")


def test_an_image_in_use_is_not_deleted(store: Store, used: Image) -> None:
    with pytest.raises(ImageInUse, match="c0ffee"):
        used.delete()
    used.tag("other").delete()  # another name remains
    assert Image.get("app", store=store) == used


def test_force_deletes_the_name_but_not_what_the_container_needs(store: Store, used: Image) -> None:
    used.delete(force=True)
    store.collect()
    assert Image.list(store=store) == ()
    assert has_layer(store, used.diff_ids[0])


def test_a_container_that_is_gone_uses_nothing(store: Store, used: Image, tmp_path: Path) -> None:
    (tmp_path / "container").rmdir()
    used.delete()
    store.collect()
    assert not has_layer(store, used.diff_ids[0])


# --- sharing ---------------------------------------------------------------------------------


def test_layers_are_shared_between_images(store: Store) -> None:
    base: Tree = {"base": b"b" * 1000}
    one = make(store, base, {"one": b""}, tag="one")
    two = make(store, base, {"two": b""}, tag="two")
    one.delete()
    store.collect()
    assert not has_layer(store, one.diff_ids[1])
    assert all(has_layer(store, diff_id) for diff_id in two.diff_ids)


def test_layers_may_repeat_and_be_of_any_compression(store: Store, tmp_path: Path) -> None:
    layers = [pair(packed(store, {"f": b"x"}, compression)) for compression in Compression]
    assert len({diff_id for _, diff_id in layers}) == 1
    image = create(store, [*layers, layers[0]], ARM64, tag="x")
    assert isinstance(image.manifest, Manifest)
    tree = image.prepare(tmp_path / "s", writable=False).tree()
    assert [node.path for node in tree.walk()] == ["/", "/f"]


def test_a_lost_layer_is_unpacked_again(store: Store, tmp_path: Path) -> None:
    image = make(store, {"f": b"x"}, tag="x")
    store.remove_resource("layer", str(image.diff_ids[0]))
    assert not has_layer(store, image.diff_ids[0])
    assert image.prepare(tmp_path / "s").tree().read_bytes("f") == b"x"
