"""Processes that use one store at the same time, run as a program by the tests of `content`.

store_workers.py churn STORE SEED ROUNDS    add, keep, drop and collect, checking what is promised
store_workers.py endless STORE              write a blob and a temporary for ever; says when it has begun
store_workers.py crash STORE STEP           die by SIGKILL at every STEP-th line of the content room
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pycontainer.content
from pycontainer.content import Node, Store
from pycontainer.oci import Descriptor, Digest, media_types

CONTENT = str(Path(pycontainer.content.__file__).parent)


def content(number: int) -> bytes:
    return b"%d," % number * (number * 300 + 1)


def described(data: bytes) -> Descriptor:
    return Descriptor(media_types.OCI_LAYER, Digest.of(data), len(data))


def add_blob(store: Store, data: bytes) -> Node:
    """Add a blob in two writes, unless it is there."""
    expected = described(data)
    if not store.blobs.exists(expected.digest):
        with store.blobs.writer(expected) as writer:
            writer.write(data[: len(data) // 2])
            writer.write(data[len(data) // 2 :])
            writer.commit()
    return ("blob", str(expected.digest))


def add_layer(store: Store, data: bytes) -> Node:
    """Add a directory with one file, unless it is there."""
    digest = Digest.of(data)
    node = ("layer", str(digest))
    if not store.has_resource(*node):
        with store.temporary("layer") as temporary:
            (temporary / "root").mkdir()
            (temporary / "root/file").write_bytes(data)
            path = store.directory("layers") / digest.hex
            store.put_resource(*node, path=path, size=len(data), install=temporary / "root")
    return node


def check(store: Store, data: bytes) -> None:
    """Assert that a blob and its layer are there and right."""
    digest = Digest.of(data)
    assert store.blobs.exists(digest)
    assert store.blobs.read_bytes(described(data)) == data
    assert store.has_resource("layer", str(digest))
    assert (store.path / "layers" / digest.hex / "file").read_bytes() == data


def churn(store: Store, seed: int, rounds: int) -> None:
    """Whatever the others collect meanwhile, what is leased or rooted here is there."""
    chance = random.Random(seed)
    for round_ in range(rounds):
        data = content(chance.randrange(6))
        with store.lease("churn"):
            blob, layer = add_blob(store, data), add_layer(store, data)
            image = ("image", f"{seed}")
            store.link(image, [blob, layer])
            if chance.random() < 0.5:
                store.collect()
            check(store, data)
            store.add_root("image", f"{seed}", [blob, layer])
        if chance.random() < 0.5:
            store.collect()
        check(store, data)
        if round_ < rounds - 1 and chance.random() < 0.5:
            store.drop_root("image", f"{seed}")


def endless(store: Store) -> None:
    """Be in the middle of everything until killed."""
    with store.lease("endless"), store.temporary("endless") as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep/file").write_bytes(content(1))
        add_blob(store, content(1))
        add_layer(store, content(1))
        with store.blobs.writer() as writer:
            writer.write(content(2))
            sys.stdout.write("writing\n")
            sys.stdout.flush()
            while True:
                time.sleep(1)


# --- crashes ---------------------------------------------------------------------------------


def fill(store: Store) -> None:
    """One of everything, kept by a root in the end."""
    with store.lease("crash"):
        nodes = [add_blob(store, content(3)), add_layer(store, content(3))]
        store.link(("image", "x"), nodes)
        store.add_root("image", "x", [("image", "x")])


def empty(store: Store) -> None:
    """Give up what `fill` made."""
    store.drop_root("image", "x")
    store.collect()


def die_at(line: int, work: Callable[[Store], None], path: Path) -> bool:
    """In a child, do some work and die at the n-th line of it; return whether it came so far."""
    pid = os.fork()
    if pid == 0:
        left = line

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.startswith(CONTENT):
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        status = 1
        try:
            with Store.open(path) as store:
                sys.settrace(trace)
                work(store)
                sys.settrace(None)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), f"the child ended with {status}"
    return status == signal.SIGKILL


def leftovers(path: Path) -> list[str]:
    """Files of a store beside its own."""
    own = {"store.db", "store.db-wal", "store.db-shm", "version"}
    found = [p for p in path.rglob("*") if not p.is_dir() and p.name not in own]
    found += [*(path / "tmp").iterdir(), *(path / "trash").iterdir()]
    return sorted(str(p.relative_to(path)) for p in found)


def crash(path: Path, step: int) -> None:
    """After a death at any line, the same work succeeds, and nothing of it outlives its root."""
    Store.open(path).close()
    for work in (fill, empty):
        line, died = 0, True
        while died:
            if work is empty:
                with Store.open(path) as store:
                    fill(store)
            died = die_at(line, work, path)
            with Store.open(path) as store:
                if line % 2:
                    store.collect()
                fill(store)
                check(store, content(3))
                empty(store)
            assert leftovers(path) == [], f"died at line {line} of {work.__name__}"
            line += step
        sys.stdout.write(f"{work.__name__} {line // step}\n")


def main(command: str, path: str, *numbers: str) -> None:
    if command == "crash":
        crash(Path(path), *map(int, numbers))
        return
    commands: dict[str, Callable[..., None]] = {"churn": churn, "endless": endless}
    with Store.open(path) as store:
        commands[command](store, *map(int, numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
