"""Control groups of a real kernel: limits bite, devices stay closed, nothing is left."""

from __future__ import annotations

import contextlib
import errno
import json
import marshal
import os
import select
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import pycontainer
from pycontainer.oci.runtime import Resources
from pycontainer.runtime import cgroups
from pycontainer.runtime._inside import cgroup

pytestmark = pytest.mark.root

MIB = 1 << 20
Plan = dict[str, Any]

# Enters the groups as the monitor and init do, then does what it is told to by its first argument.
SCRIPT = """
import json, marshal, os, sys, time
sys.path.insert(0, sys.argv.pop(1))
from pycontainer._linux import process
from pycontainer.runtime._inside import cgroup
plan = marshal.loads(bytes.fromhex(sys.argv.pop(1)))
cgroup.join(plan)
pid, pidfd = process.clone3(0, cgroup=cgroup.open_v2(plan))
if pid:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os._exit(code if code >= 0 else 128 - code)
def allocate():
    hoard = bytearray(int(sys.argv[2]))
    for at in range(0, len(hoard), 4096):
        hoard[at] = 1
def fork():
    count = 0
    try:
        while count < 50:
            if os.fork() == 0:
                time.sleep(60)
            count += 1
    except OSError as error:
        print(json.dumps([count, error.errno]), flush=True)
    time.sleep(60)
def open_all():
    answers = []
    for path in sys.argv[2:]:
        try:
            os.close(os.open(path, os.O_RDONLY))
            answers.append(0)
        except OSError as error:
            answers.append(error.errno)
    print(json.dumps(answers), flush=True)
def groups():
    print(json.dumps(open("/proc/self/cgroup").read()), flush=True)
def tick():
    while True:
        print("1", flush=True)
        time.sleep(0.01)
globals()[sys.argv[1]]()
sys.stdout.flush()
os._exit(0)
"""
ROOT = str(Path(pycontainer.__file__).parents[1])


