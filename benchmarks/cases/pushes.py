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


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@contextlib.contextmanager
def _against_skopeo(directory: Path, name: Name, layers: int = 1) -> Iterator[Pair]:
    layout = peers.layout(name, "gzip", layers)
    with loaded(layout, directory) as image, peers.registry(directory) as registry:
        peer = Side(
            "skopeo copy",
            lambda: registry.take(layout, _NAME),
            before=registry.empty,
            count=registry.blobs,
        )
        yield _ours(image, registry), peer


@contextlib.contextmanager
def _against_docker(directory: Path, layers: int = 1) -> Iterator[Pair]:
    layout = peers.layout("large", "gzip", layers)
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
    with _against_docker(directory) as pair:
        yield pair


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


@case(
    "Push of a stored image, large, eight layers, against docker",
    rounds=7,
    warm_up=1,
    group="registry",
)
@contextlib.contextmanager
def push_docker_eight(directory: Path) -> Iterator[Pair]:
    """Against `docker push`, the same files in eight layers of about equal size.

    Both send several at a time. Ours is bounded by the registry, which digests and syncs what it gets.
    """
    with _against_docker(directory, 8) as pair:
        yield pair


@case(
    "Push of a stored image, large, eight layers, against skopeo",
    rounds=9,
    warm_up=1,
    group="registry",
)
@contextlib.contextmanager
def push_skopeo_eight(directory: Path) -> Iterator[Pair]:
    """The same against `skopeo copy` from an OCI layout, in eight layers of about equal size."""
    with _against_skopeo(directory, "large", 8) as pair:
        yield pair


@case(
    "Copy between registries, large, eight layers",
    rounds=9,
    warm_up=1,
    group="registry",
)
@contextlib.contextmanager
def copy_skopeo_eight(directory: Path) -> Iterator[Pair]:
    """An image of eight gzip layers, 1 GB unpacked, goes from one docker-registry to another that is empty.

    `Registry.copy` in this process, against `skopeo copy`, a fresh process. Neither unpacks anything.
    """
    with contextlib.ExitStack() as stack:
        source, target = (
            stack.enter_context(peers.registry(_made(directory / name))) for name in ("a", "b")
        )
        source.take(peers.layout("large", "gzip", 8), _NAME)

        def ours() -> None:
            with pc.Registry(source.host) as here, pc.Registry(target.host) as there:
                here.copy(_NAME, _NAME, to=there)

        def skopeo() -> None:
            options = ("--src-tls-verify=false", "--dest-tls-verify=false")
            names = (f"docker://{registry.host}/{_NAME}" for registry in (source, target))
            peers.skopeo("copy", *options, *names)

        yield (
            Side("pycontainer", ours, before=target.empty, count=target.blobs),
            Side("skopeo copy", skopeo, before=target.empty, count=target.blobs),
        )


@case("Push an image", rounds=10)
@contextlib.contextmanager
def push(directory: Path) -> Iterator[Pair]:
    """An image with one layer of 170 MB, compressed already, goes to an empty Docker registry.

    skopeo copies it from an OCI layout.
    """
    with _against_skopeo(directory, "small") as pair:
        yield pair
