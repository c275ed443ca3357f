"""File bodies on their way into a socket."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontainer.errors import SizeMismatch
from pycontainer.registry import _body
from pycontainer.registry._body import FileBody

DATA = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_body, "_SPAN", 1000)
    monkeypatch.setattr(_body, "_CHUNK", 300)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(10)
        yield one, other


def send(body: FileBody, sockets: tuple[socket.socket, socket.socket]) -> bytes:
    """What arrives at the other end."""
    one, other = sockets
    parts: list[bytes] = []

    def receive() -> None:
        while part := other.recv(1 << 16):
            parts.append(part)

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        for span in body:
            span.send_to(one)
    finally:
        one.shutdown(socket.SHUT_WR)
        thread.join()
    return b"".join(parts)


def test_from_a_real_file(
    tmp_path: Path, sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    monkeypatch.setattr(socket.socket, "sendall", None)  # the kernel sends it
    sent: list[int] = []
    with path.open("rb") as file:
        assert send(FileBody(file, len(DATA), sent.append), sockets) == DATA
    assert (sum(sent), max(sent)) == (len(DATA), 1000)


def test_from_memory(sockets: tuple[socket.socket, socket.socket]) -> None:
    assert send(FileBody(io.BytesIO(DATA), len(DATA)), sockets) == DATA


def test_from_where_the_file_stands(
    tmp_path: Path, sockets: tuple[socket.socket, socket.socket]
) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        file.seek(5000)
        assert send(FileBody(file, 1500), sockets) == DATA[5000:6500]


@pytest.mark.parametrize("real", [True, False])
def test_file_that_is_too_short(
    tmp_path: Path, sockets: tuple[socket.socket, socket.socket], real: bool
) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    source = path.open("rb") if real else io.BytesIO(DATA)
    with source as file, pytest.raises(SizeMismatch, match="shorter than announced"):
        send(FileBody(file, len(DATA) + 1), sockets)


def test_nothing(sockets: tuple[socket.socket, socket.socket]) -> None:
    assert send(FileBody(io.BytesIO(), 0), sockets) == b""
