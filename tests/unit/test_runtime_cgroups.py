"""Planning control groups on recorded machines."""

from __future__ import annotations

import marshal
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from pycontainer.errors import SpecError, UnsupportedFeature
from pycontainer.oci.runtime import DeviceRule, Resources
from pycontainer.runtime import cgroups
from pycontainer.runtime._inside import cgroup
from pycontainer.runtime.cgroups import DEFAULT_DEVICE_RULES, Hierarchies, Hierarchy, Write

# A Debian 12 with systemd, seen from a shell in a graphical session.
V2 = """\
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
"""  # noqa: E501
V2_GROUP = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-term-77.scope\n"

# A CentOS 7.
V1 = """\
17 39 0:16 / /sys rw,nosuid,nodev,noexec,relatime shared:6 - sysfs sysfs rw
25 17 0:20 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:8 - tmpfs tmpfs ro,mode=755
26 25 0:21 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:9 - cgroup cgroup rw,xattr,release_agent=/usr/lib/systemd/systemd-cgroups-agent,name=systemd
29 25 0:24 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:10 - cgroup cgroup rw,memory
30 25 0:25 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,cpuacct,cpu
31 25 0:26 / /sys/fs/cgroup/net_cls,net_prio rw,nosuid,nodev,noexec,relatime shared:12 - cgroup cgroup rw,net_prio,net_cls
32 25 0:27 / /sys/fs/cgroup/devices rw,nosuid,nodev,noexec,relatime shared:13 - cgroup cgroup rw,devices
33 25 0:28 / /sys/fs/cgroup/pids rw,nosuid,nodev,noexec,relatime shared:14 - cgroup cgroup rw,pids
34 25 0:29 / /sys/fs/cgroup/freezer rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,freezer
35 25 0:30 / /sys/fs/cgroup/cpuset rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,cpuset,noprefix
"""  # noqa: E501
V1_GROUP = """\
11:memory:/user.slice
10:cpuset:/
9:freezer:/
8:pids:/user.slice
6:devices:/user.slice
5:net_prio,net_cls:/
3:cpuacct,cpu:/user.slice
1:name=systemd:/user.slice/user-0.slice/session-2.scope
"""

# Both, as a small virtual machine without systemd mounts them.
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
HYBRID_GROUP = """\
8:pids:/
6:freezer:/
5:devices:/
4:memory:/agent/94bc
2:cpuacct:/
1:cpu:/
0::/
"""

# Inside a Docker container of an old Docker, which shows the host's hierarchy from its own group on.
NESTED = """\
700 699 0:27 /docker/abc /sys/fs/cgroup/pids ro,nosuid,nodev,noexec,relatime master:14 - cgroup cgroup rw,pids
701 699 0:21 /docker/abc /sys/fs/cgroup/with\\040space ro,relatime master:9 - cgroup2 cgroup2 rw
"""
NESTED_GROUP = "4:pids:/docker/abc/inner\n0::/docker/abc\n"

ALL = Resources(
    memory=64 << 20,
    cpu_quota=50_000,
    cpu_shares=512,
    cpuset="0-1",
    pids=20,
    devices=DEFAULT_DEVICE_RULES,
)
Build = Callable[..., Hierarchies]


# --- what is mounted -------------------------------------------------------------------------


def test_pure_v2() -> None:
    found = Hierarchies.parse(V2, V2_GROUP, v2_controllers="cpuset cpu io memory pids\n")
    own = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/app-term-77.scope"
    assert found == Hierarchies(
        {}, Hierarchy("/sys/fs/cgroup", own), frozenset({"cpuset", "cpu", "io", "memory", "pids"})
    )
    assert found.v2 is not None
    ancestors = list(found.v2.ancestors())
    assert (ancestors[0], ancestors[1], ancestors[-1], len(ancestors)) == (
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/user.slice",
        own,
        6,
    )


