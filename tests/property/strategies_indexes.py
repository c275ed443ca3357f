"""Layers that contradict themselves: names that come twice, links through links, whiteouts of all kinds."""

from __future__ import annotations

from hypothesis import strategies as st

from property.strategies_layers import contents, fill, modes, owners, times, xattrs
from pycontainer.layers import Entry, Kind

_NAMES = st.sampled_from([b"a", b"b", b"c", b"\xff" * 200])
_LINK_PARTS = st.sampled_from([b"a", b"b", b"c", b"..", b".", b""])
_WHITEOUTS = st.sampled_from([b".wh.a", b".wh.b", b".wh..wh..opq", b".wh..wh.plnk"])

_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map(b"/".join)
_MARKED = st.tuples(st.lists(_NAMES, max_size=2), _WHITEOUTS).map(
    lambda two: b"/".join((*two[0], two[1]))
)
_TARGETS = st.lists(_LINK_PARTS, min_size=1, max_size=4).map(b"/".join).filter(bool)
_DEVICES = st.sampled_from([(0, 0), (1, 3), (4095, 2**20 - 1), (5000, 1)])


@st.composite
def unruly_entries(draw: st.DrawFn) -> Entry:
    """One entry of such a layer."""
    if not draw(st.integers(0, 4)):
        return Entry(draw(_MARKED), Kind.FILE, content=lambda: iter(()))
    kind = draw(st.sampled_from([*Kind, Kind.DIRECTORY, Kind.DIRECTORY, Kind.SYMLINK]))
    path = draw(_PATHS) if kind is not Kind.DIRECTORY or draw(st.integers(0, 9)) else b""
    owner = draw(st.one_of(st.just((0, 0)), st.tuples(owners, owners)))
    entry = Entry(path, kind, draw(modes), *owner, draw(times))
    if kind in (Kind.FILE, Kind.DIRECTORY):
        entry.xattrs = draw(xattrs)
    if kind is Kind.FILE:
        fill(entry, draw(contents))
    elif kind is Kind.SYMLINK:
        entry.link = draw(_TARGETS)
    elif kind is Kind.HARD_LINK:
        entry.link = draw(_PATHS)
    elif kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE):
        entry.major, entry.minor = draw(_DEVICES)
    return entry


unruly_layers = st.lists(unruly_entries(), max_size=14)
