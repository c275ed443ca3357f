"""COPY puts any tree where it belongs, and its cache key follows content and nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from built_images import files_of
from pycontainer.build import Builder
from pycontainer.build._destination import absolute
from pycontainer.build._glob import compile_name
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.layers import Kind
from pycontainer.oci import ContainerConfig

Tree = Mapping[tuple[str, ...], bytes | str | None]
"""By path: a file's content, a symlink's target, or None for a directory."""

names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)
leaves = st.one_of(st.binary(max_size=300), names.map(lambda name: f"to-{name}"), st.just(None))
trees = st.dictionaries(st.lists(names, min_size=1, max_size=4).map(tuple), leaves, max_size=8).map(
    lambda tree: {
        path: leaf
        for path, leaf in tree.items()
        if not any(path[:depth] in tree for depth in range(1, len(path)))
    }
)


@contextmanager
def made(tree: Tree, mtime: int = 0) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "context"
        root.mkdir()
        for parts, leaf in tree.items():
            path = root.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            if leaf is None:
                path.mkdir()
            elif isinstance(leaf, str):
                path.symlink_to(leaf)
            else:
                path.write_bytes(leaf)
        for path in root.rglob("*"):
            os.utime(path, (mtime, mtime), follow_symlinks=False)
        yield root


def build(context: Path, builder: Builder) -> Image:
    store = Store.open(context.parent / "store")
    try:
        image = builder.build(store=store, context=context, source_date_epoch=0)
        files_of(image)
        return image
    finally:
        store.close()


@given(trees)
@settings(max_examples=15)
def test_a_copied_tree_is_the_tree(tree: Tree) -> None:
    with made(tree) as context:
        files = files_of(build(context, Builder.scratch().copy(".", "/some/where")))
    expected: dict[str, object] = {"some": None, "some/where": None}
    for parts, leaf in tree.items():
        for depth in range(1, len(parts)):
            expected["/".join(("some/where", *parts[:depth]))] = None
        expected["/".join(("some/where", *parts))] = leaf
    found = {
        path: file.content
        if file.kind is Kind.FILE
        else (file.link if file.kind is Kind.SYMLINK else None)
        for path, file in files.items()
    }
    assert found == expected


@given(trees, st.integers(0, 2**31 - 1))
@settings(max_examples=10)
def test_times_and_places_do_not_matter(tree: Tree, mtime: int) -> None:
    builder = Builder.scratch().copy(".", "/x")
    with made(tree) as one, made(tree, mtime) as two:
        assert build(one, builder).digest == build(two, builder).digest


@given(trees, trees)
@settings(max_examples=15)
def test_the_cache_tells_any_two_trees_apart(one: Tree, two: Tree) -> None:
    builder = Builder.scratch().copy(".", "/x")
    with made(one) as context, made(two) as other:
        first = build(context, builder)
        shutil.rmtree(context)
        other.rename(context)
        assert (build(context, builder).digest == first.digest) is (one == two)


@given(st.lists(st.sampled_from(["a", "bc", "..", ".", ""]), max_size=8), st.booleans())
def test_absolute_paths_are_clean(parts: list[str], rooted: bool) -> None:
    path = ("/" if rooted else "") + "/".join(parts)
    result = absolute(path, ContainerConfig(working_dir="/w"))
    assert result == os.path.normpath(os.path.join("/w", path)).replace("//", "/")
    assert result.startswith("/")


@given(st.text(min_size=1, max_size=20))
def test_an_escaped_name_matches_itself_alone(name: str) -> None:
    pattern = compile_name("".join("\\" + character for character in name))
    assert pattern.fullmatch(name)
    assert not pattern.fullmatch(name + "x")
