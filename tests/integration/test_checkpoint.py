"""Containers written down and restored by CRIU; and what is told where it cannot be."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from busybox import busybox_image
from own_network import own_network
from pycontainer import errors
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.runtime import criu_refusal, is_watched

pytestmark = pytest.mark.root

COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
REFUSAL = criu_refusal() if os.geteuid() == 0 else "needs root"
needs_criu = pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with Store.open(tmp_path_factory.mktemp("checkpoint") / "store") as store:
        yield busybox_image(store, tmp_path_factory.mktemp("busybox"))


def started(image: Image, script: str, **options: object) -> pc.Container:
    return pc.Container.start(image, ["sh", "-c", script], store=image.store, **options)  # type: ignore[arg-type]


def lines(container: pc.Container) -> list[str]:
    return [str(line) for line in container.logs()]


def await_lines(container: pc.Container, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(lines(container)) < count:
        assert time.monotonic() < deadline, lines(container)
        time.sleep(0.02)


# --- where CRIU works ------------------------------------------------------------------------


@needs_criu
@pytest.mark.runtimes
def test_processes_go_on_where_they_were(image: Image, tmp_path: Path) -> None:
    mounts = [pc.Mount.tmpfs("/scratch"), pc.Mount.volume(None, "/volume")]
    script = f"echo kept > /scratch/file; echo kept > /volume/file; {COUNT}"
    with started(image, script, mounts=mounts, memory=64 << 20, hostname="one") as container:
        await_lines(container, 5)
        view = "cat /proc/1/status | grep -E 'Cap|Seccomp|NoNew'; hostname; cat /scratch/file /volume/file"
        view += (
            "; cat /proc/self/mountinfo | cut -d' ' -f5,6 | sort; ls /sys/fs/cgroup/memory | wc -l"
        )
        before = container.exec(["sh", "-c", view], check=True).stdout
        container.checkpoint(tmp_path / "images")
        assert container.state == "stopped"
        said = len(lines(container))
        container.restore(tmp_path / "images")
        await_lines(container, said + 5)
        assert container.exec(["sh", "-c", view], check=True).stdout == before
        assert container.stats().memory_limit == 64 << 20
        container.pause()
        container.unpause()
        assert container.stop(0.1) == 137
        numbers = [int(line) for line in lines(container)]
        assert numbers == list(range(1, len(numbers) + 1))
        container.start()
        await_lines(container, len(numbers) + 1)
        assert lines(container)[len(numbers)] == "1"


@needs_criu
def test_one_that_goes_on_can_be_set_back(image: Image, tmp_path: Path) -> None:
    with started(image, COUNT) as container:
        await_lines(container, 3)
        container.checkpoint(tmp_path / "images", leave_running=True)
        assert container.state == "running"
        await_lines(container, 30)
        container.kill()
        container.wait(20)
        said = len(lines(container))
        container.restore(tmp_path / "images")
        await_lines(container, said + 2)
        assert int(lines(container)[said]) < said


@needs_criu
def test_a_detached_one_is_restored_by_another_handle(image: Image, tmp_path: Path) -> None:
    script = f"{COUNT[:-5]}[ $i -lt 100 ] || exit 7; done"
    with started(image, script, detach=True, restart="on-failure:1") as container:
        await_lines(container, 3)
        container.checkpoint(tmp_path / "images")
    with pc.Container.get(container.id, store=image.store) as other:
        other.restore(tmp_path / "images")
        status = Path(f"/proc/{other.pid}/status").read_text()
        os.kill(int(status.partition("PPid:")[2].split()[0]), 9)
    while is_watched(image.store.directory("containers") / container.id):
        time.sleep(0.01)
    with Store.open(image.store.path) as store:
        adopted = pc.Container.get(container.id, store=store)
        assert adopted.wait(60, condition="next-exit") == 7
        assert lines(adopted)[99] == "100"
        adopted.delete(force=True)


@needs_criu
def test_what_listens_is_reached_again(image: Image, tmp_path: Path) -> None:
    with own_network():
        network = pc.Network.create("back", store=image.store)
        served = started(image, "exec nc -ll -p 80 -e echo here", network=network, name="served")
        with served as container:
            container.wait_ready(pc.ready.port(80))
            container.checkpoint(tmp_path / "images")
            container.restore(tmp_path / "images")
            asked = pc.run(
                image, ["nc", "served", "80"], network=network, store=image.store, timeout=30
            )
            assert asked.text == "here\n"
            with container.connect(80) as connection:
                assert connection.makefile().readline() == "here\n"
        network.delete()


@needs_criu
def test_standard_input_is_there_again(image: Image, tmp_path: Path) -> None:
    script = "while read line; do echo got $line; done; exit 4"
    with started(image, script, stdin=True) as container:
        container.write(b"one\n")
        await_lines(container, 1)
        container.checkpoint(tmp_path / "images")
        container.restore(tmp_path / "images")
        container.write(b"two\n")
        container.close_stdin()
        assert container.wait(20) == 4
        assert lines(container) == ["got one", "got two"]


@needs_criu
def test_checkpoints_are_of_one_container(image: Image, tmp_path: Path) -> None:
    with started(image, COUNT) as container, started(image, "true") as other:
        other.wait(20)
        container.checkpoint(tmp_path / "images")
        with pytest.raises(errors.ContainerError, match="is of container"):
            other.restore(tmp_path / "images")
        with pytest.raises(errors.ContainerError, match="holds no checkpoint"):
            container.restore(tmp_path)
        (tmp_path / "images/inventory.img").write_bytes(b"damaged")
        with pytest.raises(errors.StartError, match="by CRIU"):
            container.restore(tmp_path / "images")
        assert container.state == "stopped"
        container.start()


# --- where it does not -----------------------------------------------------------------------


def fake_criu(place: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = place / "bin/criu"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_a_criu_that_does_not_know_the_kernel_is_told(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "echo 'Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds' >&2; exit 1"
    fake_criu(tmp_path, script, monkeypatch)
    script = "read line; exit 3"
    with started(image, script, stdin=True, restart="on-failure:1") as container:
        with pytest.raises(errors.UnsupportedFeature, match="Unexpected rt vDSO") as caught:
            container.checkpoint(tmp_path / "images")
        assert "install" in str(caught.value.remedy)
        assert container.state == "running"
        container.close_stdin()
        assert container.wait(20) == 3
        assert container.inspect().restart_count == 1  # its policy is in force as before


def test_what_criu_cannot_write_down_is_told_in_its_words(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'if [ "$1" = check ]; then exit 0; fi\necho "Error (x.c:1): no such luck" >&2; exit 1'
    fake_criu(tmp_path, script, monkeypatch)
    with started(image, COUNT) as container:
        with pytest.raises(errors.ContainerError, match="no such luck"):
            container.checkpoint(tmp_path / "images")
        assert container.state == "running"


def test_without_criu_the_remedy_is_told(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycontainer.runtime.checkpoint._criu", lambda: None)
    with started(image, COUNT) as container:
        with pytest.raises(errors.UnsupportedFeature, match="no program criu") as caught:
            container.checkpoint(tmp_path / "images")
        assert "apt-get install criu" in str(caught.value.remedy)


def test_what_cannot_be_restored_is_not_written_down(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_criu(tmp_path, "exit 0", monkeypatch)
    images = tmp_path / "images"
    for options, why in (
        ({"tty": True}, "terminal"),
        ({"namespaces": pc.Namespaces(pid="host")}, "shares namespaces"),
    ):
        with (
            started(image, COUNT, **options) as container,
            pytest.raises(errors.UnsupportedFeature, match=why),
        ):
            container.checkpoint(images)
    with started(image, "true") as container:
        container.wait(20)
        with pytest.raises(errors.ContainerStateError):
            container.checkpoint(images)
    with started(image, COUNT) as container:
        with pytest.raises(errors.ContainerError, match="not empty"):
            container.checkpoint(tmp_path)
        with pytest.raises(errors.ContainerStateError, match="runs"):
            container.restore(images)
        assert list(images.iterdir()) == []
