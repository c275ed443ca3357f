"""The life of a container beyond one run: created, started again, restarted by its policy."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from busybox import busybox_image
from pycontainer import errors
from pycontainer.containers import _home
from pycontainer.containers._populate import populate
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.runtime import last_exit, read_state

pytestmark = [pytest.mark.root, pytest.mark.runtimes]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("life") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


def started(image: Image, script: str, **options: object) -> pc.Container:
    return pc.Container.start(image, ["sh", "-c", script], store=image.store, **options)  # type: ignore[arg-type]


def created(image: Image, script: str, **options: object) -> pc.Container:
    return pc.Container.create(image, ["sh", "-c", script], store=image.store, **options)  # type: ignore[arg-type]


def output(container: pc.Container) -> list[str]:
    return [str(line) for line in container.logs()]


def eventually(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "that did not become true"
        time.sleep(0.005)


# --- create and start ------------------------------------------------------------------------


def test_a_created_container_waits_for_its_start(image: Image) -> None:
    with created(image, "cat note; exit 3") as container:
        assert container.state == "created"
        assert container.pid is None
        assert container.exit_code is None
        assert pc.Container.list(store=image.store) == ()
        assert [c.id for c in pc.Container.list(status="created", store=image.store)] == [
            container.id
        ]
        assert container.inspect().config.cmd == ("sh", "-c", "cat note; exit 3")
        with pytest.raises(errors.ContainerStateError, match="never started"):
            container.wait()
        container.fs.write_bytes("/note", b"written before\n")
        container.start()
        assert container.wait(10) == 3
        assert output(container) == ["written before"]
        assert [c.state for c in pc.Container.list(all=True, store=image.store)] == ["stopped"]
    assert pc.Container.list(all=True, store=image.store) == ()


def test_a_container_is_started_again_with_its_files(image: Image) -> None:
    with started(image, "echo run >> /runs; cat /runs") as container:
        assert container.wait(10) == 0
        container.start()
        assert container.wait(10) == 0
        container.start()
        assert container.wait(10) == 0
        assert output(container) == ["run"] * 6
        assert container.diff() == (pc.Change("/runs", "added"),)


def test_layers_lost_in_a_power_cut_are_made_again(image: Image) -> None:
    with started(image, "echo run >> /runs; cat /runs") as container:
        assert container.wait(10) == 0
        for diff_id in image.diff_ids:  # as opening the store does then
            image.store.remove_resource("layer", str(diff_id))
        container.start()
        assert container.wait(10) == 0
        assert output(container) == ["run"] * 3


def test_a_detached_container_is_started_again_by_whoever_finds_it(image: Image) -> None:
    container = started(image, "echo run >> /runs; cat /runs; sleep 60", detach=True, name="again")
    try:
        container.wait_ready(pc.ready.log("run"))
        first = container.pid
        eventually(lambda: container.exec(["cat", "/runs"]).stdout == b"run\n")
        assert container.stop(grace=0) == 137
        found = pc.Container.get("again", store=image.store)
        found.start()
        assert found.state == container.state == "running"
        assert container.exit_code is None
        assert container.pid == found.pid != first
        found.start()  # it runs
        eventually(lambda: container.exec(["cat", "/runs"]).stdout == b"run\nrun\n")
        found.stop(grace=0)
        assert container.wait(10) == 137
        found.close()
    finally:
        container.delete(force=True)
        container.close()


def test_an_attached_container_is_started_by_its_program_alone(image: Image) -> None:
    with started(image, "exit 0") as container:
        container.wait(10)
        with (
            pc.Container.get(container.id, store=image.store) as other,
            pytest.raises(errors.ContainerStateError, match="attached"),
        ):
            other.start()
        assert container.state == "stopped"


def test_restart_stops_and_starts(image: Image) -> None:
    with started(
        image, "trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.01; done"
    ) as c:
        c.wait_ready(pc.ready.log("hello"))
        begun = c.pid
        c.restart()
        assert c.pid != begun
        eventually(lambda: output(c) == ["hello", "bye", "hello"])


def test_standard_input_is_open_again_after_a_start(image: Image) -> None:
    with started(image, "cat", stdin=True) as container:
        for word in ("one", "two"):
            container.start()
            container.write(word.encode() + b"\n")
            container.close_stdin()
            assert container.wait(10) == 0
        assert output(container) == ["one", "two"]


def test_a_failed_start_leaves_the_container_as_it_was(image: Image) -> None:
    with pc.Container.create(image, ["/missing"], store=image.store) as container:
        for _ in range(2):
            with pytest.raises(errors.CommandNotFound):
                container.start()
        assert container.state == "created"
    assert pc.Container.list(all=True, store=image.store) == ()


def test_many_threads_start_one_container_once(image: Image) -> None:
    with created(image, "echo started; sleep 60", detach=True) as container:
        handles = [pc.Container.get(container.id, store=image.store) for _ in range(4)]
        threads = [threading.Thread(target=handle.start) for handle in handles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        eventually(lambda: output(container) == ["started"])
        for handle in handles:
            handle.close()
        container.delete(force=True)


def test_stop_sends_the_signal_and_waits_as_long_as_was_asked(image: Image) -> None:
    script = "trap 'exit 5' USR1; trap '' TERM; echo ready; while :; do sleep 0.01; done"
    with started(image, script, stop_signal="SIGUSR1") as container:
        container.wait_ready(pc.ready.log("ready"))
        assert container.inspect().stop_signal == "SIGUSR1"
        assert container.stop() == 5
    with started(image, script, stop_timeout=0.05) as container:
        container.wait_ready(pc.ready.log("ready"))
        assert container.inspect().stop_timeout == 0.05
        assert container.stop() == 137
    with pytest.raises(errors.ContainerError, match="no signal 'SIGNOTHING'"):
        started(image, script, stop_signal="SIGNOTHING")


def test_a_container_that_is_to_be_removed_goes_with_its_end(image: Image) -> None:
    container = created(image, "sleep 0.1; exit 6", detach=True, remove=True)
    container.start()
    assert container.wait(10, condition="removed") == 6
    assert pc.Container.list(all=True, store=image.store) == ()
    container.close()


# --- restart policies ------------------------------------------------------------------------


def test_on_failure_starts_again_so_many_times(image: Image) -> None:
    with started(image, "echo try; exit 7", restart="on-failure:2") as container:
        assert container.wait(10) == 7
        assert container.state == "stopped"
        assert output(container) == ["try"] * 3
        seen = container.inspect()
        assert (seen.restart, seen.restart_count) == ("on-failure:2", 2)
        container.start()
        assert container.wait(10) == 7
        assert container.inspect().restart_count == 2
        assert output(container) == ["try"] * 6


def test_on_failure_leaves_success_alone(image: Image) -> None:
    script = "test -e /again && exit 0; touch /again; exit 1"
    with started(image, script, restart="on-failure") as container:
        assert container.wait(10) == 0
        assert container.inspect().restart_count == 1


def test_the_pause_before_a_restart_doubles(image: Image) -> None:
    with started(image, "date +%s; exit 0", restart="always") as container:
        eventually(lambda: len(output(container)) >= 4)
        times = [line.time for line in container.logs()]
        pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
        assert pauses[0] >= 0.1
        assert pauses[1] >= 0.2
        assert pauses[2] >= 0.4
        eventually(lambda: container.state == "restarting")
        assert container.stop() == 0
        assert container.state == "stopped"
        runs = len(output(container))
        time.sleep(0.2)
        assert len(output(container)) == runs


def test_stop_meets_a_restart_that_is_about_to_be_made(image: Image) -> None:
    script = "test -e /ran && exec sleep 60; touch /ran; exit 1"
    for early in (0.02, 0.01, 0.005, 0.002, 0.001, 0.0):
        with started(image, script, restart="always") as container:
            directory = container._directory
            eventually(lambda d=directory: last_exit(d) is not None)  # type: ignore[misc]
            ended = last_exit(directory)
            assert ended is not None
            assert ended.next_start is not None
            time.sleep(max(0.0, ended.next_start - early - time.time()))
            assert container.stop(grace=0) in (1, 137)
            assert container.state == "stopped"


def test_a_detached_container_restarts_without_its_program(image: Image) -> None:
    container = started(image, "echo run; sleep 60", restart="always", detach=True)
    try:
        container.close()
        first = container.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)  # not by `kill`, which ends it for good
        eventually(lambda: container.pid not in (None, first) and container.state == "running")
        assert container.inspect().restart_count == 1
        container.kill()
        assert container.wait(10) == 137
        assert container.state == "stopped"
    finally:
        container.delete(force=True)


def test_what_cannot_be_started_again_is_tried_again(image: Image) -> None:
    with started(image, "echo run; mv /bin/sh /sh; exit 1", restart="on-failure:2") as container:
        assert container.wait(10) == 127
        assert container.inspect().restart_count == 2
        assert output(container) == ["run"]
        assert [c.state for c in pc.Container.list(all=True, store=image.store)] == ["stopped"]


def test_next_exit_is_that_of_a_run_and_not_of_the_policy(image: Image) -> None:
    with created(image, "sleep 0.05; exit 9", restart="on-failure:1") as container:
        codes: list[int] = []
        waiting = threading.Thread(
            target=lambda: codes.append(container.wait(10, condition="next-exit"))
        )
        waiting.start()
        container.start()
        waiting.join()
        assert codes == [9]
        assert container.wait(10, condition="next-exit") == 9
        assert container.wait(10) == 9
        with pytest.raises(errors.TimeoutExpired):
            container.wait(0.05, condition="next-exit")


def test_a_terminal_comes_back_after_a_restart(image: Image) -> None:
    with started(
        image, "tty; read line; echo got $line; exit 1", tty=True, restart="on-failure:1"
    ) as c:
        c.write(b"one\n")
        eventually(lambda: c.inspect().restart_count == 1 and c.state == "running")
        c.write(b"two\n")
        assert c.wait(10) == 1
        text = output(c)
        assert "got one" in text
        assert "got two" in text
        assert text.count("/dev/pts/0") == 2


def test_deleting_ends_a_container_that_waits_for_its_restart(image: Image) -> None:
    with started(image, "exit 1", restart="always") as container:
        eventually(lambda: container.state == "restarting")
        with pytest.raises(errors.ContainerStateError):
            container.delete()
        container.delete(force=True)
        assert pc.Container.list(all=True, store=image.store) == ()


@pytest.mark.parametrize("policy", ["sometimes", "always:3", "on-failure:", "on-failure:x"])
def test_what_is_no_policy_is_refused(image: Image, policy: str) -> None:
    with pytest.raises(errors.ContainerError, match="no restart policy"):
        started(image, "exit 0", restart=policy)


def test_a_program_that_is_killed_leaves_no_created_container(image: Image, tmp_path: Path) -> None:
    container = created(image, "exit 0")
    home = image.store.path / "containers" / container.id
    os.utime(home, (0, 0))
    with Store.open(image.store.path) as store:
        assert container.id in [c.id for c in pc.Container.list(all=True, store=store)]
    os.close(container._owned)  # as the kernel does when the program ends
    container._owned = -1
    with Store.open(image.store.path) as store:
        assert pc.Container.list(all=True, store=store) == ()
    assert read_state(home) is None
    container.close()


# --- commands beside the container's own -----------------------------------------------------


def commands(container: pc.Container) -> list[str]:
    """What runs in it; its first process, busybox's sleep, reaps nobody."""
    return [" ".join(process.args) for process in container.top() if process.state != "Z"]


