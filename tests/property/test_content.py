"""A store against a model of it: what is kept is there, and a collection takes all else."""

from __future__ import annotations

import itertools
import shutil
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pycontainer.content import Node, Store
from pycontainer.oci import Digest

NUMBERS = st.integers(0, 5)
NODES = [("blob", str(Digest.of(bytes([n])))) for n in range(4)] + [("note", "4"), ("note", "5")]
KEEPERS = st.sampled_from(["a", "b", "c"])


class StoreMachine(RuleBasedStateMachine):
    """Adds, links, keeps and collects in one store, and the same in sets."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.home = home
        home.mkdir()
        self.store = Store.open(self.home / "store")
        self.present: set[Node] = set()
        self.edges: set[tuple[Node, Node]] = set()
        self.roots: dict[str, set[Node]] = {}
        self.with_path: set[str] = set()
        self.leases: list[tuple[ExitStack, set[Node]]] = []

    def kept(self) -> set[Node]:
        reached: set[Node] = set().union(*self.roots.values(), *(nodes for _, nodes in self.leases))
        while more := {to for node, to in self.edges if node in reached} - reached:
            reached |= more
        return reached

    def touch(self, node: Node) -> None:
        for _, nodes in self.leases:
            nodes.add(node)

    @rule(n=NUMBERS)
    def add(self, n: int) -> None:
        kind, key = NODES[n]
        if kind == "blob":
            with self.store.blobs.writer() as writer:
                writer.write(bytes([n]))
                assert str(writer.commit()) == key
        else:
            self.store.put_resource(kind, key, path=None, size=0)
        self.present.add(NODES[n])
        self.touch(NODES[n])

    @rule(n=NUMBERS)
    def look(self, n: int) -> None:
        there = self.store.has_resource(*NODES[n])
        assert there == (NODES[n] in self.present)
        if there:
            self.touch(NODES[n])

    @rule(n=NUMBERS, needs=st.sets(NUMBERS, max_size=3))
    def link(self, n: int, needs: set[int]) -> None:
        self.store.link(NODES[n], [NODES[m] for m in needs])
        self.edges |= {(NODES[n], NODES[m]) for m in needs}
        self.touch(NODES[n])

    @rule(n=NUMBERS)
    def remove(self, n: int) -> None:
        if NODES[n] in self.present:
            self.edges = {(node, to) for node, to in self.edges if node != NODES[n]}
        self.store.remove_resource(*NODES[n])
        self.present.discard(NODES[n])

    @rule(name=KEEPERS, numbers=st.sets(NUMBERS, max_size=3), with_path=st.booleans())
    def keep(self, name: str, numbers: set[int], with_path: bool) -> None:
        path = self.home / name if with_path else None
        if path is not None:
            path.touch()
        self.store.add_root("root", name, [NODES[n] for n in numbers], path=path)
        self.roots[name] = {NODES[n] for n in numbers}
        (self.with_path.add if with_path else self.with_path.discard)(name)

    @rule(name=KEEPERS)
    def drop(self, name: str) -> None:
        if name in self.with_path:
            (self.home / name).unlink()
            self.with_path.remove(name)
        else:
            self.store.drop_root("root", name)
        self.roots.pop(name, None)

    @precondition(lambda self: len(self.leases) < 3)
    @rule()
    def begin_lease(self) -> None:
        stack = ExitStack()
        stack.enter_context(self.store.lease())
        self.leases.append((stack, set()))

    @precondition(lambda self: self.leases)
    @rule()
    def end_lease(self) -> None:
        self.leases.pop()[0].close()

    @rule()
    def collect(self) -> None:
        kept = self.kept()
        expected = self.store.collect(dry_run=True)
        assert self.store.collect() == expected
        assert set(expected.removed) == self.present - kept
        self.present &= kept
        self.edges = {(node, to) for node, to in self.edges if node in kept}

    @rule()
    def reopen(self) -> None:
        while self.leases:
            self.end_lease()
        self.store.close()
        self.store = Store.open(self.home / "store")

    @invariant()
    def what_is_present_is_there(self) -> None:
        files = {path.name for path in (self.home / "store").glob("blobs/*/*")}
        assert files == {key.partition(":")[2] for kind, key in self.present if kind == "blob"}
        assert {root.name for root in self.store.roots("root")} == set(self.roots)
        for node in NODES:
            assert set(self.store.links(node)) == {to for start, to in self.edges if start == node}

    def teardown(self) -> None:
        while self.leases:
            self.end_lease()
        self.store.close()
        shutil.rmtree(self.home)


def test_a_store_does_as_its_model(tmp_path: Path) -> None:
    numbers = itertools.count()
    run_state_machine_as_test(
        lambda: StoreMachine(tmp_path / str(next(numbers))),  # type: ignore[arg-type]
        settings=settings(max_examples=settings().max_examples // 2, stateful_step_count=25),
    )
