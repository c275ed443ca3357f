"""Rights, devices, names and limits of containers, on a real kernel."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from busybox import busybox_image
from pycontainer import errors
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.runtime import cgroups

pytestmark = [pytest.mark.root, pytest.mark.runtimes]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("security") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


def sh(image: Image, script: str, **options: object) -> pc.Completed:
    return pc.run(image, ["sh", "-c", script], store=image.store, timeout=30, **options)  # type: ignore[arg-type]


def secured(image: Image, script: str, **security: object) -> pc.Completed:
    return sh(image, script, security=pc.Security(**security))  # type: ignore[arg-type]


# --- the filter ------------------------------------------------------------------------------

FILTERED = "grep -E '^Seccomp:' /proc/self/status | tr -dc 0-9"
NO_DIRECTORIES = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
    ],
}


def test_the_default_is_a_filter(image: Image) -> None:
    assert sh(image, FILTERED).text == "2"


def test_unconfined_is_none(image: Image) -> None:
    assert secured(image, FILTERED, seccomp="unconfined").text == "0"


@pytest.mark.parametrize("as_file", [True, False])
def test_a_profile_of_ones_own(image: Image, tmp_path: Path, as_file: bool) -> None:
    profile: object = NO_DIRECTORIES
    if as_file:
        profile = tmp_path / "profile.json"
        profile.write_text(json.dumps(NO_DIRECTORIES))
    result = secured(image, "mkdir /tmp/a; unshare -u true && echo unshared", seccomp=profile)
    assert b"not supported" in result.stderr
    assert secured(image, "mkdir /tmp/a", seccomp="unconfined").exit_code == 0


@pytest.mark.embedded("runc knows no such flag")
def test_the_flags_of_a_profile_are_installed(image: Image) -> None:
    # Without SPEC_ALLOW the kernel turns speculation off for filtered processes where it mitigates
    # on demand; elsewhere both read alike, so at least the flagged filter must install.
    profile = {**NO_DIRECTORIES, "flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}
    assert secured(image, FILTERED, seccomp=profile).text == "2"
    with pytest.raises(errors.SpecError, match="flag NONE"):
        secured(image, "true", seccomp={**NO_DIRECTORIES, "flags": ["NONE"]})


def test_another_command_is_under_the_same_filter(image: Image) -> None:
    security = pc.Security(seccomp=NO_DIRECTORIES)
    with pc.Container.start(image, ["sleep", "60"], store=image.store, security=security) as it:
        assert b"not supported" in it.exec(["mkdir", "/tmp/a"]).stderr
        assert it.inspect().spec.seccomp == NO_DIRECTORIES


@pytest.mark.parametrize(
    ("profile", "error", "match"),
    [
        ("/no/such/file", errors.ContainerError, "cannot read"),
        ({"defaultAction": "SCMP_ACT_SLEEP"}, errors.SpecError, "SCMP_ACT_SLEEP"),
    ],
)
def test_what_is_no_profile_is_refused(
    image: Image, profile: object, error: type[errors.Error], match: str
) -> None:
    with pytest.raises(error, match=match):
        secured(image, "true", seccomp=profile)


def test_a_file_that_is_not_json_is_refused(image: Image, tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("allow all")
    with pytest.raises(errors.SpecError, match="not JSON"):
        secured(image, "true", seccomp=tmp_path / "profile")


@pytest.mark.parametrize("module", ["apparmor", "selinux"])
def test_security_modules_that_the_kernel_lacks_are_named(image: Image, module: str) -> None:
    there = {"apparmor": "/sys/module/apparmor", "selinux": "/sys/fs/selinux/enforce"}[module]
    if os.path.exists(there):
        pytest.skip("this kernel has it")
    with pytest.raises(errors.UnsupportedFeature, match=f"(?i)without {module}"):
        secured(image, "true", **{module: "some"})


# --- privileged, groups, devices -------------------------------------------------------------


def test_privileged_has_what_the_program_has(image: Image) -> None:
    script = """
        grep CapEff /proc/self/status | cut -f2; echo 0 > /proc/sys/kernel/msgmni; echo $?
        test -w /proc/sysrq-trigger && head -c1 /proc/kcore | wc -c; mkdir /sys/fs/cgroup/*/own
        mount -t tmpfs none /tmp && mount | grep -c ' /sys/fs/cgroup/unified .*rw'; ls /dev"""
    result = secured(image, script, privileged=True)
    capabilities, written, *rest = result.text.split("\n")
    own = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
    assert capabilities == own
    assert written == "0"
    expected = [name for name in os.listdir("/dev") if _is_node(f"/dev/{name}")]
    assert set(expected) <= set(rest)
    assert secured(image, FILTERED, privileged=True).text == "0"
    assert secured(image, FILTERED, privileged=True, seccomp=NO_DIRECTORIES).text == "2"


def _is_node(path: str) -> bool:
    if os.path.basename(path) in ("console", "ptmx"):
        return False
    mode = os.lstat(path).st_mode
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def test_further_groups_by_name_and_number(image: Image) -> None:
    security = pc.Security(groups=["extra", "77"])
    result = sh(image, "id -G", user="1000:1000", security=security)
    assert result.text.split() == ["1000", "77", "2000"]
    with pytest.raises(errors.UnknownUser, match="nobody-knows"):
        secured(image, "id", groups=["nobody-knows"])


def test_a_device_is_made_and_allowed(image: Image) -> None:
    read = "head -c 1 /dev/loop-control 2>&1; ls -l /dev/loop-control"
    assert b"No such file" in sh(image, read).stdout
    script = "ls -l /dev/own/null; head -c 5 /dev/own/null | wc -c"
    result = secured(image, script, devices=[pc.Device("/dev/null", "/dev/own/null", "rw")])
    assert "1,   3" in result.text
    node = "mknod /tmp/full c 1 7; mknod /dev/own c 10 237; cat /dev/own 2>&1"
    assert b"Operation not permitted" in sh(image, node).stdout
    # The device filter lets it pass; what the driver then says is another thing.
    allowed = secured(image, node, device_rules=["c 10:237 r"])
    assert b"Operation not permitted" not in allowed.stdout


def test_a_directory_of_devices_and_a_place_in_the_image(image: Image) -> None:
    if os.path.isdir("/dev/net"):
        assert secured(image, "ls /dev/net", devices=["/dev/net"]).text.split() == ["tun"]
    placed = secured(image, "ls -l /opt/a/zero", devices=[pc.Device("/dev/zero", "/opt/a/zero")])
    assert "1,   5" in placed.text


@pytest.mark.parametrize(
    ("security", "match"),
    [
        ({"devices": ["/dev/no-such"]}, "no device"),
        ({"devices": ["/etc/passwd"]}, "no device"),
        ({"devices": [pc.Device("/dev/null", "here")]}, "absolute"),
        ({"devices": [pc.Device("/dev/null", "/dev/../x")]}, "absolute"),
        ({"devices": [pc.Device("/dev/null", access="rx")]}, "'rx'"),
        ({"device_rules": ["c 1:3"]}, "'c 1:3'"),
        ({"device_rules": ["d 1:3 r"]}, "'d 1:3 r'"),
    ],
)
def test_what_is_no_device_is_refused(
    image: Image, security: dict[str, object], match: str
) -> None:
    with pytest.raises(errors.ContainerError, match=match):
        secured(image, "true", **security)


# --- names -----------------------------------------------------------------------------------


def test_names_of_hosts_domains_and_servers(image: Image) -> None:
    names = pc.Names(
        domainname="example.org",
        extra_hosts={"db": "10.0.0.5", "v6": "fd00::5"},
        dns=["9.9.9.9", "fd00::53"],
        dns_search=["a.example", "b.example"],
        dns_options=["ndots:2", "rotate"],
    )
    script = (
        "cat /proc/sys/kernel/domainname; hostname -f; grep -v '#' /etc/hosts; cat /etc/resolv.conf"
    )
    lines = sh(image, script, names=names, hostname="web").text.splitlines()
    assert lines[:2] == ["example.org", "web.example.org"]
    assert {"127.0.0.1\tweb.example.org web", "10.0.0.5\tdb", "fd00::5\tv6"} <= set(lines)
    assert lines[-4:] == [
        "nameserver 9.9.9.9",
        "nameserver fd00::53",
        "search a.example b.example",
        "options ndots:2 rotate",
    ]


def test_what_is_given_replaces_the_hosts_and_no_more(image: Image) -> None:
    host = Path("/etc/resolv.conf").read_text().splitlines()
    kept = [line for line in host if line.startswith("nameserver")]
    names = pc.Names(dns_search=["."], dns_options=["ndots:1"])
    text = sh(image, "cat /etc/resolv.conf", names=names, network="host").text
    assert text.splitlines() == [*kept, "options ndots:1"]


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ({"domainname": "a b"}, "domainname"),
        ({"domainname": "d" * 65}, "at most 64"),
        ({"extra_hosts": {"a b": "10.0.0.1"}}, "'a b'"),
        ({"extra_hosts": {"a\n10.0.0.2 b": "10.0.0.1"}}, "no name"),
        ({"extra_hosts": {"a": "10.0.0"}}, "'10.0.0'"),
        ({"dns": ["resolver"]}, "'resolver'"),
        ({"dns_search": ["a b"]}, "'a b'"),
        ({"dns_options": ["ndots: 2"]}, "'ndots: 2'"),
    ],
)
def test_what_is_no_name_is_refused(image: Image, names: dict[str, object], match: str) -> None:
    with pytest.raises(errors.ContainerError, match=match):
        sh(image, "true", names=pc.Names(**names))  # type: ignore[arg-type]
    with pytest.raises(errors.ContainerError, match="hostname"):
        sh(image, "true", hostname="a b")


# --- limits ----------------------------------------------------------------------------------


def limited(image: Image, **limits: object) -> pc.Container:
    return pc.Container.start(
        image,
        ["sleep", "60"],
        memory=64 << 20,
        limits=pc.Limits(**limits),  # type: ignore[arg-type]
        store=image.store,
    )


def setting(container: pc.Container, controller: str, name: str) -> str:
    """A file of the container's control group, wherever its controller is."""
    for line in Path(f"/proc/{container.pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == controller or (not controllers and controller == "unified"):
            return Path(f"/sys/fs/cgroup/{controller}{path}/{name}").read_text().strip()
    raise AssertionError(f"{controller} is not there")


needs_v1 = pytest.mark.skipif(
    not {"memory", "cpu", "cpuset", "blkio"} <= set(cgroups.discover().v1),
    reason="looks at the files of control groups v1",
)


@needs_v1
def test_limits_arrive_in_the_control_groups(image: Image) -> None:
    with limited(
        image,
        memory_reservation=32 << 20,
        memory_swap=-1,
        swappiness=7,
        oom_kill_disable=True,
        cpu_quota=20_000,
        cpu_period=50_000,
        cpu_shares=512,
        cpuset="0",
        cpuset_mems="0",
        io_weight=200,
        cgroup_parent="/pycontainer-jobs/nightly",
    ) as it:
        found = {
            name: setting(it, name.split(".")[0], name)
            for name in (
                "memory.limit_in_bytes",
                "memory.soft_limit_in_bytes",
                "memory.swappiness",
                "cpu.cfs_quota_us",
                "cpu.cfs_period_us",
                "cpu.shares",
                "cpuset.cpus",
                "cpuset.mems",
                "blkio.bfq.weight",
            )
        }
        assert found == {
            "memory.limit_in_bytes": str(64 << 20),
            "memory.soft_limit_in_bytes": str(32 << 20),
            "memory.swappiness": "7",
            "cpu.cfs_quota_us": "20000",
            "cpu.cfs_period_us": "50000",
            "cpu.shares": "512",
            "cpuset.cpus": "0",
            "cpuset.mems": "0",
            "blkio.bfq.weight": "200",
        }
        assert "oom_kill_disable 1" in setting(it, "memory", "memory.oom_control")
        assert int(setting(it, "memory", "memory.memsw.limit_in_bytes")) > 1 << 60
        groups = Path(f"/proc/{it.pid}/cgroup").read_text()
        assert f":memory:/pycontainer-jobs/nightly/{it.id}\n" in groups
    assert not Path("/sys/fs/cgroup/memory/pycontainer-jobs").exists()


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ({"swappiness": 101}, "swappiness=101"),
        ({"cpu_shares": 1}, "cpu_shares=1"),
        ({"cpu_period": 10}, "cpu_period=10"),
        ({"io_weight": 5}, "io_weight=5"),
        ({"oom_score_adj": 2000}, "oom_score_adj"),
        ({"shm_size": 0}, "shm_size=0"),
        ({"memory_reservation": 65 << 20}, "above memory"),
        ({"memory_swap": 1 << 20}, "below that of memory"),
        ({"cgroup_parent": "/a/../b"}, "cgroup_parent"),
        ({"cgroup_parent": "/"}, "cgroup_parent"),
    ],
)
def test_impossible_limits_are_refused(image: Image, limits: dict[str, object], match: str) -> None:
    with pytest.raises(errors.Error, match=match):
        limited(image, **limits).close()
    with pytest.raises(errors.ContainerError, match="both cpus and cpu_quota"):
        sh(image, "true", cpus=1.0, limits=pc.Limits(cpu_quota=1000))
