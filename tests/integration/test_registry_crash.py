"""A registry server that is killed loses nothing that it had acknowledged."""

from __future__ import annotations

import http.client
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pycontainer.oci import Descriptor, Digest, Manifest
from pycontainer.registry import Client, serve

DATA = os.urandom(1 << 20)
BLOB = Descriptor("application/x", Digest.of(DATA), len(DATA))
PROGRAM = """
import sys, threading
from pycontainer.registry import serve
server = serve(sys.argv[1])
print(server.host, flush=True)
threading.Event().wait()
"""


@contextmanager
def killed_server(path: Path) -> Iterator[str]:
    """Serve a directory from a process of its own, which is killed at the end."""
    command = [sys.executable, "-c", PROGRAM, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def test_kill_in_the_middle_of_uploads(tmp_path: Path) -> None:
    manifest = Manifest(config=BLOB)
    with killed_server(tmp_path) as host:
        with Client(host) as client:
            client.push_blob("a", BLOB, lambda: io.BytesIO(DATA))
            client.put_manifest("a", "v1", manifest.encode(), manifest.media_type)
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("POST", "/v2/b/blobs/uploads/")
        response = connection.getresponse()
        response.read()
        location = response.headers["Location"]
        connection.request("PATCH", location, DATA[:400_000])
        response = connection.getresponse()
        response.read()
        assert response.headers["Range"] == "0-399999"
        connection.putrequest("PUT", f"{location}?digest={BLOB.digest}")
        connection.putheader("Content-Length", str(len(DATA) - 400_000))
        connection.endheaders(DATA[400_000:600_000])
    connection.close()

    with serve(tmp_path) as server, Client(server.host) as client:
        assert client.get_manifest("a", "v1").data == manifest.encode()
        with client.open_blob("a", BLOB) as stream:
            assert stream.read() == DATA
        assert not client.blob_exists("b", BLOB.digest)
        assert client.tags("a") == ["v1"]
        connection = http.client.HTTPConnection(server.host, timeout=10)
        connection.request("GET", location)
        response = connection.getresponse()
        response.read()
        stands = int(response.headers["Range"].partition("-")[2]) + 1
        assert 400_000 <= stands <= 600_000
        connection.request("PUT", f"{location}?digest={BLOB.digest}", DATA[stands:])
        response = connection.getresponse()
        response.read()
        assert response.status == 201
        connection.close()
        with client.open_blob("b", BLOB) as stream:
            assert stream.read() == DATA
