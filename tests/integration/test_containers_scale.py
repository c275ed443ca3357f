"""Many containers alike, on a real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pycontainer as pc
from busybox import busybox_image
from pycontainer import errors
from pycontainer.content import Store
from pycontainer.images import Image

pytestmark = [pytest.mark.root, pytest.mark.runtimes]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("scale") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


def test_containers_alike_have_each_their_own_changes(image: Image) -> None:
    store = image.store
    script = ["sh", "-c", "echo $WORD > /file; sleep 60"]
    there = pc.Container.scale(
        "busybox:test",
        5,
        script,
        name="web",
        env={"WORD": "same"},
        labels={"tier": "web"},
        ready=lambda c: c.fs.exists("/file"),
        store=store,
    )
    try:
        assert [c.name for c in there] == [f"web-{n}" for n in range(1, 6)]
        found = pc.Container.list(labels={"tier": "web"}, store=store)
        assert {c.id for c in found} == {c.id for c in there}
        there[0].fs.write_bytes("/file", b"other")
        assert {c.fs.read_text("/file") for c in there[1:]} == {"same\n"}
    finally:
        for container in there:
            container.close()
    assert pc.Container.scale(image, 0, store=store) == ()
    with pytest.raises(errors.ContainerError, match="-1"):
        pc.Container.scale(image, -1, store=store)


def test_if_one_fails_none_stays(image: Image) -> None:
    store = image.store

    def ready(container: pc.Container) -> bool:
        if container.name == "some-2":
            raise LookupError("not this one")
        return True

    with pytest.raises(LookupError, match="not this one"):
        pc.Container.scale(image, 12, ["sleep", "60"], name="some", ready=ready, store=store)
    assert pc.Container.list(all=True, store=store) == ()
    assert list(store.directory("containers").iterdir()) == []
    with pytest.raises(errors.CommandNotFound):
        pc.Container.scale(image, 3, ["no-such"], store=store)
