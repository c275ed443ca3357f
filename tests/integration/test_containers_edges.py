"""What containers meet at the edges: odd hosts, odd images, processes that were killed."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import pycontainer as pc
from busybox import busybox_image, busybox_tree
from pycontainer import errors
from pycontainer.containers import _record
from pycontainer.content import Store
from pycontainer.images import Image, create_index
from pycontainer.oci import Platform
from pycontainer.runtime import cgroups

pytestmark = [pytest.mark.root, pytest.mark.runtimes]

FAR = "linux/arm64" if Platform.current().architecture != "arm64" else "linux/amd64"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("edges") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


def sh(image: Image | str, script: str, **options: object) -> pc.Completed:
    if isinstance(image, Image):
        options.setdefault("store", image.store)
    return pc.run(image, ["sh", "-c", script], timeout=30, **options)  # type: ignore[arg-type]


def test_the_image_for_a_platform_is_taken(shared: Store, tmp_path: Path) -> None:
    entries = []
    for platform in (str(Platform.current()), FAR):
        root = busybox_tree(tmp_path / platform.replace("/", "-"))
        (root / "platform").write_text(platform)
        tag = None if platform == FAR else "several:1"
        image = Image.import_rootfs(root, tag=tag, platform=platform, store=shared)
        entries.append(evolve(image.descriptor, platform=image.platform))
    index = create_index(shared, entries, tag="several:1")
    assert sh("several:1", "cat /platform", store=shared).text == str(Platform.current())
    assert sh("several:1", "cat /platform", platform=FAR, store=shared).text == FAR
    with pc.Container.create("several:1", ["true"], platform=FAR, store=shared) as made:
        assert made.inspect().image_digest == index.image(FAR).digest
    workers = pc.Container.scale(
        "several:1", 2, ["cat", "/platform"], platform=Platform.parse(FAR), store=shared
    )
    for worker in workers:
        worker.wait(10)
        assert [str(line) for line in worker.logs()] == [FAR]
        worker.close()
    # The name goes on standing for this machine's.
    assert sh("several:1", "cat /platform", store=shared).text == str(Platform.current())
    with pytest.raises(errors.PlatformNotFound, match=FAR):
        sh(Image.get("several:1", store=shared), "true", platform=FAR, store=shared)


def test_a_program_for_another_processor_is_told_from_a_broken_one(
    shared: Store, tmp_path: Path
) -> None:
    root = busybox_tree(tmp_path / "root")
    program = bytearray((root / "bin/busybox").read_bytes())
    program[18:20] = (0xF3).to_bytes(2, "little")  # e_machine: RISC-V, elf(5)
    (root / "bin/busybox").write_bytes(program)
    image = Image.import_rootfs(root, platform="linux/riscv64", store=shared)
    with pytest.raises(errors.CommandNotExecutable, match="Exec format error") as raised:
        pc.run(image, ["/bin/busybox", "true"], platform="linux/riscv64", store=shared)
    assert "binfmt_misc" in str(raised.value.remedy)


def in_program(image: Image, body: str, *, preamble: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program of its own that has `image`; `preamble` runs before it."""
    head = f"""
        import os, signal, sys, time
        import pycontainer as pc
        from pycontainer import errors
        from pycontainer.content import Store
        from pycontainer.images import Image
        store = Store.open({str(image.store.path)!r})
        image = Image.get({str(image.id)!r}, store=store)
    """
    program = textwrap.dedent(head) + textwrap.dedent(body)
    return subprocess.run(
        ["sh", "-c", f'{preamble} exec "$0" -c "$1"', sys.executable, program],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- what a payload inherits -----------------------------------------------------------------


def test_blocked_and_ignored_signals_of_the_host_are_not_inherited(image: Image) -> None:
    result = in_program(
        image,
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        print(pc.run(image, ["grep", "Sig[BI]", "/proc/self/status"], store=store).text)
        """,
    )
    assert re.findall(r"Sig\w+:\s(\w+)", result.stdout) == ["0" * 16, "0" * 16], result


def test_a_narrow_umask_of_the_host_narrows_nothing(image: Image) -> None:
    result = in_program(
        image,
        """
        mounts = [pc.Mount.tmpfs("/made/deep")]
        script = "stat -c %a / /made /work; umask"
        done = pc.run(image, ["sh", "-c", script], store=store, workdir="/work", user="1000", mounts=mounts)
        print(done.text)
        """,
        preamble="umask 077;",
    )
    assert result.stdout.split() == ["755", "755", "755", "0022"], result


def test_a_host_without_standard_streams(image: Image) -> None:
    result = in_program(
        image,
        """
        os.close(0), os.close(1)
        text = pc.run(image, ["echo", "here"], store=store).text
        print(text, file=sys.stderr)
        """,
    )
    assert "here\n" in result.stderr, result


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_an_ordinary_user_can_open_its_streams(image: Image, name: str) -> None:
    result = sh(image, f"echo hello > /dev/{name}", user="1000")
    assert (result.stdout + result.stderr, result.exit_code) == (b"hello\n", 0)
    script = f"echo hello > /dev/{name}; sleep 60"
    with pc.Container.start(image, ["sh", "-c", script], user="1000", store=image.store) as box:
        assert str(next(box.logs(follow=True))) == "hello"
        done = box.exec(["sh", "-c", f"echo hello > /dev/{name}"], user="1001")
        assert done.stdout + done.stderr == b"hello\n"


@pytest.mark.parametrize("user", ["4294967295", "4294967296", "2147483648", "0:4294967295"])
def test_a_user_id_that_the_kernel_takes_for_another(image: Image, user: str) -> None:
    with pytest.raises(errors.UnknownUser, match="2147483647"):
        sh(image, "id", user=user)


# --- images and arguments --------------------------------------------------------------------


@pytest.mark.embedded("runc resolves that link inside the root")
def test_an_image_whose_dev_leads_elsewhere(shared: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tree = busybox_tree(tmp_path / "tree")
    (tree / "dev").rmdir()
    (tree / "dev").symlink_to(outside)
    evil = Image.import_rootfs(tree, tag="evil:test", store=shared)
    with pytest.raises(errors.StartError, match="must be a directory"):
        sh(evil, "true")
    assert list(outside.iterdir()) == []


def test_no_arguments_at_all(image: Image) -> None:
    with (
        pc.Container.start(image, ["sleep", "60"], store=image.store) as box,
        pytest.raises(errors.ContainerError, match="nothing to run"),
    ):
        box.exec([])


def test_bytes_that_are_no_utf8(image: Image) -> None:
    odd = os.fsdecode(b"\xff\xfe=\x80")
    with pytest.raises(errors.SpecError, match="UTF-8"):
        sh(image, "true", env={"ODD": odd})
    with pc.Container.start(image, ["sleep", "60"], store=image.store) as box:
        done = box.exec(["sh", "-c", 'printf %s "$ODD$1"', "sh", odd], env={"ODD": odd})
        assert done.stdout == b"\xff\xfe=\x80" * 2


# --- streams ---------------------------------------------------------------------------------


def test_closing_a_terminal_that_nobody_reads(image: Image) -> None:
    with pc.Container.start(image, ["sleep", "60"], store=image.store) as box:
        process = box.exec(["yes"], tty=True, wait=False)
        time.sleep(0.3)
        begun = time.monotonic()
        process.close()
        assert time.monotonic() - begun < 5


def test_input_for_a_terminal_that_its_process_has_closed(image: Image) -> None:
    script = "exec </dev/null >/dev/null 2>&1; sleep 2; exit 5"
    with pc.Container.start(image, ["sh", "-c", script], tty=True, store=image.store) as box:
        time.sleep(0.3)
        for _ in range(20):
            box.write(b"x" * 2000)
        assert box.wait(10) == 5


def test_a_size_that_no_terminal_has(image: Image) -> None:
    with pc.Container.start(
        image, ["sh", "-c", "sleep 0.5; exit 6"], tty=True, store=image.store
    ) as box:
        box.resize(1 << 20, -1)
        assert box.wait(10) == 6


def test_waiting_with_many_open_files(image: Image) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2048)), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with pc.Container.start(image, ["sh", "-c", "echo a; sleep 0.3"], store=image.store) as box:
            other = pc.Container.get(box.id, store=image.store)
            assert [str(line) for line in other.logs(follow=True)] == ["a"]
            assert other.wait(10) == 0
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- killed processes, forks -----------------------------------------------------------------


def monitor_of(image: Image, pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def runs(pid: int) -> bool:
    """Whether it lives; the dead of a killed monitor wait for their new parent to reap them."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_nothing_is_left_of_a_run_whose_monitor_was_killed(image: Image) -> None:
    result = in_program(
        image,
        """
        import threading
        from pathlib import Path
        def kill():
            while True:
                for state in store.directory("containers").glob("*/state.json"):
                    import json
                    state = json.loads(state.read_bytes())
                    os.kill(state["monitor"], 9)
                    print(state["pid"])
                    return
                time.sleep(0.01)
        threading.Thread(target=kill).start()
        try:
            pc.run(image, ["sleep", "100"], store=store)
        except (errors.ContainerStateError, errors.StartError) as error:
            print("nobody knows" in str(error) or "monitor was killed" in str(error))
        """,
    )
    pid, known = result.stdout.split()
    assert known == "True", result
    deadline = time.monotonic() + 5
    while runs(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_waiting_for_one_that_is_closed_with_its_monitor_killed(image: Image) -> None:
    box = pc.Container.start(image, ["sleep", "60"], store=image.store)
    assert box.pid is not None
    os.kill(monitor_of(image, box.pid), signal.SIGKILL)
    box.delete(force=True)
    assert box.exit_code is None
    with pytest.raises(errors.ContainerStateError):
        box.wait(1)
    box.close()


def test_a_program_ends_at_once_though_its_fork_goes_on(image: Image) -> None:
    result = in_program(
        image,
        """
        pc.run(image, ["true"], store=store)
        fork = os.fork()
        if fork == 0:
            os.close(1), os.close(2)
            time.sleep(600)
            os._exit(0)
        print(fork)
        """,
    )
    assert result.returncode == 0, result
    os.kill(int(result.stdout), signal.SIGKILL)  # it is still there


def test_a_launcher_that_was_killed_is_replaced(image: Image) -> None:
    result = in_program(
        image,
        """
        from pycontainer.runtime import _zygote
        for n in range(60):
            pc.run(image, ["true"], store=store)
            os.kill(_zygote._zygote._process.pid, 9)  # it may go a moment later
        print("good")
        """,
    )
    assert result.stdout == "good\n", result


_BESIDE_ITS_LAUNCHER = """
        import fcntl, threading
        from pathlib import Path
        from pycontainer.runtime import _zygote, launcher

        def await_children(number):
            children = Path(f"/proc/{zygote}/task/{zygote}/children")
            while len(found := children.read_text().split()) != number:
                time.sleep(0.001)
            return [int(pid) for pid in found]

        def run():
            try:
                results.append(pc.run(image, ["true"], store=store).exit_code)
            except errors.StartError as error:
                results.append(str(error))

        results = []
        worker = threading.Thread(target=run, daemon=True)
        pc.run(image, ["true"], store=store)
        zygote = _zygote.current()._process.pid
        seen = None  # for a moment the monitor of the one before may still be there, and nobody else
        while (found := await_children(1)) != seen:
            seen = found
            time.sleep(0.05)
        (waiting,) = found
"""


def test_a_request_that_dies_with_the_launcher_is_sent_again(image: Image) -> None:
    result = in_program(
        image,
        _BESIDE_ITS_LAUNCHER
        + """
        os.kill(zygote, signal.SIGSTOP)
        os.kill(waiting, signal.SIGSTOP)
        worker.start()
        time.sleep(0.3)  # by then it has sent the request, and nobody reads it
        os.kill(waiting, 9)
        os.kill(zygote, 9)
        worker.join(20)
        print(results)
        """,
    )
    assert result.stdout == "[0]\n", result


def test_a_request_that_was_read_is_never_sent_again(image: Image) -> None:
    result = in_program(
        image,
        _BESIDE_ITS_LAUNCHER
        + """
        begin, held = launcher.write_intent, []
        def hold(directory, *arguments):  # so that its monitor hangs at its first step
            begin(directory, *arguments)
            held.append(os.open(directory / "lock", os.O_CREAT | os.O_RDWR))
            fcntl.flock(held[0], fcntl.LOCK_EX)
        launcher.write_intent = hold
        worker.start()
        fds = Path(f"/proc/{waiting}/fd")
        while not any(os.path.realpath(fd).endswith("/lock") for fd in fds.iterdir()):
            time.sleep(0.001)
        os.kill(waiting, 9)
        os.close(held[0])
        worker.join(20)
        print(results)
        """,
    )
    assert "monitor was killed" in result.stdout, result


def test_a_device_filter_that_the_kernel_refuses_undoes_the_start(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[cgroups.CgroupPlan] = []
    make = cgroups.plan

    def make_bad(*arguments: Any, **options: Any) -> cgroups.CgroupPlan:
        plans.append(evolve(make(*arguments, **options), device_program=b"\x95" + bytes(7)))
        return plans[0]

    monkeypatch.setattr(cgroups, "plan", make_bad)
    with pytest.raises(errors.StartError, match=r"filter devices: .*verifier says"):
        sh(image, "true")
    assert not any(Path(directory).exists() for directory in plans[0].directories)


def test_starts_while_others_look(image: Image) -> None:
    """Whoever asks whether a container has a monitor must not keep its monitor from its lock."""
    result = in_program(
        image,
        """
        import multiprocessing
        def look():
            from pycontainer.runtime import is_watched
            containers = store.directory("containers")
            while True:
                for home in containers.iterdir():
                    is_watched(home)
        workers = [multiprocessing.get_context("fork").Process(target=look, daemon=True) for _ in range(4)]
        for worker in workers:
            worker.start()
        try:
            for n in range(150):
                pc.run(image, ["true"], store=store)
            print("good")
        finally:
            for worker in workers:
                worker.kill()
        """,
    )
    assert result.stdout == "good\n", result


def test_failed_and_good_starts_leave_no_descriptors(image: Image) -> None:
    sh(image, "true")
    with pytest.raises(errors.CommandNotFound):
        pc.run(image, ["no-such"], store=image.store)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        sh(image, "true")
        with pytest.raises(errors.CommandNotFound):
            pc.run(image, ["no-such"], store=image.store)
    assert len(os.listdir("/proc/self/fd")) <= before


# --- forks and full disks ---------------------------------------------------------------------


def test_a_forked_child_that_unwinds_does_not_end_the_parents_container(image: Image) -> None:
    with pc.Container.start(image, ["sleep", "600"], store=image.store) as container:
        child = os.fork()
        if child == 0:  # pragma: no cover
            try:
                container.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert container.exec(["true"]).exit_code == 0
        with container.exec(["sleep", "600"], wait=False) as process:
            child = os.fork()
            if child == 0:  # pragma: no cover
                try:
                    process.close()
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            assert process.exit_code is None


def test_a_child_forked_while_another_thread_starts_a_container_can_start_one(image: Image) -> None:
    result = in_program(
        image,
        """
        from pycontainer.runtime import _zygote
        with _zygote._guard:  # as another thread may at that moment
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                code = pc.run(image, ["true"], store=Store.open(store.path)).exit_code
                os._exit(code)
        print(os.waitpid(child, 0)[1])
        """,
    )
    assert result.stdout == "0\n", result


def test_a_full_disk_costs_output_and_not_the_container(image: Image, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", tmp_path], check=True)
    try:
        with Store.open(tmp_path / "store") as store:
            small = busybox_image(store, tmp_path / "busybox")
            script = "echo first; head -c 20000000 /dev/zero; echo last >&2; exit 7"
            with pc.Container.start(small, ["sh", "-c", script], store=store) as container:
                assert container.wait(30) == 7
                assert pc.Container.get(container.id, store=store).exit_code == 7
                assert str(next(container.logs())) == "first"
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_terminal_that_all_have_closed_is_written_to_again(image: Image) -> None:
    """As systemd does: it closes what it was given, and opens the console for each message."""
    script = "exec </dev/null >/dev/null 2>&1; sleep 0.3; echo late >/dev/console; sleep 0.1"
    args = ["sh", "-c", script]
    with pc.Container.start(image, args, tty=True, store=image.store) as box:
        assert box.wait(20) == 0
        assert [str(line).strip() for line in box.logs()] == ["late"]


def test_a_container_may_end_before_it_is_written_down(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[bool] = []
    write = _record.write_record

    def late(home: Path, record: _record.Record) -> None:
        time.sleep(0.05 * len(gone))
        gone.append(not home.exists())
        write(home, record)

    monkeypatch.setattr(_record, "write_record", late)
    for _ in range(12):
        assert pc.run(image, ["true"], store=image.store).exit_code == 0
        assert list(image.store.directory("containers").iterdir()) == []
    assert gone[-1]


@pytest.mark.parametrize("detach", [False, True])
def test_what_cannot_be_written_down_is_undone(
    image: Image, monkeypatch: pytest.MonkeyPatch, *, detach: bool
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(_record, "write_record", full)
        with pytest.raises(OSError, match="No space left"):
            pc.Container.start(image, ["sleep", "60"], detach=detach, store=image.store)
    assert list(image.store.directory("containers").iterdir()) == []
    assert pc.run(image, ["true"], store=image.store).exit_code == 0