def test_a_command_that_takes_too_long_goes_with_all_that_it_started(image: Image) -> None:
    with started(image, "sleep 600") as container:
        script = "setsid sleep 601 & (sleep 602 &) ; sleep 603"
        with pytest.raises(errors.TimeoutExpired):
            container.exec(["sh", "-c", script], timeout=0.3)
        eventually(lambda: len(commands(container)) == 1)


def test_closing_a_command_ends_what_it_left_running(image: Image) -> None:
    with started(image, "sleep 600") as container:
        with container.exec(["sh", "-c", "sleep 601 & echo up; sleep 602"], wait=False) as process:
            assert next(process.stream(10)) == ("stdout", b"up\n")
            eventually(lambda: len(commands(container)) == 3)
        eventually(lambda: len(commands(container)) == 1)


def test_what_a_command_leaves_behind_lives_on_after_its_own_end(image: Image) -> None:
    with started(image, "sleep 600") as container:
        process = container.exec(["sh", "-c", "sleep 601 >/dev/null 2>&1 & exit 3"])
        assert process.exit_code == 3
        eventually(lambda: len(commands(container)) == 2)


def test_the_exit_code_is_there_after_streaming(image: Image) -> None:
    with (
        started(image, "sleep 600") as container,
        container.exec(["sh", "-c", "echo one; echo two >&2; exit 5"], wait=False) as process,
    ):
        assert sorted(process.stream(10)) == [("stderr", b"two\n"), ("stdout", b"one\n")]
        assert process.exit_code == 5


