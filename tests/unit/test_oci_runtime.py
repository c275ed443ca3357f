"""Runtime-spec documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycontainer.errors import SpecError
from pycontainer.oci.runtime import (
    Capabilities,
    Device,
    DeviceRule,
    IDMapping,
    Mount,
    Namespace,
    Process,
    Resources,
    Rlimit,
    RuntimeSpec,
    User,
)

FULL: dict[str, Any] = {
    "ociVersion": "1.1.0",
    "process": {
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4], "username": "x"},
        "args": ["sh", "-c", "true"],
        "env": ["A=b"],
        "cwd": "/srv",
        "capabilities": {
            "bounding": ["CAP_KILL"],
            "effective": [],
            "permitted": ["CAP_KILL"],
            "inheritable": [],
            "ambient": [],
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": (1 << 64) - 1, "soft": 1024}],
        "noNewPrivileges": True,
        "oomScoreAdj": -500,
        "apparmorProfile": "p",
    },
    "root": {"path": "tree", "readonly": True},
    "hostname": "h",
    "domainname": "d",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/a", "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}], "x": 1},
    ],
    "hooks": {"prestart": [{"path": "/bin/true"}]},
    "annotations": {"b": "2", "a": "1"},
    "linux": {
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "resources": {
            "devices": [
                {"allow": False, "type": "a", "access": "rwm"},
                {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
            ],
            "memory": {"limit": 1 << 20, "swap": -1, "swappiness": 0, "kernel": 1},
            "cpu": {
                "shares": 2,
                "quota": -1,
                "period": 100_000,
                "cpus": "0-1",
                "mems": "0",
                "idle": 1,
            },
            "pids": {"limit": 10},
            "blockIO": {"weight": 10, "leafWeight": 20},
            "hugepageLimits": [],
        },
        "cgroupsPath": "/x",
        "namespaces": [{"type": "pid"}, {"type": "network", "path": "/proc/1/ns/net"}],
        "devices": [
            {
                "path": "/dev/fuse",
                "type": "c",
                "major": 10,
                "minor": 229,
                "fileMode": 438,
                "uid": 0,
                "gid": 0,
            }
        ],
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
        "rootfsPropagation": "slave",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
    },
    "vm": {"kernel": {"path": "/k"}},
}


def spec(path: str = "", value: object = None, **changes: Any) -> bytes:
    """`FULL` with one member, reached by dots, put in place."""
    document = json.loads(json.dumps({**FULL, **changes}))
    if path:
        *parents, last = path.split(".")
        inner = document
        for name in parents:
            inner = inner[int(name)] if name.isdigit() else inner[name]
        inner[int(last) if last.isdigit() else last] = value
    return json.dumps(document).encode()


def test_a_document_survives_with_all_it_has() -> None:
    parsed = RuntimeSpec.parse(spec())
    assert json.loads(parsed.encode()) == FULL
    assert RuntimeSpec.parse(parsed.encode()) == parsed


def test_what_linux_containers_need_is_typed() -> None:
    parsed = RuntimeSpec.parse(spec())
    process = parsed.process
    assert process.user == User(1, 2, (3, 4), 0o22, extra={"username": "x"})
    assert process.capabilities == Capabilities(bounding=("CAP_KILL",), permitted=("CAP_KILL",))
    assert process.rlimits == (Rlimit("RLIMIT_NOFILE", 1024, (1 << 64) - 1),)
    assert (process.terminal, process.no_new_privileges, process.oom_score_adj) == (
        True,
        True,
        -500,
    )
    assert (parsed.root_path, parsed.root_readonly) == ("tree", True)
    assert parsed.mounts[1] == Mount("/a", uid_mappings=(IDMapping(0, 1, 2),), extra={"x": 1})
    assert parsed.namespaces == (Namespace("pid"), Namespace("network", "/proc/1/ns/net"))
    assert parsed.namespace_types() == {"pid"}
    assert parsed.devices == (Device("/dev/fuse", "c", 10, 229),)
    assert parsed.resources == Resources(
        memory=1 << 20,
        memory_swap=-1,
        cpu_quota=-1,
        cpu_period=100_000,
        cpu_shares=2,
        cpuset="0-1",
        pids=10,
        devices=(DeviceRule(allow=False), DeviceRule(True, "c", 1, 3, "rw")),
        swappiness=0,
        cpuset_mems="0",
        block_io_weight=10,
        memory_extra={"kernel": 1},
        cpu_extra={"idle": 1},
        block_io_extra={"leafWeight": 20},
        extra={"hugepageLimits": []},
    )
    assert parsed.linux_extra == {"rootfsPropagation": "slave"}
    assert parsed.extra == {"hooks": FULL["hooks"], "vm": FULL["vm"]}


def test_a_changed_copy_keeps_what_we_do_not_know() -> None:
    changed = RuntimeSpec.parse(spec()).evolve(hostname="other")
    assert json.loads(changed.encode()) == {**FULL, "hostname": "other"}


def test_little_is_enough() -> None:
    little = RuntimeSpec(Process(("true",)))
    assert RuntimeSpec.parse(little.encode()) == little
    parsed = RuntimeSpec.parse(b'{"ociVersion": "1.0.0", "process": {"args": ["a"], "cwd": "/"}}')
    assert parsed == little.evolve(process=Process(("a",)), version="1.0.0")


def test_minus_one_stands_for_any_device_number() -> None:
    rule = DeviceRule.from_json({"allow": True, "type": "c", "major": 5, "minor": -1})
    assert rule == DeviceRule(True, "c", 5, None)
    assert "minor" not in rule.to_json()


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("ociVersion", "2.0.0", "ociVersion: unknown version"),
        ("ociVersion", None, "ociVersion: missing"),
        ("process", None, "process: missing"),
        ("process.args", [], "process.args: a container needs a command"),
        ("process.args", ["a", 1], r"process.args\[1\]: expected a string"),
        ("process.cwd", "srv", "process.cwd: 'srv' is not absolute"),
        ("process.user.uid", -1, "process.user.uid: -1 is not in 0 to"),
        ("process.user.uid", 1 << 32, "process.user.uid: 4294967296 is not in"),
        ("process.user.umask", 0o1000, "process.user.umask: 512 is not in"),
        ("process.user.additionalGids", [True], r"additionalGids\[0\]: expected an integer"),
        ("process.oomScoreAdj", 1001, "process.oomScoreAdj: 1001 is not in"),
        ("process.rlimits.0.soft", None, r"process.rlimits\[0\].soft: missing"),
        ("process.rlimits.0.hard", -1, r"process.rlimits\[0\].hard: -1 is not in"),
        ("process.capabilities.bounding", "x", "process.capabilities.bounding: expected a list"),
        ("mounts.0.destination", None, r"mounts\[0\].destination: missing"),
        ("mounts.0.options", "ro", r"mounts\[0\].options: expected a list"),
        ("mounts.1.uidMappings.0.size", None, r"mounts\[1\].uidMappings\[0\].size: missing"),
        ("linux.namespaces.0.type", "disk", r"linux.namespaces\[0\].type: 'disk' is no kind"),
        ("linux.namespaces.0.type", "network", r"linux.namespaces\[1\]: 'network' is there twice"),
        ("linux.devices.0.type", "x", r"linux.devices\[0\].type: 'x' is none of"),
        ("linux.devices.0.minor", None, r"linux.devices\[0\].minor: missing"),
        ("linux.devices.0.fileMode", 0o10000, r"linux.devices\[0\].fileMode: 4096 is not in"),
        ("linux.resources.devices.0.allow", None, r"resources.devices\[0\].allow: missing"),
        ("linux.resources.devices.0.type", "p", r"resources.devices\[0\].type: 'p' is none of"),
        ("linux.resources.devices.0.access", "rwx", r"devices\[0\].access: 'rwx' is not made"),
        ("linux.resources.memory.limit", 1.5, "linux.resources.memory.limit: expected an integer"),
        ("linux.sysctl", {"a.b": 1}, r'linux.sysctl\["a.b"\]: expected a string'),
        ("linux.seccomp", [], "linux.seccomp: expected an object"),
    ],
)
def test_a_bad_document_is_refused_with_the_path(path: str, value: object, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        RuntimeSpec.parse(spec(path, value))


def test_a_limit_is_set_once() -> None:
    limits = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2
    with pytest.raises(SpecError, match=r"process.rlimits\[1\]: 'RLIMIT_CORE' is there twice"):
        RuntimeSpec.parse(spec("process.rlimits", limits))
