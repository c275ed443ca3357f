"""Laws of layers that take root to try: owners, devices, and what real mounts make of changes."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from archives import joined
from property.strategies_layers import Change, changes, root_trees
from property.test_layers import directory, facts
from pycontainer.content import Store
from pycontainer.layers import (
    Entry,
    Extractor,
    Ownership,
    read_entries,
    unpack,
    walk_tree,
    write_tar,
)
from pycontainer.oci import Digest
from pycontainer.snapshots import Driver, Snapshot, ensure_layer, mounted, prepare
from stacks import packed
from trees import FileFacts, differences, picture_of

pytestmark = pytest.mark.root
ROOT = Ownership.ROOT


@given(root_trees())
def test_walking_undoes_extracting(tree: list[Entry]) -> None:
    with directory() as root:
        with Extractor(root, ROOT) as extractor:
            for entry in tree:
                extractor.put(entry)
            extractor.finish()
        assert [facts(entry) for entry in walk_tree(root, ownership=ROOT)] == [
            facts(entry) for entry in tree
        ]


# --- what programs do to files ---------------------------------------------------------------


def change(root: Path, it: Change) -> None:
    """Do it, if there is something to do it to."""
    paths = sorted(root.rglob("*"))
    places = [root, *(path for path in paths if path.is_dir() and not path.is_symlink())]
    new = places[it.which[1] % len(places)] / os.fsdecode(it.name)
    if it.verb in ("device", "fifo", "mkdir", "symlink", "write"):
        if not os.path.lexists(new):
            _make(new, it)
        return
    if paths:
        _change(paths[it.which[0] % len(paths)], new, it)


def _make(new: Path, it: Change) -> None:
    if it.verb == "device":
        os.mknod(new, stat.S_IFCHR | it.mode & 0o777, os.makedev(1, 3))
    elif it.verb == "fifo":
        os.mkfifo(new, it.mode)
    elif it.verb == "mkdir":
        new.mkdir()
    elif it.verb == "symlink":
        new.symlink_to(os.fsdecode(b"../" + it.name))
    else:
        new.write_bytes(it.data)


def _change(path: Path, new: Path, it: Change) -> None:
    mode = path.lstat().st_mode
    is_file, is_directory = stat.S_ISREG(mode), stat.S_ISDIR(mode)
    if it.verb == "chown":
        os.chown(path, it.mode, it.mode % 7, follow_symlinks=False)
    elif it.verb == "touch":
        os.utime(path, ns=(0, it.mtime_ns), follow_symlinks=False)
    elif it.verb == "tag":
        os.setxattr(path, "trusted.k", it.data, follow_symlinks=False)
    elif it.verb == "untag":
        for key in os.listxattr(path, follow_symlinks=False):
            if not key.startswith("trusted.overlay."):
                os.removexattr(path, key, follow_symlinks=False)
    elif it.verb in ("remove", "remake"):
        _remove(path)
        if it.verb == "remake":
            path.write_bytes(it.data) if is_directory and it.mode % 2 else path.mkdir()
    elif it.verb == "chmod" and not stat.S_ISLNK(mode):
        path.chmod(it.mode)
    elif it.verb == "rename" and not is_directory and not (new.is_dir() and not new.is_symlink()):
        path.rename(new)
    elif is_file and it.verb == "link" and not os.path.lexists(new):
        os.link(path, new, follow_symlinks=False)
    elif is_file and it.verb == "grow":
        os.truncate(path, path.stat().st_size + 300_000)
    elif is_file and it.verb in ("append", "rewrite"):
        with path.open("ab" if it.verb == "append" else "r+b") as file:
            file.write(it.data)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


# --- diff and apply --------------------------------------------------------------------------


@contextmanager
def _stack(store: Store, diff_ids: list[Digest], driver: Driver) -> Iterator[tuple[Snapshot, Path]]:
    """A snapshot of these layers, mounted."""
    place = store.path.parent / secrets.token_hex(8)
    snapshot = prepare(store, diff_ids, place, driver=driver, volatile=True)
    target = place / "target"
    target.mkdir()
    try:
        with mounted(snapshot.plan, target):
            yield snapshot, target
    finally:
        snapshot.delete()


def _picture(root: Path) -> dict[str, FileFacts]:
    """All but the root directory itself, which a layer of changes does not speak of."""
    found = picture_of(root)
    del found["."]
    return found


@pytest.mark.parametrize("driver", Driver)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lower=root_trees(), done=changes)
def test_applying_undoes_diffing(
    driver: Driver, lower: list[Entry], done: list[Change], store: Store
) -> None:
    """What is done to a stack of layers is, as one more layer, the same on another copy of them."""
    below = packed(store, lower)
    ensure_layer(store, below.descriptor, below.diff_id)
    with _stack(store, [below.diff_id], driver) as (snapshot, target):
        for each in done:
            change(target, each)
        wanted = _picture(target)
        layer = joined(write_tar(snapshot.changes()))
    assert differences(_applied(lower, layer), wanted) == {}
    above = packed(store, read_entries([layer]))
    ensure_layer(store, above.descriptor, above.diff_id)
    with _stack(store, [below.diff_id, above.diff_id], Driver.OVERLAY) as (_, target):
        assert differences(_picture(target), wanted) == {}


def _applied(lower: list[Entry], layer: bytes) -> dict[str, FileFacts]:
    with directory() as root:
        for data in (joined(write_tar(lower)), layer):
            unpack(io.BytesIO(data), root, ownership=ROOT, whiteouts="apply")
        return _picture(root)
