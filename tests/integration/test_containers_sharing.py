"""What containers share: namespaces, mounts, volumes; and a first process that reaps."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve

import pycontainer as pc
from busybox import busybox_image, busybox_tree
from pycontainer import errors
from pycontainer._linux import mount as linux_mount
from pycontainer.content import Store
from pycontainer.images import Image

pytestmark = [pytest.mark.root, pytest.mark.runtimes]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("sharing") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


def sh(image: Image, script: str, **options: object) -> pc.Completed:
    return pc.run(image, ["sh", "-c", script], store=image.store, timeout=30, **options)  # type: ignore[arg-type]


def started(image: Image, script: str, **options: object) -> pc.Container:
    return pc.Container.start(image, ["sh", "-c", script], store=image.store, **options)  # type: ignore[arg-type]


def ns(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


# --- namespaces ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts", "cgroup"])
def test_namespaces_of_the_host(image: Image, kind: str) -> None:
    with (
        started(image, "sleep 60") as private,
        started(image, "sleep 60", namespaces=pc.Namespaces(**{kind: "host"})) as host,
    ):
        assert private.pid
        assert host.pid
        assert ns(host.pid, kind) == ns("self", kind) != ns(private.pid, kind)
        # A command beside it is where it is.
        inside = host.exec(["readlink", f"/proc/self/ns/{kind}"])
        assert inside.stdout.decode().strip() == ns("self", kind)


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts"])
def test_namespaces_of_another_container(image: Image, kind: str) -> None:
    with started(image, "sleep 60", name="first", hostname="one") as first:
        namespaces = pc.Namespaces(**{kind: "container:first"})
        with started(image, "sleep 60", namespaces=namespaces) as second:
            assert first.pid
            assert second.pid
            assert ns(second.pid, kind) == ns(first.pid, kind) != ns("self", kind)
            inside = second.exec(["readlink", f"/proc/self/ns/{kind}"])
            assert inside.stdout.decode().strip() == ns(first.pid, kind)
            if kind == "uts":
                assert second.exec(["hostname"]).stdout == b"one\n"
            if kind == "pid":
                assert second.exec(["cat", "/proc/1/comm"]).stdout == b"sleep\n"
        assert first.state == "running"


def test_shared_memory_is_that_of_the_other(image: Image) -> None:
    with started(image, "echo told > /dev/shm/word; sleep 60", name="first") as first:
        first.wait_ready(lambda c: c.fs.exists("/dev/shm/word"))
        shared = pc.Namespaces(ipc="container:first")
        result = sh(image, "cat /dev/shm/word; echo back > /dev/shm/answer", namespaces=shared)
        assert result.text == "told\n"
        assert first.exec(["cat", "/dev/shm/answer"]).stdout == b"back\n"


def test_processes_are_ended_with_their_container_though_not_with_their_namespace(
    image: Image,
) -> None:
    namespaces = pc.Namespaces(pid="host")
    script = "sleep 4321 & echo $! ; exit 3"
    with started(image, script, namespaces=namespaces) as container:
        assert container.wait(10) == 3
        (line,) = container.logs()
        deadline = time.monotonic() + 5
        while Path(f"/proc/{line}").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not Path(f"/proc/{line}").exists()


@pytest.mark.parametrize(
    ("modes", "error", "match"),
    [
        ({"pid": "hots"}, errors.ContainerError, "pid='hots'"),
        ({"cgroup": "container:first"}, errors.ContainerError, "cgroup='container:first'"),
        ({"ipc": "container:no-such"}, errors.ContainerNotFound, "no-such"),
        ({"user": "container:no-such"}, errors.ContainerNotFound, "no-such"),
        ({"user": "other"}, errors.ContainerError, "user='other'"),
    ],
)
def test_modes_that_do_not_exist(
    image: Image, modes: dict[str, str], error: type[errors.Error], match: str
) -> None:
    with pytest.raises(error, match=match):
        sh(image, "true", namespaces=pc.Namespaces(**modes))


def test_a_container_that_has_ended_shares_nothing(image: Image) -> None:
    with started(image, "exit 0", name="ended") as ended:
        ended.wait(10)
        with pytest.raises(errors.ContainerStateError, match="does not run"):
            sh(image, "true", namespaces=pc.Namespaces(ipc="container:ended"))


def test_shared_names_are_not_set(image: Image) -> None:
    before = os.uname().nodename
    with pytest.raises(errors.ContainerError, match="has none of its own"):
        sh(image, "true", namespaces=pc.Namespaces(uts="host"), hostname="mine")
    assert sh(image, "hostname", namespaces=pc.Namespaces(uts="host")).text.strip() == before
    assert os.uname().nodename == before


# --- the first process -----------------------------------------------------------------------


def test_a_first_process_reaps_and_gives_the_exit_code(image: Image) -> None:
    script = (
        "sh -c 'sleep 0.05 & exit' ; cat /proc/1/comm; sleep 0.2; ps -o stat | grep -c Z; exit 7"
    )
    result = sh(image, script, init=True)
    assert result.text.split() == ["init", "0"]
    assert result.exit_code == 7
    assert sh(image, "kill -9 $$", init=True).exit_code == 128 + signal.SIGKILL


def test_a_first_process_passes_signals_on(image: Image) -> None:
    with started(
        image, "trap 'echo got; exit 4' TERM; while :; do sleep 0.01; done", init=True
    ) as it:
        it.wait_ready(lambda c: len(c.top()) >= 2)
        # Without it nothing that is not handled reaches the first of a process namespace.
        assert it.stop(grace=10) == 4
    with started(image, "sleep 60", init=True) as it:
        it.wait_ready(lambda c: c.top()[-1].args[0] == "sleep")
        assert it.stop(grace=10) == 128 + signal.SIGTERM


@pytest.mark.embedded("the first process is another program")
def test_nobody_inside_gets_at_the_first_process(image: Image) -> None:
    script = "cat /proc/1/environ; readlink /proc/1/exe; head -c 1 /proc/1/mem; id -u"
    result = sh(image, script, init=True)
    assert result.text == "0\n"
    assert result.stderr.count(b"ermission denied") >= 2


def test_a_terminal_interrupts_the_command_once(image: Image) -> None:
    script = "trap 'echo int' INT; echo ready; sleep 0.4; sleep 0.2; echo end"
    with started(image, script, init=True, tty=True) as it:
        it.wait_ready(pc.ready.log("ready"))
        it.write(b"\x03")
        it.wait(10)
        text = "".join(str(line) for line in it.logs())
        assert text.count("int") == 1
        assert "end" in text


@pytest.mark.embedded("its first process ends with 127")
def test_a_command_that_is_not_there_is_told_also_behind_a_first_process(image: Image) -> None:
    with pytest.raises(errors.CommandNotFound):
        pc.run(image, ["no-such"], init=True, store=image.store)


# --- mounts ----------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted_tmpfs(place: Path, propagation: int) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    linux_mount.mount("tmpfs", str(place), "tmpfs")
    try:
        linux_mount.mount(None, str(place), None, propagation)
        yield place
    finally:
        subprocess.run(["umount", "-R", "-l", place], check=True)


def test_later_mounts_of_the_host_show_up_where_asked_for(image: Image, tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "top", linux_mount.MS_SHARED) as top:
        (top / "below").mkdir()
        mounts = [
            pc.Mount.bind(top, "/slave", propagation="rslave"),
            pc.Mount.bind(top, "/private"),
        ]
        with (
            started(image, "sleep 60", mounts=mounts) as it,
            mounted_tmpfs(top / "below", linux_mount.MS_PRIVATE) as later,
        ):
            (later / "file").write_text("late")
            assert it.exec(["cat", "/slave/below/file"]).stdout == b"late"
            assert it.exec(["ls", "/private/below"]).stdout == b""


def test_mounts_of_a_container_show_up_on_the_host_where_asked_for(
    image: Image, tmp_path: Path
) -> None:
    with mounted_tmpfs(tmp_path / "top", linux_mount.MS_SHARED) as top:
        (top / "below").mkdir()
        script = "mount -t tmpfs none /shared/below && echo inside > /shared/below/file"
        security = pc.Security(cap_add=["SYS_ADMIN"])
        shared = pc.Mount.bind(top, "/shared", propagation="rshared")
        assert sh(image, script, mounts=[shared], security=security).exit_code == 0
        assert (top / "below/file").read_text() == "inside\n"
        slave = evolve(shared, propagation="rslave")
        assert sh(image, "umount /shared/below", mounts=[slave], security=security).exit_code == 0
        assert (top / "below/file").exists()


def test_what_is_not_shared_passes_nothing_on(image: Image, tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "top", linux_mount.MS_PRIVATE) as top:
        with pytest.raises(errors.ContainerError, match="make-shared"):
            sh(image, "true", mounts=[pc.Mount.bind(top, "/x", propagation="rshared")])
        with pytest.raises(errors.ContainerError, match="'upwards'"):
            sh(image, "true", mounts=[pc.Mount.bind(top, "/x", propagation="upwards")])  # type: ignore[arg-type]


def test_read_only_counts_for_what_is_mounted_below(image: Image, tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "top", linux_mount.MS_PRIVATE) as top:
        (top / "below").mkdir()
        with mounted_tmpfs(top / "below", linux_mount.MS_PRIVATE):
            script = "touch /x/a; touch /x/below/a; ls /x/below"
            result = sh(image, script, mounts=[pc.Mount.bind(top, "/x", read_only=True)])
            assert result.stderr.count(b"Read-only") == 2
            (top / "below/seen").touch()
            alone = pc.Mount.bind(top, "/x", recursive=False)
            assert sh(image, "ls /x/below", mounts=[alone]).text == ""


def test_owners_are_mapped(image: Image, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("content")
    for path in (tmp_path, tmp_path / "mine"):
        os.chown(path, 1234, 1234)
    (tmp_path / "other").touch()
    mount = pc.Mount.bind(tmp_path, "/data", ids=[pc.IdRange(1234, 0), pc.IdRange(5000, 1000, 10)])
    script = "stat -c %u:%g /data/mine /data/other; echo x > /data/new; stat -c %u /data/new"
    result = sh(image, script, mounts=[mount])
    assert result.text.split() == ["0:0", "65534:65534", "0"]
    assert (tmp_path / "new").stat().st_uid == 1234
    assert sh(image, "id -u; touch /data/b", user="1000", mounts=[mount]).exit_code != 0
    tmp_path.chmod(0o777)
    assert sh(image, "touch /data/by-app", user="1001", mounts=[mount]).exit_code == 0
    assert (tmp_path / "by-app").stat().st_uid == 5001


def test_a_file_system_that_cannot_map_owners_says_so(image: Image) -> None:
    mount = pc.Mount.bind("/proc/sys", "/data", ids=[pc.IdRange(0, 1)])
    with pytest.raises(errors.UnsupportedFeature, match="cannot map owners"):
        sh(image, "true", mounts=[mount])


def test_the_files_of_a_stopped_container_have_the_mapped_owners(
    image: Image, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("content")
    for path in (tmp_path, tmp_path / "mine"):
        os.chown(path, 1234, 1234)
    mount = pc.Mount.bind(tmp_path, "/data", ids=[pc.IdRange(1234, 0)])
    with started(image, "exit 0", mounts=[mount]) as it:
        it.wait(10)
        assert it.fs.read_text("/data/mine") == "content"


# --- volumes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_data(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    root = busybox_tree(tmp_path_factory.mktemp("data"))
    (root / "data/deep").mkdir(parents=True)
    (root / "data/deep/file").write_text("from the image")
    os.link(root / "data/deep/file", root / "data/twin")
    (root / "data/link").symlink_to("/etc/passwd")
    os.setxattr(root / "data/deep/file", "user.mark", b"kept")
    os.chown(root / "data/deep/file", 1000, 2000)
    (root / "data/deep/file").chmod(0o4750)
    os.chown(root / "data", 33, 44)
    (root / "data").chmod(0o2770)
    base = Image.import_rootfs(root, tag="data:base", store=shared)
    return pc.Builder(base).volume("/data", "/scratch").build(tag="data:test", store=shared)


LOOK = "stat -c '%u:%g %a %h' /data/deep/file /data; readlink /data/link; cat /data/twin"
LOOKED = "1000:2000 4750 2\n33:44 2770 3\n/etc/passwd\nfrom the image"


def test_an_empty_volume_gets_what_the_image_has(with_data: Image) -> None:
    volume = pc.Mount.volume("full", "/data")
    assert sh(with_data, LOOK + "; echo new > /data/twin", mounts=[volume]).text == LOOKED
    kept = pc.Volume.get("full", store=with_data.store)
    assert os.getxattr(kept.path / "deep/file", "user.mark") == b"kept"
    # Once there is something in it, that stays.
    assert sh(with_data, "cat /data/deep/file", mounts=[volume]).text == "new\n"
    kept.delete()
    assert pc.Volume.list(store=with_data.store) == ()


def test_a_volume_stays_empty_where_asked_for(with_data: Image) -> None:
    volume = pc.Mount.volume("empty", "/data", copy=False)
    assert sh(with_data, "ls -A /data", mounts=[volume]).text == ""
    elsewhere = pc.Mount.volume("empty", "/no/such/place")
    assert sh(with_data, "ls -A /no/such/place", mounts=[elsewhere]).text == ""
    pc.Volume.get("empty", store=with_data.store).delete()


def test_volumes_of_the_image_go_with_the_container(with_data: Image) -> None:
    with started(with_data, f"{LOOK}; echo mine > /scratch/file; sleep 60") as one:
        one.wait_ready(lambda c: c.fs.exists("/scratch/file"))
        assert "\n".join(map(str, one.logs())) == LOOKED
        assert one.diff() == ()
        one.stop(grace=0)
        assert one.fs.read_text("/scratch/file") == "mine\n"
        one.start()
        with started(with_data, "ls -A /scratch; sleep 60") as two:
            assert two.exec(["ls", "-A", "/scratch"]).stdout == b""
    assert pc.Volume.list(store=with_data.store) == ()
    assert list(with_data.store.directory("containers").iterdir()) == []


def test_what_is_mounted_takes_the_place_of_the_images_volume(
    with_data: Image, tmp_path: Path
) -> None:
    (tmp_path / "own").touch()
    mounts = [pc.Mount.bind(tmp_path, "/data/"), pc.Mount.tmpfs("/scratch/deeper")]
    result = sh(with_data, "ls /data /scratch; mount | grep -c ' /scratch'", mounts=mounts)
    assert result.text.split() == ["/data:", "own", "/scratch:", "deeper", "2"]


def test_many_fill_one_volume_at_once(with_data: Image) -> None:
    volume = pc.Mount.volume("many", "/data")
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: sh(with_data, LOOK, mounts=[volume]).text, range(8)))
    assert set(texts) == {LOOKED}
    pc.Volume.get("many", store=with_data.store).delete()
    assert list(with_data.store.directory("volumes").iterdir()) == []


def test_filling_that_was_cut_off_is_ended_by_the_next(with_data: Image) -> None:
    store = with_data.store
    volume = pc.Volume.create("cut", store=store)
    half, whole = volume.path.parent / ".part-cut", volume.path.parent / ".full-cut"
    half.mkdir()
    (half / "rubbish").touch()
    mount = pc.Mount.volume("cut", "/data")
    assert sh(with_data, LOOK, mounts=[mount]).text == LOOKED
    assert not half.exists()
    # Killed while it moved: one name is in the volume already, the other still beside it.
    whole.mkdir(0o700)
    (volume.path / "deep").rename(whole / "deep")
    whole.chmod(0o2770)
    os.chown(whole, 33, 44)
    whole.chmod(0o2770)
    assert sh(with_data, LOOK, mounts=[mount]).text == LOOKED
    volume.delete()
    assert list(store.directory("volumes").iterdir()) == []


def test_a_part_of_a_volume(image: Image) -> None:
    store = image.store
    whole = pc.Mount.volume("parts", "/v")
    sh(image, "mkdir -p /v/a/b; echo deep > /v/a/b/file; ln -s a/b /v/short", mounts=[whole])
    for subpath in ("a/b", "short"):
        part = pc.Mount.volume("parts", "/part", subpath=subpath)
        assert sh(image, "cat /part/file", mounts=[part]).text == "deep\n"
    file = pc.Mount.volume("parts", "/one", subpath="a/b/file")
    assert sh(image, "cat /one", mounts=[file]).text == "deep\n"
    for subpath, match in (("no", "there is no"), ("../x", "'..'"), ("/a", "relative")):
        with pytest.raises(errors.ContainerError, match=match):
            sh(image, "true", mounts=[pc.Mount.volume("parts", "/part", subpath=subpath)])
    pc.Volume.get("parts", store=store).delete()
