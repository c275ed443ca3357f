"""The other programs, and the root file systems that both sides work on."""

from __future__ import annotations

from benchmarks.peers.buildah import Buildah
from benchmarks.peers.docker import Docker, dockerd
from benchmarks.peers.images import archive, blob, compressed, layout, minbase
from benchmarks.peers.load import load
from benchmarks.peers.podman import Podman
from benchmarks.peers.program import (
    BenchmarkError,
    await_ready,
    background,
    call,
    processor_seconds,
)
from benchmarks.peers.registry import RegistryPeer, registry, skopeo
from benchmarks.peers.runc import runc_bundle, runc_container
from benchmarks.peers.scratch import scratch
from benchmarks.peers.trees import count, extract_tar

__all__ = [
    "BenchmarkError",
    "Buildah",
    "Docker",
    "Podman",
    "RegistryPeer",
    "archive",
    "await_ready",
    "background",
    "blob",
    "call",
    "compressed",
    "count",
    "dockerd",
    "extract_tar",
    "layout",
    "load",
    "minbase",
    "processor_seconds",
    "registry",
    "runc_bundle",
    "runc_container",
    "scratch",
    "skopeo",
]