def test_a_detached_command_outlives_its_handle(image: Image) -> None:
    with started(image, "sleep 600") as container:
        with container.exec(["sh", "-c", "sleep 0.2; echo done > /done"], detach=True) as process:
            assert process.exit_code is None
        eventually(lambda: container.fs.exists("/done"))
        process = container.exec(["sh", "-c", "exit 4"], detach=True)
        assert process.wait(10) == 4
        process.close()


def test_a_privileged_command_has_the_rights_that_the_container_lacks(image: Image) -> None:
    mount = ["sh", "-c", "mkdir -p /there && mount -t tmpfs none /there"]
    with started(image, "sleep 600", no_new_privileges=True) as container:
        assert container.exec(mount).exit_code != 0
        assert container.exec(mount, privileged=True).exit_code == 0


def test_the_log_is_followed_over_restarts(image: Image) -> None:
    with started(image, "echo run; exit 1", restart="on-failure:2") as container:
        assert [str(line) for line in container.logs(follow=True)] == ["run"] * 3


# --- logs ------------------------------------------------------------------------------------


def test_a_limited_log_keeps_the_last_lines(image: Image) -> None:
    options = pc.LogOptions(max_size=2000, max_files=3)
    with started(image, "seq 1 3000; exit 1", log=options, restart="on-failure:1") as container:
        container.wait(10)
        numbers = output(container)
        assert numbers[-1] == "3000"
        assert len(numbers) < 3000
        assert numbers[-20:] == [str(n) for n in range(2981, 3001)]
        home = image.store.path / "containers" / container.id
        files = sorted(home.glob("log*"))
        assert len(files) <= 3
        assert container.inspect().log_path in files
        assert [str(line) for line in container.logs(tail=2)] == ["2999", "3000"]


