"""Pushes: a stored image goes to a registry on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pycontainer as pc
from benchmarks import peers
from benchmarks.cases._stores import loaded
from benchmarks.measure import Bounds, Side, case
from benchmarks.peers.images import Name
from benchmarks.roofline import push as floor

__all__: list[str] = []

Pair = tuple[Side, Side]
_NAME = "debian:1"


def _ours(image: pc.Image, registry: peers.RegistryPeer) -> Side:
    def call() -> None:
        with pc.Registry(registry.host) as client:
            client.push(image, _NAME)

    return Side("pycontainer", call, before=registry.empty, count=registry.blobs)


@contextlib.contextmanager
def _against_skopeo(directory: Path, name: Name) -> Iterator[Pair]:
    layout = peers.layout(name, "gzip")
    with loaded(layout, directory) as image, peers.registry(directory) as registry:
        peer = Side(
            "skopeo copy",
            lambda: registry.take(layout, _NAME),
            before=registry.empty,
            count=registry.blobs,
        )
        yield _ours(image, registry), peer


@case(
    "Push of a stored image, large, against docker",
    rounds=7,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.035, cpu=0.03),
    floor=floor("large", "gzip"),
)
@contextlib.contextmanager
def push_docker(directory: Path) -> Iterator[Pair]:
    """An image with one gzip layer of 1 GB and 40,000 files goes to an empty docker-registry.

    `Registry.push` in this process, against `docker push` by a daemon that runs already, to which a client
    is started each time. Docker keeps a layer's files alone and has to compress them again. The
    registry's processor time does not count. Neither side writes anything to its own disk.
    """
    layout = peers.layout("large", "gzip")
    with (
        loaded(layout, directory) as image,
        peers.registry(directory) as registry,
        peers.dockerd(directory / "docker") as docker,
    ):
        registry.take(layout, _NAME)
        name = f"{registry.host}/{_NAME}"
        docker("pull", "--quiet", name)
        peer = Side(
            "docker push",
            lambda: docker("push", "--quiet", name),
            before=registry.empty,
            daemons=docker.processor_seconds,
            count=registry.blobs,
        )
        yield _ours(image, registry), peer


@case(
    "Push of a stored image, large, against skopeo",
    rounds=15,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.85, cpu=0.5),
    floor=floor("large", "gzip"),
)
@contextlib.contextmanager
def push_skopeo(directory: Path) -> Iterator[Pair]:
    """The same against `skopeo copy` from an OCI layout, which has the blob as it is sent.

    It is a fresh process.
    """
    with _against_skopeo(directory, "large") as pair:
        yield pair


@case("Push an image", rounds=10)
@contextlib.contextmanager
def push(directory: Path) -> Iterator[Pair]:
    """An image with one layer of 170 MB, compressed already, goes to an empty Docker registry.

    skopeo copies it from an OCI layout.
    """
    with _against_skopeo(directory, "small") as pair:
        yield pair
