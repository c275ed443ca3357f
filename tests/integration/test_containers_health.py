"""Health checks of containers on a real kernel."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

import pycontainer as pc
from busybox import busybox_image
from pycontainer import errors
from pycontainer.containers import Health
from pycontainer.content import Store
from pycontainer.images import Image

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


def eventually(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "that did not become true"
        time.sleep(0.005)


def commands(container: pc.Container) -> list[str]:
    """What runs in it; its first process, busybox's sleep, reaps nobody."""
    return [" ".join(process.args) for process in container.top() if process.state != "Z"]


def health_of(container: pc.Container) -> Health:
    health = container.health
    assert health is not None
    return health


def size(container: pc.Container) -> int:
    return container.fs.stat("/checks").st_size if container.fs.exists("/checks") else 0


def checked(image: Image, script: str, test: str, **numbers: float) -> pc.Container:
    check = pc.HealthCheck(test, **numbers)  # type: ignore[arg-type]
    return started(image, script, healthcheck=check)


def test_health_goes_from_starting_to_healthy_to_unhealthy(image: Image) -> None:
    with checked(
        image, "sleep 600", "echo asked; test -e /up", interval=0.1, retries=10
    ) as container:
        eventually(lambda: [probe.exit_code for probe in health_of(container).log][-1:] == [1])
        assert health_of(container).status == "starting"
        container.exec(["touch", "/up"], check=True)
        container.wait_ready(pc.ready.health())
        health = container.inspect().health
        assert health is not None
        assert health.status == "healthy"
        assert health.failing_streak == 0
        codes = [probe.exit_code for probe in health.log]
        assert codes == sorted(codes, reverse=True)  # first 1, then 0
        assert codes[-1] == 0
        assert health.log[-1].output == "asked\n"
        container.exec(["rm", "/up"], check=True)
        eventually(lambda: health_of(container).status == "unhealthy")
        health = health_of(container)
        assert health.failing_streak >= 10
        eventually(lambda: len(health_of(container).log) == 5)


def test_failures_in_the_start_period_do_not_count(image: Image) -> None:
    with checked(
        image, "sleep 600", "exit 1", interval=0.05, start_interval=0.05, start_period=60, retries=1
    ) as container:
        eventually(lambda: len(health_of(container).log) == 5)
        assert health_of(container).status == "starting"
        assert health_of(container).failing_streak == 0


def test_a_check_that_takes_too_long_is_ended_with_all_it_started(image: Image) -> None:
    with checked(
        image,
        "sleep 600",
        "echo begun; sleep 601 & sleep 602",
        interval=0.1,
        timeout=0.2,
        retries=1,
    ) as container:
        eventually(lambda: health_of(container).status == "unhealthy")
        probe = health_of(container).log[-1]
        assert probe.exit_code == -1
        assert probe.output == "Health check exceeded timeout (0.2s): begun\n"
        eventually(lambda: len(commands(container)) == 1)
        with pytest.raises(errors.NotReadyInTime, match="unhealthy: exit code -1"):
            container.wait_ready(pc.ready.health(), timeout=0.1)


def test_a_check_that_is_not_there_is_told(image: Image) -> None:
    check = pc.HealthCheck(["/missing"], interval=0.05, retries=1)
    with started(image, "sleep 600", healthcheck=check) as container:
        eventually(lambda: health_of(container).status == "unhealthy")
        assert "/missing" in health_of(container).log[-1].output


def test_the_image_says_how_it_is_checked_unless_the_caller_does(image: Image) -> None:
    with started(image, "exit 0") as container:
        assert container.wait(10) == 0
        own = container.commit(
            changes=["HEALTHCHECK --interval=50ms --retries=1 CMD test -e /up"], tag="checked:1"
        )
    with started(own, "touch /up; sleep 600", ready=pc.ready.health(), timeout=10) as container:
        assert health_of(container).status == "healthy"
    changed = pc.HealthCheck("exit 1")
    with started(own, "touch /up; sleep 600", healthcheck=changed) as container:
        eventually(lambda: health_of(container).status == "unhealthy")
    for none in (None, "none"):
        with started(own, "sleep 600", healthcheck=none) as container:
            assert container.health is None
            with pytest.raises(errors.NotReady, match="no health check"):
                container.wait_ready(pc.ready.health(), timeout=0.05)


def test_a_detached_container_is_checked_without_its_program(image: Image) -> None:
    check = pc.HealthCheck("echo x >> /checks", interval=0.05)
    container = started(image, "sleep 600", healthcheck=check, detach=True, restart="always")
    try:
        container.close()
        eventually(lambda: size(container) > 8)
        first = container.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        eventually(lambda: container.pid not in (None, first))
        before = size(container)
        eventually(lambda: size(container) > before + 4)
        container.pause()
        assert container.state == "paused"
        container.unpause()
    finally:
        container.delete(force=True)


def test_a_health_check_must_make_sense(image: Image) -> None:
    with pytest.raises(errors.ContainerError, match="without a command"):
        started(image, "exit 0", healthcheck=pc.HealthCheck(interval=1))
    with pytest.raises(errors.ContainerError, match="too short"):
        started(image, "exit 0", healthcheck=pc.HealthCheck("true", interval=0))
