"""Stacks of layers, with few names so that they meet."""

from __future__ import annotations

from hypothesis import strategies as st

from stacks import OPAQUE, WHITEOUT, Tree, applied, without_idle_whiteouts

__all__ = ["sensible_stacks", "stacks"]

_NAMES = st.sampled_from(["a", "b", "c"])
_LEAVES = st.one_of(
    st.sampled_from([b"", b"1", b"22"]),
    st.sampled_from(["a", "/b", "../c", "nowhere"]),
    st.just(WHITEOUT),
)


def _directories(children: st.SearchStrategy[object]) -> st.SearchStrategy[Tree]:
    opaque = st.just({OPAQUE: True})
    return st.builds(
        lambda mark, names: {**mark, **names},
        st.one_of(st.just({}), st.just({}), st.just({}), opaque),
        st.dictionaries(_NAMES, children, max_size=3),
    )


_TREES: st.SearchStrategy[object] = st.recursive(_LEAVES, _directories, max_leaves=8)

stacks: st.SearchStrategy[list[Tree]] = st.lists(
    st.dictionaries(_NAMES, _TREES, max_size=3), min_size=1, max_size=5
)
"""Layers' trees, the bottom first."""


def _sensible(trees: list[Tree]) -> list[Tree]:
    merged: Tree = {}
    result = []
    for tree in trees:
        result.append(without_idle_whiteouts(merged, tree))
        merged = applied(merged, tree)
    return result


sensible_stacks = stacks.map(_sensible)
"""The same, with no whiteout that hides nothing."""
