"""The same calls as an ordinary user: a program of theirs, run by root for the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from ordinary import UID, Ordinary, ordinary_user

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Ordinary]:
    with ordinary_user() as user:
        yield user


def script(ordinary: Ordinary, text: str) -> str:
    result = ordinary.run("-W", "error", "-c", PRELUDE + text)
    assert result.returncode == 0, result.stderr
    return result.stdout


PRELUDE = """
import os
import shutil
import pycontainer as pc
image = pc.Image.from_interpreter(tag="python:here")
def py(code, **options):
    return pc.run(image, ["python", "-c", code], timeout=60, **options)
"""


def test_the_demo_does_the_whole_job(ordinary: Ordinary) -> None:
    result = ordinary.run("-m", "pycontainer", "demo")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_doctor_finds_nothing_that_is_needed_missing(ordinary: Ordinary) -> None:
    result = ordinary.run("-m", "pycontainer", "doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "an ordinary user" in result.stdout
    assert "overlayfs at the store: mounts" in result.stdout


def test_root_inside_is_the_user_outside(ordinary: Ordinary) -> None:
    out = script(
        ordinary,
        """
os.mkdir("shared")
result = py(
    "import os; print(os.getuid(), os.getpid()); open('/shared/new', 'w').close()",
    mounts=[pc.Mount.bind("shared", "/shared")],
    check=True,
)
print(result.text.strip(), os.stat("shared/new").st_uid)
""",
    )
    assert out.split() == ["0", "1", str(UID)]


def test_containers_start_exec_and_stop(ordinary: Ordinary) -> None:
    out = script(
        ordinary,
        """
code = "import time; print('up', flush=True); time.sleep(100)"
with pc.Container.start(image, ["python", "-c", code]) as c:
    print(next(c.logs(follow=True)))
    print(c.exec(["python", "-c", "print(6 * 7)"], check=True).stdout.decode().strip())
    print(c.stop(0.1))
print(pc.Container.list(all=True))
""",
    )
    assert out.split() == ["up", "42", "137", "()"]


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_another_runtime_starts_them_too(ordinary: Ordinary, runtime: str) -> None:
    if not shutil.which(runtime):
        pytest.skip(f"not installed: {runtime}")
    out = script(
        ordinary,
        f"""
options = {{"runtime": {runtime!r}}}
code = "import os; print(os.getuid(), os.getpid(), os.isatty(0)); raise SystemExit(5)"
print(py(code, tty=True, **options).exit_code, py(code, **options).text.strip())
code = "import time; print('up', flush=True); time.sleep(100)"
with pc.Container.start(image, ["python", "-c", code], init=True, **options) as c:
    print(next(c.logs(follow=True)))
    print(c.exec(["python", "-c", "print(6 * 7)"], check=True).stdout.decode().strip())
    print(c.stop(0.1))
print(pc.Container.list(all=True))
""",
    )
    assert out.split() == ["5", "0", "1", "False", "up", "42", "143", "()"]


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_what_another_runtime_created_is_found_though_the_monitor_was_killed(
    ordinary: Ordinary, runtime: str
) -> None:
    """Killed as soon as the process is there: nothing but the runtime's own state tells of it."""
    real = shutil.which(runtime)
    if not real:
        pytest.skip(f"not installed: {runtime}")
    place = ordinary.packages.parent / f"deadly-{runtime}"
    place.mkdir()
    shim = place / runtime
    shim.write_text(KILLS_ITS_PARENT.format(real=real))
    shim.chmod(0o755)
    out = script(
        ordinary,
        f"""
os.environ["PATH"] = {str(place)!r} + ":" + os.environ["PATH"]
try:
    pc.Container.start(image, ["python"], runtime={runtime!r}, name="lost", detach=True)
except pc.errors.Error as error:
    print(type(error).__name__)
own = os.readlink("/proc/self/ns/pid")
def inside():
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            state = open(f"/proc/{{process}}/stat").read().rpartition(")")[2].split()[0]
            apart = os.readlink(f"/proc/{{process}}/ns/pid") != own
        except OSError:  # gone, or another user's
            continue
        if apart and state not in "ZX":
            found.append(process)
    return found
with pc.Store.open(pc.Store.default().path) as store:
    for container in pc.Container.list(all=True, store=store):
        container.delete(force=True)
print(pc.Container.list(all=True), inside())
""",
    )
    assert out.split()[1:] == ["()", "[]"]


KILLS_ITS_PARENT = """#!/bin/sh
{real} "$@" || exit
case " $* " in *" create "*) kill -9 $PPID ;; esac
"""


def test_files_of_running_and_stopped_containers(ordinary: Ordinary) -> None:
    out = script(
        ordinary,
        """
code = "import time; print('up', flush=True); time.sleep(100)"
os.mkdir("src")
open("src/file", "w").write("copied")
with pc.Container.start(image, ["python", "-c", code]) as c:
    next(c.logs(follow=True))
    for word in ("running", "stopped"):
        c.fs.write_text(f"/{word}", word)
        c.fs.copy_in("src", f"/in-{word}")
        c.fs.copy_out(f"/in-{word}", f"out-{word}")
        print(c.fs.read_text(f"/{word}"), open(f"out-{word}/file").read())
        c.stop(0.1)
    print(sorted(change.path for change in c.diff() if change.path.count("/") == 1))
    c.export("all.tar")
    made = c.commit(tag="made:1")
print(pc.run(made, ["python", "-c", "print(open('/stopped').read())"]).text)
""",
    )
    first, second, third, *rest = out.splitlines()
    assert (first, second) == ("running copied", "stopped copied")
    assert third == str(sorted(["/running", "/stopped", "/in-running", "/in-stopped"]))
    assert rest[0] == "stopped"