def test_pure_v1() -> None:
    found = Hierarchies.parse(V1, V1_GROUP)
    assert found.v2 is None
    assert set(found.v1) == (
        {"memory", "cpu", "cpuacct", "net_cls", "net_prio", "devices", "pids", "freezer", "cpuset"}
    )
    assert found.v1["cpu"] is not None
    assert found.v1["cpu"] == found.v1["cpuacct"]
    assert found.v1["cpu"] == Hierarchy(
        "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/user.slice", ("cpuacct", "cpu")
    )


def test_hybrid() -> None:
    found = Hierarchies.parse(HYBRID, HYBRID_GROUP, v2_controllers="hugetlb")
    assert found.v2 == Hierarchy("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified")
    assert found.v2_controllers == {"hugetlb"}
    assert found.v1["memory"].own == "/sys/fs/cgroup/memory/agent/94bc"


def test_part_of_a_hierarchy() -> None:
    found = Hierarchies.parse(NESTED, NESTED_GROUP)
    assert found.v1["pids"].own == "/sys/fs/cgroup/pids/inner"
    assert found.v2 == Hierarchy("/sys/fs/cgroup/with space", "/sys/fs/cgroup/with space")
    elsewhere = Hierarchies.parse(NESTED, "4:pids:/docker/abcd\n0::/../../other\n")
    assert elsewhere.v1["pids"].own == "/sys/fs/cgroup/pids"


