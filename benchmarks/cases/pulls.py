"""Cold pulls: an image comes from a registry on this machine, and is ready to run from."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pycontainer as pc
from benchmarks import peers
from benchmarks.measure import Bounds, Side, case
from benchmarks.roofline import pull as floor
from pycontainer.content import Store, remove_tree

__all__: list[str] = []

Pair = tuple[Side, Side]
_NAME = "debian:1"
_FRESH = """
import sys, pycontainer as pc
host, name, place = sys.argv[1:]
with pc.Store.open(place) as store, pc.Registry(host) as registry:
    registry.pull(name, store=store)
"""


@contextlib.contextmanager
def _registry(directory: Path, layout: Path) -> Iterator[str]:
    with peers.registry(directory) as registry:
        registry.take(layout, _NAME)
        yield registry.host


def _ours(host: str, place: Path, *, fresh: bool = False) -> Side:
    """Pull into a new store; its removal is not timed."""

    def here() -> None:
        with Store.open(place) as store, pc.Registry(host) as registry:
            registry.pull(_NAME, store=store)

    def elsewhere() -> None:
        peers.call(sys.executable, "-c", _FRESH, host, _NAME, place)

    return Side(
        "pycontainer",
        elsewhere if fresh else here,
        before=lambda: _settled(place),
        after=lambda: remove_tree(place),
        count=lambda: sum(map(peers.count, place.glob("layers/*/*/"))),
    )


def _settled(place: Path) -> None:
    """Make an empty directory on file systems that have nothing to write."""
    place.mkdir()
    os.sync()


@contextlib.contextmanager
def _against_docker(directory: Path, layout: Path, *, fresh: bool = False) -> Iterator[Pair]:
    with (
        _registry(directory, layout) as host,
        peers.dockerd(directory / "docker") as docker,
    ):
        name = f"{host}/{_NAME}"
        peer = Side(
            "docker pull",
            lambda: docker("pull", "--quiet", name),
            before=os.sync,
            after=lambda: docker("image", "rm", name),
            daemons=docker.processor_seconds,
            count=docker.entries,
        )
        yield _ours(host, directory / "place", fresh=fresh), peer


@case(
    "Cold pull, gzip, one layer, large image",
    rounds=7,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.22, cpu=0.22),
    floor=floor("large", "gzip"),
)
@contextlib.contextmanager
def pull_gzip_large(directory: Path) -> Iterator[Pair]:
    """One layer of 1 GB and 40,000 files, compressed by `gzip -6`, comes from a docker-registry.

    `Registry.pull` in this process, into an empty store, against `docker pull` by a daemon that runs
    already and has no images; a client is started each time, its and the daemon's processor time
    count, the registry's does not. Both verify both digests. Ours keeps the blob too, and syncs that
    to the disk; the files of the layer neither side syncs. Before each call all file systems are synced, so
    that nobody waits for what was removed before.
    """
    with _against_docker(directory, peers.layout("large", "gzip")) as pair:
        yield pair


@case(
    "Cold pull, gzip, one layer, small image",
    rounds=9,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.25, cpu=0.25),
    floor=floor("small", "gzip"),
)
@contextlib.contextmanager
def pull_gzip_small(directory: Path) -> Iterator[Pair]:
    """The same with one layer of 170 MB and 9,000 files."""
    with _against_docker(directory, peers.layout("small", "gzip")) as pair:
        yield pair


@case(
    "Cold pull, gzip, one layer, small image, in a fresh process",
    rounds=9,
    warm_up=1,
    group="layers",
)
@contextlib.contextmanager
def pull_gzip_small_fresh(directory: Path) -> Iterator[Pair]:
    """The same, but ours too is a program that is started each time: an interpreter, then imports."""
    with _against_docker(directory, peers.layout("small", "gzip"), fresh=True) as pair:
        yield pair


@case(
    "Cold pull, gzip, eight layers, large image",
    rounds=7,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.18, cpu=0.22),
    floor=floor("large", "gzip", 8),
)
@contextlib.contextmanager
def pull_gzip_eight(directory: Path) -> Iterator[Pair]:
    """The same files as in one large layer, in eight layers of about equal size."""
    with _against_docker(directory, peers.layout("large", "gzip", 8)) as pair:
        yield pair


@case(
    "Cold pull, gzip, eight layers, large image, against skopeo",
    rounds=7,
    warm_up=1,
    group="registry",
)
@contextlib.contextmanager
def pull_skopeo_eight(directory: Path) -> Iterator[Pair]:
    """The same against `skopeo copy` to Podman's storage, which unpacks the layers, too.

    It is a fresh process that does all its work itself. Ours keeps the blobs, too, and syncs those.
    """
    with _registry(directory, peers.layout("large", "gzip", 8)) as host:
        podman = peers.Podman(directory / "podman")
        name = f"{host}/{_NAME}"
        peer = Side(
            "skopeo copy",
            lambda: peers.skopeo(
                "copy", "--src-tls-verify=false", f"docker://{name}", podman.transport(name)
            ),
            before=os.sync,
            after=lambda: podman("image", "rm", "--force", name),
            count=podman.entries,
        )
        yield _ours(host, directory / "place"), peer


@case(
    "Cold pull, zstd, large image",
    rounds=7,
    warm_up=1,
    group="layers",
    bounds=Bounds(wall=0.25, cpu=0.25),
    floor=floor("large", "zstd"),
)
@contextlib.contextmanager
def pull_zstd(directory: Path) -> Iterator[Pair]:
    """The large image as one layer, compressed by `zstd -3`.

    `Registry.pull` in this process against `podman pull`, which is a fresh process that does all its
    work itself. Ours keeps the blob too, and syncs that; the files of the layer neither side syncs.
    """
    with _registry(directory, peers.layout("large", "zstd")) as host:
        podman = peers.Podman(directory / "podman")
        name = f"{host}/{_NAME}"
        peer = Side(
            "podman pull",
            lambda: podman("pull", "--quiet", "--tls-verify=false", name),
            before=os.sync,
            after=lambda: podman("image", "rm", "--force", name),
            count=podman.entries,
        )
        yield _ours(host, directory / "place"), peer


@case("Pull an image and unpack it", rounds=10)
@contextlib.contextmanager
def pull(directory: Path) -> Iterator[Pair]:
    """An image with one layer of 170 MB comes from a Docker registry and becomes a directory.

    The peer is `skopeo copy` to an OCI layout and then `umoci raw unpack` of that.
    """
    with _registry(directory, peers.layout("small", "gzip")) as host:
        place = directory / "peer"

        def skopeo() -> None:
            source, layout = f"docker://{host}/{_NAME}", f"{place}/layout"
            peers.skopeo("copy", "--src-tls-verify=false", source, f"oci:{layout}:1")
            peers.call("umoci", "raw", "unpack", "--image", f"{layout}:1", place / "root")

        yield (
            _ours(host, directory / "place"),
            Side(
                "skopeo, umoci",
                skopeo,
                before=lambda: _settled(place),
                after=lambda: remove_tree(place),
            ),
        )
