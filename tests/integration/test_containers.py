"""Containers as a program uses them, as root on a real kernel."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pycontainer as pc
from busybox import busybox_image, busybox_tree
from pycontainer import errors
from pycontainer.content import Store
from pycontainer.images import Image

pytestmark = [pytest.mark.root, pytest.mark.runtimes]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("containers") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


def sh(image: Image, script: str, **options: object) -> pc.Completed:
    return pc.run(image, ["sh", "-c", script], store=image.store, timeout=30, **options)  # type: ignore[arg-type]


# --- run -------------------------------------------------------------------------------------


def test_run_returns_output_and_exit_code(image: Image) -> None:
    result = sh(image, "echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 3)
    assert result.args == ("sh", "-c", "echo out; echo err >&2; exit 3")


def test_run_leaves_nothing(image: Image) -> None:
    sh(image, "echo something > /file")
    assert list(image.store.directory("containers").iterdir()) == []
    with image.store.db.transaction(write=False) as connection:
        rows = connection.execute("SELECT count(*) FROM root WHERE kind = 'container'").fetchone()
    assert rows == (0,)


def test_check_raises_with_the_output(image: Image) -> None:
    with pytest.raises(errors.ProcessFailed, match="no such luck") as caught:
        sh(image, "echo no such luck >&2; exit 4", check=True)
    assert caught.value.exit_code == 4
    assert caught.value.stderr == b"no such luck\n"


def test_a_signal_is_128_plus_its_number(image: Image) -> None:
    assert sh(image, "sh -c 'kill -TERM $$'; exit $?").exit_code == 128 + signal.SIGTERM


def test_input_reaches_standard_input_and_ends(image: Image) -> None:
    data = bytes(range(256)) * 5000
    result = pc.run(image, ["cat"], input=data, store=image.store, timeout=30)
    assert result.stdout == data


def test_without_input_standard_input_is_empty(image: Image) -> None:
    assert pc.run(image, ["cat"], store=image.store, timeout=30).stdout == b""


def test_much_output_is_captured_whole(image: Image) -> None:
    result = sh(image, "dd if=/dev/zero bs=1M count=8 2>/dev/null")
    assert len(result.stdout) == 8 << 20


def test_a_timeout_ends_the_container(image: Image) -> None:
    begun = time.monotonic()
    with pytest.raises(errors.TimeoutExpired):
        pc.run(image, ["sleep", "60"], store=image.store, timeout=0.3)
    assert time.monotonic() - begun < 10
    assert list(image.store.directory("containers").iterdir()) == []


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["no-such-command"], errors.CommandNotFound),
        (["/no/such/path"], errors.CommandNotFound),
        (["/etc/passwd"], errors.CommandNotExecutable),
        (["/etc"], errors.CommandNotExecutable),
    ],
)
def test_a_command_that_cannot_be_executed(
    image: Image, args: list[str], error: type[errors.Error]
) -> None:
    with pytest.raises(error, match=re.escape(args[0])):
        pc.run(image, args, store=image.store)
    assert list(image.store.directory("containers").iterdir()) == []


def test_an_image_without_a_command_needs_one(image: Image) -> None:
    with pytest.raises(errors.ContainerError, match="nothing to run"):
        pc.run(image, store=image.store)


def test_a_terminal_is_one(image: Image) -> None:
    result = pc.run(
        image, ["sh", "-c", "tty; echo $TERM; stty size < /dev/tty"], tty=True, store=image.store
    )
    assert result.text.splitlines()[:2] == ["/dev/console", "xterm"] or result.text.startswith(
        "/dev/pts/0\r\nxterm"
    )


def test_input_reaches_a_terminal(image: Image) -> None:
    result = pc.run(
        image,
        ["sh", "-c", "read line; echo got $line"],
        tty=True,
        input=b"hello\n",
        store=image.store,
        timeout=30,
    )
    assert "got hello" in result.text


# --- what is inside --------------------------------------------------------------------------


def test_environment_user_and_directory(image: Image) -> None:
    result = sh(
        image,
        "id; pwd; echo $HOME $COLOUR; hostname; cat /etc/hostname; grep box /etc/hosts",
        user="app",
        workdir="/deep/inside",
        env={"COLOUR": "green"},
        hostname="box",
    )
    assert (
        result.text.splitlines()
        == [
            "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)",
            "/deep/inside",
            "/home green",
            "box",
            "box",
            "127.0.0.1\tbox",
        ]
        or "groups=2000(extra)" in result.text
    )


def test_namespaces_are_its_own(image: Image) -> None:
    names = ["ipc", "mnt", "net", "pid", "uts", "cgroup"]
    script = f"for name in {' '.join(names)}; do readlink /proc/self/ns/$name; done"
    inside = sh(image, script).text.split()
    outside = [str(Path(f"/proc/self/ns/{name}").readlink()) for name in names]
    assert len(inside) == 6
    assert not set(inside) & set(outside)


def test_the_host_network_is_shared_when_asked(image: Image) -> None:
    inside = sh(image, "readlink /proc/self/ns/net", network="host").text.strip()
    assert inside == str(Path("/proc/self/ns/net").readlink())


def test_docker_default_isolation(image: Image) -> None:
    status = sh(image, "cat /proc/self/status").text
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["CapEff"] == fields["CapBnd"] == "00000000a80425fb"
    assert fields["CapInh"] == fields["CapAmb"] == "0000000000000000"
    assert fields["Seccomp"] == "2"


@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "echo 1 > /proc/sys/kernel/hostname",
        "echo b > /proc/sysrq-trigger",
        "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
        "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem",
        "hostname other",
        "chroot /proc/1/root/../.. cat /no-such-file",
        "mkdir /sys/fs/cgroup/escape",
        "ls /proc/kcore && test -s /proc/kcore",
        "unshare -U true",
        "date -s 2001-01-01; test $(date +%Y) = 2001",
        "insmod /bin/busybox",
        "swapoff -a && swapon /bin/busybox",
        "ip link add dummy0 type dummy",
    ],
)
def test_an_escape_fails(image: Image, attempt: str) -> None:
    assert sh(image, attempt).exit_code != 0


def test_only_its_own_processes_are_seen(image: Image) -> None:
    pids = sh(image, "ls -d /proc/[0-9]*").text.split()
    assert set(pids) <= {"/proc/1", "/proc/2", "/proc/3"}


def test_read_only_root(image: Image) -> None:
    result = sh(image, "touch /file 2>&1; echo x > /dev/null && echo dev works", read_only=True)
    assert "Read-only file system" in result.text
    assert "dev works" in result.text


def test_changes_stay_in_the_container(image: Image) -> None:
    assert sh(image, "rm /etc/passwd; echo x > /new").exit_code == 0
    assert sh(image, "test -e /etc/passwd && ! test -e /new").exit_code == 0


def test_memory_limit_bites(image: Image) -> None:
    result = sh(image, "cat /dev/zero | head -c 200m | tail > /dev/null", memory=32 << 20)
    assert result.exit_code != 0 or result.oom_killed
    assert result.oom_killed


def test_pids_limit_bites(image: Image) -> None:
    result = sh(image, "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait", pids=4)
    assert b"fork" in result.stderr


def test_resource_limits_are_set_and_clamped(image: Image) -> None:
    limits = {"nofile": (100, 200), "nproc": (1 << 40, 1 << 40)}
    result = sh(image, "ulimit -n; ulimit -Hn; ulimit -u", ulimits=limits)
    soft, hard, processes = result.text.split()
    assert (soft, hard) == ("100", "200")
    assert processes == "unlimited" or int(processes) > 0
    with pytest.raises(errors.ContainerError, match="no resource limit 'files'"):
        sh(image, "true", ulimits={"files": (1, 1)})


# --- mounts ----------------------------------------------------------------------------------


def test_bind_mounts(image: Image, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from outside\n")
    mounts = [
        pc.Mount.bind(tmp_path, "/data"),
        pc.Mount.bind(tmp_path, "/fixed", read_only=True),
        pc.Mount.bind(tmp_path / "file", "/etc/one-file"),
    ]
    result = sh(
        image,
        "cat /data/file /etc/one-file; echo inside > /data/new; touch /fixed/x 2>&1",
        mounts=mounts,
    )
    assert result.text.startswith("from outside\nfrom outside\n")
    assert "Read-only file system" in result.text
    assert (tmp_path / "new").read_text() == "inside\n"


@pytest.mark.parametrize("link", ["/run/systemd/resolv.conf", "../run/deep/resolv.conf"])
def test_a_mount_target_may_be_a_dangling_symlink(shared: Store, tmp_path: Path, link: str) -> None:
    tree = busybox_tree(tmp_path / "tree")
    (tree / "etc/resolv.conf").symlink_to(link)
    (tree / "opt-link").symlink_to("/gone")
    image = Image.import_rootfs(tree, tag="dangling:test", store=shared)
    mounts = [pc.Mount.tmpfs("/opt-link/below")]
    script = f"readlink /etc/resolv.conf; mount | grep -c {Path(link).name}; ls /gone"
    assert sh(image, script, mounts=mounts).text.split() == [link, "1", "below"]


def test_tmpfs(image: Image) -> None:
    mounts = [pc.Mount.tmpfs("/scratch", size=1 << 20)]
    result = sh(image, "mount | grep /scratch; head -c 2m /dev/zero > /scratch/x", mounts=mounts)
    assert "size=1024k" in result.text
    assert result.exit_code != 0


def test_a_named_volume_is_shared_and_stays(image: Image) -> None:
    mounts = [pc.Mount.volume("notes", "/notes")]
    sh(image, "echo kept > /notes/one", mounts=mounts)
    assert sh(image, "cat /notes/one", mounts=mounts).stdout == b"kept\n"
    volume = pc.Volume.get("notes", store=image.store)
    volume.delete()
    with pytest.raises(errors.VolumeNotFound):
        pc.Volume.get("notes", store=image.store)


def test_a_bind_source_that_is_not_there(image: Image, tmp_path: Path) -> None:
    mounts = [pc.Mount.bind(tmp_path / "nowhere", "/data")]
    with pytest.raises(errors.ContainerError, match="no such file or directory"):
        sh(image, "true", mounts=mounts)


def test_a_mount_target_cannot_leave_the_root(image: Image, tmp_path: Path) -> None:
    """A symlink in the image leads where it leads inside, not outside."""
    script = "mkdir /work && ln -s /../../../../tmp /work/link"
    victim = tmp_path / "victim"
    victim.mkdir()
    upper = pc.Builder(image).run(["sh", "-c", script]).build(store=image.store)
    mounts = [pc.Mount.tmpfs(f"/work/link{victim}")]
    result = sh(upper, f"mount | grep {victim}", mounts=mounts)
    assert f"/tmp{victim} " in result.text
    assert list(victim.iterdir()) == []


# --- start -----------------------------------------------------------------------------------


def test_start_exec_logs_stop(image: Image) -> None:
    script = "trap 'echo bye; exit 7' TERM; echo one; echo two >&2; while :; do sleep 0.05; done"
    with pc.Container.start(image, ["sh", "-c", script], store=image.store) as container:
        assert container.pid is not None
        assert container.exit_code is None
        follow = container.logs(follow=True)
        assert {str(next(follow)), str(next(follow))} == {"one", "two"}
        process = container.exec(["sh", "-c", "echo $$; exit 5"])
        assert process.exit_code == 5
        assert int(process.stdout) > 1
        assert container.stop(5) == 7
        assert container.state == "stopped"
        assert container.pid is None
        assert str(next(follow)) == "bye"
        assert list(follow) == []
        streams = [(line.stream, line.data) for line in container.logs()]
        assert sorted(streams) == [("stderr", b"two"), ("stdout", b"bye"), ("stdout", b"one")]
        with pytest.raises(errors.ContainerStateError, match="does not run"):
            container.exec(["true"])


def test_stop_kills_what_does_not_listen(image: Image) -> None:
    with pc.Container.start(image, ["sleep", "60"], store=image.store) as container:
        begun = time.monotonic()
        assert container.stop(0.2) == 137
        assert time.monotonic() - begun < 5


def test_exec_is_like_the_container(image: Image) -> None:
    with pc.Container.start(
        image, ["sleep", "60"], env={"A": "1"}, workdir="/home", store=image.store
    ) as container:
        script = "echo $A$B; pwd; grep -E 'CapEff|Seccomp:' /proc/self/status; readlink /proc/1/exe"
        process = container.exec(["sh", "-c", script], env={"B": "2"}, check=True)
        assert process.stdout.decode().split() == [
            "12",
            "/home",
            "CapEff:",
            "00000000a80425fb",
            "Seccomp:",
            "2",
            "/bin/busybox",
        ]
        other = container.exec(["id", "-u"], user="app", check=True)
        assert other.stdout == b"1000\n"
        assert container.exec(["cat"], input=b"through").stdout == b"through"
        assert container.exec(["tty"], tty=True).stdout.startswith(b"/dev/pts/")
        with pytest.raises(errors.CommandNotFound):
            container.exec(["no-such-command"])
        with pytest.raises(errors.ProcessFailed):
            container.exec(["false"], check=True)
        with pytest.raises(errors.TimeoutExpired):
            container.exec(["sleep", "60"], timeout=0.2)


def test_exec_splits_a_string_as_run_does(image: Image) -> None:
    with pc.Container.start(image, "sleep 60", store=image.store) as container:
        assert container.exec("echo 'one word' two", check=True).stdout == b"one word two\n"


def test_exec_streams(image: Image) -> None:
    with pc.Container.start(image, ["sleep", "60"], store=image.store) as container:
        with container.exec(["cat"], stdin=True, wait=False) as process:
            process.write(b"a line\n")
            stream = process.stream(10)
            assert next(stream) == ("stdout", b"a line\n")
            process.close_stdin()
            assert list(stream) == []
            assert process.exit_code == 0
        with container.exec(["sleep", "60"], wait=False) as process:
            assert process.exit_code is None
            process.kill()
            assert process.wait(10) == 137


def test_standard_input_of_a_container(image: Image) -> None:
    with pc.Container.start(image, ["cat"], stdin=True, store=image.store) as container:
        container.write(b"hello\n")
        assert next(container.logs(follow=True)).data == b"hello"
        container.close_stdin()
        assert container.wait(10) == 0


def test_a_terminal_of_a_container(image: Image) -> None:
    with pc.Container.start(image, ["sh"], tty=True, store=image.store) as container:
        container.resize(40, 132)
        container.write(b"stty size; exit 6\n")
        assert container.wait(10) == 6
        assert "40 132" in [str(line) for line in container.logs()]


def test_names_are_unique_and_free_again(image: Image) -> None:
    with pc.Container.start(image, ["sleep", "60"], name="db", store=image.store) as container:
        assert pc.Container.get("db", store=image.store).id == container.id
        assert pc.Container.get(container.id[:12], store=image.store).name == "db"
        with pytest.raises(errors.NameInUse):
            pc.Container.start(image, ["true"], name="db", store=image.store)
    with pytest.raises(errors.ContainerNotFound):
        pc.Container.get("db", store=image.store)
    with pc.Container.start(image, ["true"], name="db", store=image.store) as again:
        assert again.wait(10) == 0


def test_a_container_that_runs_is_not_deleted_by_accident(image: Image) -> None:
    with pc.Container.start(image, ["sleep", "60"], store=image.store) as container:
        with pytest.raises(errors.ContainerStateError, match="runs"):
            container.delete()
        container.delete(force=True)
        container.delete()
        assert pc.Container.list(all=True, store=image.store) == ()


def test_an_image_in_use_keeps_its_layers(image: Image) -> None:
    with pc.Container.start(image, ["sleep", "60"], store=image.store) as container:
        image.store.collect()
        assert container.exec(["cat", "/etc/passwd"], check=True).stdout


def test_many_containers_at_once(image: Image) -> None:
    def one(number: int) -> bytes:
        return pc.run(image, ["echo", str(number)], store=image.store, timeout=60).stdout

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(40))) == [b"%d\n" % number for number in range(40)]


# --- life and death --------------------------------------------------------------------------

HOST = """
import sys, time
import pycontainer as pc
store = pc.Store.open(sys.argv[1])
image = pc.Image.get("busybox:test", store=store)
script = "sleep 1000 & sleep 1000"
kept = []
for number in range(3):
    kept.append(
        pc.Container.start(image, ["sh", "-c", script], name=f"c{number}", detach=%s, store=store)
    )
    print(kept[-1].pid, flush=True)
