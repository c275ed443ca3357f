"""One store, many processes: nobody loses what was kept, and the dead leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import store_workers
from pycontainer.content import Collected, Store
from store_workers import content, leftovers

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", store_workers.__file__, *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def finish(process: subprocess.Popen[str]) -> str:
    with process:
        try:
            output, _ = process.communicate(timeout=300)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0, output
    return output


def test_what_is_kept_is_there_whatever_others_collect(tmp_path: Path) -> None:
    rounds = 300 if THOROUGH else 25
    processes = [start("churn", tmp_path, seed, rounds) for seed in range(4)]
    for process in processes:
        finish(process)
    with Store.open(tmp_path) as store:
        store.collect()
        roots = store.roots("image")
        assert [root.name for root in roots] == ["0", "1", "2", "3"]
        kept = {node for root in roots for node in root.targets}
        for number in range(6):
            digest = store_workers.described(content(number)).digest
            assert store.blobs.exists(digest) == (("blob", str(digest)) in kept)
            if store.blobs.exists(digest):
                store_workers.check(store, content(number))
        for root in roots:
            store.drop_root("image", root.name)
        assert {node for node in store.collect().removed if node[0] != "image"} == kept
    assert leftovers(tmp_path) == []


def test_a_killed_writer_leaves_nothing_after_a_collection(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        writer = start("endless", tmp_path)
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
            assert store.collect() == Collected()
            assert len(leftovers(tmp_path)) >= 5
            writer.kill()
        blob, layer = (len(content(1)),) * 2
        assert store.collect().freed == blob + layer + len(content(2))
    assert leftovers(tmp_path) == []


def test_a_death_at_any_line_is_repaired(tmp_path: Path) -> None:
    step = 1 if THOROUGH else 17
    output = finish(start("crash", tmp_path, step))
    deaths = dict(line.split() for line in output.splitlines())
    assert int(deaths["fill"]) * step > 300
    assert int(deaths["empty"]) * step > 100
