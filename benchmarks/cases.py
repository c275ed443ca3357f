"""Compares pycontainer with another program, each doing the same work in turn."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pycontainer as pc
from benchmarks import peers
from benchmarks.measure import Side, case
from pycontainer.content import Store, remove_tree
from pycontainer.layers import unpack

__all__: list[str] = []

Pair = tuple[Side, Side]


@contextlib.contextmanager
def _image(directory: Path) -> Iterator[pc.Image]:
    """Import the Debian system into a store of its own."""
    with Store.open(directory / "store") as store:
        yield pc.Image.import_rootfs(peers.minbase(), store=store)


@contextlib.contextmanager
def _start_exit(directory: Path, *, filtered: bool) -> Iterator[Pair]:
    rootfs = peers.tree(peers.minbase(), directory / "rootfs")
    bundle = peers.runc_bundle(directory / "bundle", rootfs, ["/bin/true"], filtered=filtered)

    def run() -> None:
        pc.run(image, ["/bin/true"], check=True, store=image.store)

    def runc() -> None:
        peers.call("runc", "run", "--bundle", bundle, f"benchmark-{uuid.uuid4().hex[:8]}")

    with _image(directory) as image:
        name = "runc, with a filter" if filtered else "runc"
        yield Side("pycontainer", run), Side(name, runc)


@case("Start to exit of /bin/true", rounds=50, cpu=False)
@contextlib.contextmanager
def start_exit(directory: Path) -> Iterator[Pair]:
    """A container is made, runs one program and is removed.

    `pc.run` mounts an overlay on the image and isolates as Docker does by default, with a seccomp
    filter. `runc run` works directly on an unpacked tree, with what `runc spec` proposes, without one.
    """
    with _start_exit(directory, filtered=False) as pair:
        yield pair


@case("Start to exit of /bin/true, both with a seccomp filter", rounds=50, cpu=False)
@contextlib.contextmanager
def start_exit_filtered(directory: Path) -> Iterator[Pair]:
    """As before, but `runc` too installs a filter, which allows the system calls that ours allows."""
    with _start_exit(directory, filtered=True) as pair:
        yield pair


@case("One more process in a running container", rounds=50, cpu=False)
@contextlib.contextmanager
def execute(directory: Path) -> Iterator[Pair]:
    """`Container.exec` against `runc exec`, each executing `/bin/true` and waiting for its end."""
    rootfs = peers.tree(peers.minbase(), directory / "rootfs")
    bundle = peers.runc_bundle(directory / "bundle", rootfs, ["sleep", "600"])
    with (
        _image(directory) as image,
        pc.Container.start(image, ["sleep", "600"], store=image.store) as container,
        peers.runc_container(bundle) as name,
    ):
        yield (
            Side("pycontainer", lambda: container.exec(["/bin/true"], check=True)),
            Side("runc", lambda: peers.call("runc", "exec", name, "/bin/true")),
        )


@case("Unpack a layer", rounds=10)
@contextlib.contextmanager
def extract(directory: Path) -> Iterator[Pair]:
    """A gzip layer of 170 MB and 9,000 files becomes a directory.

    Here pycontainer also computes the digests of the blob and of the tar, which GNU tar does not.
    """
    layer = directory / "layer.tar.gz"
    with layer.open("wb") as file:
        subprocess.run(["gzip", "-6", "-c", peers.minbase()], stdout=file, check=True)
    root = directory / "root"

    def ours() -> None:
        with layer.open("rb") as source:
            unpack(source, root)

    yield (
        Side("pycontainer", ours, before=root.mkdir, after=lambda: remove_tree(root)),
        Side(
            "GNU tar",
            lambda: peers.call("tar", "-xzf", layer, "-C", root),
            before=root.mkdir,
            after=lambda: remove_tree(root),
        ),
    )


@case("Push an image", rounds=10)
@contextlib.contextmanager
def push(directory: Path) -> Iterator[Pair]:
    """An image with one layer of 170 MB, compressed already, goes to an empty Docker registry.

    skopeo copies it from an OCI layout.
    """
    with _image(directory) as image, peers.registry(directory) as host:
        layout = directory / "layout"
        image.save(layout, format="oci-layout")

        def ours() -> None:
            with pc.Registry(host) as registry:
                registry.push(image, "debian:1")

        def skopeo() -> None:
            target = f"docker://{host}/debian:1"
            peers.skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}", target)

        def empty() -> None:
            remove_tree(directory / "registry")

        yield Side("pycontainer", ours, before=empty), Side("skopeo", skopeo, before=empty)


@case("Pull an image and unpack it", rounds=10)
@contextlib.contextmanager
def pull(directory: Path) -> Iterator[Pair]:
    """An image with one layer of 170 MB comes from a Docker registry and becomes a directory.

    The peer is `skopeo copy` to an OCI layout and then `umoci raw unpack` of that.
    """
    with _image(directory) as image, peers.registry(directory) as host:
        with pc.Registry(host) as registry:
            registry.push(image, "debian:1")
        place = directory / "place"

        def ours() -> None:
            with Store.open(place) as store, pc.Registry(host) as registry:
                registry.pull("debian:1", store=store).unpack()

        def skopeo() -> None:
            source, layout = f"docker://{host}/debian:1", f"{place}/layout"
            peers.skopeo("copy", "--src-tls-verify=false", source, f"oci:{layout}:1")
            peers.call("umoci", "raw", "unpack", "--image", f"{layout}:1", place / "root")

        yield (
            Side("pycontainer", ours, before=place.mkdir, after=lambda: remove_tree(place)),
            Side("skopeo, umoci", skopeo, before=place.mkdir, after=lambda: remove_tree(place)),
        )


@case("A program that imports the library", rounds=20)
@contextlib.contextmanager
def import_time(_directory: Path) -> Iterator[Pair]:
    """A fresh interpreter that imports the library and looks up what runs a container.

    `import pycontainer` alone takes less than a millisecond; the rest is loaded on first use.
    """

    def program(code: str) -> Side:
        name = code.split()[1].rstrip(";")
        return Side(name, lambda: peers.call(sys.executable, "-c", code))

    yield program("import pycontainer; pycontainer.run"), program("import docker; docker.from_env")
