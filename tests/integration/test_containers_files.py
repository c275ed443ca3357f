"""A container's files from outside: `Container.fs`, diff, commit and export, on a real kernel."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

import pycontainer as pc
from busybox import busybox_image
from pycontainer import errors
from pycontainer.content import Store
from pycontainer.images import Image

pytestmark = [pytest.mark.root, pytest.mark.runtimes]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("files") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


@pytest.fixture(params=["running", "stopped"])
def container(image: Image, request: pytest.FixtureRequest) -> Iterator[pc.Container]:
    with started(image, "sleep 600") as container:
        if request.param == "stopped":
            container.kill()
            container.wait(10)
        yield container


def started(image: Image, script: str, **options: object) -> pc.Container:
    return pc.Container.start(image, ["sh", "-c", script], store=image.store, **options)  # type: ignore[arg-type]


def appears(container: pc.Container, path: str) -> None:
    deadline = time.monotonic() + 10
    while not container.fs.exists(path):
        assert time.monotonic() < deadline, f"{path} does not appear"


# --- files -----------------------------------------------------------------------------------


def test_what_is_written_is_read(container: pc.Container) -> None:
    container.fs.write_text("/etc/motd", "grüezi\n")
    container.fs.write_bytes("data", b"\0\1", mode=0o600)
    assert container.fs.read_text("/etc/motd") == "grüezi\n"
    assert container.fs.read_bytes(PurePosixPath("/data")) == b"\0\1"
    assert stat.S_IMODE(container.fs.stat("/data").st_mode) == 0o600
    container.fs.write_text("/data", "shorter")
    assert container.fs.read_text("/data") == "shorter"
    assert stat.S_IMODE(container.fs.stat("/data").st_mode) == 0o600


def test_the_container_sees_what_is_written_and_the_other_way_round(image: Image) -> None:
    with started(image, "echo inside > /from; touch /done; sleep 600") as container:
        container.fs.write_text("/to", "outside")
        assert container.exec(["cat", "/to"]).stdout == b"outside"
        appears(container, "/done")
        assert container.fs.read_text("/from") == "inside\n"


def test_directories(container: pc.Container) -> None:
    fs = container.fs
    fs.mkdir("/a/b/c", parents=True, mode=0o750)
    fs.mkdir("/a/b/c", exist_ok=True)
    with pytest.raises(errors.ContainerFileError, match="exists"):
        fs.mkdir("/a/b/c")
    fs.write_text("/a/b/file", "")
    assert list(fs.iterdir("/a/b")) == [PurePosixPath("/a/b/c"), PurePosixPath("/a/b/file")]
    assert (fs.is_dir("/a/b"), fs.is_file("/a/b"), fs.is_file("/a/b/file")) == (True, False, True)
    with pytest.raises(errors.ContainerFileError, match="not empty"):
        fs.remove("/a")
    fs.remove("/a/b/file")
    fs.remove("/a", recursive=True)
    assert not fs.exists("/a")


def test_what_is_not_there_is_not_found(container: pc.Container) -> None:
    assert not container.fs.exists("/none")
    assert not container.fs.exists("/etc/passwd/none")
    with pytest.raises(errors.ContainerFileNotFound, match="/none of container") as caught:
        container.fs.read_bytes("/none")
    assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(errors.ContainerFileNotFound):
        container.fs.write_bytes("/none/file", b"")
    with pytest.raises(errors.ContainerFileError, match="directory"):
        container.fs.read_bytes("/etc")


def test_symlinks_lead_to_places_in_the_container(container: pc.Container) -> None:
    fs = container.fs
    fs.mkdir("/evil")
    with container_root(container) as root:
        os.symlink("/etc/passwd", root / "evil/absolute")
        os.symlink("../../../../../etc/passwd", root / "evil/upwards")
        os.symlink("/evil/none/file", root / "evil/dangling")
        os.symlink("/evil/loop", root / "evil/loop")
    for name in ("absolute", "upwards"):
        assert "app:x:1000" in fs.read_text(f"/evil/{name}")
    assert fs.readlink("/evil/upwards") == "../../../../../etc/passwd"
    assert not fs.exists("/evil/dangling")
    assert not fs.exists("/evil/loop")
    fs.write_text("/evil/absolute", "mine")
    assert fs.read_text("/etc/passwd") == "mine"
    assert "root" in Path("/etc/passwd").read_text()
    assert fs.read_text("/../../etc/passwd") == "mine"


class container_root:  # noqa: N801  (a context manager that stands for a function)
    """The container's root on the host, by the way that the kernel keeps for a running one."""

    def __init__(self, container: pc.Container) -> None:
        self.container = container

    def __enter__(self) -> Path:
        if self.container.pid is not None:
            return Path(f"/proc/{self.container.pid}/root")
        return Path(self.container._record.rootfs["upper"])

    def __exit__(self, *exception: object) -> None:
        pass


