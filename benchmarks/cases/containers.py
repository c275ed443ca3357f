"""Containers from start to exit, and what a program pays that imports the library."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pycontainer as pc
from benchmarks import peers
from benchmarks.cases._stores import imported
from benchmarks.measure import Bounds, Side, case

__all__: list[str] = []

Pair = tuple[Side, Side]


@contextlib.contextmanager
def _start_exit(directory: Path, *, filtered: bool, lean: bool = False) -> Iterator[Pair]:
    rootfs = peers.extract_tar(peers.minbase(), directory / "rootfs")
    bundle = peers.runc_bundle(
        directory / "bundle", rootfs, ["/bin/true"], filtered=filtered, read_only=lean
    )
    security = pc.Security(seccomp="unconfined") if lean else None

    def run() -> None:
        pc.run(
            image,
            ["/bin/true"],
            check=True,
            read_only=lean,
            security=security,
            store=image.store,
        )

    def runc() -> None:
        peers.call("runc", "run", "--bundle", bundle, f"benchmark-{uuid.uuid4().hex[:8]}")

    with imported(directory) as image:
        name = "runc, with a filter" if filtered else "runc"
        yield Side("pycontainer", run), Side(name, runc)


@case("Start to exit of /bin/true", rounds=50, cpu=False, bounds=Bounds(0.35, 0.35))
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


@case("Start to exit of /bin/true, lean", rounds=50, cpu=False, bounds=Bounds(0.3, 0.3))
@contextlib.contextmanager
def start_exit_lean(_directory: Path) -> Iterator[Pair]:
    """Both in memory and with what `runc spec` proposes as it is: a read-only root, no filter."""
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-", dir="/dev/shm") as place,
        _start_exit(Path(place), filtered=False, lean=True) as pair,
    ):
        yield pair


@case("One more process in a running container", rounds=50, cpu=False)
@contextlib.contextmanager
def execute(directory: Path) -> Iterator[Pair]:
    """`Container.exec` against `runc exec`, each executing `/bin/true` and waiting for its end."""
    rootfs = peers.extract_tar(peers.minbase(), directory / "rootfs")
    bundle = peers.runc_bundle(directory / "bundle", rootfs, ["sleep", "600"])
    with (
        imported(directory) as image,
        pc.Container.start(image, ["sleep", "600"], store=image.store) as container,
        peers.runc_container(bundle) as name,
    ):
        yield (
            Side("pycontainer", lambda: container.exec(["/bin/true"], check=True)),
            Side("runc", lambda: peers.call("runc", "exec", name, "/bin/true")),
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
