"""Kill -9 of each process of a container at lines throughout its life: nothing wrong, nothing left."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import container_workers
import fault
from busybox import busybox_image, busybox_tree
from ordinary import Ordinary, ordinary_user
from own_network import own_network
from pycontainer.content import Store

pytestmark = [pytest.mark.root, pytest.mark.runtimes]

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
STEPS = {
    "host": 1500,
    "zygote": 20,
    "waiting": 10,
    "monitor": 60,
    "init": 300,
    "executor": 40,
    "command": 200,
}
"""Every how many lines there is a death; a tenth of that in a thorough run."""


@pytest.mark.parametrize("operation", ["attached", "detached"])
@pytest.mark.parametrize(
    "role",
    [
        role
        if role in ("host", "monitor")
        else pytest.param(role, marks=pytest.mark.embedded("no other runtime has to do with it"))
        for role in STEPS
    ],
)
def test_a_death_leaves_nothing_that_cannot_be_removed(
    role: str, operation: str, tmp_path: Path
) -> None:
    die_throughout(role, operation, tmp_path)


@pytest.mark.embedded("another runtime's files are made before")
@pytest.mark.parametrize("role", ["host", "zygote", "waiting", "monitor", "init"])
def test_a_death_leaves_nothing_of_a_command_whose_files_are_made_meanwhile(
    role: str, tmp_path: Path
) -> None:
    die_throughout(role, "run", tmp_path, often=4)


@pytest.mark.embedded("the networks are the monitor's, whatever starts the first process")
@pytest.mark.parametrize("role", ["host", "zygote", "waiting", "monitor", "init"])
def test_a_death_leaves_nothing_of_networks_and_ports(role: str, tmp_path: Path) -> None:
    with own_network():
        die_throughout(role, "bridge", tmp_path)


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Ordinary]:
    """An ordinary user with what the worker needs, and an image in a store of their own."""
    with ordinary_user() as user:
        for module in (container_workers, fault):
            shutil.copy(inspect.getfile(module), user.packages)
        root = busybox_tree(user.packages.parent / "root")
        code = (
            "import pycontainer as pc\n"
            "store = pc.Store.open('store')\n"
            f"pc.Image.import_rootfs({str(root)!r}, tag='busybox:test', store=store)"
        )
        done = user.run("-c", code)
        assert done.returncode == 0, done.stderr
        yield user


@pytest.mark.embedded("what starts the first process has no part in recovery")
@pytest.mark.parametrize("operation", ["attached", "detached"])
@pytest.mark.parametrize("role", list(STEPS))
def test_a_death_leaves_nothing_of_an_ordinary_user(
    role: str, operation: str, ordinary: Ordinary
) -> None:
    worker = str(ordinary.packages / Path(container_workers.__file__).name)
    done = ordinary.run(worker, role, operation, str(ordinary.home / "store"), str(step_of(role)))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3


def step_of(role: str) -> int:
    """Every how many lines a process of that role dies."""
    return max(1, STEPS[role] // 10) if THOROUGH else STEPS[role]


def die_throughout(role: str, operation: str, tmp_path: Path, often: int = 1) -> None:
    """Run the worker that lets one process die at each of some lines, so many times as many as usual."""
    with Store.open(tmp_path / "store") as store:
        busybox_image(store, tmp_path / "busybox")
    command = [
        sys.executable,
        container_workers.__file__,
        role,
        operation,
        str(store.path),
        str(max(1, step_of(role) // often)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
