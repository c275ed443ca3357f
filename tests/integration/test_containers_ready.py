"""Waiting until containers are ready, on a real kernel."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from busybox import busybox_image
from pycontainer import errors
from pycontainer.containers.ready import Ready
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.runtime import read_state, socket_inside

pytestmark = [pytest.mark.root, pytest.mark.runtimes]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("ready") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


def started(
    image: Image, script: str, ready: Ready, timeout: float | None = 10, **options: object
) -> pc.Container:
    return pc.Container.start(
        image,
        ["sh", "-c", script],
        store=image.store,
        ready=ready,
        timeout=timeout,
        **options,  # type: ignore[arg-type]
    )


SERVER = "mkdir /w; echo hi > /w/index.html; sleep 0.1; httpd -f -p 8080 -h /w"


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "[::]"])
def test_a_port_that_is_not_published(image: Image, address: str) -> None:
    script = f"sleep 0.1; exec httpd -f -p {address}:5432"
    with started(image, script, pc.ready.port(5432)) as container:
        tables = [f"/proc/{container.pid}/net/{name}" for name in ("tcp", "tcp6")]
        assert ":1538 " in "".join(Path(table).read_text() for table in tables)


def test_a_udp_port(image: Image) -> None:
    with started(image, "sleep 600", lambda container: True) as container:
        ready = pc.ready.port(5353, protocol="udp")
        with pytest.raises(errors.NotReadyInTime):
            container.wait_ready(ready, timeout=0.02)
        with socket_inside(container._state(), kind=socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 5353))
            container.wait_ready(ready, timeout=1)


def test_an_http_answer(image: Image) -> None:
    with started(image, SERVER, pc.ready.http("/", port=8080)) as container:
        assert container.state == "running"
        container.wait_ready(pc.ready.http("/none", port=8080, status=404), timeout=10)
        with pytest.raises(errors.NotReadyInTime, match="http port 8080, /none"):
            container.wait_ready(pc.ready.http("/none", port=8080), timeout=0.05)


def test_a_line_of_the_log_be_it_unfinished(image: Image) -> None:
    script = "echo one; sleep 0.05; printf 'login: '; sleep 600"
    with started(image, script, pc.ready.log(r"log[a-z]+:")) as container:
        container.wait_ready(pc.ready.log("^one$", stream="stdout"), timeout=1)
        with pytest.raises(errors.NotReadyInTime):
            container.wait_ready(pc.ready.log("one", stream="stderr"), timeout=0.05)


def test_a_command(image: Image) -> None:
    script = "sleep 0.1; touch /tmp/there; sleep 600"
    with started(image, script, pc.ready.exec(["test", "-e", "/tmp/there"])) as container:
        assert container.fs.exists("/tmp/there")


def test_all_of_several_and_a_function(image: Image) -> None:
    asked = []

    def third(container: pc.Container) -> bool:
        asked.append(container.name)
        if len(asked) == 1:
            raise ConnectionRefusedError
        return len(asked) > 2

    script = "echo up; sleep 0.05; touch /tmp/there; sleep 600"
    ready = pc.ready.all(
        pc.ready.log("up"), pc.ready.exec("test -e /tmp/there"), pc.ready.all(), third
    )
    with started(image, script, ready) as container:
        assert asked == [container.name] * 3


def test_waiting_ends_soon_after_the_container_is_ready(image: Image) -> None:
    with started(image, "sleep 600", lambda container: True) as container:
        container.exec(["sh", "-c", "echo x > /proc/1/fd/1"], check=True)
        begun = time.monotonic()
        container.wait_ready(pc.ready.log("x"))
        assert time.monotonic() - begun < 0.05


def test_a_container_that_is_not_ready_in_time_tells_all_and_is_removed(image: Image) -> None:
    script = "for n in 1 2 3; do echo line $n; done; sleep 600"
    with pytest.raises(errors.NotReadyInTime, match="tcp port 1") as caught:
        started(image, script, pc.ready.port(1), timeout=0.3)
    error = caught.value
    assert (error.state, error.exit_code) == ("running", None)
    assert error.log.splitlines() == ["line 1", "line 2", "line 3"]
    assert "line 3" in str(error)
    assert isinstance(error, errors.TimeoutExpired)
    assert pc.Container.list(all=True, store=image.store) == ()


def test_a_container_that_ends_first_tells_all_at_once(image: Image) -> None:
    begun = time.monotonic()
    with pytest.raises(errors.NotReady, match="ended before") as caught:
        started(image, "echo no such file >&2; exit 3", pc.ready.port(1), timeout=30)
    assert time.monotonic() - begun < 5
    assert (caught.value.state, caught.value.exit_code) == ("stopped", 3)
    assert caught.value.log == "no such file"
    assert pc.Container.list(all=True, store=image.store) == ()


def test_what_it_did_before_it_ended_counts(image: Image) -> None:
    with started(image, "echo done", pc.ready.log("done")) as container:
        assert container.wait(10) == 0


def test_what_it_said_last_counts_though_it_is_yet_to_be_written_down(image: Image) -> None:
    with started(image, "read go; echo done", lambda _: True, stdin=True) as container:
        state = read_state(image.store.directory("containers") / container.id)
        assert state is not None
        os.kill(state.monitor, signal.SIGSTOP)
        go_on = threading.Timer(0.1, os.kill, [state.monitor, signal.SIGCONT])
        try:
            container.write(b"go\n")
            while container.state != "stopped":
                time.sleep(0.001)
            go_on.start()
            container.wait_ready(pc.ready.log("done"), timeout=10)
        finally:
            go_on.cancel()
            os.kill(state.monitor, signal.SIGCONT)


def test_one_without_a_monitor_is_not_waited_for(image: Image) -> None:
    with started(image, "sleep 600", lambda _: True) as container:
        state = read_state(image.store.directory("containers") / container.id)
        assert state is not None
        os.kill(state.monitor, signal.SIGKILL)
        with pytest.raises(errors.NotReady, match="lost its monitor"):
            container.wait_ready(pc.ready.log("never"), timeout=60)


def test_a_function_that_fails_otherwise_ends_the_waiting(image: Image, tmp_path: Path) -> None:
    def wrong(container: pc.Container) -> bool:
        raise LookupError(container.name)

    with pytest.raises(LookupError):
        started(image, "sleep 600", wrong)
    assert pc.Container.list(all=True, store=image.store) == ()