time.sleep(1000)
"""


def host_program(store: Store, *, detach: bool) -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOST % detach, str(store.path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pids = [int(process.stdout.readline()) for _ in range(3)]
    process.stdout.close()
    return process, pids


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def control_groups() -> list[Path]:
    found = os.walk("/sys/fs/cgroup")  # not glob(), which trips over groups that go meanwhile
    return [
        Path(at, name) for at, names, _ in found if at.endswith("/pycontainer") for name in names
    ]


def test_attached_containers_die_with_the_program_that_is_killed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Store.open(tmp_path / "store") as store:
        busybox_image(store, tmp_path / "busybox")
        process, pids = host_program(store, detach=False)
        ids = [c.id for c in pc.Container.list(store=store)]
        assert len(ids) == 3
        assert all(map(alive, pids))
        process.kill()
        process.wait()
        time.sleep(0.2)
        assert not any(map(alive, pids))
        assert list(store.directory("containers").iterdir()) == []
        assert str(store.path) not in Path("/proc/self/mountinfo").read_text()
        assert not [group for group in control_groups() if group.name in ids]


def test_detached_containers_live_on_and_are_found(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        busybox_image(store, tmp_path / "busybox")
        process, pids = host_program(store, detach=True)
        process.kill()
        process.wait()
        time.sleep(0.2)
        assert all(map(alive, pids))
        found = pc.Container.list(store=store)
        assert [c.name for c in found] == ["c0", "c1", "c2"]
        assert [c.pid for c in found] == pids
        assert found[0].exec(["echo", "still here"], check=True).stdout == b"still here\n"
        assert found[0].stop(0.1) == 137
        assert found[0].state == "stopped"
        assert [c.name for c in pc.Container.list(store=store)] == ["c1", "c2"]
        for container in found:
            container.delete(force=True)
        assert pc.Container.list(all=True, store=store) == ()
        assert not any(map(alive, pids))


def test_an_orphan_that_ends_while_it_is_being_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first process may go between the look whether it lives and the hand laid on it."""
    from pycontainer.runtime import read_state

    with Store.open(tmp_path / "store") as store:
        image = busybox_image(store, tmp_path / "busybox")
        container = pc.Container.start(image, ["sleep", "1000"], detach=True, store=store)
        container.close()
        state = read_state(store.directory("containers") / container.id)
        assert state is not None
        os.kill(state.monitor, signal.SIGKILL)
        pidfd_open = os.pidfd_open

        def too_late(pid: int, flags: int = 0) -> int:
            os.kill(pid, signal.SIGKILL)
            while alive(pid):
                time.sleep(0.001)
            return pidfd_open(pid, flags)

        monkeypatch.setattr(os, "pidfd_open", too_late)
        monkeypatch.setattr("pycontainer.runtime.recovery.cgroup.kill", lambda group: None)
        pc.Container.get(container.id, store=store).delete(force=True)
        assert not [group for group in control_groups() if group.name == container.id]


def test_a_container_whose_monitor_was_killed_can_still_be_removed(tmp_path: Path) -> None:
    from pycontainer.runtime import read_state

    with Store.open(tmp_path / "store") as store:
        image = busybox_image(store, tmp_path / "busybox")
        container = pc.Container.start(image, ["sleep", "1000"], detach=True, store=store)
        container.close()
        state = read_state(store.directory("containers") / container.id)
        assert state is not None
        os.kill(state.monitor, signal.SIGKILL)
        found = pc.Container.get(container.id, store=store)
        assert found.state == "running"
        assert found.exec(["echo", "orphan"], check=True).stdout == b"orphan\n"
        found.delete(force=True)
        assert not alive(state.pid)
        assert not [group for group in control_groups() if group.name == container.id]
