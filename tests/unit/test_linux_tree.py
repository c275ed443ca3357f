"""Trees are removed whatever their depth and permission bits, and nothing beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pycontainer._linux import tree
from pycontainer.content import remove_tree


def make_deep(path: Path, depth: int) -> None:
    """Make nested directories, each with a file, without ever naming the whole path."""
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def test_what_is_not_there_is_removed(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")


def test_a_file_is_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    remove_tree(str(tmp_path / "file"))
    assert not (tmp_path / "file").exists()


def test_symlinks_are_removed_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep/file").write_text("x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(tmp_path / "keep")
    (tmp_path / "tree/dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to(tmp_path / "keep")
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "link")
    assert os.listdir(tmp_path) == ["keep"]
    assert (tmp_path / "keep/file").exists()


def test_special_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "tree/fifo")
    (tmp_path / os.fsdecode(b"tree/\xff\n")).write_text("x")
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_directories_without_permission_bits_are_opened_up(tmp_path: Path) -> None:
    inner = tmp_path / "tree/work/inner"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    for path in (inner, inner.parent, tmp_path / "tree"):
        path.chmod(0)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_directory_that_cannot_be_opened_is_given_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an ordinary user would meet it; root is let in anyway."""
    inner = tmp_path / "tree/inner"
    inner.mkdir(parents=True)
    inner.chmod(0)
    real = os.open

    def refuse(name: str, flags: int, *, dir_fd: int | None = None) -> int:
        is_path = flags & os.O_PATH
        if name == "inner" and not is_path and not inner.stat().st_mode & 0o700:
            raise PermissionError(13, "Permission denied", name)
        return real(name, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("depth", [tree._DEEPEST - 1, tree._DEEPEST, 1200])
def test_depth_does_not_matter(tmp_path: Path, depth: int) -> None:
    make_deep(tmp_path / "tree", depth)
    remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == []


def test_what_vanishes_meanwhile_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree/a").mkdir(parents=True)
    (tmp_path / "tree/b").write_text("x")
    real_unlink, real_rmdir = os.unlink, os.rmdir

    def unlink(name: str, **where: int | None) -> None:
        real_unlink(name, **where)
        real_unlink(name, **where)

    def rmdir(name: str, **where: int | None) -> None:
        real_rmdir(name, **where)
        real_rmdir(name, **where)

    monkeypatch.setattr(os, "unlink", unlink)
    monkeypatch.setattr(os, "rmdir", rmdir)
    remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == []


def test_what_somebody_still_writes_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    remove, late = os.rmdir, ["one", "two"]

    def write_first(path: str, **options: Any) -> None:
        if late:
            (there / late.pop()).touch()
        remove(path, **options)

    monkeypatch.setattr(os, "rmdir", write_first)
    remove_tree(there)
    assert not late
    assert not there.exists()


def test_what_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("x")

    def refuse(name: str, **where: int | None) -> None:
        raise PermissionError(1, "Operation not permitted", name)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError):
        remove_tree(tmp_path / "tree")
    assert (tmp_path / "tree/file").exists()
