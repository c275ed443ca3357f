"""Containers as Docker and Podman run them, with all that they do: networks, logs, limits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pycontainer as pc
from benchmarks import peers
from benchmarks.cases._stores import imported
from benchmarks.measure import Bounds, Side, case

__all__: list[str] = []

Pair = tuple[Side, Side]
_TAG = "benchmark:1"
# Its own would raise limits, which not every root may.
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


def _until_removed(image: pc.Image, network: str) -> None:
    """Run a container that keeps a log, and remove it, as ``docker run --rm`` does."""
    with pc.Container.start(image, ["/bin/true"], store=image.store, network=network) as container:
        container.wait()


@case(
    "Start to exit with a bridge network",
    rounds=30,
    cpu=False,
    group="containers",
    bounds=Bounds(0.06, 0.06),
)
@contextlib.contextmanager
def run_bridge(directory: Path) -> Iterator[Pair]:
    """A container with a log, in a bridge network, runs one program and is removed.

    `Container.start` and `wait` against `docker run --rm`, both with all isolation that is usual. Ours is
    bounded by the kernel's making of namespaces, mounts, control groups and a pair of interfaces. Docker's
    daemon has containerd start a shim, and that runc several times, each a program of its own; its client
    is one, too.
    """
    with imported(directory) as image, peers.dockerd(directory / "docker", bridge=True) as docker:
        docker("import", peers.minbase(), _TAG)
        yield (
            Side("pycontainer", lambda: _until_removed(image, "bridge")),
            Side("docker run", lambda: docker("run", "--rm", _TAG, "/bin/true")),
        )


@case(
    "One more process, against Docker",
    rounds=30,
    cpu=False,
    group="containers",
    bounds=Bounds(0.15, 0.15),
)
@contextlib.contextmanager
def execute_docker(directory: Path) -> Iterator[Pair]:
    """`Container.exec` against `docker exec`, each executing `/bin/true` and waiting for its end.

    Ours is bounded by one clone, the entering of the namespaces and `execve`; a client, a daemon, a shim
    and `runc exec`, which starts itself twice, stand between Docker's and its command.
    """
    with imported(directory) as image, peers.dockerd(directory / "docker", bridge=True) as docker:
        docker("import", peers.minbase(), _TAG)
        docker("run", "--detach", "--name", "beside", _TAG, "sleep", "3600")
        with pc.Container.start(
            image, ["sleep", "3600"], store=image.store, network="bridge"
        ) as container:
            yield (
                Side("pycontainer", lambda: container.exec(["/bin/true"], check=True)),
                Side("docker exec", lambda: docker("exec", "beside", "/bin/true")),
            )
        docker("rm", "--force", "beside")


@case("Start to exit, against Podman", rounds=20, cpu=False, group="containers")
@contextlib.contextmanager
def run_podman(directory: Path) -> Iterator[Pair]:
    """`Container.start` without a network until its end, against `podman run --rm --network none`.

    Podman has no daemon: each call reads its state, mounts, and starts conmon, which starts the runtime: runc
    here, since crun refuses machines that have control groups of both versions. Ours is bounded by the
    kernel's work for the container.
    """
    podman = peers.Podman(directory / "podman")
    options = [
        "--rm",
        "--network",
        "none",
        "--log-driver",
        "k8s-file",
        "--runtime",
        "runc",
        *_LIMITS,
    ]
    with imported(directory) as image:
        podman("import", peers.minbase(), _TAG)
        yield (
            Side("pycontainer", lambda: _until_removed(image, "none")),
            Side("podman run", lambda: podman("run", *options, _TAG, "/bin/true")),
        )
