"""Caches of commands: listed, pruned, and taken to another machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archives import archive, file, header
from pycontainer.build import MountCaches
from pycontainer.build._cache_mounts import Sharing, cache_directory
from pycontainer.content import Store
from pycontainer.errors import BuildError


@contextmanager
def used(store: Store, name: str, sharing: Sharing = "shared") -> Iterator[Path]:
    """A cache, as a command has it."""

    def wait() -> None:
        raise TimeoutError

    with cache_directory(store, name, sharing, fill=lambda path: None, waiting=wait) as directory:
        yield directory


def fill(store: Store, name: str, text: str, *, age: float = 0.0) -> None:
    with used(store, name) as directory:
        (directory / "deep").mkdir(exist_ok=True)
        (directory / "deep/file").write_text(text)
        (directory / "link").unlink(missing_ok=True)
        (directory / "link").symlink_to("deep/file")
    then = time.time() - age
    os.utime(directory.parent / "id", (then, then))


def content(store: Store, name: str) -> str | None:
    with used(store, name) as directory:
        path = directory / "link"
        return path.read_text() if path.exists() else None


def test_they_are_listed_the_longest_unused_first(store: Store) -> None:
    fill(store, "pip", "12345")
    fill(store, "/var/cache/apt", "1", age=100)
    found = MountCaches(store).entries()
    assert [each.name for each in found] == ["/var/cache/apt", "pip"]
    assert found[1].size - len("deep/file") == 5
    assert found[1].used - found[0].used == pytest.approx(100, abs=10)


def test_they_are_pruned_by_age_and_size(store: Store) -> None:
    caches = MountCaches(store)
    for number, name in enumerate(("old", "middle", "new")):
        fill(store, name, "x" * 1000, age=300 - 100 * number)
    assert [each.name for each in caches.prune(unused_for=250)] == ["old"]
    assert caches.prune(keep_bytes=10_000) == ()
    assert [each.name for each in caches.prune(keep_bytes=1500)] == ["middle"]
    assert [each.name for each in caches.entries()] == ["new"]
    assert content(store, "old") is None


def test_what_a_command_has_is_not_pruned(store: Store) -> None:
    fill(store, "pip", "1")
    with used(store, "pip"):
        assert MountCaches(store).prune() == ()
    assert content(store, "pip") == "1"


def test_another_machine_takes_them(store: Store, tmp_path: Path) -> None:
    fill(store, "pip", "here")
    fill(store, "odd \udcff name", "odd")
    saved = MountCaches(store).save(tmp_path / "caches.tar")
    assert len(saved) == 2
    with Store.open(tmp_path / "other") as other:
        fill(other, "pip", "older")
        fill(other, "own", "own")
        loaded = MountCaches(other).load(tmp_path / "caches.tar")
        assert {each.name for each in loaded} == {each.name for each in saved}
        assert content(other, "pip") == "here"
        assert content(other, "odd \udcff name") == "odd"
        assert content(other, "own") == "own"


def test_without_any_there_is_an_empty_tar(store: Store, tmp_path: Path) -> None:
    assert MountCaches(store).save(tmp_path / "caches.tar") == ()
    assert MountCaches(store).load(tmp_path / "caches.tar") == ()


HOME = b"0" * 32


@pytest.mark.parametrize(
    "parts",
    [
        [file(b"etc/passwd", b"x")],
        [file(HOME + b"/content/x", b"x")],
        [file(HOME + b"/id", b"x")],
        [file(HOME + b"/id", b"x"), header(HOME + b"/content", b"2", link=b"/etc")],
        [header(HOME + b"/id", b"2", link=b"/etc/passwd"), header(HOME + b"/content", b"5")],
        [header(HOME, b"2", link=b"/etc")],
    ],
)
def test_other_tars_are_refused(store: Store, tmp_path: Path, parts: list[bytes]) -> None:
    (tmp_path / "tar").write_bytes(archive(*parts))
    with pytest.raises(BuildError, match="no caches"):
        MountCaches(store).load(tmp_path / "tar")
    (tmp_path / "tar").write_bytes(b"no tar" * 200)
    with pytest.raises(BuildError, match="cannot take"):
        MountCaches(store).load(tmp_path / "tar")
    with pytest.raises(BuildError, match="cannot take"):
        MountCaches(store).load(tmp_path / "missing")
    with pytest.raises(BuildError, match="cannot write"):
        MountCaches(store).save(tmp_path / "missing/tar")
    assert MountCaches(store).entries() == ()
