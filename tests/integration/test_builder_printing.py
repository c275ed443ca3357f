"""Builders with commands, printed as Dockerfiles and built again."""

from __future__ import annotations

from pathlib import Path

import pytest

from busybox import busybox_image
from pycontainer.build import Bound, Builder, CacheMount, Event, SecretMount, VertexCached
from pycontainer.content import Store

pytestmark = pytest.mark.root


def test_a_printed_builder_has_nothing_to_do(store: Store, tmp_path: Path) -> None:
    busybox_image(store, tmp_path / "rootfs")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/name").write_text("world")
    base = Builder("busybox:test", context=tmp_path).env({"GREETING": 'say "$HOME"'})
    tool = base.run(
        ["sh", "-c", 'cat /src/name /key > /made; echo "$WORD$GREETING" >> /made'],
        env={"WORD": "it's $5"},
        mounts=[Bound("/src", "src"), SecretMount("/key", "key"), CacheMount("/cache")],
    )
    builder = (
        base.copy("/made", "/made", from_=tool)
        .run("test -z $WORD && echo one > /one\necho two > /two")
        .run("ls /src || cat /made > /copy; echo \"$GREETING\" '$GREETING' >> /copy")
        .shell(["/bin/sh", "-ec"])
        .run("mkdir /sub\ncd /sub\ntouch here", mounts=[Bound("/t", "/", from_=tool)])
        .cmd("cat /copy")
    )
    printed = builder.to_dockerfile()
    image = builder.build(store=store, secrets={"key": "secret"})
    cached: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, VertexCached):
            cached.append(event.title)

    again = Builder.from_dockerfile(
        printed.dockerfile, context=tmp_path, store=store, secrets={"key": "secret"}
    )
    assert again.build(progress=note).digest == image.digest
    assert len([title for title in cached if title.startswith("RUN")]) == 4
    fresh = again.build(use_cache=False)
    assert fresh.digest == image.digest
    assert "secret" not in str(printed).replace("type=secret", "")
