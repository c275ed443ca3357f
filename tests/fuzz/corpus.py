"""Inputs that were found worth keeping: one packed file for each target."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import zstandard

from archives import END, PARTS, archive
from pycontainer.layers import _compression
from pycontainer.oci import Compression

__all__ = ["load", "save", "seeds", "select"]

Step = tuple[CodeType, int, int]
TraceFunction = Callable[[FrameType, str, Any], Any]

_PRODUCT = "/pycontainer/"

_PLACE = Path(__file__).with_name("corpus")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def load(target: str) -> list[bytes]:
    """The kept inputs of a target."""
    path = _PLACE / f"{target}.zip"
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as packed:
        return [packed.read(name) for name in packed.namelist()]


def save(target: str, inputs: Iterable[bytes]) -> int:
    """Keep these inputs in place of the former ones; the same inputs give the same file.

    Returns:
        Their number.
    """
    named = {hashlib.sha256(data).hexdigest()[:16]: data for data in inputs}
    _PLACE.mkdir(exist_ok=True)
    with zipfile.ZipFile(_PLACE / f"{target}.zip", "w") as packed:
        for name in sorted(named):
            entry = zipfile.ZipInfo(name, _EPOCH)
            packed.writestr(entry, named[name], zipfile.ZIP_DEFLATED, 9)
    return len(named)


def select(target: str, inputs: Iterable[bytes]) -> list[bytes]:
    """The few of many inputs that together go wherever all of them go, short ones first."""
    from fuzz.targets import TARGETS

    seen: set[Step] = set()
    chosen = []
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        steps = _steps(TARGETS[target], data)
        if not steps <= seen:
            seen |= steps
            chosen.append(data)
    return chosen


def _steps(target: Callable[[bytes], None], data: bytes) -> set[Step]:
    """Which line of the product's parsers came after which."""
    steps: set[Step] = set()

    def enter(frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        code = frame.f_code
        if _PRODUCT not in code.co_filename:
            return None
        before = 0

        def follow(frame: FrameType, event: str, argument: object) -> TraceFunction:
            nonlocal before
            steps.add((code, before, frame.f_lineno))
            before = frame.f_lineno
            return follow

        return follow

    sys.settrace(enter)
    try:
        target(data)
    finally:
        sys.settrace(None)
    return steps


def seeds(target: str) -> list[bytes]:
    """Sound inputs to begin with."""
    return {
        "tar": _archives,
        "decompress": _streams,
        "unpack": _blobs,
        "oci": _documents,
        "reference": _references,
        "protocol": _headers,
        "dockerfile": _dockerfiles,
    }[target]()


def _archives() -> list[bytes]:
    return [END, archive(*PARTS), *(archive(part) for part in PARTS)]


def _compressions(data: bytes) -> list[bytes]:
    return [b"".join(_compression.compress([data], kind)) for kind in Compression]


def _streams() -> list[bytes]:
    text = b"some text, " * 50
    named = gzip.compress(text)[:3] + b"\x1e" + gzip.compress(text)[4:10]  # all optional fields
    extras = named + b"\x04\0abcd" + b"name\0" + b"comment\0" + b"\0\0" + gzip.compress(text)[10:]
    skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    return [
        *(stream for data in (b"", text, bytes(300_000)) for stream in _compressions(data)),
        gzip.compress(text) + gzip.compress(b"more") + bytes(20),
        extras,
        skippable + zstandard.ZstdCompressor(level=1).compress(text) + skippable,
    ]


def _blobs() -> list[bytes]:
    chosen = [b"".join(PARTS[at : at + 5]) for at in range(0, len(PARTS), 3)]
    return [
        bytes([how]) + blob
        for how in range(4)
        for data in chosen
        for blob in (_compressions(archive(data)) if how == 0 else [archive(data)])
    ]


def _documents() -> list[bytes]:
    digest = "sha256:" + "ab" * 32
    descriptor = {"mediaType": "application/x", "digest": digest, "size": 3}
    platform = {"os": "linux", "architecture": "arm", "variant": "v7", "os.features": ["a"]}
    oci = "application/vnd.oci.image."
    documents: list[object] = [
        {
            "schemaVersion": 2,
            "mediaType": f"{oci}manifest.v1+json",
            "config": {**descriptor, "data": "YWJj", "annotations": {"a": "b"}},
            "layers": [{**descriptor, "urls": ["https://x/"]}, descriptor],
            "subject": descriptor,
            "annotations": {"k": "v"},
        },
        {
            "schemaVersion": 2,
            "mediaType": f"{oci}index.v1+json",
            "manifests": [{**descriptor, "platform": platform}],
            "artifactType": "x/y",
        },
        {
            "created": "2020-01-02T03:04:05.678Z",
            **platform,
            "config": {
                "User": "a:b",
                "Env": ["A=b"],
                "Entrypoint": ["x"],
                "Cmd": None,
                "ExposedPorts": {"80/tcp": {}},
                "Volumes": {"/v": {}},
                "Labels": {"l": "m"},
                "StopSignal": "SIGTERM",
                "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1000000000, "Retries": 3},
                "Shell": ["/bin/sh", "-c"],
            },
            "rootfs": {"type": "layers", "diff_ids": [digest]},
            "history": [{"created_by": "x", "empty_layer": True}],
        },
        {
            "ociVersion": "1.0.2",
            "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 1, "gid": 2}},
            "root": {"path": "rootfs", "readonly": True},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": "pid"}], "resources": {"pids": {"limit": 5}}},
        },
    ]
    return [json.dumps(document).encode() for document in documents]


def _references() -> list[bytes]:
    return [
        b"alpine",
        b"alpine:3.20",
        b"user/name:tag",
        b"localhost:5000/a/b__c:T",
        b"[::1]:5000/x@sha256:" + b"0" * 64,
        b"index.docker.io/library/x",
    ]


def _headers() -> list[bytes]:
    return [
        b'Bearer realm="https://a/t",service="s",scope="repository:x:pull"',
        b'Basic realm="a \\"b\\""',
        b'</v2/x/tags/list?n=2&last=b>; rel="next"',
        b"bytes=0-9",
        b"bytes=-5",
        b"0-99",
        b"120",
        b"Wed, 21 Oct 2015 07:28:00 GMT",
        b'{"errors":[{"code":"DENIED","message":"m","detail":{}}]}',
    ]


def _dockerfiles() -> list[bytes]:
    texts = [
        "# syntax=docker/dockerfile:1\n# escape=`\nFROM --platform=linux/arm64 a:1 AS b\nRUN a `\n b\n",
        'ARG V=1\nFROM x:${V:-2}\nENV a=b c="d e"\nENV old style\nLABEL k=v\nEXPOSE 80/tcp 1-9\n',
        'FROM scratch\nCOPY --from=b --chown=1:2 --chmod=u+x --link ["a b", "/c/"]\nADD a* b/\n',
        'FROM x\nRUN --mount=type=cache,target=/c,sharing=locked --network=none <<A <<-"B"\na\nA\n\tb\nB\n',
        'FROM x\nHEALTHCHECK --interval=1m30s --retries=3 CMD ["a"]\nHEALTHCHECK NONE\nSHELL ["s"]\n',
        'FROM x\nONBUILD RUN a\nVOLUME ["/v"]\nUSER a:b\nWORKDIR /w\nSTOPSIGNAL 9\nCMD a\nENTRYPOINT b\n',
        "FROM x\nCOPY <<E /f\n$a\nE\nMAINTAINER me\n",
        "${a:-b}${a:+b}${a?c}${a#*/}${a##*/}${a%.*}${a//x/y}\\$a'$b'",
    ]
    return [text.encode() for text in texts]
