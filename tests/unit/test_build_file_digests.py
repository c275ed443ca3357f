"""Digests of contents that are known by what the kernel says of the files."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pycontainer.build import BuildCache
from pycontainer.build import _file_digests as module
from pycontainer.build._file_digests import FileDigests
from pycontainer.content import Store
from pycontainer.layers import StoredContent

LARGE = 64 << 10


class Counted(StoredContent):
    """A file that counts how often it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reads = 0

    def __call__(self) -> Iterator[bytes]:
        self.reads += 1
        yield self.path.read_bytes()

    def status(self) -> os.stat_result:
        return self.path.stat()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files made now are not young any more."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 10_000_000_000)


@pytest.fixture
def file(tmp_path: Path) -> Counted:
    path = tmp_path / "file"
    path.write_bytes(b"a" * LARGE)
    return Counted(path)


def digest(store: Store, file: Counted) -> bytes:
    """As one build asks for it."""
    digests = FileDigests(store)
    found = digests.digest(file)
    digests.remember()
    assert found == hashlib.sha256(file.path.read_bytes()).digest()
    return found


@pytest.mark.usefixtures("later")
def test_a_file_is_read_once(store: Store, file: Counted) -> None:
    assert digest(store, file) == digest(store, file)
    assert file.reads == 1


@pytest.mark.usefixtures("later")
def test_a_changed_file_is_read_again_even_if_its_time_says_otherwise(
    store: Store, file: Counted
) -> None:
    status = file.path.stat()
    before = digest(store, file)
    file.path.write_bytes(b"b" * LARGE)
    os.utime(file.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest(store, file) != before
    digest(store, file)
    assert file.reads == 2


@pytest.mark.usefixtures("later")
def test_another_file_in_its_place_is_read(store: Store, file: Counted, tmp_path: Path) -> None:
    digest(store, file)
    other = tmp_path / "other"
    other.write_bytes(b"b" * LARGE)
    other.rename(file.path)
    digest(store, file)
    assert file.reads == 2


def test_a_young_file_is_not_trusted(store: Store, file: Counted) -> None:
    digest(store, file)
    digest(store, file)
    assert file.reads == 2


@pytest.mark.usefixtures("later")
def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    store: Store, file: Counted
) -> None:
    class Changing(Counted):
        def __call__(self) -> Iterator[bytes]:
            yield from super().__call__()
            if self.reads == 1:
                self.path.write_bytes(b"c" * LARGE)

    changing = Changing(file.path)
    digests = FileDigests(store)
    digests.digest(changing)
    digests.remember()
    digest(store, changing)
    assert changing.reads == 2


@pytest.mark.usefixtures("later")
def test_small_files_are_not_worth_a_row(store: Store, tmp_path: Path) -> None:
    small = Counted(tmp_path / "small")
    small.path.write_bytes(b"s")
    digest(store, small)
    digest(store, small)
    assert small.reads == 2


@pytest.mark.usefixtures("later")
def test_what_was_of_no_use_for_longest_is_forgotten(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    files = [Counted(tmp_path / name) for name in "abc"]
    for each in files:
        each.path.write_bytes(each.path.name.encode() * LARGE)
    first, second, third = files
    for each in (first, second, first, third):
        digest(store, each)
    assert [each.reads for each in files] == [1, 1, 1]
    digest(store, first)
    digest(store, second)
    assert [each.reads for each in files] == [1, 2, 1]


@pytest.mark.usefixtures("later")
def test_pruning_the_cache_forgets_digests_too(store: Store, file: Counted) -> None:
    digest(store, file)
    BuildCache(store).prune(unused_for=3600)
    digest(store, file)
    assert file.reads == 1
    BuildCache(store).prune()
    digest(store, file)
    assert file.reads == 2


@pytest.mark.usefixtures("later")
def test_many_builds_at_once(store: Store, tmp_path: Path) -> None:
    files = [Counted(tmp_path / str(number)) for number in range(20)]
    for number, each in enumerate(files):
        each.path.write_bytes(bytes([number]) * LARGE)

    def build(_: int) -> list[bytes]:
        with Store.open(store.path) as own:
            return [digest(own, each) for each in files]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(build, range(8)))
    assert all(result == results[0] for result in results)


def test_numbers_of_all_sizes_fit(store: Store, file: Counted) -> None:
    status = file.path.stat()

    class Huge(Counted):
        def status(self) -> os.stat_result:
            numbers = list(status)
            numbers[1] = (1 << 64) - 5
            return os.stat_result(numbers, {"st_mtime_ns": 1, "st_ctime_ns": 1})

    huge = Huge(file.path)
    for _ in range(2):
        digests = FileDigests(store)
        digests.digest(huge)
        digests.remember()
    assert huge.reads == 1