def test_no_control_groups_at_all() -> None:
    assert Hierarchies.parse("28 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "") == Hierarchies()
    assert cgroups.plan(
        "c", Resources(devices=DEFAULT_DEVICE_RULES), hierarchies=Hierarchies()
    ) == (cgroups.CgroupPlan())


def test_this_machine() -> None:
    found = cgroups.discover()
    for hierarchy in (*found.v1.values(), *([found.v2] if found.v2 else [])):
        assert os.path.isdir(hierarchy.own)


# --- planning, on trees that look like a machine's -------------------------------------------


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Lay a recorded machine's hierarchies out as directories, of which some may be written to."""

    def build(
        mountinfo: str,
        groups: str,
        *,
        controllers: str = "cpuset cpu io memory pids",
        enabled: str = "",
        writable: tuple[str, ...] | None = None,
        occupied: tuple[str, ...] = (),
        privileged: bool = True,
    ) -> Hierarchies:
        text = mountinfo.replace("/sys/fs/cgroup", f"{tmp_path}/cgroup")
        found = Hierarchies.parse(text, groups, v2_controllers=controllers, privileged=privileged)
        for hierarchy in (*found.v1.values(), *([found.v2] if found.v2 else [])):
            for directory in map(Path, hierarchy.ancestors()):
                directory.mkdir(parents=True, exist_ok=True)
                inner = str(directory) != hierarchy.mount_point
                name = str(directory).removeprefix(f"{tmp_path}/cgroup")
                (directory / "cgroup.procs").write_text("1\n" if name in occupied else "")
                if hierarchy is found.v2:
                    (directory / "cgroup.controllers").write_text(controllers)
                    (directory / "cgroup.subtree_control").write_text(enabled)
                    if inner:
                        (directory / "cgroup.type").write_text("domain\n")
                else:
                    (directory / "cpuset.cpus").write_text("0-3\n")
                    (directory / "cpuset.mems").write_text("0\n")

        def access(path: str, mode: int, **_: object) -> bool:
            if writable is None:
                return True
            name = path.removeprefix(f"{tmp_path}/cgroup").removesuffix("/cgroup.procs")
            return any(name == at or name.startswith(f"{at}/") for at in writable)

        monkeypatch.setattr(os, "access", access)
        return found

    return build


def relative(plan: cgroups.CgroupPlan, top: Path) -> cgroups.CgroupPlan:
    """The plan with paths as they would be on the machine."""

    def cut(path: str) -> str:
        return path.replace(f"{top}/cgroup", "")

    return evolve(
        plan,
        parents=tuple(map(cut, plan.parents)),
        directories=tuple(map(cut, plan.directories)),
        join=tuple(map(cut, plan.join)),
        writes=tuple(evolve(write, path=cut(write.path)) for write in plan.writes),
        v2=cut(plan.v2),
        freezer=cut(plan.freezer),
        oom=cut(plan.oom),
    )


def test_plan_on_v2_as_root(build: Build, tmp_path: Path) -> None:
    plan = relative(cgroups.plan("c1", ALL, hierarchies=build(V2, V2_GROUP)), tmp_path)
    assert plan.parents == ("/pycontainer",)
    assert plan.directories == ("/pycontainer/c1",)
    assert plan.v2 == plan.freezer == "/pycontainer/c1"
    assert plan.oom == "/pycontainer/c1/memory.events"
    assert plan.join == ()
    assert plan.device_program
    assert plan.mounts == (("", "cgroup2", ()),)
    assert plan.writes == (
        Write("/cgroup.subtree_control", "+memory +cpu +cpuset +pids"),
        Write("/pycontainer/cgroup.subtree_control", "+memory +cpu +cpuset +pids"),
        Write("/pycontainer/c1/memory.max", "67108864"),
        Write("/pycontainer/c1/memory.swap.max", "67108864", required=False),
        Write("/pycontainer/c1/cpu.max", "50000 100000"),
        Write("/pycontainer/c1/cpu.weight", "59"),
        Write("/pycontainer/c1/cpuset.cpus", "0-1"),
        Write("/pycontainer/c1/pids.max", "20"),
    )


def test_plan_on_v2_enables_only_what_is_missing(build: Build, tmp_path: Path) -> None:
    machine = build(V2, V2_GROUP, enabled="cpu memory")
    plan = relative(cgroups.plan("c1", Resources(memory=1 << 20), hierarchies=machine), tmp_path)
    assert plan.writes[0] == Write("/pycontainer/cgroup.subtree_control", "+memory")
    plan = relative(
        cgroups.plan("c1", Resources(memory=1 << 20, pids=5), hierarchies=machine), tmp_path
    )
    assert plan.writes[0] == Write("/cgroup.subtree_control", "+pids")


def test_plan_without_limits_on_v2(build: Build, tmp_path: Path) -> None:
    plan = relative(cgroups.plan("c1", Resources(), hierarchies=build(V2, V2_GROUP)), tmp_path)
    assert plan.directories == ("/pycontainer/c1",)
    assert (plan.writes, plan.device_program, plan.oom) == ((), b"", "")


USER = "/user.slice/user-1000.slice/user@1000.service"


def test_plan_on_v2_as_an_ordinary_user_in_a_delegated_group(build: Build, tmp_path: Path) -> None:
    machine = build(
        V2, V2_GROUP, controllers="memory pids", enabled="memory pids", writable=(USER,),
        privileged=False,
    )  # fmt: skip
    limits = Resources(memory=1 << 20, devices=DEFAULT_DEVICE_RULES)
    plan = relative(cgroups.plan("c1", limits, hierarchies=machine), tmp_path)
    assert plan.directories == (f"{USER}/pycontainer/c1",)
    assert plan.writes[0] == Write(f"{USER}/pycontainer/cgroup.subtree_control", "+memory")
    assert plan.device_program == b""
    with pytest.raises(UnsupportedFeature, match="cpu is mounted") as caught:
        cgroups.plan("c1", Resources(cpu_quota=1000), hierarchies=machine)
    assert caught.value.feature == "a CPU limit"


def test_plan_where_a_controller_is_not_delegated(build: Build) -> None:
    machine = build(V2, V2_GROUP, writable=(USER,), privileged=False)
    assert machine.v2 is not None
    base = Path(next(d for d in machine.v2.ancestors() if d.endswith(USER)))
    (base / "cgroup.controllers").write_text("memory pids")
    with pytest.raises(UnsupportedFeature, match=r"cpu is not delegated to .*user@1000") as caught:
        cgroups.plan("c1", Resources(cpu_quota=1000), hierarchies=machine)
    assert "Delegate=cpu" in str(caught.value.remedy)


def test_plan_as_an_ordinary_user_without_delegation(build: Build) -> None:
    session = "0::/user.slice/user-1000.slice/session-3.scope\n"
    machine = build(V2, session, writable=(), privileged=False)
    plan = cgroups.plan("c1", Resources(devices=DEFAULT_DEVICE_RULES), hierarchies=machine)
    assert plan.to_wire() == {}
    assert plan.mounts == (("", "cgroup2", ()),)
    with pytest.raises(UnsupportedFeature, match=r"session-3\.scope nor one above") as caught:
        cgroups.plan("c1", Resources(pids=3), hierarchies=machine)
    assert caught.value.feature == "a limit of processes"
    assert "systemd-run --user --scope" in str(caught.value.remedy)


def test_plan_in_a_group_that_has_processes(build: Build, tmp_path: Path) -> None:
    service = "/system.slice/our.service"
    options = {"writable": (service,), "occupied": (service,)}
    machine = build(V2, f"0::{service}\n", **options)
    plan = relative(cgroups.plan("c1", Resources(), hierarchies=machine), tmp_path)
    assert plan.v2 == f"{service}/pycontainer/c1"
    with pytest.raises(UnsupportedFeature, match="no internal processes"):
        cgroups.plan("c1", Resources(pids=3), hierarchies=machine)
    ready = build(V2, f"0::{service}\n", enabled="pids", **options)
    assert cgroups.plan("c1", Resources(pids=3), hierarchies=ready).writes


def test_the_root_group_may_have_processes(build: Build) -> None:
    machine = build(V2, "0::/\n", occupied=("",))
    assert cgroups.plan("c1", Resources(pids=3), hierarchies=machine).writes


def test_plan_on_v1(build: Build, tmp_path: Path) -> None:
    plan = relative(cgroups.plan("c1", ALL, hierarchies=build(V1, V1_GROUP)), tmp_path)
    controllers = ("memory", "cpu,cpuacct", "cpuset", "pids", "freezer", "devices")
    assert plan.directories == tuple(f"/{name}/pycontainer/c1" for name in controllers)
    assert plan.parents == tuple(f"/{name}/pycontainer" for name in controllers)
    assert plan.join == plan.directories
    assert (plan.v2, plan.device_program) == ("", b"")
    assert plan.freezer == "/freezer/pycontainer/c1"
    assert plan.oom == "/memory/pycontainer/c1/memory.oom_control"
    memory = "/memory/pycontainer/c1/memory"
    cpu, cpuset = "/cpu,cpuacct/pycontainer/c1/cpu", "/cpuset/pycontainer"
    assert plan.writes[:10] == (
        Write(f"{memory}.limit_in_bytes", "67108864"),
        Write(f"{memory}.memsw.limit_in_bytes", "134217728", required=False),
        Write(f"{cpu}.cfs_period_us", "100000"),
        Write(f"{cpu}.cfs_quota_us", "50000"),
        Write(f"{cpu}.shares", "512"),
        Write(f"{cpuset}/cpuset.cpus", "0-3"),
        Write(f"{cpuset}/c1/cpuset.cpus", "0-3"),
        Write(f"{cpuset}/cpuset.mems", "0"),
        Write(f"{cpuset}/c1/cpuset.mems", "0"),
        Write(f"{cpuset}/c1/cpuset.cpus", "0-1"),
    )
    assert plan.writes[11:13] == (
        Write("/devices/pycontainer/c1/devices.deny", "a"),
        Write("/devices/pycontainer/c1/devices.allow", "c *:* m"),
    )
    assert ("cpu,cpuacct", "cgroup", ("cpuacct", "cpu")) in plan.mounts


def test_plan_on_v1_without_limits(build: Build, tmp_path: Path) -> None:
    plan = relative(cgroups.plan("c1", Resources(), hierarchies=build(V1, V1_GROUP)), tmp_path)
    assert plan.directories == plan.join == ("/freezer/pycontainer/c1",)


def test_plan_on_hybrid(build: Build, tmp_path: Path) -> None:
    machine = build(HYBRID, HYBRID_GROUP, controllers="hugetlb")
    limits = Resources(memory=1 << 20, pids=5, devices=DEFAULT_DEVICE_RULES)
    plan = relative(cgroups.plan("c1", limits, hierarchies=machine), tmp_path)
    assert plan.v2 == plan.freezer == "/unified/pycontainer/c1"
    assert plan.directories == (plan.v2, "/memory/pycontainer/c1", "/pids/pycontainer/c1")
    assert plan.join == plan.directories[1:]
    assert plan.device_program
    assert not any("devices" in write.path for write in plan.writes)
    assert plan.mounts == (
        ("unified", "cgroup2", ()),
        ("memory", "cgroup", ("memory",)),
        ("pids", "cgroup", ("pids",)),
    )
    with pytest.raises(UnsupportedFeature, match="controller cpuset is mounted"):
        cgroups.plan("c1", Resources(cpuset="0"), hierarchies=machine)


def test_plan_on_hybrid_as_an_ordinary_user(build: Build) -> None:
    machine = build(HYBRID, HYBRID_GROUP, writable=(), privileged=False)
    assert cgroups.plan("c1", Resources(), hierarchies=machine) == cgroups.CgroupPlan()
    with pytest.raises(UnsupportedFeature, match="agent/94bc nor one above"):
        cgroups.plan("c1", Resources(memory=1 << 20), hierarchies=machine)


def test_parent_of_several_levels(build: Build, tmp_path: Path) -> None:
    machine = build(V2, "0::/\n")
    plan = relative(
        cgroups.plan("c1", Resources(pids=3), hierarchies=machine, parent="/a/b/"), tmp_path
    )
    assert plan.parents == ("/a", "/a/b")
    assert plan.directories == ("/a/b/c1",)
    enabled = [write.path for write in plan.writes if write.path.endswith("subtree_control")]
    assert [os.path.dirname(path) for path in enabled] == ["/", "/a", "/a/b"]


def test_wire_is_plain(build: Build) -> None:
    wire = cgroups.plan("c1", ALL, hierarchies=build(V2, V2_GROUP)).to_wire()
    assert marshal.loads(marshal.dumps(wire)) == wire


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_impossible_names(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        cgroups.plan(name, Resources(), hierarchies=Hierarchies())


# --- limits ----------------------------------------------------------------------------------


def written(build: Build, resources: Resources, mountinfo: str = V2) -> dict[str, tuple[str, bool]]:
    groups = V1_GROUP if mountinfo is V1 else "0::/\n"
    machine = build(mountinfo, groups, enabled="memory cpu cpuset pids")
    plan = cgroups.plan("c1", resources, hierarchies=machine)
    return {
        os.path.basename(write.path): (write.data, write.required)
        for write in plan.writes
        if "subtree" not in write.path
    }


def test_memory_and_swap(build: Build) -> None:
    assert written(build, Resources(memory=100, memory_swap=150)) == {
        "memory.max": ("100", True),
        "memory.swap.max": ("50", True),
    }
    assert written(build, Resources(memory=100, memory_swap=100))["memory.swap.max"] == ("0", True)
    assert written(build, Resources(memory=100, memory_swap=-1)) == {
        "memory.max": ("100", True),
        "memory.swap.max": ("max", False),
    }
    assert written(build, Resources(memory=100, memory_swap=-1), V1) == {
        "memory.limit_in_bytes": ("100", True),
        "memory.memsw.limit_in_bytes": ("-1", False),
    }


@pytest.mark.parametrize(
    "limits", [Resources(memory=100, memory_swap=50), Resources(memory_swap=9)]
)
def test_contradictory_memory(limits: Resources) -> None:
    with pytest.raises(SpecError) as caught:
        cgroups.plan("c1", limits, hierarchies=Hierarchies())
    assert caught.value.path == "linux.resources.memory.swap"


def test_unlimited_is_no_limit(build: Build) -> None:
    unlimited = Resources(memory=-1, memory_swap=-1, pids=-1, cpu_quota=-1, cpu_shares=0)
    assert written(build, unlimited) == {}
    assert written(build, Resources(pids=0)) == {}


@pytest.mark.parametrize(("shares", "weight"), [(1, 1), (2, 1), (1024, 100), (262144, 10000)])
def test_shares_become_weights(build: Build, shares: int, weight: int) -> None:
    assert written(build, Resources(cpu_shares=shares)) == {"cpu.weight": (str(weight), True)}


def test_quota_with_its_period(build: Build) -> None:
    limits = Resources(cpu_quota=20_000, cpu_period=50_000)
    assert written(build, limits) == {"cpu.max": ("20000 50000", True)}
    assert written(build, limits, V1) == {
        "cpu.cfs_period_us": ("50000", True),
        "cpu.cfs_quota_us": ("20000", True),
    }


def test_bad_device_rules_are_found_early(build: Build) -> None:
    rules = (DeviceRule(allow=True, type="x"),)
    for mountinfo, groups in ((V2, V2_GROUP), (V1, V1_GROUP)):
        with pytest.raises(SpecError, match="type of device rules"):
            cgroups.plan("c1", Resources(devices=rules), hierarchies=build(mountinfo, groups))


# --- execution, on plain directories ---------------------------------------------------------


def wire(top: Path, **changes: object) -> dict[str, object]:
    group = str(top / "pycontainer" / "c1")
    return {
        "parents": [str(top / "pycontainer")],
        "directories": [group],
        "writes": [],
        "v2": "",
        "join": [],
        "freezer": "",
        "oom": "",
        "device_program": b"",
    } | changes


def test_empty_plan_does_nothing() -> None:
    cgroup.create({})
    cgroup.join({})
    cgroup.kill({})
    assert cgroup.open_v2({}) == -1
    assert cgroup.oom_killed({}) is False
    assert cgroup.destroy({}) == []
    with pytest.raises(OSError, match="no control group"):
        cgroup.freeze({})


def test_create_and_destroy(tmp_path: Path) -> None:
    plan = wire(tmp_path)
    cgroup.create(plan)
    assert os.path.isdir(tmp_path / "pycontainer" / "c1")
    (tmp_path / "pycontainer" / "c1" / "system.slice" / "made.service").mkdir(parents=True)
    (tmp_path / "pycontainer" / "c2").mkdir()
    assert cgroup.destroy(plan) == []
    assert os.listdir(tmp_path / "pycontainer") == ["c2"]
    assert cgroup.destroy(plan) == []
    (tmp_path / "pycontainer" / "c2").rmdir()
    cgroup.destroy(plan)
    assert os.listdir(tmp_path) == []


def test_create_undoes_what_it_made(tmp_path: Path) -> None:
    missing = str(tmp_path / "pycontainer" / "c1" / "memory.max")
    plan = wire(tmp_path, writes=[[missing, "5", False], [missing, "5", True]])
    with pytest.raises(FileNotFoundError) as caught:
        cgroup.create(plan)
    assert caught.value.filename == missing
    assert os.listdir(tmp_path) == []


def test_what_is_busy_is_reported(tmp_path: Path) -> None:
    plan = wire(tmp_path)
    cgroup.create(plan)
    group = tmp_path / "pycontainer" / "c1"
    (group / "file").write_text(
        "a plain directory with a file is as busy as a group with a process"
    )
    assert cgroup.destroy(plan, timeout=0.05) == [str(group)]


def test_out_of_memory_in_both_notations(tmp_path: Path) -> None:
    events = tmp_path / "events"
    for text, killed in (
        ("low 0\nhigh 0\nmax 4\noom 2\noom_kill 2\noom_group_kill 0\n", True),
        ("low 0\nhigh 0\nmax 4\noom 0\noom_kill 0\n", False),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", True),
        ("oom_kill_disable 0\nunder_oom 0\n", False),
    ):
        events.write_text(text)
        assert cgroup.oom_killed(wire(tmp_path, oom=str(events))) is killed
    events.unlink()
    assert cgroup.oom_killed(wire(tmp_path, oom=str(events))) is False
