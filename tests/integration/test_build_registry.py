"""Builds whose base image comes from a registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycontainer.build import Builder
from pycontainer.content import Store
from pycontainer.errors import RegistryError
from pycontainer.images import Registry


def test_a_base_image_is_pulled_once(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A")
    base = Builder.scratch(context=tmp_path).copy("a", "/a").build(store=store)
    with Store.open(tmp_path / "other") as other:
        with Registry.serve(tmp_path / "registry") as server:
            name = f"{server.host}/base:1"
            base.push(name)
            first = Builder(name).copy("/a", "/b", from_=name).build(store=other)
        # The registry has gone, the store has the image.
        again = Builder(name).copy("/a", "/b", from_=name).build(store=other)
    assert first.layers[:1] == base.layers
    assert again.digest == first.digest


def test_a_base_image_that_nobody_has(store: Store, tmp_path: Path) -> None:
    with (
        Registry.serve(tmp_path / "registry") as server,
        pytest.raises(RegistryError, match="base"),
    ):
        Builder(f"{server.host}/base:1").build(store=store)