def test_a_log_is_followed_over_its_files_without_losing_a_line(image: Image) -> None:
    script = (
        "read go; for i in $(seq 1 400); do echo line $i; done; "
        "for i in $(seq 401 420); do echo line $i; sleep 0.01; done"
    )
    options = pc.LogOptions(max_size=1000, max_files=200)
    with started(image, script, stdin=True, log=options) as container:
        container.write(b"go\n")
        begun = time.monotonic()
        seen = [str(line) for line in container.logs(follow=True)]
        assert seen == [f"line {n}" for n in range(1, 421)]
        assert time.monotonic() - begun < 5  # it is told of the next file, and does not look for it
        home = image.store.path / "containers" / container.id
        assert len(list(home.glob("log*"))) > 3


def test_without_a_log_output_is_thrown_away(image: Image) -> None:
    with started(image, "echo said; exit 2", log="none") as container:
        assert container.wait(10) == 2
        with pytest.raises(errors.ContainerStateError, match="no log"):
            container.logs()
        home = image.store.path / "containers" / container.id
        assert not list(home.glob("log*"))
    with pytest.raises(errors.ContainerError, match="none"):
        started(image, "exit 0", log=pc.LogOptions(max_size=0))


def test_lines_are_stamped_and_chosen_by_time(image: Image) -> None:
    with started(image, "echo one; sleep 0.1; echo two; sleep 0.1; echo three") as container:
        container.wait(10)
        first, second, third = container.logs()
        assert second.stamped.endswith("000Z two")
        assert second.stamped.startswith(time.strftime("%Y-%m-%dT%H:", time.gmtime(second.time)))
        assert list(container.logs(since=second.time, until=third.time)) == [second]
        assert list(container.logs(until=third.time, tail=1)) == [second]
        assert list(container.logs(until=second.time, follow=True)) == [first]


def test_following_ends_with_its_time_though_nothing_comes(image: Image) -> None:
    with started(image, "echo one; sleep 600") as container:
        begun = time.monotonic()
        lines = list(container.logs(follow=True, until=time.time() + 0.2))
        assert [str(line) for line in lines] == ["one"]
        assert time.monotonic() - begun < 5


# --- changes while it runs -------------------------------------------------------------------


def limit(container: pc.Container, name: str) -> str:
    """What the container's control group says, in whichever hierarchy it has one."""
    groups = container._state().cgroup["directories"]
    [text] = [p.read_text().strip() for group in groups if (p := Path(group, name)).exists()]
    return text


def test_limits_change_while_it_runs_and_hold_for_the_next_start(image: Image) -> None:
    with started(image, "sleep 600 & sleep 601", pids=50) as container:
        container.exec(["sleep", "602"], detach=True).close()
        eventually(lambda: len(commands(container)) >= 3)
        container.update(pids=40, memory=64 << 20, cpus=0.5)
        assert limit(container, "pids.max") == "40"
        members = {process.pid for process in container.top()}
        for group in container._state().cgroup["directories"]:
            inside = {
                int(pid) for p in Path(group).rglob("cgroup.procs") for pid in p.read_text().split()
            }
            assert inside >= members, group
        usage = container.stats()
        assert usage.memory_limit == 64 << 20
        container.update(memory=128 << 20)
        container.update(memory=32 << 20, limits=pc.Limits(cpu_shares=100))
        assert container.stats().memory_limit == 32 << 20
        container.restart(grace=0)
        assert container.stats().memory_limit == 32 << 20
        assert limit(container, "pids.max") == "40"
        assert container.inspect().spec.resources.cpu_shares == 100
        with pytest.raises(errors.ContainerError, match="processors"):
            container.update(cpus=0)
        with pytest.raises(errors.ContainerError, match="shm_size"):
            container.update(limits=pc.Limits(shm_size=1 << 20))


