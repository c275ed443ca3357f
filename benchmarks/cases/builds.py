"""Builds: what is cached, many files, many commands, stages beside each other."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pycontainer as pc
from benchmarks import peers
from benchmarks.measure import Bounds, Side, case
from pycontainer.content import Store

__all__: list[str] = []

Pair = tuple[Side, Side]
Make = Callable[[Path], pc.Builder]
_NAME = "built:1"
_FILES = 20_000
_SOURCES = 300
_COMMANDS = 10


# --- what is built, as Dockerfile and as Builder -----------------------------------------------


def _application(context: Path) -> pc.Builder:
    """A service as people write them: two commands, sources copied, one more command."""
    _fill(context / "src", _SOURCES, b"x = 1\n" * 200)
    (context / "requirements.txt").write_text("attrs\n")
    (context / "Dockerfile").write_text(
        "FROM base:1\nRUN mkdir /opt/app\nWORKDIR /opt/app\nCOPY requirements.txt ./\n"
        "RUN cp requirements.txt installed\nCOPY src ./src\nRUN ls src > listing\n"
        'ENV MODE=fast\nCMD ["ls"]\n'
    )
    return (
        pc.Builder("base:1")
        .run("mkdir /opt/app")
        .workdir("/opt/app")
        .copy("requirements.txt", "./")
        .run("cp requirements.txt installed")
        .copy("src", "./src")
        .run("ls src > listing")
        .env({"MODE": "fast"})
        .cmd(["ls"])
    )


def _small_files(context: Path) -> pc.Builder:
    _fill(context / "tree", _FILES, b"small file\n" * 60)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY tree /\n")
    return pc.Builder.scratch().copy("tree", "/")


def _commands(context: Path) -> pc.Builder:
    builder = pc.Builder("base:1")
    lines = ["FROM base:1"]
    for number in range(_COMMANDS):
        command = f"echo {number} > /file{number}"
        builder = builder.run(command)
        lines.append(f"RUN {command}")
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    return builder


def _stages(context: Path) -> pc.Builder:
    one, other = "sleep 2; echo 1 > /one", "sleep 2; echo 2 > /other"
    (context / "Dockerfile").write_text(
        f"FROM base:1 AS first\nRUN {one}\nFROM base:1 AS second\nRUN {other}\n"
        "FROM scratch\nCOPY --from=first /one /\nCOPY --from=second /other /\n"
    )
    first, second = pc.Builder("base:1").run(one), pc.Builder("base:1").run(other)
    return pc.Builder.scratch().copy("/one", "/", from_=first).copy("/other", "/", from_=second)


def _fill(directory: Path, files: int, content: bytes) -> None:
    """Write so many files, a hundred to a directory."""
    for number in range(files):
        place = directory / f"d{number // 100}"
        if number % 100 == 0:
            place.mkdir(parents=True)
        (place / f"f{number}").write_bytes(b"%d\n" % number + content)


# --- who builds it -----------------------------------------------------------------------------


@contextlib.contextmanager
def _ours(directory: Path, make: Make, context: Path, *, use_cache: bool) -> Iterator[Side]:
    with Store.open(directory / "store") as store:
        pc.Image.import_rootfs(peers.minbase(), tag="base:1", store=store)
        builder = make(context)

        def build() -> None:
            builder.build(_NAME, context=context, store=store, use_cache=use_cache)

        yield Side("pycontainer", build, after=_nothing if use_cache else store.collect)


def _nothing() -> None:
    pass


@contextlib.contextmanager
def _against_docker(directory: Path, make: Make, *, use_cache: bool = False) -> Iterator[Pair]:
    context = directory / "context"
    context.mkdir()
    options = ["--quiet", "--network", "host", *([] if use_cache else ["--no-cache"])]
    with (
        peers.dockerd(directory / "docker") as docker,
        _ours(directory, make, context, use_cache=use_cache) as ours,
    ):
        docker("import", peers.minbase(), "base:1")
        yield (
            ours,
            Side(
                "docker build",
                lambda: docker("build", *options, "--tag", _NAME, context),
                after=_nothing if use_cache else lambda: docker("image", "rm", _NAME),
                daemons=docker.processor_seconds,
            ),
        )


@contextlib.contextmanager
def _against_buildah(directory: Path, make: Make, *, use_cache: bool = False) -> Iterator[Pair]:
    context = directory / "context"
    context.mkdir()
    buildah = peers.Buildah(directory / "buildah")
    options = [] if use_cache else ["--no-cache"]
    with _ours(directory, make, context, use_cache=use_cache) as ours:
        _import(buildah, directory)
        yield (
            ours,
            Side(
                "buildah build",
                lambda: buildah.build(_NAME, context, *options),
                after=_nothing if use_cache else lambda: buildah("rmi", "--force", _NAME),
            ),
        )


def _import(buildah: peers.Buildah, directory: Path) -> None:
    """Give buildah the base image."""
    place = directory / "base"
    place.mkdir()
    (place / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
    shutil.copy(peers.minbase(), place / "base.tar")
    buildah.build("base:1", place)


# --- cases -------------------------------------------------------------------------------------


@case("Rebuild with everything cached", rounds=15, group="builds", bounds=Bounds(0.1, 0.1))
@contextlib.contextmanager
def build_cached(directory: Path) -> Iterator[Pair]:
    """A service of three commands and three copies, 300 source files, that was built before.

    `Builder.build` in this process with an open store, against `docker build` by the classic builder of
    a daemon that runs already; a client is started each time.
    """
    with _against_docker(directory, _application, use_cache=True) as pair:
        yield pair


@case("Rebuild with everything cached, against buildah", rounds=15, group="builds")
@contextlib.contextmanager
def build_cached_buildah(directory: Path) -> Iterator[Pair]:
    """The same against `buildah build --layers`."""
    with _against_buildah(directory, _application, use_cache=True) as pair:
        yield pair


@case("COPY of 20,000 small files", rounds=7, warm_up=1, group="builds", bounds=Bounds(0.5, 0.5))
@contextlib.contextmanager
def build_small_files(directory: Path) -> Iterator[Pair]:
    """20,000 files of 700 bytes are copied into an empty image, without cache.

    Ours gives a compressed, synced blob and an unpacked layer; docker an unpacked layer.
    """
    with _against_docker(directory, _small_files) as pair:
        yield pair


@case("COPY of 20,000 small files, against buildah", rounds=7, warm_up=1, group="builds")
@contextlib.contextmanager
def build_small_files_buildah(directory: Path) -> Iterator[Pair]:
    """The same against `buildah build --layers --no-cache`."""
    with _against_buildah(directory, _small_files) as pair:
        yield pair


@case("Ten commands", rounds=7, warm_up=1, cpu=False, group="builds", bounds=Bounds(0.3, 0.3))
@contextlib.contextmanager
def build_commands(directory: Path) -> Iterator[Pair]:
    """Ten `RUN` steps on a Debian system, each of which writes a small file, without cache."""
    with _against_docker(directory, _commands) as pair:
        yield pair


@case("Ten commands, against buildah", rounds=7, warm_up=1, cpu=False, group="builds")
@contextlib.contextmanager
def build_commands_buildah(directory: Path) -> Iterator[Pair]:
    """The same against `buildah build --layers --no-cache`."""
    with _against_buildah(directory, _commands) as pair:
        yield pair


@case("Two independent stages", rounds=5, warm_up=1, cpu=False, group="builds")
@contextlib.contextmanager
def build_stages(directory: Path) -> Iterator[Pair]:
    """Two stages, each with a command of two seconds, and an image that copies from both, without cache.

    Ours runs them at the same time, so that all takes as long as the slower one; the classic builder
    of docker runs one after the other.
    """
    with _against_docker(directory, _stages) as pair:
        yield pair
