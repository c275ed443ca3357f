"""Debian's docker-registry, and what goes there and comes from there by skopeo."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from benchmarks.peers.program import await_ready, background, call
from pycontainer.content import remove_tree

__all__ = ["RegistryPeer", "registry", "skopeo"]

_READY_SECONDS = 10


@frozen
class RegistryPeer:
    """A registry that serves one directory; its processor time counts where somebody asks for it.

    Attributes:
        host: Host and port.
        storage: Where it keeps what it is sent.
        pid: Its process.
    """

    host: str
    storage: Path
    pid: int

    def empty(self) -> None:
        """Forget all images."""
        if self.storage.exists():
            remove_tree(self.storage)

    def take(self, layout: Path, name: str) -> None:
        """Get the image of an OCI layout."""
        skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{self.host}/{name}")

    def blobs(self) -> int:
        """How many blobs it has."""
        return sum(1 for _ in self.storage.glob("docker/registry/v2/blobs/*/*/*/data"))


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[RegistryPeer]:
    """Run a registry whose files are in `directory`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = directory / "registry.json"  # YAML takes JSON
    storage = directory / "registry"
    document = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    config.write_text(json.dumps(document))
    log = directory / "registry.log"
    with background(["docker-registry", "serve", config], log) as process:
        await_ready(process, lambda: _answers(port), log, _READY_SECONDS)
        yield RegistryPeer(f"127.0.0.1:{port}", storage, process.pid)


def skopeo(*arguments: str | Path) -> None:
    """Run skopeo without signature policy."""
    call("skopeo", "--insecure-policy", *arguments)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
