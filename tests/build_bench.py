"""What tests of Dockerfiles without containers share: a context and a store, and a web server."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from archives import archive, file
from built_images import contents_of
from pycontainer.build import Builder
from pycontainer.content import Store
from pycontainer.errors import DockerfileError
from pycontainer.images import Image
from pycontainer.oci import ContainerConfig

__all__ = ["TAR", "Bench", "bench", "website"]

TAR = archive(file(b"d/a", b"in"))


class Bench:
    """A context and a store."""

    def __init__(self, store: Store, context: Path) -> None:
        self.store = store
        self.context = context

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def builder(self, text: str, **options: Any) -> Builder:
        (self.context / "Dockerfile").write_text(text)
        return Builder.from_dockerfile(context=self.context, store=self.store, **options)

    def build(self, text: str, tag: str | None = None, **options: Any) -> Image:
        return self.builder(text, **options).build(tag)

    def config(self, text: str, **options: Any) -> ContainerConfig:
        return self.build(text, **options).config.config

    def files(self, text: str, **options: Any) -> dict[str, bytes]:
        return contents_of(self.build(text, **options))

    def error(self, text: str, **options: Any) -> DockerfileError:
        with pytest.raises(DockerfileError) as caught:
            self.build(text, **options)
        return caught.value


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> Bench:
    (tmp_path / "context").mkdir()
    return Bench(store, tmp_path / "context")


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    root = tmp_path / "www"
    root.mkdir()
    (root / "file.txt").write_text("from the web")
    (root / "x.tar").write_bytes(TAR)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    handler = partial(Handler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