def test_limits_are_lifted_while_it_runs_and_for_the_next_start(image: Image) -> None:
    whole = Path("/proc/meminfo").read_text().split()[1]
    with started(image, "sleep 600", memory=64 << 20, cpus=0.5, pids=50) as container:
        container.update(memory=-1)
        assert container.stats().memory_limit in (None, int(whole) * 1024)
        assert limit(container, "pids.max") == "50"
        container.update(cpus=-1, pids=-1)
        assert limit(container, "pids.max") == "max"
        # As much as all the others now: sixty processes, and more memory than it was allowed.
        script = (
            "for n in $(seq 60); do sleep 1 & done; head -c 100m /dev/zero | tail -c 100m | wc -c"
        )
        assert container.exec(["sh", "-c", script], timeout=60).stdout == b"104857600\n"
        resources = container.inspect().spec.resources
        assert (resources.memory, resources.cpu_quota, resources.pids) == (None, None, None)
        container.restart(grace=0)
        assert "pids.max" not in str(container._state().cgroup)
        container.update(memory=-1, pids=-1)  # there is nothing to lift
        container.update(pids=40)
        assert limit(container, "pids.max") == "40"


def test_limits_of_a_stopped_container_hold_for_its_start(image: Image) -> None:
    with created(image, "sleep 600") as container:
        container.update(pids=30)
        container.start()
        assert limit(container, "pids.max") == "30"


def test_the_restart_policy_changes_while_it_runs(image: Image) -> None:
    with started(image, "read go; exit 1", stdin=True) as container:
        container.update(restart="on-failure:2")
        assert container.inspect().restart == "on-failure:2"
        container.write(b"go\n")
        assert container.wait(10) == 1
        assert container.inspect().restart_count == 2
    with started(image, "sleep 0.3; exit 1", restart="always") as container:
        container.update(restart="no")
        assert container.wait(10) == 1
        assert container.state == "stopped"


# --- what nobody uses ------------------------------------------------------------------------


def test_prune_removes_what_nobody_uses(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        image = busybox_image(store, tmp_path / "busybox")
        for name in ("used", "unused"):
            pc.Volume.create(name, store=store)
        mount = pc.Mount.volume("used", "/data")
        running = started(image, "sleep 600", mounts=[mount], detach=True)
        ended = started(image, "echo x > /file", detach=True)
        ended.wait(10)
        unnamed = ended.commit()
        done = pc.prune(volumes=True, store=store)
        assert done.containers == (ended.id,)
        assert done.volumes == ("unused",)
        assert done.images == (str(unnamed.id),)
        assert done.freed > 0
        assert running.state == "running"
        assert pc.prune(volumes=True, all_images=True, store=store).images == ()
        running.delete(force=True)
        done = pc.prune(volumes=True, all_images=True, store=store)
        assert (done.volumes, done.images) == (("used",), (str(image.reference),))
        for container in (running, ended):
            container.close()


def test_prune_leaves_the_volumes_of_a_container_that_is_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "store") as store:
        image = busybox_image(store, tmp_path / "busybox")
        pc.Volume.create("old", store=store)
        pruned: list[tuple[str, ...]] = []

        def pruning(*args: Any, **options: Any) -> None:
            pruned.append(pc.Volume.prune(store=store))
            populate(*args, **options)
            pruned.append(pc.Volume.prune(store=store))

        monkeypatch.setattr(_home, "populate", pruning)
        mounts = [pc.Mount.volume("old", "/old"), pc.Mount.volume("new", "/new")]
        script = "echo x > /old/file; echo x > /new/file"
        done = pc.run(image, ["sh", "-c", script], mounts=mounts, store=store, timeout=30)
        assert done.exit_code == 0
        assert pruned == [(), ()]
        for name in ("old", "new"):
            assert (pc.Volume.get(name, store=store).path / "file").exists()
        assert pc.Volume.prune(store=store) == ("new", "old")


def test_a_volume_as_a_context_manager_is_deleted(store: Store) -> None:
    with pc.Volume.create("short", store=store) as volume:
        (volume.path / "file").touch()
    with pytest.raises(errors.VolumeNotFound):
        pc.Volume.get("short", store=store)
