"""Three ways to see a stack of layers agree: `TreeView`, the copy, and a plain model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from hypothesis import given

from property.strategies_stacks import stacks
from pycontainer.content import Store
from pycontainer.snapshots import Driver, TreeView, prepare
from stacks import Tree, applied, laid_out, stacked


def _flat(tree: Mapping[str, object], above: str = "/") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in tree.items():
        path = above + name
        found[path] = "directory" if isinstance(value, Mapping) else value
        if isinstance(value, Mapping):
            found |= _flat(value, path + "/")
    return found


def _seen(view: TreeView) -> dict[str, object]:
    found: dict[str, object] = {}
    for node in view.walk():
        if node.path == "/":
            continue
        if node.is_symlink:
            found[node.path] = node.link
        else:
            found[node.path] = "directory" if node.is_dir else view.read_bytes(node.path)
    return found


def _expected(trees: list[Tree]) -> dict[str, object]:
    merged: Tree = {}
    for tree in trees:
        merged = applied(merged, tree)
    return _flat(merged)


@given(stacks)
def test_the_view_is_what_the_specification_says(trees: list[Tree]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        view = TreeView(laid_out(Path(directory), trees))
        assert _seen(view) == _expected(trees)


@given(stacks)
def test_layers_give_the_same_tree_as_view_and_as_copy(trees: list[Tree]) -> None:
    with tempfile.TemporaryDirectory() as directory, Store.open(Path(directory, "s")) as store:
        snapshot = prepare(
            store, stacked(store, *trees), Path(directory, "copy"), driver=Driver.COPY
        )
        lowers = TreeView([Path(lower) for lower in reversed(snapshot.plan.lowers)])
        assert _seen(snapshot.tree()) == _seen(lowers) == _expected(trees)
        assert list(snapshot.changes()) == []
