"""Looking after containers: list, rename, pause, top, stats and logs, on a real kernel."""

from __future__ import annotations

import os
import time
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
    with Store.open(tmp_path_factory.mktemp("operations") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


def started(image: Image, script: str, **options: object) -> pc.Container:
    return pc.Container.start(image, ["sh", "-c", script], store=image.store, **options)  # type: ignore[arg-type]


def test_a_paused_container_stands_still_until_it_goes_on(image: Image) -> None:
    with started(
        image, "trap 'exit 9' TERM; while true; do echo tick; sleep 0.01; done"
    ) as container:
        container.pause()
        assert container.state == "paused"
        seen = len(list(container.logs()))
        time.sleep(0.1)
        assert len(list(container.logs())) == seen
        assert [c.id for c in pc.Container.list(store=image.store)] == [container.id]
        container.pause()
        assert container.diff() == ()  # does not let it go on
        assert container.state == "paused"
        container.unpause()
        container.unpause()
        container.wait_ready(lambda c: len(list(c.logs())) > seen, timeout=10)
        container.pause()
        assert container.stop(grace=5) == 9


def test_what_does_not_run_cannot_be_paused(image: Image) -> None:
    with started(image, "exit 0") as container:
        container.wait(10)
        with pytest.raises(errors.ContainerStateError):
            container.pause()
        with pytest.raises(errors.ContainerStateError):
            container.top()


def test_names_are_changed_and_stay_unique(image: Image) -> None:
    with started(image, "sleep 60", name="one") as one, started(image, "sleep 60") as two:
        with pytest.raises(errors.NameInUse):
            two.rename("one")
        one.rename("first")
        two.rename("one")
        assert pc.Container.get("one", store=image.store).id == two.id
        assert pc.Container.get("first", store=image.store).name == "first"
        one.rename("first")
    with started(image, "sleep 60", name="first"):
        pass
    with pytest.raises(errors.ContainerStateError):
        one.rename("gone")


def test_containers_are_found_by_what_they_are(image: Image) -> None:
    store = image.store
    with (
        started(image, "exit 3", name="web-1") as first,
        started(image, "sleep 60", name="web-2") as second,
        started(image, "sleep 60", name="db") as third,
    ):
        first.wait(10)

        def names(**filters: object) -> list[str]:
            return [c.name for c in pc.Container.list(store=store, **filters)]  # type: ignore[arg-type]

        assert names() == ["web-2", "db"]
        assert names(all=True) == ["web-1", "web-2", "db"]
        assert names(status="stopped") == ["web-1"]
        assert names(exit_code=3) == ["web-1"]
        assert names(exit_code=4) == []
        assert names(all=True, name="^web") == ["web-1", "web-2"]
        assert names(all=True, since=first) == ["web-2", "db"]
        assert names(all=True, before=third) == ["web-1", "web-2"]
        assert names(ancestor=image) == names(ancestor="busybox:test") == ["web-2", "db"]
        with pytest.raises(errors.ImageNotFound):
            names(ancestor="none:1")
        second.pause()
        assert names(status="paused") == ["web-2"]


def test_top_shows_the_processes_inside_and_out(image: Image) -> None:
    with started(image, "sleep 61 & sleep 62; wait", user="1000") as container:
        container.wait_ready(
            lambda c: [info.args[0] for info in c.top()] == ["sh", "sleep", "sleep"], timeout=10
        )
        first, *others = container.top()
        assert (first.pid, first.container_pid, first.uid) == (container.pid, 1, 1000)
        assert {process.args for process in others} == {("sleep", "61"), ("sleep", "62")}
        assert {process.parent_pid for process in others} == {first.pid}
        assert all(0 <= process.elapsed < 60 and process.memory > 0 for process in others)


@pytest.mark.parametrize("limit", [None, 64 << 20])
def test_stats_tell_what_is_used(image: Image, limit: int | None) -> None:
    with started(image, "while true; do :; done", memory=limit) as container:
        before = container.stats()
        time.sleep(0.1)
        after = container.stats()
        assert after.cpu_seconds > before.cpu_seconds
        assert after.time > before.time
        assert 0 < after.memory < 64 << 20
        assert after.memory_limit == limit
        assert after.pids == 1
        assert set(after.network) == {"lo"}
        stream = container.watch_stats(interval=0.01)
        assert [next(stream).pids for _ in range(3)] == [1, 1, 1]
        container.kill()
        container.wait(10)
        assert len(list(stream)) <= 1


def test_logs_are_cut_by_number_time_and_stream(image: Image) -> None:
    script = "for n in 1 2 3; do echo $n; done; sleep 0.05; echo err >&2; sleep 0.05; echo 4"
    with started(image, script) as container:
        container.wait(10)

        def texts(**filters: object) -> list[str]:
            return [str(line) for line in container.logs(**filters)]  # type: ignore[arg-type]

        lines = {str(line): line for line in container.logs()}
        assert texts(tail=2) == ["err", "4"]
        assert texts(tail=0) == []
        assert texts(stream="stderr") == ["err"]
        assert texts(stream="stdout", tail=2) == ["3", "4"]
        assert texts(since=lines["err"].time) == ["err", "4"]
        assert texts(until=lines["err"].time) == ["1", "2", "3"]
    with started(image, "echo 1; echo 2; read x; echo 3; sleep 60", stdin=True) as container:
        container.wait_ready(pc.ready.log("2"))
        following = container.logs(follow=True, tail=1)
        assert str(next(following)) == "2"
        container.write(os.linesep.encode())
        assert str(next(following)) == "3"


def test_inspect_tells_all(image: Image) -> None:
    with started(
        image, "read x; exit 5", env={"A": "1"}, labels={"l": "v"}, stdin=True
    ) as container:
        running = container.inspect()
        assert (running.state, running.pid, running.exit_code) == ("running", container.pid, None)
        assert running.image_digest == image.digest
        assert running.config.env[-1] == "A=1"
        assert running.spec.process.args == ("sh", "-c", "read x; exit 5")
        assert running.started_at is not None
        assert running.finished_at is None
        container.close_stdin()
        container.wait(10)
        stopped = container.inspect()
        assert (stopped.state, stopped.pid, stopped.exit_code) == ("stopped", None, 5)
        assert stopped.finished_at is not None
        assert stopped.finished_at >= running.started_at >= running.created_at - 1
        assert (stopped.labels, stopped.detached) == ({"l": "v"}, False)
    with pytest.raises(errors.ContainerStateError):
        container.inspect()


def test_ended_detached_containers_are_pruned(image: Image) -> None:
    store = image.store
    with started(image, "exit 0") as attached:
        attached.wait(10)
        ended = started(image, "exit 0", detach=True, labels={"kind": "old"})
        lives = started(image, "sleep 60", detach=True)
        ended.wait(10)
        with pytest.raises(errors.TimeoutExpired):
            ended.wait_removed(0.02)
        assert pc.Container.prune(labels={"kind": "new"}, store=store) == ()
        assert pc.Container.prune(until=ended.created_at, store=store) == ()
        assert pc.Container.prune(store=store) == (ended.id,)
        ended.wait_removed(5)
        assert lives.state == "running"
        lives.delete(force=True)
        for handle in (ended, lives):
            handle.close()


# --- rights and limits ------------------------------------------------------------------------


def effective(image: Image, **security: object) -> int:
    result = pc.run(
        image,
        ["grep", "CapEff", "/proc/self/status"],
        security=pc.Security(**security),  # type: ignore[arg-type]
        store=image.store,
    )
    return int(result.text.split()[1], 16)


def test_capabilities_are_added_and_dropped(image: Image) -> None:
    default = effective(image)
    assert effective(image, cap_add=["net_admin"]) == default | 1 << 12
    assert effective(image, cap_drop=["CAP_CHOWN"]) == default & ~1
    assert effective(image, cap_drop=["ALL"]) == 0
    assert effective(image, cap_drop=["ALL"], cap_add=["KILL"]) == 1 << 5
    everything = effective(image, cap_add=["ALL"], cap_drop=["SYS_ADMIN"])
    assert everything.bit_count() > 30
    assert not everything >> 21 & 1
    with pytest.raises(errors.ContainerError, match="no capability"):
        effective(image, cap_add=["FLY"])


def test_another_command_has_the_capabilities_of_the_container(image: Image) -> None:
    with started(image, "sleep 60", security=pc.Security(cap_drop=["ALL"])) as container:
        text = container.exec(["grep", "CapEff", "/proc/self/status"]).stdout
        assert int(text.split()[1], 16) == 0


def test_sysctls_and_paths_of_its_own(image: Image) -> None:
    security = pc.Security(
        sysctls={"net.ipv4.ip_forward": "1", "kernel.msgmax": "10000"},
        masked_paths=["/proc/uptime"],
        readonly_paths=["/etc"],
    )
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/uptime; touch /etc/x"
    result = pc.run(image, ["sh", "-c", script], security=security, store=image.store)
    assert result.text.split() == ["1", "10000"]
    assert b"Read-only" in result.stderr


def test_limits_of_shared_memory_processors_and_the_killers_choice(image: Image) -> None:
    limits = pc.Limits(shm_size=1 << 20, cpuset="0", oom_score_adj=500)
    script = "df -k /dev/shm | tail -1; cat /proc/self/oom_score_adj; nproc"
    result = pc.run(image, ["sh", "-c", script], limits=limits, store=image.store, check=True)
    words = result.text.split()
    assert (words[1], words[-2:]) == ("1024", ["500", "1"])