class Groups:
    """Makes groups beneath a parent of their own and runs the script in them."""

    def __init__(self, hierarchies: cgroups.Hierarchies) -> None:
        self.hierarchies = hierarchies
        self.parent = f"pycontainer-test-{uuid.uuid4().hex[:12]}"
        self.plans: list[Plan] = []
        self.processes: list[subprocess.Popen[str]] = []

    def plan(self, name: str, resources: Resources) -> Plan:
        return cgroups.plan(
            name, resources, hierarchies=self.hierarchies, parent=self.parent
        ).to_wire()

    def make(self, resources: Resources) -> Plan:
        plan = self.plan("c1", resources)
        self.plans.append(plan)
        cgroup.create(plan)
        group = cgroup.open_v2(plan)
        cgroup.filter_devices(plan, group)
        if group >= 0:
            os.close(group)
        return plan

    def run(self, plan: Plan, *command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", SCRIPT, ROOT, marshal.dumps(plan).hex(), *command],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for plan in self.plans:
            cgroup.kill(plan)
        for process in self.processes:
            process.kill()
            with process:
                pass
        for plan in self.plans:
            cgroup.destroy(plan)
        found = cgroups.discover()
        for hierarchy in (*found.v1.values(), *([found.v2] if found.v2 else [])):
            assert self.parent not in os.listdir(hierarchy.mount_point)


def said(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def finish(process: subprocess.Popen[str]) -> int:
    code = process.wait(timeout=20)
    return code if code >= 0 else 128 - code


def end(plan: Plan, process: subprocess.Popen[str]) -> int:
    """Kill what runs in the groups and remove them."""
    cgroup.kill(plan)
    code = finish(process)
    assert cgroup.destroy(plan) == []
    return code


@pytest.fixture
def groups() -> Iterator[Groups]:
    """Groups as this machine has them mounted."""
    with contextlib.closing(Groups(cgroups.discover())) as groups:
        yield groups


@pytest.fixture(params=["as mounted", "v1 alone"])
def each(request: pytest.FixtureRequest) -> Iterator[Groups]:
    """Groups as this machine has them mounted, and where it has v1, with that alone."""
    found = cgroups.discover()
    if request.param == "v1 alone":
        if not {"freezer", "memory", "pids", "devices"} <= found.v1.keys():
            pytest.skip("this machine has no v1 hierarchies")
        found = evolve(found, v2=None, v2_controllers=frozenset())
    with contextlib.closing(Groups(found)) as groups:
        yield groups


def test_members(each: Groups) -> None:
    plan = each.make(Resources(memory=64 * MIB, pids=5))
    process = each.run(plan, "groups")
    lines = str(said(process)).splitlines()
    assert finish(process) == 0
    paths = {name: path for line in lines for _, name, path in [line.split(":", 2)]}
    for name in ("memory", "pids"):
        assert paths.get(name, paths.get("")) == f"/{each.parent}/c1"
    assert (paths.get("") == f"/{each.parent}/c1") == bool(plan["v2"])
    assert cgroup.destroy(plan) == []


def test_memory_limit(each: Groups) -> None:
    plan = each.make(Resources(memory=32 * MIB, memory_swap=32 * MIB))
    modest = each.run(plan, "allocate", str(4 * MIB))
    assert finish(modest) == 0
    assert not cgroup.oom_killed(plan)
    greedy = each.run(plan, "allocate", str(128 * MIB))
    assert finish(greedy) == 128 + signal.SIGKILL
    assert cgroup.oom_killed(plan)
    assert cgroup.destroy(plan) == []


def test_limit_of_processes_and_kill(each: Groups) -> None:
    plan = each.make(Resources(pids=6))
    process = each.run(plan, "fork")
    count, code = said(process)
    assert count < 6
    assert code == errno.EAGAIN
    start = time.monotonic()
    assert end(plan, process) == 128 + signal.SIGKILL
    assert time.monotonic() - start < 5


def test_cpu_limit_is_set(groups: Groups) -> None:
    limits = Resources(cpu_quota=25_000, cpu_shares=512)
    plan = groups.make(limits)
    texts = {Path(path).name: Path(path).read_text() for path, _, _ in plan["writes"]}
    if "cpu" in groups.hierarchies.v1:
        assert texts["cpu.cfs_quota_us"] == "25000\n"
        assert texts["cpu.shares"] == "512\n"
    else:
        assert texts["cpu.max"] == "25000 100000\n"
    assert cgroup.destroy(plan) == []


def test_set_of_cpus(groups: Groups) -> None:
    if "cpuset" not in groups.hierarchies.v1.keys() | groups.hierarchies.v2_controllers:
        pytest.skip("this machine has no cpuset controller")
    plan = groups.make(Resources(cpuset="0"))
    process = groups.run(plan, "groups")
    assert f"/{groups.parent}/c1" in str(said(process))
    assert finish(process) == 0
    assert cgroup.destroy(plan) == []


def test_device_filter(each: Groups, tmp_path: Path) -> None:
    memory, null = str(tmp_path / "mem"), str(tmp_path / "null")
    os.mknod(memory, stat.S_IFCHR | 0o600, os.makedev(1, 1))
    os.mknod(null, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    paths = ["/dev/null", "/dev/zero", "/dev/urandom", null, memory]
    plan = each.make(Resources(devices=cgroups.DEFAULT_DEVICE_RULES))
    process = each.run(plan, "open_all", *paths)
    assert said(process) == [0, 0, 0, 0, errno.EPERM]
    assert finish(process) == 0
    assert cgroup.destroy(plan) == []


def test_freeze_and_thaw(each: Groups) -> None:
    plan = each.make(Resources())
    process = each.run(plan, "tick")
    assert said(process) == 1
    assert process.stdout is not None
    cgroup.freeze(plan)
    while not _silent(output := process.stdout.fileno()):
        os.read(output, 1 << 16)
    cgroup.thaw(plan)
    assert not _silent(output)
    # What is frozen can be killed all the same.
    cgroup.freeze(plan)
    assert end(plan, process) == 128 + signal.SIGKILL


def _silent(fd: int) -> bool:
    return not select.select([fd], [], [], 0.2)[0]


def test_groups_that_the_container_made_go_as_well(groups: Groups) -> None:
    if groups.hierarchies.v2 is None:
        pytest.skip("no v2 hierarchy")
    plan = groups.make(Resources())
    inner = Path(str(plan["v2"]), "system.slice", "inner.service")
    inner.mkdir(parents=True)
    process = groups.run(plan | {"v2": str(inner)}, "fork")
    while not (inner / "cgroup.procs").read_text():
        time.sleep(0.005)
    assert cgroup.destroy(plan, timeout=0.05) == [plan["v2"]]
    assert end(plan, process) == 128 + signal.SIGKILL


def test_kill_without_cgroup_kill(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on kernels before 5.14."""
    plan = groups.make(Resources())
    process = groups.run(plan, "fork")
    write = cgroup._write

    def old_kernel(path: str, data: str) -> None:
        if path.endswith("cgroup.kill"):
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        write(path, data)

    monkeypatch.setattr(cgroup, "_write", old_kernel)
    while len(cgroup._processes(str(plan["freezer"]))) < 20:
        time.sleep(0.005)
    assert end(plan, process) == 128 + signal.SIGKILL


def test_many_at_once(groups: Groups) -> None:
    """Creations survive that others remove the parent they share the moment it is empty."""
    script = """
import marshal, sys
sys.path.insert(0, sys.argv[1])
from pycontainer.runtime._inside import cgroup
for plan in marshal.loads(sys.stdin.buffer.read()):
    cgroup.create(plan)
    left = cgroup.destroy(plan)
    assert not left, left
"""
    processes = []
    for worker in range(4):
        plans = [groups.plan(f"c{worker}-{i}", Resources(pids=5)) for i in range(60)]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", script, ROOT], stdin=subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write(marshal.dumps(plans))
        process.stdin.close()
        processes.append(process)
    assert [process.wait(timeout=60) for process in processes] == [0] * 4


def test_refused_program_tells_why(groups: Groups) -> None:
    if groups.hierarchies.v2 is None:
        pytest.skip("no v2 hierarchy")
    plan = groups.make(Resources())
    group = cgroup.open_v2(plan)
    bad = plan | {"device_program": b"\x95" + bytes(7)}  # an answer that was never set
    with pytest.raises(OSError, match=r"the verifier says: .*R0"):
        cgroup.filter_devices(bad, group)
    os.close(group)
    assert cgroup.destroy(plan) == []


def test_import_inside_is_cheap() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n"
        "import pycontainer.runtime._inside.cgroup\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, ROOT], capture_output=True, text=True, check=True
    )
    heavy = {"contextlib", "typing", "collections", "re", "enum", "functools", "socket", "json"}
    assert not heavy & set(done.stdout.split())