def test_devices_and_fifos_are_not_opened(image: Image) -> None:
    with started(image, "mkfifo /fifo; mknod /disk b 1 0; touch /done; sleep 600") as container:
        appears(container, "/done")
        for name in ("/fifo", "/disk", "/dev/zero"):
            with pytest.raises(errors.ContainerFileError, match="not a regular file"):
                container.fs.read_bytes(name)
            with pytest.raises(errors.ContainerFileError, match="not a regular file"):
                container.fs.write_bytes(name, b"")


@pytest.mark.parametrize("stop", [False, True])
def test_volumes_and_binds_are_seen(image: Image, tmp_path: Path, stop: bool) -> None:
    (tmp_path / "host").write_text("from the host")
    mounts = [pc.Mount.volume("files-seen", "/vol"), pc.Mount.bind(tmp_path, "/bound")]
    with started(
        image, "echo in > /vol/file; touch /vol/done; sleep 600", mounts=mounts
    ) as container:
        appears(container, "/vol/done")
        if stop:
            container.kill()
            container.wait(10)
        assert container.fs.read_text("/vol/file") == "in\n"
        assert container.fs.read_text("/bound/host") == "from the host"
        container.fs.write_text("/vol/more", "out")
        assert (pc.Volume.get("files-seen", store=image.store).path / "more").read_text() == "out"
    pc.Volume.get("files-seen", store=image.store).delete()


def test_files_of_a_container_that_is_gone(image: Image) -> None:
    with started(image, "sleep 600") as container:
        pass
    with pytest.raises(errors.ContainerStateError, match="gone"):
        container.fs.read_bytes("/etc/passwd")


def test_a_stopped_container_leaves_no_mount(image: Image) -> None:
    with started(image, "exit 0") as container:
        container.wait(10)
        container.fs.write_text("/file", "")
        mounts = Path("/proc/self/mountinfo").read_text()
        assert container.id not in mounts


# --- copying ---------------------------------------------------------------------------------


def tree(place: Path) -> Path:
    (place / "src/sub").mkdir(parents=True)
    (place / "src/sub/file").write_text("content")
    (place / "src/run").write_text("#!/bin/sh\n")
    (place / "src/run").chmod(0o4755)
    (place / "src/link").symlink_to("sub/file")
    os.chown(place / "src/sub/file", 1234, 1234)
    return place / "src"


def test_copy_in_makes_into_and_replaces(container: pc.Container, tmp_path: Path) -> None:
    source, fs = tree(tmp_path), container.fs
    fs.copy_in(source, "/new")  # not there: becomes it
    assert fs.read_text("/new/sub/file") == "content"
    assert fs.readlink("/new/link") == "sub/file"
    fs.copy_in(source, "/tmp")  # there: goes into it
    assert fs.read_text("/tmp/src/sub/file") == "content"
    assert stat.S_IMODE(fs.stat("/tmp").st_mode) == 0o1777
    fs.copy_in(f"{source}/.", "/home")  # its content
    assert fs.read_text("/home/sub/file") == "content"
    fs.copy_in(source / "sub/file", "/tmp/src/run")  # a file in place of a file
    assert fs.read_text("/tmp/src/run") == "content"
    with pytest.raises(errors.ContainerFileNotFound):
        fs.copy_in(source, "/none/new")
    with pytest.raises(errors.ContainerFileError, match="not a directory"):
        fs.copy_in(source / "run", "/none/")
    with pytest.raises(errors.ContainerFileError, match="upwards"):
        fs.copy_in(source / "run", "/tmp/../x")


