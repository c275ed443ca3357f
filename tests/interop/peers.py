"""Other people's programs as fixtures: a Docker registry, a Docker daemon, skopeo.

Import the fixtures where they are needed: ``from interop.peers import dockerd``. Each is started by
the session that asks for it, keeps everything beneath pytest's directory, and is gone afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attrs import frozen

BUSYBOX = Path("/bin/busybox")
_PATIENCE = 60.0


# --- programs --------------------------------------------------------------------------------


def run(*command: str | Path, env: dict[str, str] | None = None, stdin: bytes = b"") -> str:
    """Run a program to its end and return its output; its failure shows all that it said."""
    done = subprocess.run(
        [str(word) for word in command],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=_PATIENCE * 3,
        env={**os.environ, **(env or {})},
    )
    output = done.stdout.decode(errors="replace")
    if done.returncode:
        error = done.stderr.decode(errors="replace")
        raise AssertionError(f"{command} ended with {done.returncode}\n{error}\n{output}")
    return output


def skopeo(*arguments: str | Path) -> str:
    """Run skopeo without the machine's signature policy."""
    return run("skopeo", "--insecure-policy", *arguments)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def _started(process: subprocess.Popen[bytes], log: Path, pattern: str) -> str:
    """Wait until a log says something, and return the pattern's group."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        text = log.read_text(errors="replace")
        if found := re.search(pattern, text):
            return found[1]
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"{process.args!r} did not start:\n{text}")
        time.sleep(0.02)


# --- an image --------------------------------------------------------------------------------


@frozen
class Layout:
    """An OCI layout with one image, tagged `tag`: a static busybox."""

    path: Path
    tag: str = "box"

    @property
    def manifest(self) -> bytes:
        """The image's manifest."""
        index = json.loads((self.path / "index.json").read_bytes())
        return self.blob(index["manifests"][0]["digest"])

    def blob(self, digest: str) -> bytes:
        """A blob by digest."""
        return self.blob_path(digest).read_bytes()

    def blob_path(self, digest: str) -> Path:
        """Where a blob is."""
        return self.path / "blobs" / Path(*digest.split(":"))


def busybox_tar(directory: Path) -> Path:
    """Make the tar of a root file system with a static busybox and a few of its names."""
    tree = directory / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/busybox")
    for name in ("sh", "echo", "cat", "ls", "true", "false", "id", "sleep"):
        (tree / "bin" / name).symlink_to("busybox")
    for name in ("etc", "tmp", "proc", "sys", "dev"):
        (tree / name).mkdir()
    (tree / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    path = directory / "rootfs.tar"
    run("tar", "-C", tree, "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-cf", path, ".")
    return path


def busybox_layout(directory: Path) -> Layout:
    """Make an OCI layout by hand, without the code under test."""
    tar = busybox_tar(directory)
    layer = subprocess.run(["gzip", "-nc", tar], capture_output=True, check=True).stdout
    path = directory / "layout"
    (path / "blobs/sha256").mkdir(parents=True)

    def add(data: bytes, media_type: str) -> dict[str, object]:
        name = hashlib.sha256(data).hexdigest()
        (path / "blobs/sha256" / name).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}

    diff_id = f"sha256:{hashlib.sha256(tar.read_bytes()).hexdigest()}"
    config = {
        "architecture": run("dpkg", "--print-architecture").strip(),
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    image = "application/vnd.oci.image."
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{image}manifest.v1+json",
        "config": add(json.dumps(config).encode(), f"{image}config.v1+json"),
        "layers": [add(layer, f"{image}layer.v1.tar+gzip")],
    }
    entry = add(json.dumps(manifest).encode(), f"{image}manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": Layout(path).tag}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return Layout(path)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """An OCI layout with a small image that runs."""
    return busybox_layout(tmp_path_factory.mktemp("busybox"))


# --- Debian's docker-registry ----------------------------------------------------------------


@frozen
class DockerRegistry:
    """A running docker-registry without authentication; deletion is allowed."""

    host: str
    storage: Path

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.host}"


