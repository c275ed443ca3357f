"""Attempts to get out of a container, each by what an attacker inside would do; all must fail.

They run as root with Docker's default rights, where nothing else is said: the most that an image gets
without being asked for.
"""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import pycontainer as pc
from busybox import busybox_image, busybox_tree
from pycontainer import errors
from pycontainer.content import Store
from pycontainer.images import Image

pytestmark = pytest.mark.root

EPERM = 1
# Numbers of the x86_64 and the generic table (syscalls(2)); the last are the same on all machines.
NUMBERS = {
    "x86_64": {
        "acct": 163,
        "add_key": 248,
        "bpf": 321,
        "delete_module": 176,
        "finit_module": 313,
        "init_module": 175,
        "ioperm": 173,
        "iopl": 172,
        "kcmp": 312,
        "kexec_file_load": 320,
        "kexec_load": 246,
        "keyctl": 250,
        "mount": 165,
        "move_pages": 279,
        "open_by_handle_at": 304,
        "perf_event_open": 298,
        "pivot_root": 155,
        "quotactl": 179,
        "reboot": 169,
        "request_key": 249,
        "setdomainname": 171,
        "sethostname": 170,
        "setns": 308,
        "settimeofday": 164,
        "swapon": 167,
        "syslog": 103,
        "umount2": 166,
        "unshare": 272,
        "userfaultfd": 323,
        "vhangup": 153,
    },
}
SINCE_5_1 = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fspick": 433,
    "io_uring_setup": 425,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}
CALLS = {**NUMBERS.get(os.uname().machine, {}), **SINCE_5_1}

PREAMBLE = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    buffers = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    if libc.syscall(ctypes.c_long(number), *buffers) >= 0:
        return "done"
    return errno.errorcode[ctypes.get_errno()]