def test_copied_in_files_belong_to_root_unless_archived(
    container: pc.Container, tmp_path: Path
) -> None:
    source, fs = tree(tmp_path), container.fs
    fs.copy_in(source, "/plain")
    fs.copy_in(source, "/archive", archive=True)
    assert (fs.stat("/plain/sub/file").st_uid, fs.stat("/archive/sub/file").st_uid) == (0, 1234)
    modes = [stat.S_IMODE(fs.stat(f"/{name}/run").st_mode) for name in ("plain", "archive")]
    assert modes == [0o755, 0o4755]


def test_copy_out(image: Image, tmp_path: Path) -> None:
    script = """
        mkdir -p /out/sub; echo content > /out/sub/file; chown 1000:1000 /out/sub/file
        chmod 4755 /out/sub/file; ln -s /etc/passwd /out/link; mknod /out/disk b 1 0
        touch /done; sleep 600
    """
    with started(image, script) as container:
        appears(container, "/done")
        container.fs.copy_out("/out", tmp_path / "copy")
        assert (tmp_path / "copy/sub/file").read_text() == "content\n"
        status = (tmp_path / "copy/sub/file").stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o755)
        assert os.readlink(tmp_path / "copy/link") == "/etc/passwd"
        assert not (tmp_path / "copy/disk").exists()
        container.fs.copy_out("/out/sub/file", tmp_path)
        assert (tmp_path / "file").read_text() == "content\n"
        container.fs.copy_out("/out/link", tmp_path)
        assert os.readlink(tmp_path / "link") == "/etc/passwd"
        container.fs.copy_out("/out/.", tmp_path / "copy")
        assert not (tmp_path / "copy/out").exists()
        container.fs.copy_out("/out", tmp_path, archive=True)
        status = (tmp_path / "out/sub/file").stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (1000, 0o4755)
        assert container.exec(["true"]).exit_code == 0  # it does not stand still any more


