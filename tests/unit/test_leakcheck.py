from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from leakcheck import MARK, Machine, open_files, settled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


@pytest.fixture(autouse=True)
def quiet_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests run at the same time: their files and control groups are not looked at."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("leakcheck._cgroups", lambda processes, strict: iter(()))


def look(mark: str, base: Path) -> Machine:
    return Machine.look(mark, base, strict=False)


def left(before: Machine, mark: str, base: Path) -> list[str]:
    return settled(before, mark, base, strict=False, patience=5)


def test_nothing_done_is_nothing_left(tmp_path: Path, mark: str) -> None:
    assert look(mark, tmp_path).since(look(mark, tmp_path)) == []


@pytest.mark.parametrize("how", ["by the mark", "by the directory"])
def test_a_process_is_found_as_long_as_it_lives(tmp_path: Path, mark: str, how: str) -> None:
    before = look(mark, tmp_path)
    code = f"print('up', flush=True); input()  # {tmp_path if how == 'by the directory' else ''}"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | ({MARK: mark} if how == "by the mark" else {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (leak,) = look(mark, tmp_path).since(before)
        assert leak.startswith(f"process: {process.pid} ")
        process.kill()
    assert left(before, mark, tmp_path) == []


def test_another_session_is_let_be(tmp_path: Path, mark: str) -> None:
    before = look(mark, tmp_path)
    with subprocess.Popen(["sleep", "60"], env=os.environ | {MARK: "another"}) as process:
        assert look(mark, tmp_path).since(before) == []
        process.kill()


def test_files_outside_the_directory_are_found(tmp_path: Path, mark: str) -> None:
    before = look(mark, tmp_path)
    path = tmp_path / "pycontainer-demo-1"
    path.touch()
    assert look(mark, tmp_path).since(before) == [f"file: {path}"]


def test_descriptors_are_counted_by_what_they_lead_to(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    before = open_files()
    with path.open() as first, path.open() as second:
        assert first.fileno() != second.fileno()
        assert open_files() - before == {str(path): 2}
    assert open_files() == before
