"""What becomes of containers when their monitor, their program or the machine ends without warning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from busybox import busybox_image
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.runtime import is_watched, read_state

pytestmark = [pytest.mark.root, pytest.mark.runtimes]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("recovery") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def again(shared: Store) -> Iterator[Callable[[pc.Container], pc.Container]]:
    """Finds a container through a new handle of the store, as another program would."""
    stores: list[Store] = []

    def find(container: pc.Container) -> pc.Container:
        stores.append(Store.open(shared.path))
        return pc.Container.get(container.id, store=stores[-1])

    yield find
    for store in stores:
        store.close()


@pytest.fixture
def detached(image: Image) -> Iterator[Callable[..., pc.Container]]:
    made: list[pc.Container] = []

    def start(script: str, **options: object) -> pc.Container:
        made.append(
            pc.Container.start(
                image,
                ["sh", "-c", script],
                store=image.store,
                detach=True,
                **options,  # type: ignore[arg-type]
            )
        )
        return made[-1]

    yield start
    for container in made:
        container.delete(force=True)
        container.close()


def home_of(container: pc.Container) -> Path:
    return container._store.path / "containers" / container.id


def kill_monitor(container: pc.Container) -> None:
    state = read_state(home_of(container))
    assert state is not None
    os.kill(state.monitor, signal.SIGKILL)
    eventually(lambda: not is_watched(home_of(container)))


def reboot(container: pc.Container) -> None:
    """Leave it as a reboot does: no process, and the state of another boot."""
    kill_monitor(container)
    pid = container.pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: container.pid is None)
    path = home_of(container) / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot_id": "another"}))


def output(container: pc.Container) -> list[str]:
    return [str(line) for line in container.logs()]


def eventually(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "that did not become true"
        time.sleep(0.005)


Again = Callable[[pc.Container], pc.Container]
Detached = Callable[..., pc.Container]


def test_a_running_container_is_adopted_and_loses_no_line(detached: Detached, again: Again) -> None:
    container = detached(
        "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.005; done; exit 7",
        name="orphan",
    )
    eventually(lambda: len(output(container)) > 5)
    kill_monitor(container)
    with (home_of(container) / "log").open("ab") as log:
        log.write(bytes(8) + b"\1\0\0\0\x10\0\0\0cut off")  # as far as it came
    before = container.inspect()
    time.sleep(0.1)
    found = again(container)
    assert found.state == "running"
    assert is_watched(home_of(container))
    after = found.inspect()
    assert (after.pid, after.started_at) == (before.pid, before.started_at)
    there = len(output(found))
    eventually(lambda: len(output(found)) > max(20, there + 5))  # it goes on
    found.fs.write_text("/stop", "")
    assert found.wait(10) == 7
    assert container.exit_code == 7
    lines = output(found)
    assert lines == [str(n) for n in range(1, len(lines) + 1)]
    assert len(lines) > 20


def test_an_adopted_container_is_stopped_started_and_removed(
    detached: Detached, again: Again
) -> None:
    container = detached("trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done")
    eventually(lambda: output(container) == ["up"])
    kill_monitor(container)
    found = again(container)
    assert found.stop() == 4
    found.start()
    eventually(lambda: output(found) == ["up", "up"])
    found.delete(force=True)
    assert not home_of(container).exists()


def test_a_policy_holds_for_an_adopted_container(detached: Detached, again: Again) -> None:
    container = detached("echo run; sleep 600", restart="always")
    kill_monitor(container)
    found = again(container)
    first = found.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    eventually(lambda: found.pid not in (None, first) and found.state == "running")
    eventually(lambda: output(found) == ["run", "run"])
    assert found.stop(grace=0) == 137


@pytest.mark.parametrize(
    ("policy", "stopped", "runs"),
    [
        ("always", False, True),
        ("always", True, True),
        ("unless-stopped", False, True),
        ("unless-stopped", True, False),
        ("on-failure:3", False, True),
        ("no", False, False),
    ],
)
def test_after_a_reboot_the_policy_decides(
    detached: Detached, again: Again, policy: str, stopped: bool, runs: bool
) -> None:
    container = detached("echo run; sleep 600", restart=policy)
    eventually(lambda: output(container) == ["run"])
    if stopped:
        container.stop(grace=0)
        path = home_of(container) / "state.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "boot_id": "another"}))
    else:
        reboot(container)
    found = again(container)
    assert (found.state == "running") is runs
    if runs:
        eventually(lambda: output(found) == ["run", "run"])
    assert [c.id for c in pc.Container.list(store=found._store)] == [found.id] * runs


def test_one_that_waited_for_its_restart_is_started(detached: Detached, again: Again) -> None:
    container = detached("test -e /up && sleep 600; exit 1", restart="on-failure")
    eventually(lambda: container.state == "restarting")
    eventually(lambda: container.inspect().restart_count >= 3)
    state = read_state(home_of(container))
    assert state is not None
    eventually(lambda: container.state == "restarting")
    os.kill(state.monitor, signal.SIGKILL)
    eventually(lambda: not is_watched(home_of(container)))
    container.fs.write_bytes("/up", b"")
    assert again(container).state == "running"


def test_what_ended_unseen_is_cleaned_up(detached: Detached, again: Again) -> None:
    container = detached("sleep 600")
    group = container._state().cgroup["v2"]
    reboot(container)
    found = again(container)
    assert found.state == "stopped"
    assert found.exit_code is None
    assert not Path(group).exists()
    found.start()
    assert found.pid is not None
    found.close()


def test_many_programs_recover_one_store_at_once(detached: Detached, shared: Store) -> None:
    containers = [detached("echo run; sleep 600", restart="always") for _ in range(3)]
    reboot(containers[0])
    kill_monitor(containers[1])
    script = (
        "import sys, pycontainer as pc\n"
        "with pc.Store.open(sys.argv[1]) as store:\n"
        "    print(*sorted(c.state for c in pc.Container.list(all=True, store=store)))\n"
    )
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(shared.path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for program in programs:
        program.communicate(timeout=60)
        assert program.returncode == 0
    for container in containers:
        assert container.state == "running"
        assert is_watched(home_of(container))
    eventually(lambda: output(containers[0]) == ["run", "run"])
    assert output(containers[1]) == output(containers[2]) == ["run"]


def test_a_container_goes_on_after_a_program_that_froze_it_was_killed(
    detached: Detached, shared: Store
) -> None:
    container = detached("while :; do echo tick; sleep 0.01; done")
    script = (
        "import os, sys, pycontainer as pc\n"
        "from pycontainer.containers._view import frozen\n"
        "from pathlib import Path\n"
        "with pc.Store.open(sys.argv[1]) as store:\n"
        "    with frozen(Path(sys.argv[1], 'containers', sys.argv[2])):\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", script, str(shared.path), container.id]
    for mend in ("a new handle", "the next freeze"):
        assert subprocess.run(command, timeout=60, check=False).returncode == -9
        assert [c.state for c in (container,)] == ["paused"]
        if mend == "a new handle":
            with Store.open(shared.path) as store:
                pc.Container.list(store=store)
        else:
            container.diff()
        assert container.state == "running"
    container.pause()
    with Store.open(shared.path) as store:
        pc.Container.list(store=store)
    assert container.state == "paused"  # as somebody wanted it
    container.unpause()