def test_copies_do_not_follow_planted_links(image: Image, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("new")
    with started(image, "sleep 600") as container:
        container.exec(["ln", "-s", "/", "/root/way"], check=True)
        container.exec(["ln", "-s", str(tmp_path), "/root/host"], check=True)
        container.fs.copy_in(tmp_path / "file", "/root/way/etc/copied")
        assert container.fs.read_text("/etc/copied") == "new"
        assert not Path("/etc/copied").exists()
        with pytest.raises(errors.ContainerFileNotFound):
            container.fs.read_text("/root/host/file")
        container.fs.copy_out("/root/host", tmp_path / "copied")
        assert (tmp_path / "copied").is_symlink()


# --- diff, commit, export --------------------------------------------------------------------


def test_diff_tells_what_was_added_modified_and_deleted(image: Image) -> None:
    script = """
        echo x > /home/new; rm /etc/group; echo y >> /etc/passwd; mkdir /made
        rm -r /var; mkdir /var; rm /bin/yes; touch /done; sleep 600
    """
    with started(image, script) as container:
        appears(container, "/done")
        changes = {change.path: change.kind for change in container.diff()}
        assert changes == {
            "/home": "modified",
            "/home/new": "added",
            "/etc": "modified",
            "/etc/group": "deleted",
            "/etc/passwd": "modified",
            "/made": "added",
            "/var": "modified",
            "/bin": "modified",
            "/bin/yes": "deleted",
            "/done": "added",
        }
        container.kill()
        container.wait(10)
        assert {change.path: change.kind for change in container.diff()} == changes


def test_the_content_of_a_replaced_directory_is_deleted(image: Image) -> None:
    script = """
        cp /bin/busybox /tmp/busybox; /tmp/busybox rm -r /bin; /tmp/busybox mkdir /bin
        /tmp/busybox cp /tmp/busybox /bin/sh
        /tmp/busybox touch /done; /tmp/busybox sleep 600
    """
    with started(image, script) as container:
        appears(container, "/done")
        changes = {change.path: change.kind for change in container.diff()}
    assert changes["/bin/sh"] == "modified"
    assert changes["/bin/yes"] == changes["/bin/busybox"] == "deleted"


def test_a_container_that_changed_nothing(image: Image) -> None:
    with started(image, "sleep 600") as container:
        assert container.diff() == ()
        same = container.commit()
        assert same.diff_ids == image.diff_ids
        assert same.history[-1].empty_layer
        same.delete()


def test_commit_makes_an_image_with_the_changes(image: Image) -> None:
    with started(
        image, "echo x > /made; rm /etc/group; touch /done; sleep 600", env={"A": "1"}, user="0:0"
    ) as container:
        appears(container, "/done")
        made = container.commit(
            tag="made:1",
            changes=[
                'CMD ["cat", "/made"]',
                'ENTRYPOINT ["env"]',
                "ENV B=2 C='3 4'",
                "EXPOSE 80",
                "LABEL team=red",
                "WORKDIR /tmp",
                "WORKDIR sub",
                "HEALTHCHECK --interval=1m30s --retries=2 CMD test -e /made",
            ],
            author="somebody",
            message="for a test",
        )
        assert container.exec(["true"]).exit_code == 0
    config = made.config.config
    assert config.env[-3:] == ("A=1", "B=2", "C=3 4")
    assert (config.cmd, config.entrypoint) == (("cat", "/made"), ("env",))
    assert config.exposed_ports == ("80/tcp",)
    assert config.labels["team"] == "red"
    assert config.working_dir == "/tmp/sub"
    assert config.healthcheck is not None
    assert config.healthcheck.test == ("CMD-SHELL", "test -e /made")
    assert (config.healthcheck.interval, config.healthcheck.retries) == (90 * 10**9, 2)
    assert (made.config.author, made.history[-1].comment) == ("somebody", "for a test")
    assert len(made.layers) == len(image.layers) + 1
    assert pc.run(made, store=image.store).stdout == b"x\n"
    assert pc.run(made, ["ls", "/etc"], store=image.store).text.split() == [
        "hostname",
        "hosts",
        "passwd",
        "resolv.conf",
    ]
    made.delete()


@pytest.mark.parametrize("line", ["RUN x", "CMD", "ENV", "EXPOSE many", "LABEL x", "HEALTHCHECK x"])
def test_what_is_no_change_of_a_config_is_refused(image: Image, line: str) -> None:
    with (
        started(image, "sleep 600") as container,
        pytest.raises(errors.ContainerError, match="no change"),
    ):
        container.commit(changes=[line])


@pytest.mark.parametrize("stop", [False, True])
def test_export_is_a_tar_of_all_files(image: Image, tmp_path: Path, stop: bool) -> None:
    with started(image, "echo x > /made; rm /etc/group; touch /done; sleep 600") as container:
        appears(container, "/done")
        if stop:
            container.kill()
            container.wait(10)
        container.export(tmp_path / "all.tar")
        file = io.BytesIO()
        container.export(file)
    assert (tmp_path / "all.tar").read_bytes() == file.getvalue()
    listed = subprocess.run(["tar", "-tf", tmp_path / "all.tar"], capture_output=True, text=True)
    names = {name.removeprefix("./") for name in listed.stdout.split()}
    assert {"made", "etc/passwd", "bin/busybox"} <= names
    assert "etc/group" not in names
    assert "proc/" in names
    assert not any(name.startswith("proc/1") for name in names)


def test_another_program_reads_the_files_too(image: Image) -> None:
    with started(image, "sleep 600", name="files-of") as container:
        container.fs.write_text("/file", "content")
        program = (
            "import sys, pycontainer as pc\n"
            f"with pc.Store.open({str(image.store.path)!r}) as store:\n"
            "    print(pc.Container.get('files-of', store=store).fs.read_text('/file'))"
        )
        read = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert read.stdout == "content\n", read.stderr
