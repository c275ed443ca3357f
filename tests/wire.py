"""A registry server of each kind of storage, and requests to it as they go over the wire."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import frozen

from pycontainer.content import Store
from pycontainer.images import Registry
from pycontainer.oci import Descriptor, Digest, Index, Manifest
from pycontainer.registry import RegistryServer, S3Bucket

__all__ = ["Reply", "Wire", "image", "kind", "push_blob", "push_manifest", "server", "wire"]

DATA = b"0123456789" * 10


@frozen
class Reply:
    """A response, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self) -> str:
        """The error code in the body."""
        code: str = json.loads(self.body)["errors"][0]["code"]
        return code


class Wire:
    """One connection to the server, kept open from request to request."""

    def __init__(self, host: str) -> None:
        self.connection = http.client.HTTPConnection(host, timeout=10)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request; a body that is an iterator goes in HTTP's chunks."""
        self.connection.request(method, path, body, dict(headers or {}))
        response = self.connection.getresponse()
        reply = Reply(response.status, response.headers, response.read())
        assert reply.headers["Docker-Distribution-API-Version"] == "registry/2.0"
        return reply

    @property
    def port(self) -> int:
        """The local port: the same as long as the connection is."""
        port: int = self.connection.sock.getsockname()[1]
        return port


Kind = Literal["directory", "store", "bucket"]


@pytest.fixture(params=["directory", "store", "bucket"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """What the server keeps things in."""
    found: Kind = request.param
    return found


@pytest.fixture
def server(kind: Kind, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RegistryServer]:
    place: Path | S3Bucket | Store = tmp_path / "served"
    if kind == "store":
        place = request.getfixturevalue("store")
    elif kind == "bucket":
        place = request.getfixturevalue("object_store").bucket()
    with Registry.serve(place) as server:
        yield server


@pytest.fixture
def wire(server: RegistryServer) -> Iterator[Wire]:
    wire = Wire(server.host)
    yield wire
    wire.connection.close()


def push_blob(wire: Wire, repository: str, data: bytes = DATA) -> Descriptor:
    path = f"/v2/{repository}/blobs/uploads/?digest={Digest.of(data)}"
    assert wire.ask("POST", path, data).status == 201
    return Descriptor("application/x", Digest.of(data), len(data))


def push_manifest(wire: Wire, repository: str, target: str, document: Manifest | Index) -> Reply:
    headers = {"Content-Type": document.media_type}
    return wire.ask("PUT", f"/v2/{repository}/manifests/{target}", document.encode(), headers)


def image(wire: Wire, repository: str, tag: str, subject: Descriptor | None = None) -> Manifest:
    document = Manifest(config=push_blob(wire, repository, tag.encode()), subject=subject)
    assert push_manifest(wire, repository, tag, document).status == 201
    return document
