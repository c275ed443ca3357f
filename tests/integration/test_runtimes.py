"""Containers that another runtime starts: what only they show. All else is in the containers' own tests."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

import pycontainer as pc
from busybox import busybox_image
from pycontainer import errors
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.runtime import bundle, is_watched

pytestmark = pytest.mark.root

Runtime = Literal["runc", "crun"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with Store.open(tmp_path_factory.mktemp("runtimes") / "store") as store:
        yield busybox_image(store, tmp_path_factory.mktemp("busybox"))


@pytest.fixture(params=["runc", "crun"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    name: Runtime = request.param
    if not shutil.which(name):
        pytest.skip(f"not installed: {name}")
    return name


def test_a_run_has_all_that_it_has_by_this_library(image: Image, runtime: Runtime) -> None:
    script = "id -u; hostname; hostname -d; cat /proc/sys/kernel/domainname; pwd; echo $A; umask"
    script += (
        "; grep -E 'CapBnd|Seccomp:|NoNewPrivs' /proc/self/status; ls /dev; echo e >&2; exit 7"
    )

    def result(name: Runtime | Literal["embedded"]) -> pc.Completed:
        return pc.run(
            image,
            ["sh", "-c", script],
            env={"A": "b"},
            user="app",
            workdir="/made/here",
            hostname="one",
            names=pc.Names(domainname="example.org"),
            no_new_privileges=True,
            store=image.store,
            runtime=name,
            timeout=30,
        )

    theirs, ours = result(runtime), result("embedded")
    made_more = {"core"}  # in /dev, by crun
    assert [line for line in theirs.text.split() if line not in made_more] == ours.text.split()
    assert (theirs.stderr, theirs.exit_code) == (b"e\n", 7)


def test_it_is_that_program_that_starts_it(image: Image, runtime: Runtime) -> None:
    with pc.Container.start(
        image, ["sleep", "60"], store=image.store, runtime=runtime, memory=64 << 20, pids=20
    ) as container:
        home = image.store.directory("containers") / container.id
        assert list((home / "bundle/state").iterdir()) == [home / "bundle/state" / container.id]
        document = json.loads((home / "bundle/config.json").read_bytes())
        assert document["process"]["args"] == ["sleep", "60"]
        assert container.inspect().spec.annotations["org.pycontainer.runtime"] == runtime
        assert str(home) not in Path("/proc/self/mountinfo").read_text()
        usage = container.stats()
        assert usage.memory_limit == 64 << 20
        with pytest.raises(errors.ProcessFailed, match="can't fork"):
            container.exec(["sh", "-c", "for i in $(seq 40); do sleep 9 & done"], check=True)
    assert not home.exists()


def test_it_is_started_again_by_its_policy(image: Image, runtime: Runtime) -> None:
    script = "echo run; exit 3"
    with pc.Container.start(
        image, ["sh", "-c", script], store=image.store, runtime=runtime, restart="on-failure:2"
    ) as container:
        assert container.wait(30) == 3
        assert [str(line) for line in container.logs()] == ["run"] * 3
        container.start()
        container.wait(30)


def test_a_terminal(image: Image, runtime: Runtime) -> None:
    with pc.Container.start(
        image, ["sh"], store=image.store, runtime=runtime, tty=True
    ) as container:
        container.resize(33, 77)
        container.write(b"stty size; tty; exit 4\n")
        assert container.wait(30) == 4
        text = " ".join(map(str, container.logs()))
        assert "33 77" in text
        assert "/dev/pts/0" in text or "/dev/console" in text


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("nope", errors.CommandNotFound),
        ("/no/such", errors.CommandNotFound),
        ("/etc/passwd", errors.CommandNotExecutable),
        ("/no-format", errors.CommandNotExecutable),
    ],
)
def test_what_cannot_be_executed_is_told_as_by_this_library(
    image: Image, runtime: Runtime, tmp_path: Path, command: str, error: type[errors.StartError]
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fno program")
    program.chmod(0o755)
    mounts = [pc.Mount.bind(program, "/no-format")]
    with pytest.raises(error):
        pc.run(image, [command], store=image.store, runtime=runtime, mounts=mounts, timeout=30)
    assert list(image.store.directory("containers").iterdir()) == []


def test_a_first_process_reaps_and_passes_signals_on(image: Image, runtime: Runtime) -> None:
    script = "trap 'echo told; exit 5' TERM; echo up; while :; do sleep 0.1; done"
    with pc.Container.start(
        image,
        ["sh", "-c", script],
        store=image.store,
        runtime=runtime,
        init=True,
        ready=pc.ready.log("up"),
    ) as container:
        container.exec(["sh", "-c", "sleep 0 & exec sleep 0.1"])
        assert container.top()[0].args[0].endswith("init")
        assert container.stop(20) == 5


def test_one_that_lives_on_without_its_monitor_is_adopted(image: Image, tmp_path: Path) -> None:
    with Store.open(image.store.path) as store:
        script = "echo one; sleep 1; echo two; exit 6"
        container = pc.Container.start(
            image, ["sh", "-c", script], store=image.store, runtime="runc", detach=True
        )
        state = json.loads(
            (store.directory("containers") / container.id / "state.json").read_bytes()
        )
        os.kill(state["monitor"], 9)
        while is_watched(store.directory("containers") / container.id):
            time.sleep(0.01)
        found = pc.Container.get(container.id, store=store)
        assert found.wait(30) == 6
        assert [str(line) for line in found.logs()] == ["one", "two"]
        found.delete()
        container.close()


# --- what cannot be had ----------------------------------------------------------------------


def test_a_runtime_that_is_not_installed_is_told(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_PLACES", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(errors.UnsupportedFeature, match="no program runc") as caught:
        pc.run(image, ["true"], store=image.store, runtime="runc")
    assert "apt-get install runc" in str(caught.value.remedy)
    assert list(image.store.directory("containers").iterdir()) == []


def test_the_environment_names_the_usual_one(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONTAINER_RUNTIME", "magic")
    with pytest.raises(errors.ContainerError, match="PYCONTAINER_RUNTIME=magic is no runtime"):
        pc.run(image, ["true"], store=image.store)
    assert pc.run(image, ["true"], store=image.store, runtime="embedded").exit_code == 0


def test_a_first_process_takes_a_program(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_REAPERS", ("no-such-init",))
    with pytest.raises(errors.UnsupportedFeature, match="no-such-init"):
        pc.run(image, ["true"], store=image.store, runtime="runc", init=True)


def test_users_of_its_own_take_this_library(image: Image) -> None:
    alone = pc.Namespaces(user="private")
    with pytest.raises(errors.UnsupportedFeature, match="users of its own"):
        pc.run(image, ["true"], store=image.store, runtime="crun", namespaces=alone)


def test_a_whole_system_takes_this_library(image: Image) -> None:
    with pytest.raises(errors.UnsupportedFeature, match="system container"):
        pc.Container.start(image, store=image.store, runtime="runc", system=True)
