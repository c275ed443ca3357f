"""Snapshots of an ordinary user: owners and devices are written down, and come back in layers."""

from __future__ import annotations

import json

import pytest

from integration.test_rootless import ordinary
from ordinary import Ordinary

__all__ = ["ordinary"]  # a fixture

pytestmark = pytest.mark.root

PROGRAM = """
import json, os
from pathlib import Path
from pycontainer.content import Store
from pycontainer.layers import Entry, Kind, decompress, pack, read_entries
from pycontainer.snapshots import Driver, ensure_layer, prepare

def content(): return iter((b"x",))

def facts(entry):
    device = (entry.major, entry.minor)
    return [entry.path.decode(), entry.kind.name, entry.uid, entry.gid, oct(entry.mode), device]

with Store.open("store") as store:
    with store.blobs.writer() as blob:
        layer = pack([
            Entry(b"", Kind.DIRECTORY, 0o755, 0, 0),
            Entry(b"dir", Kind.DIRECTORY, 0o1750, 12, 34),
            Entry(b"dir/file", Kind.FILE, 0o4711, 12, 34, size=1, content=content),
            Entry(b"gone", Kind.FILE, 0o644, 12, 34, size=1, content=content),
            Entry(b"null", Kind.CHARACTER_DEVICE, 0o666, 0, 5, major=1, minor=3),
        ], blob)
    ensure_layer(store, layer.descriptor, layer.diff_id)
    usual = prepare(store, [layer.diff_id], Path("usual"))
    copy = prepare(store, [layer.diff_id], Path("copy"), driver=Driver.COPY)
    before = len(list(copy.changes()))
    root = Path(copy.plan.path)
    (root / "dir/file").write_bytes(b"changed")
    (root / "null").touch()
    (root / "gone").unlink()
    with store.blobs.writer() as blob:
        made = copy.diff(blob)
    with store.blobs.open(made.descriptor.digest) as file:
        chunks = decompress(iter(lambda: file.read(65536), b""))
        entries = [facts(entry) for entry in read_entries(chunks)]
    print(json.dumps([usual.driver.value, usual.plan.userxattr, before, entries]))
    copy.delete()
    usual.delete()
"""


def test_owners_and_devices_survive(ordinary: Ordinary) -> None:
    done = ordinary.run("-W", "error", "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    driver, userxattr, before, entries = json.loads(done.stdout)
    assert (driver, userxattr, before) == ("overlay", True, 0)
    assert entries == [
        [".wh.gone", "FILE", 0, 0, "0o600", [0, 0]],
        ["dir", "DIRECTORY", 12, 34, "0o1750", [0, 0]],
        ["dir/file", "FILE", 12, 34, "0o4711", [0, 0]],
        ["null", "CHARACTER_DEVICE", 0, 5, "0o666", [1, 3]],
    ]