@contextlib.contextmanager
def serving_docker_registry(directory: Path, **settings: object) -> Iterator[DockerRegistry]:
    """A docker-registry on a free port of 127.0.0.1.

    Args:
        directory: For its files.
        settings: More sections of its configuration.
    """
    config, log = directory / "config.yml", directory / "log"
    storage = {
        "filesystem": {"rootdirectory": str(directory / "data")},
        "delete": {"enabled": True},
    }
    http = {"addr": "127.0.0.1:0", "secret": "of no importance"}
    document = {"version": "0.1", "storage": storage, "http": http, **settings}
    config.write_text(json.dumps(document))
    with log.open("wb") as output:
        command = ["docker-registry", "serve", str(config)]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        host = _started(process, log, r"listening on (127\.0\.0\.1:\d+)")
        yield DockerRegistry(host, directory / "data")
    finally:
        _stop(process)


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A docker-registry that tests share, under names of their own."""
    with serving_docker_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


# --- podman and buildah ----------------------------------------------------------------------


@frozen
class Podman:
    """Podman and buildah with a storage of their own, without mounts.

    Attributes:
        directory: For their files.
        state: For what they remember while the machine runs; podman takes no longer path than 50.
    """

    directory: Path
    state: Path

    def podman(self, *arguments: str | Path) -> str:
        """Run ``podman ...`` and return what it printed."""
        options = ["--cgroup-manager", "cgroupfs", "--events-backend", "none"]
        return self._run("podman", "--tmpdir", self.directory / "libpod", *options, *arguments)

    def buildah(self, *arguments: str | Path) -> str:
        """Run ``buildah ...`` on the same storage."""
        return self._run("buildah", *arguments)

    def _run(self, program: str, *arguments: str | Path) -> str:
        temporary = self.directory / "tmp"
        temporary.mkdir(exist_ok=True)
        places: list[str | Path] = ["--root", self.directory / "root", "--runroot", self.state]
        environment = {"TMPDIR": str(temporary), "HOME": str(self.directory)}
        return run(program, *places, "--storage-driver", "vfs", *arguments, env=environment)


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    """Podman and buildah without images."""
    directory = tmp_path / "podman"
    directory.mkdir()
    with tempfile.TemporaryDirectory(prefix="podman-") as state:
        try:
            yield Podman(directory, Path(state))
        finally:
            _end_pause_process(directory / "libpod")


def _end_pause_process(directory: Path) -> None:
    """End the process that holds an ordinary user's namespaces for the next podman."""
    pid = _read_pid(directory / "pause.pid")
    with contextlib.suppress(ProcessLookupError):
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


# --- a Docker daemon of our own --------------------------------------------------------------


@frozen
class Docker:
    """A running Docker daemon and the command line that talks to it."""

    socket: Path
    config: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead a Docker client to this daemon and to no credentials."""
        return {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.config)}

    def run(self, *arguments: str | Path, stdin: bytes = b"") -> str:
        """Run ``docker …`` and return what it printed."""
        return run("docker", *arguments, env=self.environment, stdin=stdin)


@pytest.fixture(scope="session")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A Docker daemon without networks, whose images and containers are its own.

    It takes the address 127.0.0.1 for an insecure registry without being told.
    """
    directory = tmp_path_factory.mktemp("dockerd")
    docker = Docker(directory / "sock", directory / "config")
    docker.config.mkdir()
    places = {name: str(directory / name) for name in ("data", "exec", "pid")}
    command = ["dockerd", "--data-root", places["data"], "--exec-root", places["exec"]]
    command += ["--pidfile", places["pid"], "--host", f"unix://{docker.socket}"]
    command += ["--iptables=false", "--ip-forward=false", "--bridge=none"]
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _started(process, log, r"(API listen on)")
        yield docker
        _remove_containers(docker)
    finally:
        containerd = _read_pid(Path(places["exec"], "containerd/containerd.pid"))
        try:
            _stop(process)
        finally:
            _kill_daemon(containerd, places["exec"])
            _unmount_beneath(directory)


def _remove_containers(docker: Docker) -> None:
    containers: Sequence[str] = docker.run("ps", "--all", "--quiet").split()
    if containers:
        docker.run("rm", "--force", "--volumes", *containers)


def _read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _kill_daemon(pid: int | None, place: str) -> None:
    """Kill the containerd that dockerd started, should it have outlived it."""
    with contextlib.suppress(OSError):
        if pid is not None and place in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)


def _unmount_beneath(directory: Path) -> None:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    for point in sorted(points, reverse=True):
        if Path(point).is_relative_to(directory):
            run("umount", "--lazy", point)
