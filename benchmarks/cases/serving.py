"""Registry servers with 64 clients: how fast, how evenly, and at what price."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field, frozen

from benchmarks import peers
from benchmarks.measure import Bounds, Side, case
from pycontainer.oci import Descriptor, Digest, Manifest, media_types
from pycontainer.registry import Client

__all__: list[str] = []

Pair = tuple[Side, Side]
_CLIENTS = 64
_READY_SECONDS = 20


@frozen
class _Content:
    """What both registries have: a manifest as images have them, and a blob."""

    blob: bytes = field(repr=False)

    def push(self, host: str) -> None:
        blob = Descriptor(media_types.OCI_LAYER, Digest.of(self.blob), len(self.blob))
        config = b"{}" + b" " * 1500
        manifest = Manifest(
            config=Descriptor(media_types.OCI_CONFIG, Digest.of(config), len(config)),
            layers=(blob,) * 8,
        )
        with Client(host) as client:
            client.push_blob("team/app", blob, lambda: io.BytesIO(self.blob))
            client.push_blob("team/app", manifest.config, lambda: io.BytesIO(config))
            client.put_manifest("team/app", "1", manifest.encode(), manifest.media_type)

    @property
    def path(self) -> str:
        return f"/v2/team/app/blobs/{Digest.of(self.blob)}"


@define
class _Work:
    """Requests to one server."""

    host: str
    path: str
    requests: int
    seconds: list[float] = field(factory=list)

    def __call__(self) -> None:
        self.seconds = peers.load(
            self.host,
            self.path,
            requests=self.requests,
            clients=_CLIENTS,
            headers={"Accept": media_types.OCI_MANIFEST},
        )

    def p99(self) -> float:
        """What 99 of 100 answers do not exceed."""
        return statistics.quantiles(self.seconds, n=100)[98]


@contextlib.contextmanager
def _ours(directory: Path) -> Iterator[tuple[str, int]]:
    """Our server in a process of its own; gives host and process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    log = directory / "ours.log"
    command = [sys.executable, "-m", "pycontainer", "registry", str(directory / "ours")]
    with peers.background([*command, "--address", host, "--grace", "0"], log) as process:
        peers.await_ready(process, lambda: b"serving" in log.read_bytes(), log, _READY_SECONDS)
        yield host, process.pid


@contextlib.contextmanager
def _pair(
    directory: Path, *, size: int, requests: int, manifest: bool = False, late: bool = False
) -> Iterator[Pair]:
    content = _Content(os.urandom(size))
    path = "/v2/team/app/manifests/1" if manifest else content.path
    with _ours(directory) as (host, pid), peers.registry(directory) as peer:
        sides = []
        for name, where, process in (
            ("pycontainer", host, pid),
            ("docker-registry", peer.host, peer.pid),
        ):
            content.push(where)
            work = _Work(where, path, requests)
            sides.append(
                Side(
                    name,
                    work,
                    daemons=lambda process=process: peers.processor_seconds(process),  # type: ignore[misc]
                    seconds=work.p99 if late else None,
                )
            )
        yield sides[0], sides[1]


@case(
    "Serve a manifest to 64 clients: time for 2,000 requests",
    rounds=7,
    warm_up=1,
    group="serving",
    bounds=Bounds(wall=2.0, cpu=2.0),
)
@contextlib.contextmanager
def serve_manifest(directory: Path) -> Iterator[Pair]:
    """A manifest of 1.5 kB is asked for by its tag over 64 connections that stay open.

    Each asks again as soon as it has its answer. Each server is a process of its own that serves a
    directory; ours is one thread of Python. The clients are one other process, whose processor time
    counts for both.
    """
    with _pair(directory, size=1000, requests=2000, manifest=True) as pair:
        yield pair


@case(
    "Serve a manifest to 64 clients: the 99th of 100 answers",
    rounds=7,
    warm_up=1,
    cpu=False,
    group="serving",
)
@contextlib.contextmanager
def serve_manifest_late(directory: Path) -> Iterator[Pair]:
    """The same; what counts is the time until an answer's end that 99 of 100 do not exceed."""
    with _pair(directory, size=1000, requests=2000, manifest=True, late=True) as pair:
        yield pair


@case(
    "Serve a small blob to 64 clients: time for 2,000 requests",
    rounds=7,
    warm_up=1,
    group="serving",
    bounds=Bounds(wall=1.0, cpu=1.0),
)
@contextlib.contextmanager
def serve_small_blob(directory: Path) -> Iterator[Pair]:
    """The same with a blob of 20 kB, as configs and small layers are."""
    with _pair(directory, size=20_000, requests=2000) as pair:
        yield pair


@case(
    "Serve a layer to 64 clients: time for 192 requests",
    rounds=7,
    warm_up=1,
    group="serving",
    bounds=Bounds(wall=1.0, cpu=1.0),
)
@contextlib.contextmanager
def serve_layer(directory: Path) -> Iterator[Pair]:
    """The same with a blob of 16 MB: 3 GB in all. The clients let the kernel drop what comes (MSG_TRUNC)."""
    with _pair(directory, size=16_000_000, requests=192) as pair:
        yield pair


@case(
    "Serve a layer to 64 clients: the 99th of 100 answers",
    rounds=7,
    warm_up=1,
    cpu=False,
    group="serving",
)
@contextlib.contextmanager
def serve_layer_late(directory: Path) -> Iterator[Pair]:
    """The same; what counts is the time that 99 of 100 answers do not exceed."""
    with _pair(directory, size=16_000_000, requests=192, late=True) as pair:
        yield pair
