"""From a runtime-spec document to the plan that the processes inside carry out."""

from __future__ import annotations

import marshal
from pathlib import Path

import pytest
from attrs import evolve

from pycontainer.errors import SpecError, UnsupportedFeature
from pycontainer.oci.runtime import Mount, Namespace, Resources, Rlimit, RuntimeSpec, User
from pycontainer.runtime import cgroups, default_process, default_spec, plan
from pycontainer.runtime.seccomp import Filter
from pycontainer.snapshots import RootfsPlan

ROOTFS = RootfsPlan(kind="overlay", lowers=("/layers/a",), upper="/c/upper", work="/c/work")


def compile_(spec: RuntimeSpec) -> dict[str, object]:
    return plan.compile_plan(
        spec, ROOTFS, Path("/c"), cgroup=cgroups.CgroupPlan(), seccomp=Filter(b"\0" * 8)
    )


def spec(**options: object) -> RuntimeSpec:
    return default_spec(default_process(["true"]), **options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "is_rootless", lambda: False)


def test_a_plan_is_plain_data() -> None:
    assert marshal.loads(marshal.dumps(compile_(spec()))) == compile_(spec())


def test_no_network_means_a_namespace_with_loopback() -> None:
    private, shared = compile_(spec()), compile_(spec(network="host"))
    assert private["loopback"]
    assert not shared["loopback"]
    assert private["namespaces"] != shared["namespaces"]


def test_mount_options_become_attributes_and_parameters() -> None:
    mounts = [
        Mount("/data", "bind", "/srv/data", ("rbind", "ro", "nosuid")),
        Mount("/scratch", "tmpfs", "tmpfs", ("size=1m", "nodev")),
    ]
    bind, tmpfs = compile_(spec(mounts=mounts))["mounts"][-2:]  # type: ignore[index]
    assert bind == {
        "kind": "bind",
        "source": "/srv/data",
        "target": "/data",
        "attributes": 0x1 | 0x2,
        "recursive_attributes": 0,
        "recursive": True,
        "propagation": 0,
        "subpath": "",
        "owner": "",
        "id_map": None,
    }
    assert tmpfs["attributes"] == 0x4
    assert ("size", "1m") in tmpfs["options"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"namespaces": (Namespace("space"),)}, "linux.namespaces"),
        ({"process": evolve(default_process(["a"]), env=("NOEQUALS",))}, "process.env"),
        (
            {"process": default_process(["a"], rlimits=[Rlimit("RLIMIT_NONE", 1, 1)])},
            "process.rlimits",
        ),
    ],
)
def test_what_does_not_exist_is_an_error_with_its_path(
    change: dict[str, object], path: str
) -> None:
    with pytest.raises(SpecError) as caught:
        compile_(evolve(spec(), **change))  # type: ignore[arg-type]
    assert caught.value.path == path


def test_an_ordinary_user_has_no_other_users_in_their_containers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "is_rootless", lambda: True)
    process = evolve(default_process(["a"]), user=User(1000, 1000))
    with pytest.raises(UnsupportedFeature, match="only one user, root") as caught:
        plan.compile_process(process, None)
    assert caught.value.remedy


def test_the_default_spec_survives_its_own_document() -> None:
    document = spec(hostname="box", resources=Resources(memory=1 << 26, pids=10))
    assert RuntimeSpec.parse(document.encode()) == document
