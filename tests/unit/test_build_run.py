"""What RUN does around the container: output, files for the network, changes without traces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pycontainer.build._graph import State
from pycontainer.build._network import network_files
from pycontainer.build._output import Output
from pycontainer.build._run import Run
from pycontainer.build._work import Work
from pycontainer.layers import Entry, Kind
from pycontainer.oci import ContainerConfig, ImageConfig
from pycontainer.snapshots import TreeView, without_noise

# --- titles and history --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "title", "created_by"),
    [
        (Run("a && b"), "RUN a && b", "RUN /bin/sh -c a && b"),
        (Run(("a", "b c")), 'RUN ["a", "b c"]', "RUN a b c"),
        (Run("a", network="none"), "RUN --network=none a", "RUN /bin/sh -c a"),
        (Run("a", env=(("X", "1"), ("Y", "2"))), "RUN a", "RUN |2 X=1 Y=2 /bin/sh -c a"),
    ],
)
def test_how_a_command_is_named(step: Run, title: str, created_by: str) -> None:
    work = Work(store=None)  # type: ignore[arg-type]
    assert step.title == title
    assert step.apply(State(), None, work).config.history[0].created_by == created_by


def test_a_text_is_run_by_the_images_shell() -> None:
    work = Work(store=None)  # type: ignore[arg-type]
    base = State(config=ImageConfig(config=ContainerConfig(shell=("/bin/bash", "-ec"))))
    history = Run("a").apply(base, None, work).config.history
    assert history[0].created_by == "RUN /bin/bash -ec a"


# --- output --------------------------------------------------------------------------------------


def pumped(*writes: tuple[int, bytes]) -> tuple[list[tuple[str, str]], str]:
    """What is logged of writes to stdout (0) and stderr (1), and the tail."""
    log: list[tuple[str, str]] = []
    output = Output(lambda stream, text: log.append((stream, text)))
    with output.pipes() as fds:
        for stream, data in writes:
            os.write(fds[stream], data)
        output.pump()
    return log, output.tail()


def test_streams_are_told_apart() -> None:
    log, tail = pumped((0, b"out\n"), (1, b"err\n"))
    assert sorted(log) == [("stderr", "err\n"), ("stdout", "out\n")]
    assert sorted(tail.splitlines()) == ["err", "out"]


def test_what_is_not_utf_8_is_replaced() -> None:
    log, _ = pumped((0, b"\xff and \xc3"))
    assert "".join(text for _, text in log) == "\ufffd and \ufffd"


def test_only_the_end_is_kept() -> None:
    _, tail = pumped((0, b"".join(b"%d\n" % n for n in range(2000))))
    assert tail.splitlines() == [str(n) for n in range(1980, 2000)]
    _, tail = pumped((0, b"x" * 20_000))
    assert tail == "x" * 8192


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    pumped((0, b"x"))
    with pytest.raises(ZeroDivisionError), Output(lambda stream, text: None).pipes():
        raise ZeroDivisionError
    assert len(os.listdir("/proc/self/fd")) == len(before)


# --- changes -------------------------------------------------------------------------------------


def directory(path: str, **facts: Any) -> Entry:
    owner = {"uid": os.getuid(), "gid": os.getgid()} if os.getuid() == 0 else {}
    return Entry(path.encode(), Kind.DIRECTORY, **{"mode": 0o755, **owner, **facts})


def file(path: str) -> Entry:
    return Entry(path.encode(), Kind.FILE)


def kept(base: Path, *entries: Entry) -> list[str]:
    points = {b"etc/hosts", b"dev"}
    return [os.fsdecode(entry.path) for entry in without_noise(entries, TreeView([base]), points)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("a/b", "tmp"):
        (tmp_path / name).mkdir(parents=True)
    for path in tmp_path.rglob("*"):
        path.chmod(0o755)
    return tmp_path


def test_directories_as_they_were_are_noise(base: Path) -> None:
    assert kept(base, directory("a"), directory("a/b"), directory("tmp")) == []


def test_a_directory_with_something_new_in_it_is_kept_with_those_above(base: Path) -> None:
    entries = [directory("a"), directory("a/b"), file("a/b/new"), directory("tmp")]
    assert kept(base, *entries) == ["a", "a/b", "a/b/new"]
    entries = [directory("a"), directory("a/b"), directory("tmp"), file("tmp/.wh.gone")]
    assert kept(base, *entries) == ["tmp", "tmp/.wh.gone"]


def test_a_changed_directory_is_kept(base: Path) -> None:
    assert kept(base, directory("a"), directory("a/b", mode=0o700)) == ["a", "a/b"]
    assert kept(base, directory("a", xattrs={"user.x": b"1"})) == ["a"]


def test_a_new_directory_is_kept_unless_the_runtime_made_it(base: Path) -> None:
    assert kept(base, directory("new")) == ["new"]
    assert kept(base, directory("etc")) == []
    assert kept(base, directory("etc"), file("etc/new")) == ["etc", "etc/new"]
    assert kept(base, directory("etc2")) == ["etc2"]


# --- the network's files -------------------------------------------------------------------------


def test_the_networks_files_are_mounted_where_the_images_links_lead(tmp_path: Path) -> None:
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    (image / "etc/resolv.conf").symlink_to("../run/resolv.conf")
    mounts = network_files(tmp_path, TreeView([image]), "none", "build")
    assert [mount.destination for mount in mounts] == [
        "/etc/hostname",
        "/etc/hosts",
        "/run/resolv.conf",
    ]
    assert all("ro" in mount.options for mount in mounts)
    contents = [Path(mount.source).read_text() for mount in mounts]
    assert contents[0] == "build\n"
    assert "127.0.0.1\tlocalhost build\n" in contents[1]
    assert contents[2] == ""
