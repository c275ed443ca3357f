"""RUN in real containers, on an image of busybox."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from built_images import contents_of, files_of, layers_of
from pycontainer.build import (
    BuildCache,
    Builder,
    Event,
    VertexCached,
    VertexFinished,
    VertexLog,
    VertexStarted,
)
from pycontainer.content import Store
from pycontainer.errors import BuildError, BuildStepFailed, TimeoutExpired
from pycontainer.images import Image
from pycontainer.layers import Kind

pytestmark = pytest.mark.root

BUSYBOX = shutil.which("busybox") or "/bin/busybox"
APPLETS = """
    sh cat chmod chown cp date echo env false hostname id ls ln mkdir mv pwd rm rmdir sleep stat
    test touch true wget
"""
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"


def make_rootfs(root: Path) -> Path:
    for name in ("bin", "etc", "root", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    for applet in APPLETS.split():
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "tmp").chmod(0o1777)
    return root


@pytest.fixture
def base(store: Store, tmp_path: Path) -> Image:
    make_rootfs(tmp_path / "rootfs")
    return Builder.scratch(context=tmp_path).copy("rootfs", "/").build("busybox", store=store)


def changes(image: Image) -> Mapping[str, Kind]:
    """The entries of the topmost layer."""
    return {path: file.kind for path, file in layers_of(image)[-1].items()}


# --- what becomes a layer ------------------------------------------------------------------------


def test_changes_become_a_layer(base: Image) -> None:
    image = (
        Builder(base)
        .run("mkdir -p /srv/app && echo hello > /srv/app/file && ln -s file /srv/app/link")
        .run("rm /srv/app/link && chmod 600 /srv/app/file && rm -r /root")
        .build()
    )
    assert layers_of(image)[1].keys() == {"srv", "srv/app", "srv/app/file", "srv/app/link"}
    assert layers_of(image)[2].keys() == {
        ".wh.root",
        "srv",
        "srv/app",
        "srv/app/.wh.link",
        "srv/app/file",
    }
    assert layers_of(image)[2]["srv/app/file"].mode == 0o600
    assert contents_of(image)["srv/app/file"] == b"hello\n"
    assert {file.mtime_ns for layer in layers_of(image)[1:] for file in layer.values()} == {0}


def test_directories_keep_their_modes(base: Image) -> None:
    image = Builder(base).run("touch /tmp/x").build()
    assert layers_of(image)[-1]["tmp"].mode == 0o1777


@pytest.mark.parametrize(
    "command",
    ["true", "touch /tmp/x && rm /tmp/x", "echo out", "ls /proc/self /sys /dev > /dev/null"],
)
def test_a_command_without_changes_makes_no_layer(base: Image, command: str) -> None:
    image = Builder(base).run(command).build()
    assert image.layers == base.layers
    assert image.history[-1].empty_layer
    assert image.history[-1].created_by == f"RUN /bin/sh -c {command}"


def test_mount_points_stay_out_of_layers(store: Store, tmp_path: Path) -> None:
    rootfs = make_rootfs(tmp_path / "rootfs")
    (rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolv.conf")
    base = Builder.scratch(context=tmp_path).copy("rootfs", "/")
    image = base.run("true").run("touch /etc/new").build(store=store)
    assert changes(image) == {"etc": Kind.DIRECTORY, "etc/new": Kind.FILE}
    assert len(image.layers) == 2


def test_a_replaced_directory_hides_what_was_in_it(base: Image) -> None:
    builder = Builder(base).run("mkdir /d && touch /d/old").run("rm -r /d && mkdir /d")
    image = builder.run("echo /d/* > /seen").build()
    assert contents_of(image)["seen"] == b"/d/*\n"


def test_a_run_on_many_layers(base: Image) -> None:
    builder = Builder(base)
    for number in range(8):
        builder = builder.run(f"echo {number} >> /log")
    image = builder.build()
    assert layers_of(image)[-1]["log"].content == b"".join(b"%d\n" % n for n in range(8))


# --- how a command runs --------------------------------------------------------------------------


def test_a_command_runs_as_the_image_says(base: Image) -> None:
    image = (
        Builder(base)
        .env({"A": "image", "B": "image"})
        .workdir("/home/app")
        .run(["chown", "app:1001", "."])
        .user("app")
        .run("echo $(id -u):$(id -g) $A $B $HOME $(pwd) $(hostname) > seen", env={"B": "run"})
        .build()
    )
    seen = files_of(image)["home/app/seen"]
    assert seen.content == b"1000:1001 image run /home/app /home/app build\n"
    assert seen.owner == (1000, 1001)
    assert "B=run" not in image.config.config.env
    assert image.history[-1].created_by.startswith("RUN |1 B=run /bin/sh -c echo")


def test_the_images_shell_runs_texts(base: Image) -> None:
    image = Builder(base).shell(["/bin/busybox", "env", "X=1", "sh", "-c"]).run("echo $X > /x")
    assert contents_of(image.build())["x"] == b"1\n"


def test_without_network_there_is_only_loopback(base: Image) -> None:
    see = "ls /sys/class/net > /net; cat /etc/resolv.conf > /resolv; cat /etc/hosts > /hosts"
    contents = contents_of(Builder(base).run(see, network="none").build())
    assert contents["net"] == b"lo\n"
    assert contents["resolv"] == b""
    assert b"127.0.0.1\tlocalhost" in contents["hosts"]


def test_with_the_hosts_network_its_names_are_known(base: Image) -> None:
    contents = contents_of(Builder(base).run("cat /etc/resolv.conf > /resolv").build())
    host = Path("/etc/resolv.conf")
    assert contents["resolv"] == (host.read_bytes() if host.exists() else b"")


def test_output_comes_as_events(base: Image) -> None:
    events: list[Event] = []
    builder = Builder(base).run("echo one; echo 'zwei \u00fc' >&2; sleep 0.2; echo three")
    builder.build(progress=events.append)
    logs = [event for event in events if isinstance(event, VertexLog)]
    assert "".join(log.text for log in logs if log.stream == "stdout") == "one\nthree\n"
    assert "".join(log.text for log in logs if log.stream == "stderr") == "zwei \u00fc\n"
    assert {log.vertex for log in logs} == {builder.target.digest}


# --- failures ------------------------------------------------------------------------------------


def test_a_failing_command(base: Image) -> None:
    events: list[Event] = []
    script = "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; echo bad >&2; exit 3"
    with pytest.raises(BuildStepFailed) as caught:
        Builder(base).run(script).run("touch /never").build(progress=events.append)
    error = caught.value
    assert error.exit_code == 3
    assert error.command == ("/bin/sh", "-c", script)
    assert error.output.endswith("line 49\nbad")
    assert "line 5\n" not in error.output
    assert "exit code 3" in str(error)
    assert "exit 3" in str(error)
    started = [event.title for event in events if isinstance(event, VertexStarted)]
    assert "RUN touch /never" not in started


def test_a_failing_command_is_run_again(base: Image) -> None:
    builder = Builder(base).run("false")
    for _ in range(2):
        with pytest.raises(BuildStepFailed):
            builder.build()


@pytest.mark.parametrize(("command", "code"), [("/bin/gone", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_start(base: Image, command: str, code: int) -> None:
    with pytest.raises(BuildStepFailed, match="cannot start") as caught:
        Builder(base).run([command]).build()
    assert caught.value.exit_code == code


def test_an_unknown_user(base: Image) -> None:
    with pytest.raises(BuildError, match=r"RUN true: user 'nobody' .*passwd"):
        Builder(base).user("nobody").run("true").build()


def test_time_is_up(base: Image, store: Store) -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutExpired):
        Builder(base).run("sleep 60").build(timeout=0.5)
    assert time.monotonic() - begun < 20
    assert list((store.path / "tmp").iterdir()) == []


def test_a_failure_ends_what_runs_beside_it(base: Image) -> None:
    slow = Builder(base).run("sleep 60; touch /x")
    bad = Builder(base).run("sleep 0.3; exit 9")
    both = Builder(base).copy("/x", "/", from_=slow).copy("/x", "/", from_=bad)
    begun = time.monotonic()
    with pytest.raises(BuildStepFailed) as caught:
        both.build()
    assert caught.value.exit_code == 9
    assert time.monotonic() - begun < 20


# --- cache, stages, digests ----------------------------------------------------------------------


def titles(events: list[Event], kind: type[Event]) -> list[str]:
    return [event.title for event in events if isinstance(event, kind)]


def test_a_second_build_runs_nothing(base: Image, store: Store) -> None:
    builder = Builder(base).run("date > /when").run("echo 1 > /x", env={"A": "1"})
    first = builder.build()
    store.collect()
    events: list[Event] = []
    second = builder.label({"new": "label"}).build(progress=events.append)
    assert titles(events, VertexCached) == ["RUN date > /when", "RUN echo 1 > /x"]
    assert titles(events, VertexLog) == []
    assert second.layers == first.layers


def test_what_makes_a_command_run_again(base: Image) -> None:
    def ran(builder: Builder, *, use_cache: bool = True) -> bool:
        events: list[Event] = []
        builder.build(progress=events.append, use_cache=use_cache)
        return titles(events, VertexFinished)[-1] not in titles(events, VertexCached)

    begin = Builder(base)
    assert ran(begin.run("true"))
    assert not ran(begin.run("true"))
    assert not ran(begin.label({"a": "b"}).cmd(["x"]).run("true"))
    assert ran(begin.run("true"), use_cache=False)
    assert ran(begin.run("true "))
    assert ran(begin.run(["true"]))
    assert ran(begin.run("true", network="none"))
    assert ran(begin.run("true", env={"A": "1"}))
    assert ran(begin.env({"A": "1"}).run("true"))
    assert ran(begin.user("app").run("true"))
    assert ran(begin.workdir("/tmp").run("true"))
    assert ran(begin.run("touch /other").run("true"))


def test_a_pruned_cache_runs_again_to_the_same_digest(base: Image, store: Store) -> None:
    builder = Builder(base).run("echo x > /x")
    first = builder.build()
    first.delete()
    BuildCache(store).prune()
    assert store.collect().freed > 0
    assert builder.build().digest == first.digest


def test_independent_stages_run_at_the_same_time(base: Image) -> None:
    events: list[Event] = []
    commands = [f"sleep 1; echo {name} > /{name}" for name in ("one", "two")]
    one, two = (Builder(base).run(command) for command in commands)
    builder = Builder(base).copy("/one", "/", from_=one).copy("/two", "/", from_=two)
    image = builder.build(progress=events.append)
    assert contents_of(image)["one"] == b"one\n"
    assert contents_of(image)["two"] == b"two\n"
    order = [
        type(event)
        for event in events
        if isinstance(event, VertexStarted | VertexFinished) and event.title.startswith("RUN")
    ]
    assert order == [VertexStarted, VertexStarted, VertexFinished, VertexFinished]


def test_stages_that_nobody_needs_do_not_run(base: Image) -> None:
    Builder(base).run("false")
    stage = Builder(base).run("echo 1 > /x")
    stage.run("false")
    assert "x" in files_of(Builder.scratch().copy("/x", "/", from_=stage).build(store=base.store))


def test_squashing_keeps_deletions_and_links(base: Image) -> None:
    builder = (
        Builder(base)
        .run("mkdir /d && echo 1 > /d/one && ln /d/one /d/twin && echo 2 > /gone")
        .run("rm /gone /etc/passwd && rm -r /tmp && echo 3 > /tmp && ln -s one /d/link")
        .run("rm -r /root && mkdir /root && touch /root/new")
    )
    long, short = builder.build(), builder.build(squash=True)
    assert len(short.layers) == len(base.layers) + 1
    found = changes(short)
    assert "gone" not in found
    assert found["etc/.wh.passwd"] is Kind.FILE
    assert found["tmp"] is Kind.FILE
    assert {found["d/one"], found["d/twin"]} == {Kind.FILE, Kind.HARD_LINK}
    listing = "stat -c '%A %u:%g %Y %N' /d /d/* /root /root/* /tmp /bin/*; ls -a /"
    texts = []
    for image in (long, short):
        events: list[Event] = []
        Builder(image).run(listing).build(progress=events.append)
        texts.append("".join(event.text for event in events if isinstance(event, VertexLog)))
    assert "new" in texts[0]
    assert texts[0] == texts[1]


def test_one_digest_in_two_stores(tmp_path: Path) -> None:
    digests = set()
    for name in ("first", "second"):
        place = tmp_path / name / "deeper"
        rootfs = make_rootfs(place / "rootfs")
        for path in rootfs.rglob("*"):
            os.utime(path, (len(name), len(name)), follow_symlinks=False)
        with Store.open(tmp_path / f"store-{name}") as store:
            builder = (
                Builder.scratch(context=place)
                .copy("rootfs", "/")
                .run("mkdir -p /srv/a /srv/b && echo 1 > /srv/a/one && cp /srv/a/one /srv/b/")
                .run("rm /srv/a/one && mv /srv/b /srv/c")
            )
            image = builder.build(store=store)
            digests.add(image.digest)
        time.sleep(1.1)  # files of the second build have other times
    assert len(digests) == 1


# --- death ---------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "build.py"
    path.write_text(
        textwrap.dedent(
            """
            import sys
            from pycontainer.build import Builder
            from pycontainer.content import Store

            with Store.open(sys.argv[1]) as store:
                builder = Builder("busybox").run("echo 1 > /one").run("echo started; sleep 60")
                builder.build(store=store, progress=lambda e: print(getattr(e, "text", ""), flush=True))
            """
        )
    )
    return path


def test_a_killed_build_leaves_only_what_is_collected(
    base: Image, store: Store, script: Path
) -> None:
    command = [sys.executable, str(script), str(store.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "started" in line:
                break
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while list((store.path / "tmp").glob("*/container")):  # its monitor removes that last
        assert time.monotonic() < deadline
        time.sleep(0.02)
    store.collect()
    assert list((store.path / "tmp").iterdir()) == []
    # What was finished is of use to the next build.
    events: list[Event] = []
    Builder(base).run("echo 1 > /one").build(progress=events.append)
    assert titles(events, VertexCached) == ["RUN echo 1 > /one"]


@pytest.fixture
def many_steps(tmp_path: Path) -> Path:
    path = tmp_path / "steps.py"
    path.write_text(
        textwrap.dedent(
            """
            import sys
            from pycontainer.build import Builder
            from pycontainer.content import Store

            with Store.open(sys.argv[1]) as store:
                builder = Builder("busybox")
                for i in range(6):
                    builder = builder.run(f"mkdir /d{i}; echo {i} > /d{i}/f; date > /when")
                image = builder.build(store=store, progress=lambda e: print("event", flush=True))
                print(image.digest)
            """
        )
    )
    return path


def test_builds_killed_anywhere_leave_a_cache_to_go_on_from(
    base: Image, store: Store, many_steps: Path
) -> None:
    command = [sys.executable, str(many_steps), str(store.path)]
    for lines in (2, 3, 5, 9, 12):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(lines):
                process.stdout.readline()
            time.sleep(lines % 3 * 0.004)
            process.send_signal(signal.SIGKILL)
        assert str(store.path) not in Path("/proc/self/mountinfo").read_text()
    before = len(BuildCache(store).entries())
    assert before >= 3  # beside the base's
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    assert len(BuildCache(store).entries()) == 7
    store.collect()
    deadline = time.monotonic() + 10
    while list((store.path / "tmp").iterdir()):  # until the monitors of killed builds have gone
        assert time.monotonic() < deadline
        time.sleep(0.02)
        store.collect()
    image = Image.get(done.stdout.split()[-1], store=store)
    assert contents_of(image)["d5/f"] == b"5\n"
    assert list((store.path / "build").iterdir()) == []


def test_builds_in_threads_share_a_store(base: Image) -> None:
    images: list[Image] = []
    builder = Builder(base).run("echo 1 > /x").run("echo 2 > /y")
    threads = [threading.Thread(target=lambda: images.append(builder.build())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(images) == 3
    assert len({image.digest for image in images}) == 1
