"""The roof-line: what the machine has to do at least, each thing measured alone.

Digests by OpenSSL, codecs by the libraries that pycontainer uses, system calls by small C programs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.peers.images import Codec, Name, archive, blob
from benchmarks.roofline import _calls, _codec
from benchmarks.roofline._part import Part, critical_path, total

__all__ = ["Floor", "Part", "creation", "critical_path", "extraction", "pull", "push", "total"]

_ANY = 64  # files are made and read, and pieces compressed, by as many threads as there are

Floor = Callable[[Path | None], Sequence[Part]]
"""Measures the parts; the argument says where, as that of `scratch` does."""


def extraction(name: Name, codec: Codec, layers: int = 1) -> Floor:
    """The floor of making a layer's files from a file."""

    def measure(parent: Path | None) -> Sequence[Part]:
        stored, tar = blob(name, codec), archive(name)
        return [
            Part(f"decompress {codec}", _codec.decompress(stored, codec), layers),
            Part("sha256 of the blob", _codec.sha256(stored), layers),
            Part("sha256 of the tar", _codec.sha256(tar), layers),
            Part("system calls that make the files", _calls.create_files(tar, parent), _ANY),
        ]

    return measure


def pull(name: Name, codec: Codec, layers: int = 1) -> Floor:
    """The floor of bringing an image from a registry on this machine and unpacking it."""
    extract = extraction(name, codec, layers)

    def measure(parent: Path | None) -> Sequence[Part]:
        stored = blob(name, codec)
        return [
            Part("receive the blob", _calls.send(stored), layers),
            Part("write and sync the blob", _calls.store(stored, parent), layers),
            *extract(parent),
        ]

    return measure


def creation(name: Name, codec: Codec) -> Floor:
    """The floor of making a layer from a directory."""

    def measure(parent: Path | None) -> Sequence[Part]:
        stored, tar = blob(name, codec), archive(name)
        return [
            Part("system calls that read the files", _calls.read_files(tar, parent), _ANY),
            Part("sha256 of the tar", _codec.sha256(tar)),
            Part(f"compress {codec}", _codec.compress(tar, codec), _ANY),
            Part("sha256 of the blob", _codec.sha256(stored)),
            Part("write and sync the blob", _calls.store(stored, parent)),
        ]

    return measure


def push(name: Name, codec: Codec) -> Floor:
    """The floor of sending an image as it is stored; the registry's share counts, it is waited for."""

    def measure(parent: Path | None) -> Sequence[Part]:
        stored = blob(name, codec)
        return [
            Part("send the blob", _calls.send(stored)),
            Part("sha256 of the blob, by the registry", _codec.sha256(stored)),
            Part("write and sync the blob, by the registry", _calls.store(stored, parent)),
        ]

    return measure