def test_another_user_inside_is_refused_with_a_reason(ordinary: Ordinary) -> None:
    out = script(
        ordinary,
        """
try:
    py("pass", user="65534")
except pc.errors.UnsupportedFeature as error:
    print(error)
""",
    )
    assert "only one user, root" in out
    assert "remedy: run as user 0" in out


def test_a_limit_without_delegation_is_refused_with_a_reason(ordinary: Ordinary) -> None:
    out = script(
        ordinary,
        """
try:
    py("pass", memory=1 << 28)
except pc.errors.UnsupportedFeature as error:
    print(error.feature, "|", error.reason, "|", error.remedy)
""",
    )
    assert "memory" in out
    assert len(out.split("|")) == 3


def test_owners_survive_a_round_trip_through_a_users_store(ordinary: Ordinary) -> None:
    out = script(
        ordinary,
        """
from pycontainer.layers import Entry, Kind, Ownership, pack, unpack, walk_tree
from pycontainer.content import BlobDir
from pathlib import Path
entries = [
    Entry(b"", Kind.DIRECTORY, 0o755),
    Entry(b"device", Kind.CHARACTER_DEVICE, 0o600, 0, 6, major=1, minor=3),
    Entry(b"file", Kind.FILE, 0o400, 1000, 2000, size=3, content=lambda: iter([b"abc"])),
]
blobs = BlobDir(Path("blobs"))
with blobs.writer() as writer:
    packed = pack(entries, writer)
Path("tree").mkdir()
with blobs.open(packed.descriptor.digest) as blob:
    unpack(blob, Path("tree"))
with blobs.writer() as writer:
    again = pack(walk_tree(Path("tree"), ownership=Ownership.USER), writer)
print(packed.diff_id == again.diff_id)
""",
    )
    assert out.strip() == "True"


def test_a_container_is_reached_without_a_network(ordinary: Ordinary) -> None:
    out = script(
        ordinary,
        """
code = ["python", "-m", "http.server", "8000"]
with pc.Container.start(image, code, ready=pc.ready.port(8000)) as c, c.connect(8000) as connection:
    connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print(connection.recv(100).split(b"\\r\\n")[0].decode())
os.environ["PATH"] = "/nowhere"
try:
    py("pass", network="bridge")
except pc.errors.UnsupportedFeature as error:
    print(error)
print(os.listdir(pc.Store.default().path / "containers"))
""",
    )
    answer, refusal, left = out.splitlines()
    assert answer.endswith("200 OK")
    assert "neither pasta nor slirp4netns is installed" in refusal
    assert "Container.connect" in refusal
    assert left == "[]"


def test_options_work_where_the_kernel_lets_an_ordinary_user(ordinary: Ordinary) -> None:
    out = script(
        ordinary,
        """
os.makedirs("copied/data/deep")
open("copied/data/deep/file", "w").write("from the image")
built = pc.Builder(image).copy("copied", "/").volume("/data").build(tag="data:test")
look = "print(open('/data/deep/file').read()); open('/data/new', 'w')"
for volume in (None, "kept"):
    mounts = [pc.Mount.volume(volume, "/data")] if volume else []
    done = pc.run(built, ["python", "-c", look], mounts=mounts, timeout=60, check=True)
    print(done.text.strip())
print(sorted(os.listdir(pc.Volume.get("kept").path)))
print(py("import sys; sys.exit(7)", init=True).exit_code)
for security in (
    pc.Security(devices=["/dev/zero"], cap_drop=["ALL"]),
    pc.Security(seccomp="unconfined"),
    pc.Security(privileged=True),
):
    code = "print(len(open('/dev/zero', 'rb').read(3)))"
    print(py(code, security=security, check=True).text.strip())
names = pc.Names(domainname="d.example", extra_hosts={"db": "10.0.0.5"})
print(py("import socket; print(socket.gethostbyname('db'))", names=names).text.strip())
for namespaces in (pc.Namespaces(pid="host"), pc.Namespaces(user="host")):
    try:
        py("pass", namespaces=namespaces)
    except pc.errors.UnsupportedFeature as error:
        print(error.feature.split(" ")[-1])
""",
    )
    assert out.splitlines() == [
        "from the image",
        "from the image",
        "['deep', 'new']",
        "7",
        "3",
        "3",
        "3",
        "10.0.0.5",
        "container",
        "container",
    ]


KILLED = """
import pycontainer.containers._home as home
from pycontainer.runtime import _zygote
head, _, main = _zygote._BOOT.rpartition("; ")
_zygote._BOOT = head + '; import os; from pycontainer.runtime._inside import files; ' + \
    f'real = files.{step}; files.{step} = lambda n, *data: ' + \
    'os.kill(os.getpid(), 9) if n == "state.json" else real(n, *data); ' + main
home._YOUNG_SECONDS = 0
mark = os.urandom(8).hex()
command = ["python", "-c", "import time; time.sleep(600)", mark]
def running():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\\0")
            state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark.encode() in line and state not in "ZX":
            found.append(pid)
    return found
"""


@pytest.mark.parametrize("step", ["prepare", "publish"])
@pytest.mark.parametrize("detach", [False, True])
def test_a_monitor_killed_as_the_command_begins_leaves_no_process(
    ordinary: Ordinary, detach: bool, step: str
) -> None:
    out = script(
        ordinary,
        f"step = {step!r}\n"
        + KILLED
        + f"""
try:
    pc.Container.start(image, command, detach={detach}, name="victim")
except pc.errors.StartError as error:
    print(error)
with pc.Store.open(pc.Store.default().path) as again:
    print(pc.Container.list(all=True, store=again), running())
""",
    )
    assert "monitor was killed" in out
    assert out.endswith("() []\n"), out
