"""A service in a container as a pytest fixture: run with ``pytest examples/pytest_fixture.py``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pycontainer as pc

SERVER = """
import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline().upper())
with socketserver.TCPServer(("127.0.0.1", 7000), Echo) as server:
    print("ready", flush=True)
    server.serve_forever()
"""
CLIENT = """
import socket
with socket.create_connection(("127.0.0.1", 7000)) as connection:
    connection.sendall(b"hello\\n")
    print(connection.makefile().readline().strip())
"""


@pytest.fixture
def service() -> Iterator[pc.Container]:
    image = pc.Image.from_interpreter(tag="python:here")
    with pc.Container.start(image, ["python", "-c", SERVER]) as container:
        assert str(next(container.logs(follow=True))) == "ready"
        yield container


def test_the_service_answers(service: pc.Container) -> None:
    answer = service.exec(["python", "-c", CLIENT], check=True)
    assert answer.stdout == b"HELLO\n"
