"""Events of a store: what happens to its containers, images and volumes, told to all processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import pycontainer as pc
from busybox import busybox_image
from own_network import own_network
from pycontainer import errors
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.network import Network

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("events") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


def of(container: pc.Container) -> list[str]:
    store = container._store
    return [event.action for event in store.events(filters={"container": container.id})]


def test_the_life_of_a_container_is_told_in_order(image: Image) -> None:
    with pc.Container.create(
        image, ["sleep", "600"], name="told", labels={"tier": "db"}, store=image.store
    ) as container:
        container.start()
        container.pause()
        container.unpause()
        container.exec(["sh", "-c", "exit 3"])
        container.rename("tale")
        container.stop(grace=0)
        container.restart(grace=0)
    assert of(container) == [
        "create",
        "start",
        "pause",
        "unpause",
        "exec_start",
        "exec_die",
        "rename",
        "kill",
        "kill",
        "die",
        "stop",
        "start",
        "restart",
        "die",
        "destroy",
    ]
    [died, _] = image.store.events(filters={"event": "die", "container": container.id})
    assert died.kind == "container"
    assert died.attributes["exitCode"] == "137"
    assert died.attributes["image"] == str(image.reference)
    assert died.attributes["tier"] == "db"
    assert abs(died.time - time.time()) < 60
    [renamed] = image.store.events(filters={"event": "rename"})
    assert (renamed.attributes["name"], renamed.attributes["oldName"]) == ("tale", "told")
    [command] = image.store.events(filters={"event": "exec_die"})
    assert command.attributes["exitCode"] == "3"


def test_events_are_chosen_by_what_they_tell(image: Image) -> None:
    store = image.store
    begun = time.time()
    with pc.Container.start(image, ["true"], labels={"k": "1"}, store=store) as one:
        one.wait(10)
    between = time.time()
    with pc.Container.start(image, ["true"], labels={"k": "2"}, store=store) as two:
        two.wait(10)

    def ids(**options: object) -> set[str]:
        return {event.id for event in store.events(**options)}  # type: ignore[arg-type]

    assert ids(since=begun) == {one.id, two.id}
    assert ids(since=begun, until=between) == {one.id}
    assert ids(since=begun, filters={"label": "k=2"}) == {two.id}
    assert ids(since=begun, filters={"label": ["k", "k=1"]}) == {one.id}
    assert ids(since=begun, filters={"image": str(image.reference)}) == {one.id, two.id}
    assert ids(since=begun, filters={"type": ["image", "volume"]}) == set()
    assert ids(since=begun, filters={"container": two.id[:12], "event": "die"}) == {two.id}
    with pytest.raises(errors.StoreError, match="flavour"):
        store.events(filters={"flavour": "sweet"})


def test_images_and_volumes_tell_theirs(image: Image) -> None:
    begun = time.time()
    named = image.tag("events:2")
    named.delete()
    pc.Volume.create("told", store=image.store).delete()
    seen = [(e.kind, e.action) for e in pc.events(since=begun, store=image.store)]
    assert seen == [
        ("image", "tag"),
        ("image", "untag"),
        ("volume", "create"),
        ("volume", "destroy"),
    ]


def test_networks_tell_theirs(image: Image) -> None:
    begun = time.time()
    network = Network.create("told", store=image.store)
    network.delete()
    network.delete()  # one that is gone
    seen = list(image.store.events(since=begun, filters={"network": "told"}))
    assert [(event.action, event.id) for event in seen] == [
        ("create", network.id),
        ("destroy", network.id),
    ]


def test_networks_tell_of_their_containers(image: Image) -> None:
    with own_network(), Network.create("told", store=image.store) as network:
        begun = time.time()
        with Network.create("more", store=image.store) as more:
            container = pc.Container.start(
                image, ["sleep", "600"], network="told", store=image.store
            )
            more.connect(container)
            container.restart(grace=0)
            container.close()
        wanted = {"type": ["container", "network"]}
        seen = list(image.store.events(since=begun, filters=wanted))
    told = [(e.action, e.attributes["name"]) for e in seen if e.kind == "network"]
    assert told == [
        ("create", "more"),
        ("connect", "told"),
        ("connect", "more"),
        ("disconnect", "told"),
        ("disconnect", "more"),
        ("connect", "told"),
        ("connect", "more"),
        ("disconnect", "told"),
        ("disconnect", "more"),
        ("destroy", "more"),
    ]
    about = {e.attributes["container"] for e in seen if "connect" in e.action}
    assert about == {container.id}
    assert {e.id for e in seen if e.attributes["name"] == "told"} == {network.id}
    actions = [e.action for e in seen if e.action in ("connect", "start", "die", "disconnect")]
    assert actions[:2] == ["connect", "start"]
    assert actions[3:5] == ["die", "disconnect"]
    with pytest.raises(errors.NetworkNotFound):
        Network.get("told", store=image.store)


def test_health_and_restarts_are_told(image: Image) -> None:
    check = pc.HealthCheck("test -e /up", interval=0.05, retries=1)
    with pc.Container.start(
        image,
        ["sh", "-c", "touch /up; sleep 0.3; rm /up; sleep 0.4; exit 1"],
        healthcheck=check,
        restart="on-failure:1",
        store=image.store,
    ) as container:
        assert container.wait(10) == 1
    told = of(container)
    assert [action for action in told if not action.startswith("health")] == [
        *("create", "start", "die", "start", "die", "destroy")
    ]
    assert told[2:4] == ["health_status: healthy", "health_status: unhealthy"]
    healthy = {"container": container.id, "event": "health_status"}
    assert len(list(image.store.events(filters=healthy))) == 4


def test_a_start_that_fails_is_told_as_made_and_gone(image: Image) -> None:
    begun = time.time()
    with pytest.raises(errors.CommandNotFound):
        pc.run(image, ["/missing"], store=image.store)
    assert [e.action for e in image.store.events(since=begun)] == ["create", "destroy"]


def test_events_of_another_process_are_followed(image: Image) -> None:
    script = (
        "import sys, pycontainer as pc\n"
        "with pc.Store.open(sys.argv[1]) as store:\n"
        "    print(pc.run('busybox:test', ['true'], store=store).exit_code)\n"
    )
    store = image.store
    seen: list[pc.Event] = []
    listening = threading.Event()

    def listen() -> None:
        events = store.events(follow=True, until=time.time() + 20, since=time.time())
        listening.set()
        for event in events:
            seen.append(event)
            if event.action == "destroy":
                return

    listener = threading.Thread(target=listen)
    listener.start()
    listening.wait()
    subprocess.run([sys.executable, "-c", script, str(store.path)], check=True, timeout=60)
    listener.join(20)
    assert [event.action for event in seen] == ["create", "start", "die", "destroy"]


def test_nothing_is_lost_when_the_journal_turns_over(
    shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pycontainer._linux import journal

    monkeypatch.setattr(journal, "_MOST", 20_000)
    seen: list[str] = []
    count, writers = 300, 4
    ready = threading.Event()

    def listen() -> None:
        begun = time.time()
        for event in shared.events(follow=True, since=begun, filters={"type": "builder"}):
            if event.id == "ready":
                ready.set()
                continue
            seen.append(event.id)
            if len(seen) == count * writers:
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    while not ready.wait(0.01):
        shared.record("builder", "build", "ready")

    def write(number: int) -> None:
        for turn in range(count):
            shared.record("builder", "build", f"{number}-{turn}", {"padding": "x" * 50})
            if turn % 30 == 0:
                time.sleep(0.02)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listener.join(20)
    assert sorted(seen) == sorted(f"{w}-{turn}" for w in range(writers) for turn in range(count))
    assert len(seen) == len(set(seen))
    sizes = [path.stat().st_size for path in (shared.path / "events").glob("log*")]
    assert len(sizes) == 2
    assert max(sizes) < 40_000
