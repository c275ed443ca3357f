"""A whole Debian with systemd in a container: it boots, runs services and shuts down cleanly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from interop.debian import debian_with_systemd
from pycontainer.containers import _ranges
from pycontainer.content import Store
from pycontainer.images import Image

pytestmark = [pytest.mark.root, pytest.mark.interop("mmdebstrap")]

__all__ = ["debian_with_systemd"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("systemd") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, debian_with_systemd: Path) -> Image:
    return Image.import_rootfs(debian_with_systemd, tag="debian:systemd", store=shared)


FIRST = 1_000_000

SERVICE = """
[Service]
Type=oneshot
TasksMax=50
ExecStart=/bin/sh -c 'cat /proc/self/cgroup > /run/mine'
"""


def booted(container: pc.Container) -> bool:
    state = container.exec(["systemctl", "is-system-running"]).stdout.strip()
    return state in (b"running", b"degraded")


USERS_SERVICE = """
[Service]
Type=oneshot
User=daemon
RuntimeDirectory=mine
ExecStart=+/bin/sh -c 'cat /proc/self/cgroup > /run/mine/group'
ExecStart=/bin/sh -c 'id -u > /run/mine/user'
RemainAfterExit=yes
"""


def test_systemd_boots_serves_and_stops(image: Image) -> None:
    with pc.Container.start(image, system=True, store=image.store, timeout=60) as it:
        it.wait_ready(booted, timeout=60)
        assert it.exec(["cat", "/proc/1/comm"]).stdout == b"systemd\n"
        failed = it.exec(["systemctl", "--failed", "--no-legend", "--plain"]).stdout.decode()
        assert "cgroup" not in failed
        # It divides its own control group: a service has one below.
        it.fs.write_bytes("/etc/systemd/system/mine.service", SERVICE.encode())
        it.exec(["systemctl", "daemon-reload"], check=True)
        it.exec(["systemctl", "start", "mine.service"], check=True, timeout=30)
        assert "/system.slice/mine.service" in it.exec(["cat", "/run/mine"]).stdout.decode()
        assert it.exec(["systemd-detect-virt", "--container"]).stdout != b"none\n"
        begun = time.monotonic()
        assert it.stop(grace=30) in (0, 130)
        assert time.monotonic() - begun < 25
        text = "".join(str(line) for line in it.logs())
        assert "Reached target" in text or "Powering off" in text or "systemd" in text, it.exit_code


def test_systemd_boots_with_users_of_its_own(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tmp_path / "subid"
    ids.write_text(f"root:{FIRST}:65536\n")
    monkeypatch.setattr(_ranges, "_FILES", (ids, ids))
    with pc.Container.start(
        image,
        system=True,
        namespaces=pc.Namespaces(user="private"),
        store=image.store,
        timeout=60,
    ) as it:
        it.wait_ready(booted, timeout=60)
        assert it.exec(["cat", "/proc/1/comm"]).stdout == b"systemd\n"
        assert Path(f"/proc/{it.pid}").stat().st_uid == FIRST
        failed = it.exec(["systemctl", "--failed", "--no-legend", "--plain"]).stdout.decode()
        assert failed == ""
        it.fs.write_bytes("/etc/systemd/system/mine.service", USERS_SERVICE.encode())
        it.exec(["systemctl", "daemon-reload"], check=True)
        it.exec(["systemctl", "start", "mine.service"], check=True, timeout=30)
        assert "/system.slice/mine.service" in it.exec(["cat", "/run/mine/group"]).stdout.decode()
        assert it.exec(["cat", "/run/mine/user"]).stdout == b"1\n"
        assert it.exec(["systemd-detect-virt", "--private-users"]).exit_code == 0
        assert it.stop(grace=30) in (0, 130)
        it.start()
        it.wait_ready(booted, timeout=60)


def test_a_second_boot_finds_the_files_of_the_first(image: Image) -> None:
    with pc.Container.start(image, system=True, store=image.store, timeout=60) as it:
        it.wait_ready(booted, timeout=60)
        it.exec(["touch", "/etc/kept", "/run/lost"], check=True)
        it.stop(grace=30)
        it.start()
        it.wait_ready(booted, timeout=60)
        assert it.exec(["ls", "/etc/kept"]).exit_code == 0
        assert it.exec(["ls", "/run/lost"]).exit_code != 0
