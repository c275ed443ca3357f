"""`TreeView`: overlay's rules without a mount."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pycontainer.snapshots import TreeView
from stacks import OPAQUE, WHITEOUT, Tree, laid_out


def _view(directory: Path, *trees: Tree) -> TreeView:
    return TreeView(laid_out(directory, trees))


def _paths(view: TreeView) -> list[str]:
    return [node.path for node in view.walk()]


# --- merging ---------------------------------------------------------------------------------


def test_upper_files_win_and_directories_merge(tmp_path: Path) -> None:
    view = _view(
        tmp_path,
        {"etc": {"a": b"low", "b": b"low"}, "only": b"low"},
        {"etc": {"b": b"high", "c": b"high"}},
    )
    assert _paths(view) == ["/", "/etc", "/etc/a", "/etc/b", "/etc/c", "/only"]
    assert view.read_bytes("/etc/b") == b"high"
    assert view.read_bytes("etc/a") == b"low"


def test_whiteouts_hide_names_of_lower_layers(tmp_path: Path) -> None:
    view = _view(
        tmp_path,
        {"file": b"", "dir": {"x": b""}, "kept": b""},
        {"file": WHITEOUT, "dir": WHITEOUT},
    )
    assert _paths(view) == ["/", "/kept"]
    assert view.lookup("/dir/x") is None


def test_a_name_comes_back_above_its_whiteout(tmp_path: Path) -> None:
    view = _view(tmp_path, {"dir": {"old": b""}}, {"dir": WHITEOUT}, {"dir": {"new": b""}})
    assert _paths(view) == ["/", "/dir", "/dir/new"]


def test_opaque_directories_hide_what_is_below(tmp_path: Path) -> None:
    view = _view(
        tmp_path,
        {"dir": {"old": b"", "sub": {"old": b""}}},
        {"dir": {OPAQUE: True, "sub": {"new": b""}}},
    )
    assert _paths(view) == ["/", "/dir", "/dir/sub", "/dir/sub/new"]


@pytest.mark.parametrize("prefix", ["user", "trusted"])
def test_opaque_marks_of_root_and_of_users_count(tmp_path: Path, prefix: str) -> None:
    low, high = laid_out(tmp_path, [{"dir": {"old": b""}}, {"dir": {}}])
    try:
        os.setxattr(high / "dir", f"{prefix}.overlay.opaque", b"y")
    except PermissionError:
        pytest.skip("only root writes trusted attributes")
    assert _paths(TreeView([low, high])) == ["/", "/dir"]


def test_an_opaque_root_hides_all_below(tmp_path: Path) -> None:
    view = _view(
        tmp_path,
        {"old": b"", "dir": {"old": b""}},
        {OPAQUE: True, "dir": {"new": b""}},
        {"top": b""},
    )
    assert _paths(view) == ["/", "/dir", "/dir/new", "/top"]


def test_other_values_are_no_opaque_mark(tmp_path: Path) -> None:
    low, high = laid_out(tmp_path, [{"dir": {"old": b""}}, {"dir": {}}])
    os.setxattr(high / "dir", "user.overlay.opaque", b"n")
    assert _paths(TreeView([low, high])) == ["/", "/dir", "/dir/old"]


def test_a_file_and_a_directory_replace_each_other(tmp_path: Path) -> None:
    view = _view(
        tmp_path,
        {"a": {"x": b""}, "b": b"file"},
        {"a": b"file", "b": {"y": b""}},
        {"a": {"z": b""}},
    )
    assert _paths(view) == ["/", "/a", "/a/z", "/b", "/b/y"]


def test_nothing_is_merged_through_a_symlink(tmp_path: Path) -> None:
    """A symlink hides a directory of its name; what a lower layer held in it is out of reach."""
    view = _view(tmp_path, {"dir": {"low": b""}, "other": {"o": b""}}, {"dir": "other"}, {})
    assert [node.path for node in view.iterdir("dir")] == ["/other/o"]
    assert view.lookup("dir/low") is None


def test_no_layers_hold_nothing() -> None:
    view = TreeView([])
    assert view.lookup("/") is None
    assert list(view.walk()) == []


# --- symlinks --------------------------------------------------------------------------------


def test_symlinks_resolve_inside_the_root(tmp_path: Path) -> None:
    view = _view(
        tmp_path,
        {"etc": {"passwd": b"inside"}, "abs": "/etc/passwd", "up": "../../../../etc/passwd"},
        {"dir": {"rel": "../abs", "etc": "/etc"}},
    )
    for path in ("abs", "up", "dir/rel", "dir/etc/passwd", "dir/etc/../abs", "/../../abs"):
        assert view.read_bytes(path) == b"inside", path
    node = view.lookup("dir/etc/passwd")
    assert node is not None
    assert node.path == "/etc/passwd"


def test_the_last_symlink_need_not_be_followed(tmp_path: Path) -> None:
    view = _view(tmp_path, {"a": {"link": "b"}, "to": "a"})
    node = view.lookup("to/link", follow=False)
    assert node is not None
    assert (node.path, node.is_symlink, node.link) == ("/a/link", True, "b")
    assert view.lookup("to/link") is None


def test_circles_of_symlinks_end(tmp_path: Path) -> None:
    view = _view(tmp_path, {"a": "b", "b": "a", "self": "self/x"})
    assert view.lookup("a") is None
    assert view.lookup("self") is None


def test_a_layer_is_never_left_through_a_symlink_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("outside")
    view = _view(tmp_path / "layers", {"out": str(secret), "dir": {"up": "../" * 20 + "secret"}})
    assert view.lookup("out/key") is None
    assert view.lookup("dir/up/key") is None


# --- reading ---------------------------------------------------------------------------------


def test_nodes_say_what_and_where_they_are(tmp_path: Path) -> None:
    low, high = laid_out(tmp_path, [{"d": {"f": b"123"}}, {"d": {}}])
    view = TreeView([low, high])
    directory, file = view.lookup("d"), view.lookup("/d//./f/")
    assert directory is not None
    assert file is not None
    assert (directory.is_dir, directory.is_file, directory.host_path) == (True, False, high / "d")
    assert (file.is_file, file.status.st_size, file.host_path) == (True, 3, low / "d/f")
    assert view.lookup("d/f/x") is None


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    view = _view(tmp_path, {"dir": {}, "file": b"12345"})
    os.mkfifo(tmp_path / "layer0/fifo")
    with pytest.raises(FileNotFoundError):
        view.read_bytes("none")
    with pytest.raises(IsADirectoryError):
        view.read_bytes("dir")
    with pytest.raises(OSError, match="regular"):
        view.read_bytes("fifo")
    with pytest.raises(NotADirectoryError):
        list(view.iterdir("file"))
    with pytest.raises(OSError, match="more than 4 bytes") as caught:
        view.read_bytes("file", limit=4)
    assert caught.value.errno == errno.EFBIG
    assert view.read_bytes("file", limit=5) == b"12345"