def attempt(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("isolation") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def python(shared: Store) -> Image:
    return Image.from_interpreter(store=shared)


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


def inside(python: Image, script: str, **options: object) -> list[str]:
    """What a Python program in a container prints."""
    program = PREAMBLE + textwrap.dedent(script)
    command = ["python", "-c", program]
    done = pc.run(python, command, store=python.store, timeout=30, check=True, **options)  # type: ignore[arg-type]
    return done.text.splitlines()


def sh(image: Image, script: str, **options: object) -> pc.Completed:
    return pc.run(image, ["sh", "-c", script], store=image.store, timeout=30, **options)  # type: ignore[arg-type]


# --- calls of the kernel ---------------------------------------------------------------------


@pytest.mark.parametrize("user", ["0", "1000"])
def test_dangerous_calls_are_refused_before_their_arguments_are_looked_at(
    python: Image, user: str
) -> None:
    script = f"""
        for name, number in {CALLS!r}.items():
            print(name, call(number, 0, 0, 0, 0, 0))
    """
    found = dict(line.split() for line in inside(python, script, user=user))
    # The filter knows calls younger than it as absent, as an older kernel would have them.
    allowed = {"EPERM", "ENOSYS"}
    assert {name: answer for name, answer in found.items() if answer not in allowed} == {}
    assert set(found) == set(CALLS)


def test_nothing_can_be_mounted_or_laid_bare(python: Image) -> None:
    lines = inside(
        python,
        f"""
        mount, umount = {CALLS["mount"]}, {CALLS["umount2"]}
        print(call(mount, b"none", b"/tmp", b"tmpfs", 0, 0))
        print(call(mount, b"none", b"/tmp", b"proc", 0, 0))
        print(call(mount, b"/proc/sys", b"/proc/sys", 0, 0x1000 | 0x20, 0))
        print(call(umount, b"/proc/kcore", 2), call(umount, b"/proc/sys", 2))
        print(call({CALLS["unshare"]}, 0x10000000), call({CALLS["unshare"]}, 0x20000))
        print(call({CALLS["pivot_root"]}, b"/", b"/tmp"))
        """,
    )
    assert {word for line in lines for word in line.split()} == {"EPERM"}


@pytest.mark.parametrize("call", ["bpf", "keyctl", "userfaultfd", "mount", "unshare"])
def test_each_refusal_is_the_filters_where_capabilities_would_allow(
    python: Image, call: str
) -> None:
    """With all capabilities but no such rule in a profile that names nothing, the kernel is asked."""
    arguments = {"mount": 'b"none", b"/tmp", b"tmpfs", 0, 0', "keyctl": "0, -3 & (2**64 - 1), 0"}
    script = f"print(call({CALLS[call]}, {arguments.get(call, '0, 0, 0')}))"
    assert inside(python, script) == ["EPERM"]
    everything = pc.Security(cap_add=["ALL"], seccomp="unconfined")
    assert inside(python, script, security=everything) != ["EPERM"]


def test_the_keys_of_the_host_are_out_of_reach(python: Image) -> None:
    script = """
        print(repr(open("/proc/keys").read()), attempt(lambda: open("/proc/key-users").close()))
    """
    assert inside(python, script)[0].startswith("''")


def test_other_abis_are_no_way_round_the_filter(python: Image) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("x32 is of x86_64")
    script = f"print(call({CALLS['mount']} | 0x40000000, b'none', b'/tmp', b'tmpfs', 0, 0))"
    done = pc.run(python, ["python", "-c", PREAMBLE + script], store=python.store, timeout=30)
    assert done.text.strip() in ("EPERM", "ENOSYS")


# --- processes -------------------------------------------------------------------------------


def test_processes_of_the_host_are_neither_seen_nor_signalled_nor_traced(python: Image) -> None:
    trace = {"x86_64": 101}.get(os.uname().machine, 117)
    lines = inside(
        python,
        f"""
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        print(len(pids), os.getpid())
        host = [{os.getpid()}, {os.getppid()}]
        for pid in host:
            print(attempt(lambda: os.kill(pid, 0)))
            print(call({trace}, 16, pid, 0, 0))
            print(attempt(lambda: os.pidfd_open(pid)))
        """,
    )
    assert lines[0] == "1 1"
    assert set(lines[1:]) == {"ESRCH"}


def test_a_command_that_exec_starts_cannot_be_traced_into_the_host(python: Image) -> None:
    """CVE-2016-9962: what enters a container must not be there with the host's descriptors."""
    watch = PREAMBLE + textwrap.dedent("""
        import time
        print("ready", flush=True)
        seen = set()
        while not os.path.exists("/tmp/end"):
            for name in os.listdir("/proc"):
                if not name.isdigit() or int(name) == os.getpid():
                    continue
                try:
                    for fd in os.listdir(f"/proc/{name}/fd"):
                        seen.add(os.readlink(f"/proc/{name}/fd/{fd}").split(":")[0])
                    seen.add("root " + os.readlink(f"/proc/{name}/root"))
                    seen.add("cwd " + os.readlink(f"/proc/{name}/cwd"))
                except OSError:
                    pass
        print(sorted(seen))
    """)
    with pc.Container.start(python, ["python", "-c", watch], store=python.store) as it:
        it.wait_ready(pc.ready.log("ready"))
        for _ in range(20):
            it.exec(["python", "-c", "pass"], check=True)
        it.fs.write_bytes("/tmp/end", b"")
        assert it.wait(30) == 0
        seen = str(list(it.logs())[-1])
        for place in (str(python.store.path), os.getcwd(), "/run", "memfd", "/sys"):
            assert place not in seen


# --- files of the kernel ---------------------------------------------------------------------


def test_kernel_parameters_are_read_only(image: Image) -> None:
    script = """
        for f in kernel/core_pattern kernel/modprobe vm/overcommit_memory fs/binfmt_misc/register \
                 kernel/hostname net/ipv4/ip_forward; do
            (echo "|/bin/evil" > /proc/sys/$f) 2>/dev/null && echo wrote $f; done
        (echo h > /proc/sysrq-trigger) 2>/dev/null && echo sysrq
        (echo 0 > /proc/irq/default_smp_affinity) 2>/dev/null && echo irq
        for f in /sys/kernel/uevent_helper /sys/power/state /sys/kernel/profiling; do
            (echo x > $f) 2>/dev/null && echo wrote $f; done
        mount -o remount,rw /proc/sys 2>/dev/null && echo remounted
        exit 0"""
    assert sh(image, script).text == ""


def test_memory_and_secrets_of_the_kernel_show_nothing(image: Image) -> None:
    script = """
        for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/latency_stats; do
            test -e $f && head -c 64 $f; done
        ls -A /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v ':$' | grep .
        dmesg 2>/dev/null | head -1
        exit 0"""
    assert sh(image, script).text == ""


def test_raw_devices_cannot_be_opened_though_nodes_can_be_made(image: Image) -> None:
    root = os.stat("/").st_dev
    script = f"""
        mknod /tmp/disk b {os.major(root)} {os.minor(root)} && dd if=/tmp/disk of=/dev/null bs=512 count=1
        mknod /tmp/mem c 1 1; head -c 1 /tmp/mem; mknod /tmp/port c 1 4; head -c 1 /tmp/port
        mknod /tmp/kmsg c 1 11; echo hi > /tmp/kmsg
        mknod /tmp/loop c 10 237; head -c 1 /tmp/loop; mknod /tmp/fuse c 10 229; head -c 1 /tmp/fuse
        ls /tmp"""
    result = sh(image, script)
    assert result.text.split() == ["disk", "fuse", "kmsg", "loop", "mem", "port"]
    assert result.stderr.count(b"Operation not permitted") == 6


def test_devices_in_an_image_cannot_be_opened(shared: Store, tmp_path: Path) -> None:
    root = busybox_tree(tmp_path / "root")
    disk = os.stat("/").st_dev
    os.mknod(root / "disk", 0o60666, disk)
    os.mknod(root / "mem", 0o20666, os.makedev(1, 1))
    image = Image.import_rootfs(root, tag="devices:test", store=shared)
    result = sh(image, "head -c 1 /disk; head -c 1 /mem; ls -l /disk")
    assert f"{os.major(disk)}, {os.minor(disk):>3}" in result.text
    assert result.stderr.count(b"not permitted") + result.stderr.count(b"denied") == 2


def test_control_groups_cannot_be_written(image: Image) -> None:
    script = """
        cd /sys/fs/cgroup
        for f in $(find . -name cgroup.procs -o -name release_agent -o -name tasks -o -name cgroup.kill \
                   -o -name memory.limit_in_bytes -o -name memory.max -o -name devices.allow); do
            (echo 1 > $f) 2>/dev/null && echo wrote $f; done
        for d in $(find . -type d); do mkdir $d/own 2>/dev/null && echo made $d; done
        mount -t cgroup -o rdma none /tmp 2>/dev/null && echo mounted
        exit 0"""
    assert sh(image, script, memory=64 << 20, cpus=1.0, pids=50).text == ""


def test_only_its_own_control_groups_are_seen(image: Image) -> None:
    script = (
        "cat /proc/self/cgroup; find /sys/fs/cgroup -name '*pycontainer*' -o -name system.slice"
    )
    paths = [line.split(":", 2)[-1] for line in sh(image, script, memory=64 << 20).text.split()]
    assert all(path.startswith("/") for path in paths)
    assert not any("pycontainer" in path and len(path) > 80 for path in paths)


# --- rights of files -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_set_uid(python: Image) -> Image:
    """The interpreter once more, beside itself, as a program that makes root of everybody."""
    script = """
        import os, shutil, sys
        powerful = os.path.join(os.path.dirname(os.path.realpath(sys.executable)), "powerful")
        shutil.copy(os.path.realpath(sys.executable), powerful)
        os.chmod(powerful, 0o4755)
        os.symlink(powerful, "/powerful")
    """
    command = ["python", "-c", textwrap.dedent(script)]
    with pc.Container.start(python, command, store=python.store) as it:
        assert it.wait(30) == 0
        return it.commit(tag="set-uid:test")


WHO = """
import os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(os.geteuid(), status["CapEff"].strip(), status["NoNewPrivs"].strip())
"""


def test_set_user_id_programs_are_without_effect_where_asked_for(with_set_uid: Image) -> None:
    image = with_set_uid

    def who(program: str, **options: object) -> list[str]:
        done = pc.run(image, [program, "-c", WHO], store=image.store, check=True, **options)  # type: ignore[arg-type]
        return done.text.split()

    assert who("/powerful", user="1000", no_new_privileges=True) == ["1000", "0" * 16, "1"]
    # What such a program else gets is what root of the container has, and no more.
    assert who("/powerful", user="1000") == who("python")


def test_the_host_does_not_run_what_a_container_makes_set_user_id(
    image: Image, tmp_path: Path
) -> None:
    script = "cp /bin/busybox /data/shell; chmod 4755 /data/shell"
    tmp_path.chmod(0o755)
    assert sh(image, script, mounts=[pc.Mount.tmpfs("/data")]).exit_code == 0
    assert list(tmp_path.iterdir()) == []


# --- descriptors -----------------------------------------------------------------------------


def test_nothing_of_the_host_is_open(python: Image) -> None:
    script = """
        for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
            try:
                print(fd, os.readlink(f"/proc/self/fd/{fd}"))
            except FileNotFoundError:
                pass  # that of the listing itself
    """
    held = os.open("/", os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        lines = inside(python, script)
        assert [line.split()[0] for line in lines] == ["0", "1", "2"]
        assert all("pipe:" in line or "/dev/null" in line for line in lines)
        with pc.Container.start(
            python, ["python", "-c", "import time; time.sleep(60)"], store=python.store
        ) as it:
            done = it.exec(["python", "-c", PREAMBLE + textwrap.dedent(script)], check=True)
            assert [line.split()[0] for line in done.stdout.decode().splitlines()] == [
                "0",
                "1",
                "2",
            ]
    finally:
        os.close(held)


@pytest.mark.parametrize("upwards", ["", "/..", "/../../.."])
def test_no_working_directory_leads_out_by_a_leaked_descriptor(image: Image, upwards: str) -> None:
    """CVE-2024-21626: a working directory behind /proc/self/fd of the process that sets up."""
    look = "ls ../../../../../ ; readlink /proc/self/cwd; test -d ./cgroup.procs; ls"
    with pc.Container.start(image, ["sleep", "60"], store=image.store) as it:
        inside_it = it.exec(["ls", "/"]).stdout.split()
        for number in range(3, 24):
            workdir = f"/proc/self/fd/{number}{upwards}"
            for beside in (False, True):
                try:
                    if beside:
                        text = it.exec(["sh", "-c", look], workdir=workdir).stdout
                    else:
                        text = sh(image, look, workdir=workdir).stdout
                except errors.Error:
                    continue
                assert b"cgroup.procs" not in text
                assert set(text.split(b"/")[0].split()) <= {*inside_it, b"proc", b"fd"}, workdir


def test_no_command_leads_out_by_a_leaked_descriptor(shared: Store, tmp_path: Path) -> None:
    """The same by what is executed, here through symbolic links of the image."""
    root = busybox_tree(tmp_path / "root")
    for number in range(3, 24):
        (root / f"out{number}").symlink_to(f"/proc/self/fd/{number}")
    image = Image.import_rootfs(root, tag="links:test", store=shared)
    with pc.Container.start(image, ["sleep", "60"], store=shared) as it:
        for number in range(3, 24):
            for path in (f"/out{number}/../../../usr/bin/env", f"/out{number}"):
                with pytest.raises((errors.CommandNotFound, errors.CommandNotExecutable)):
                    pc.run(image, [path], store=shared)
                with pytest.raises((errors.CommandNotFound, errors.CommandNotExecutable)):
                    it.exec([path])


# --- the interpreter that sets up ------------------------------------------------------------


def test_the_hosts_interpreter_cannot_be_overwritten_by_running_it(python: Image) -> None:
    """CVE-2019-5736: have the one who sets up execute itself, keep its file, write when it has gone."""
    host = Path(os.path.realpath(sys.executable))
    before = (host.stat().st_mtime_ns, host.stat().st_size)
    script = PREAMBLE + textwrap.dedent("""
        import time
        fd = os.open("/proc/self/exe", os.O_RDONLY)
        print(attempt(lambda: os.open("/proc/self/exe", os.O_WRONLY)), flush=True)
        os.set_inheritable(fd, True)
        again = f'''
        import errno, os
        try:
            os.open("/proc/self/fd/{fd}", os.O_WRONLY | os.O_TRUNC)
        except OSError as error:
            print(errno.errorcode[error.errno])
        '''
        import textwrap
        program = os.path.realpath(sys.argv[1])
        os.execv(program, [program, "-c", textwrap.dedent(again)])
    """)
    own = inside(python, "print(sys.executable)")[0]
    done = pc.run(python, ["/proc/self/exe", "-c", script, own], store=python.store, timeout=30)
    assert done.text.split() == ["ETXTBSY", "EROFS"], done
    assert (host.stat().st_mtime_ns, host.stat().st_size) == before


def test_the_hosts_interpreter_is_not_seen_by_what_waits_for_exec(python: Image) -> None:
    """The same from a process that lies in wait for commands that enter."""
    host = os.stat(os.path.realpath(sys.executable))
    watch = PREAMBLE + textwrap.dedent(f"""
        print("ready", flush=True)
        wrote = caught = 0
        while not os.path.exists("/tmp/end"):
            for name in os.listdir("/proc"):
                if not name.isdigit() or int(name) == os.getpid():
                    continue
                try:
                    fd = os.open(f"/proc/{{name}}/exe", os.O_RDONLY)
                except OSError:
                    continue
                if os.fstat(fd).st_ino == {host.st_ino} and os.fstat(fd).st_dev == {host.st_dev}:
                    caught += 1
                    wrote += attempt(lambda: os.open(f"/proc/self/fd/{{fd}}", os.O_WRONLY)) == "done"
                os.close(fd)
        print(caught, wrote)
    """)
    with pc.Container.start(python, ["python", "-c", watch], store=python.store) as it:
        it.wait_ready(pc.ready.log("ready"))
        for _ in range(20):
            it.exec(["python", "-c", "pass"], check=True)
        it.fs.write_bytes("/tmp/end", b"")
        assert it.wait(30) == 0
        assert str(list(it.logs())[-1]) == "0 0"


# --- symbolic links, still and exchanged meanwhile -------------------------------------------

EXCHANGE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print("ready", flush=True)
while not os.path.exists("/tmp/end"):
    # renameat2(2) with RENAME_EXCHANGE: at no moment is there nothing.
    libc.renameat2(-100, ctypes.c_char_p({one!r}), -100, ctypes.c_char_p({two!r}), 2)
"""


@contextlib.contextmanager
def exchanging(
    python: Image, one: str, two: str, mounts: Sequence[pc.Mount] = ()
) -> Iterator[pc.Container]:
    """A container that exchanges two names of its files as fast as it can."""
    command = ["python", "-c", EXCHANGE.format(one=one.encode(), two=two.encode())]
    with pc.Container.start(python, command, store=python.store, mounts=mounts) as it:
        it.wait_ready(pc.ready.log("ready"))
        yield it
        assert it.state == "running"


def test_a_part_of_a_volume_never_leads_out_of_it(
    python: Image, image: Image, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of the host")
    store = image.store
    whole = pc.Mount.volume("games", "/v")
    prepare = f"mkdir /v/part; echo inside > /v/part/file; ln -s {tmp_path} /v/out; ln -s / /v/top"
    sh(image, prepare, mounts=[whole])
    for link in ("out", "top"):
        with exchanging(python, "/v/part", f"/v/{link}", [whole]):
            seen = set()
            for _ in range(8):
                part = pc.Mount.volume("games", "/part", subpath="part")
                try:
                    seen.add(sh(image, "ls -A /part", mounts=[part]).text)
                except errors.Error:  # it led nowhere at that moment
                    continue
        assert not any("secret" in text or "proc" in text for text in seen)
    pc.Volume.get("games", store=store).delete()


def test_copies_never_lead_out_of_a_container(python: Image, tmp_path: Path) -> None:
    host, out = tmp_path / "host", tmp_path / "out"
    for directory in (host, out):
        directory.mkdir()
    (host / "file").write_text("of the host")
    script = (
        "import os; os.makedirs('/x'); open('/x/file', 'w').write('inside'); "
        f"os.symlink({str(host)!r}, '/y')"
    )
    with pc.Container.start(python, ["python", "-c", script], store=python.store) as it:
        assert it.wait(30) == 0
        image = it.commit(tag="exchange:test")
    with exchanging(image, "/x", "/y") as it:
        for n in range(10):
            with contextlib.suppress(errors.Error):
                assert it.fs.read_text("/x/file") == "inside"
            with contextlib.suppress(errors.Error):
                it.fs.write_bytes("/x/written", b"by the host program")
            with contextlib.suppress(errors.Error):
                it.fs.copy_in(out, f"/x/copied{n}")
            with contextlib.suppress(errors.Error):
                it.fs.copy_out("/x/.", out)
                assert (out / "file").read_text() == "inside"
    assert [path.name for path in host.iterdir()] == ["file"]
    assert (host / "file").read_text() == "of the host"


def test_links_of_an_image_do_not_lead_to_the_hosts_files(shared: Store, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "passwd").write_text("evil:x:0:0::/:/bin/sh\n")
    root = busybox_tree(tmp_path / "root")
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to(host / "passwd")
    (root / "data").symlink_to(host)
    (root / "up").symlink_to("../../../../../.." + str(host))
    image = Image.import_rootfs(root, tag="leading-out:test", store=shared)
    with pytest.raises(errors.UnknownUser):
        sh(image, "true", user="evil")
    mounts = [pc.Mount.volume(None, "/data/volume"), pc.Mount.tmpfs("/up/tmpfs")]
    assert sh(image, f"ls -d {host}/volume {host}/tmpfs", mounts=mounts).exit_code == 0
    with contextlib.suppress(errors.StartError):  # where the link leads to there is nothing
        sh(image, "touch here", workdir="/data/work")
    with pc.Container.start(image, ["sleep", "60"], store=shared) as it:
        for workdir in ("/up", "/up/work"):
            with contextlib.suppress(errors.StartError):
                it.exec(["touch", "here"], workdir=workdir)
    assert [path.name for path in host.iterdir()] == ["passwd"]
