"""What the kernel takes for files and sockets, called by C programs or by a loop over large buffers."""

from __future__ import annotations

import functools
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import call, extract_tar, scratch
from benchmarks.peers.images import read_archive
from benchmarks.roofline._codec import fastest
from pycontainer.content import remove_tree
from pycontainer.layers import Entry

__all__ = ["create_files", "read_files", "send", "store"]

_SOURCES = Path(__file__).parent
_RECORD = struct.Struct("=IIIIqqQIIII")  # struct entry of entries.h, without its pointers
_SECOND = 1_000_000_000
_CHUNK = 1 << 18
_TIMES = 3
_READER = """
import socket
with socket.socket(fileno=0) as stream:
    buffer = bytearray(1 << 18)
    stream.send(b"!")
    while stream.recv_into(buffer):
        pass
    stream.send(b"!")
"""


@functools.cache
def create_files(tar: Path, parent: Path | None) -> float:
    """Seconds of the system calls that make a tar's files."""
    plan = b"".join(_record(entry) for entry in read_archive(tar) if entry.path)
    with scratch(parent) as directory:
        program, root = _compiled("create", directory), directory / "root"
        seconds = []
        for _ in range(_TIMES):
            root.mkdir()
            seconds.append(_seconds([program, root], plan))
            remove_tree(root)
    return min(seconds)


@functools.cache
def read_files(tar: Path, parent: Path | None) -> float:
    """Seconds of the system calls that read a tar's files, once they are in the page cache."""
    with scratch(parent) as directory:
        program = _compiled("walk", directory)
        root = extract_tar(tar, directory / "root")
        return min(_seconds([program, root]) for _ in range(_TIMES))


@functools.cache
def store(blob: Path, parent: Path | None) -> float:
    """Seconds to write a blob's bytes to a file and sync it."""
    data = memoryview(blob.read_bytes())
    with scratch(parent) as directory:
        path = directory / "blob"

        def work() -> None:
            with path.open("wb", buffering=0) as file:
                for start in range(0, len(data), _CHUNK):
                    file.write(data[start : start + _CHUNK])
                os.fsync(file.fileno())

        return fastest(work, time.perf_counter)


@functools.cache
def send(blob: Path) -> float:
    """Seconds in which a file's bytes cross the loopback device, from one process to another."""
    return min(_sending_seconds(blob) for _ in range(_TIMES))


def _sending_seconds(blob: Path) -> float:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with theirs:
        command = [sys.executable, "-I", "-S", "-c", _READER]
        reader = subprocess.Popen(command, stdin=theirs.fileno())
    with ours, blob.open("rb") as file:
        ours.recv(1)
        begun = time.perf_counter()
        ours.sendfile(file)
        ours.shutdown(socket.SHUT_WR)
        ours.recv(1)
        seconds = time.perf_counter() - begun
    reader.wait()
    return seconds


def _record(entry: Entry) -> bytes:
    seconds, nanoseconds = divmod(entry.mtime_ns, _SECOND)
    path, link = (text + b"\0" for text in (entry.path, entry.link))
    fixed = _RECORD.pack(
        ord(entry.kind.value), entry.mode, entry.uid, entry.gid, seconds, nanoseconds,
        entry.size, entry.major, entry.minor, len(path), len(link),
    )  # fmt: skip
    return fixed + path + link


def _compiled(name: str, directory: Path) -> Path:
    program = directory / name
    call("cc", "-O2", "-o", program, _SOURCES / f"{name}.c")
    return program


def _seconds(command: Sequence[str | Path], plan: bytes = b"") -> float:
    """Run one of the C programs; it says what processor time its work took, without its start."""
    done = subprocess.run(command, input=plan, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)
