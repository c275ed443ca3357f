"""The runtime specification's rules, each test named after the clause that it holds us to.

The clauses are those of config.md and config-linux.md of the OCI runtime-spec 1.2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from busybox import busybox_image
from pycontainer import errors
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.oci.runtime import (
    Capabilities,
    Device,
    DeviceRule,
    Mount,
    Namespace,
    Resources,
    Rlimit,
    RuntimeSpec,
    User,
)
from pycontainer.runtime import default_process, default_spec, launch

pytestmark = pytest.mark.root

TMPFS = Mount("/m", "tmpfs", "tmpfs")

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with Store.open(tmp_path_factory.mktemp("spec") / "store") as store:
        yield busybox_image(store, tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def run(image: Image, tmp_path: Path) -> Run:
    """Run a script in a container made of Docker's default document, changed."""

    def run(script: str | Sequence[str], process: Any = None, **changes: Any) -> tuple[int, str]:
        args = ["sh", "-c", script] if isinstance(script, str) else script
        default = default_spec(default_process(args))
        spec = default.evolve(process=evolve(default.process, **(process or {})), **changes)
        directory = tmp_path / f"container-{os.urandom(4).hex()}"
        directory.mkdir()
        snapshot = image.prepare(directory)
        output, theirs = os.pipe()
        try:
            running = launch(
                RuntimeSpec.parse(spec.encode()),  # what is said in the document, and that alone
                snapshot.plan,
                directory,
                name=directory.name,
                stdout=theirs,
                stderr=theirs,
                timeout=30,
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(theirs)
        with running, os.fdopen(output) as text:
            return running.wait(30), text.read().strip()

    return run


def mounts_of(spec_mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    return (*default_spec(default_process(["true"])).mounts, *spec_mounts)


# --- config.md -------------------------------------------------------------------------------


def test_root_readonly_makes_the_root_read_only(run: Run) -> None:
    code, text = run("touch /file", root_readonly=True)
    assert code == 1
    assert "Read-only file system" in text
    assert run("touch /file") == (0, "")


def test_mounts_are_made_in_the_listed_order(run: Run) -> None:
    inner = Mount("/m/inner", "tmpfs", "second")
    script = "grep -o ' /m[^ ]*' /proc/self/mounts"
    assert run(script, mounts=mounts_of([TMPFS, inner]))[1].split() == ["/m", "/m/inner"]
    assert run(script, mounts=mounts_of([inner, TMPFS]))[1].split() == ["/m/inner", "/m"]
    assert run("ls /m", mounts=mounts_of([inner, TMPFS])) == (0, "")


def test_mounts_destination_may_be_relative_and_is_then_taken_from_the_root(run: Run) -> None:
    script = "grep -c ' /m ' /proc/self/mounts"
    assert run(script, mounts=mounts_of([evolve(TMPFS, destination="m")])) == (0, "1")


def test_mounts_options_are_honoured(run: Run) -> None:
    mount = evolve(TMPFS, options=("ro", "nosuid", "nodev", "noexec", "size=64k", "mode=0700"))
    code, text = run("stat -c %a /m; grep ' /m ' /proc/self/mounts", mounts=mounts_of([mount]))
    mode, line = text.splitlines()
    assert mode == "700"
    assert {"ro", "nosuid", "nodev", "noexec", "size=64k"} <= set(line.split()[3].split(","))
    assert code == 0


def test_mounts_options_bind_with_ro_and_propagation(run: Run, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("content")
    mount = Mount("/m", "none", str(tmp_path / "source"), ("rbind", "ro", "rslave"))
    code, text = run("cat /m/file; touch /m/new", mounts=mounts_of([mount]))
    assert code == 1
    assert text.startswith("content")
    assert "Read-only" in text
    assert not (tmp_path / "source/new").exists()


def test_mounts_options_unknown_is_an_error_or_data(run: Run) -> None:
    with pytest.raises(errors.Error):
        run("true", mounts=mounts_of([evolve(TMPFS, options=("no-such-option",))]))


def test_process_cwd_must_be_absolute(run: Run) -> None:
    with pytest.raises(errors.SpecError, match="cwd"):
        run("pwd", process={"cwd": "tmp"})
    assert run("pwd", process={"cwd": "/tmp"}) == (0, "/tmp")


def test_process_args_needs_at_least_one_entry(run: Run) -> None:
    with pytest.raises(errors.SpecError, match="args"):
        run([])


def test_process_env_has_the_semantics_of_execve(run: Run) -> None:
    environment = ("PATH=/bin", "A=b=c", "EMPTY=")
    code, text = run(["/bin/env"], process={"env": environment})
    assert (code, sorted(text.splitlines())) == (0, ["A=b=c", "EMPTY=", "PATH=/bin"])


def test_process_terminal_attaches_a_pseudoterminal_as_console(run: Run) -> None:
    assert run("test -t 1") == (1, "")


def test_process_rlimits_are_set(run: Run) -> None:
    limit = Rlimit("RLIMIT_NOFILE", soft=64, hard=65)
    assert run("ulimit -Sn; ulimit -Hn", process={"rlimits": (limit,)}) == (0, "64\n65")


def test_process_rlimits_unknown_type_is_an_error(run: Run) -> None:
    with pytest.raises(errors.SpecError, match="RLIMIT_NONE"):
        run("true", process={"rlimits": (Rlimit("RLIMIT_NONE", 1, 1),)})


def test_process_rlimits_duplicated_type_is_an_error(run: Run) -> None:
    limit = Rlimit("RLIMIT_NOFILE", soft=64, hard=64)
    with pytest.raises(errors.SpecError):
        run("true", process={"rlimits": (limit, limit)})


def test_process_user_uid_gid_and_additional_gids(run: Run) -> None:
    user = User(1000, 1001, additional_gids=(5, 6))
    assert run("id -u; id -g; id -G", process={"user": user}) == (0, "1000\n1001\n1001 5 6")


def test_process_user_umask_is_set_if_given(run: Run) -> None:
    assert run("umask", process={"user": User(umask=0o027)}) == (0, "0027")


def test_process_capabilities_are_the_five_sets(run: Run) -> None:
    wanted = Capabilities(*[("CAP_KILL", "CAP_CHOWN")] * 3)
    code, text = run("grep Cap /proc/self/status", process={"capabilities": wanted})
    bits = f"{1 << 0 | 1 << 5:016x}"
    found = dict(line.split(":\t") for line in text.splitlines())
    assert code == 0
    assert found == {
        "CapInh": "0" * 16,
        "CapPrm": bits,
        "CapEff": bits,
        "CapBnd": bits,
        "CapAmb": "0" * 16,
    }


def test_process_no_new_privileges_prevents_gaining_more(run: Run) -> None:
    script = "grep NoNewPrivs /proc/self/status"
    assert run(script, process={"no_new_privileges": True}) == (0, "NoNewPrivs:\t1")
    assert run(script) == (0, "NoNewPrivs:\t0")


def test_process_oom_score_adj_is_set_or_left_alone(run: Run) -> None:
    script = "cat /proc/self/oom_score_adj"
    assert run(script, process={"oom_score_adj": 500}) == (0, "500")
    assert run(script) == (0, Path("/proc/self/oom_score_adj").read_text().strip())


def test_hostname_and_domainname_are_seen_in_the_container(run: Run) -> None:
    script = "hostname; cat /proc/sys/kernel/domainname"
    assert run(script, hostname="box", domainname="example.test") == (0, "box\nexample.test")


def test_extensibility_unknown_members_are_ignored(run: Run) -> None:
    assert run("true", extra={"org.example.unknown": {"a": 1}}) == (0, "")


# --- config-linux.md -------------------------------------------------------------------------


def test_default_filesystems_are_there(run: Run) -> None:
    code, text = run("cat /proc/self/mounts")
    found = {tuple(line.split()[1:3]) for line in text.splitlines()}
    assert code == 0
    assert {
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
    } <= found


def test_default_devices_and_symlinks_are_there(run: Run) -> None:
    devices = "null zero full random urandom tty"
    assert run(f"cd /dev; for d in {devices}; do test -c $d || echo $d; done") == (0, "")
    links = "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done"
    assert run(links) == (
        0,
        "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx",
    )


def test_namespaces_without_a_path_are_new(run: Run) -> None:
    for kind, link in [("pid", "pid"), ("network", "net"), ("mount", "mnt"), ("uts", "uts")]:
        assert run(f"readlink /proc/self/ns/{link}")[1] != os.readlink(f"/proc/self/ns/{link}"), (
            kind
        )


def test_namespaces_left_out_are_inherited(run: Run) -> None:
    kinds = [Namespace(kind) for kind in ("pid", "ipc", "mount", "cgroup", "network")]
    script = "readlink /proc/self/ns/uts"
    assert run(script, namespaces=tuple(kinds), hostname="") == (
        0,
        os.readlink("/proc/self/ns/uts"),
    )


def test_namespaces_duplicated_type_is_an_error(run: Run) -> None:
    with pytest.raises(errors.SpecError, match="namespaces"):
        run("true", namespaces=(Namespace("mount"), Namespace("mount")))


def test_devices_are_made_as_listed(run: Run) -> None:
    device = Device("/dev/mine", "c", 1, 3, mode=0o640, uid=1, gid=2)
    allow = DeviceRule(True, "c", 1, 3, "rwm")
    default = default_spec(default_process(["true"]))
    code, text = run(
        "stat -c '%F %t %T %a %u %g' /dev/mine; echo x > /dev/mine",
        devices=(*default.devices, device),
        resources=evolve(default.resources, devices=(*default.resources.devices, allow)),
    )
    assert (code, text) == (0, "character special file 1 3 640 1 2")


def test_resources_devices_allow_and_deny_in_order(run: Run) -> None:
    rules = (
        DeviceRule(False, "a", access="rwm"),
        DeviceRule(True, "c", access="m"),
        DeviceRule(True, "c", 1, 5, "r"),
    )
    code, text = run(
        "head -c 1 /dev/zero | wc -c; cat /dev/null", resources=Resources(devices=rules)
    )
    assert code == 1
    assert text.startswith("1\n")
    assert "Operation not permitted" in text


def test_sysctl_is_set_in_the_namespace(run: Run) -> None:
    before = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    assert run(script, sysctl={"net.ipv4.ip_unprivileged_port_start": "7"}) == (0, "7")
    assert Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == before


def test_masked_paths_cannot_be_read(run: Run) -> None:
    code, text = run("cat /etc/passwd; ls /home", masked_paths=("/etc/passwd", "/home", "/none"))
    assert (code, text) == (0, "")


def test_readonly_paths_cannot_be_written(run: Run) -> None:
    code, text = run("echo x >> /etc/passwd", readonly_paths=("/etc", "/none"))
    assert code == 1
    assert "Read-only" in text


def test_seccomp_default_action_and_errno(run: Run) -> None:
    filter_ = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    }
    code, text = run("mkdir /new", seccomp=filter_)
    assert code == 1
    assert "No space left" in text
