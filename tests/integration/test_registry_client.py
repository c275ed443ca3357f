"""The registry client on the wire: against our server, and against one that misbehaves."""

from __future__ import annotations

import contextlib
import io
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pycontainer.content import VerifiedReader
from pycontainer.errors import (
    DigestMismatch,
    ManifestNotFound,
    RegistryBlobNotFound,
    RegistryError,
    RegistryUnavailable,
    SizeMismatch,
    Unauthorized,
)
from pycontainer.oci import Descriptor, Digest, Manifest, media_types
from pycontainer.registry import Client, RegistryServer, serve

DATA = bytes(range(256)) * 8192  # 2 MiB
BLOB = Descriptor("application/x", Digest.of(DATA), len(DATA))
MANIFEST = Manifest(config=BLOB)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with serve(tmp_path / "served") as server:
        yield server


@pytest.fixture
def client(server: RegistryServer) -> Iterator[Client]:
    with Client(server.host, timeout=10) as client:
        yield client


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(DATA)
    return path


def read(client: Client, blob: Descriptor = BLOB) -> bytes:
    with client.open_blob("a", blob) as stream:
        reader = VerifiedReader(stream, blob)
        return b"".join(iter(lambda: reader.read(1 << 16), b""))


class TestWithOurServer:
    def test_push_and_pull(self, client: Client, file: Path) -> None:
        client.ping()
        sent: list[int] = []
        assert client.push_blob("a", BLOB, lambda: file.open("rb"), progress=sent.append)
        assert sum(sent) == len(DATA)
        digest = client.put_manifest("a", "v1", MANIFEST.encode(), MANIFEST.media_type)
        assert digest == MANIFEST.digest
        assert client.get_manifest("a", "v1") == (MANIFEST.encode(), MANIFEST.media_type, digest)
        assert client.get_manifest("a", str(digest)).data == MANIFEST.encode()
        assert client.head_manifest("a", "v1") == MANIFEST.descriptor()
        assert read(client) == DATA

    def test_push_from_memory(self, client: Client) -> None:
        assert client.push_blob("a", BLOB, lambda: io.BytesIO(DATA))
        assert read(client) == DATA

    def test_blob_that_is_there_is_not_opened(self, client: Client, file: Path) -> None:
        client.push_blob("a", BLOB, lambda: file.open("rb"))

        def unwanted() -> io.BytesIO:
            raise AssertionError("opened a blob that need not be sent")

        assert not client.push_blob("a", BLOB, unwanted)
        assert not client.push_blob("b", BLOB, unwanted, mount_from="a")
        assert client.blob_exists("b", BLOB.digest)

    def test_names_what_is_missing(self, client: Client) -> None:
        assert client.head_manifest("a", "v1") is None
        with pytest.raises(ManifestNotFound, match="a v1"):
            client.get_manifest("a", "v1")
        with pytest.raises(ManifestNotFound):
            client.tags("a")
        with pytest.raises(RegistryBlobNotFound, match=str(BLOB.digest)):
            client.open_blob("a", BLOB)
        with pytest.raises(RegistryError) as error:
            client.put_manifest("a", "v1", MANIFEST.encode(), MANIFEST.media_type)
        assert (error.value.status, error.value.code) == (400, "MANIFEST_BLOB_UNKNOWN")

    def test_push_of_other_bytes(self, client: Client) -> None:
        wrong = bytes(len(DATA))
        with pytest.raises(RegistryError) as error:
            client.push_blob("a", BLOB, lambda: io.BytesIO(wrong))
        assert error.value.code == "DIGEST_INVALID"
        assert not client.blob_exists("a", BLOB.digest)

    def test_push_of_a_short_file(self, client: Client, file: Path) -> None:
        file.write_bytes(DATA[:-1])
        with pytest.raises(SizeMismatch):
            client.push_blob("a", BLOB, lambda: file.open("rb"))
        assert not client.blob_exists("a", BLOB.digest)

    def test_tags(self, client: Client, file: Path) -> None:
        client.push_blob("a", BLOB, lambda: file.open("rb"))
        for tag in ("b", "a", "c"):
            client.put_manifest("a", tag, MANIFEST.encode(), MANIFEST.media_type)
        assert client.tags("a") == ["a", "b", "c"]

    def test_one_connection_serves_request_after_request(
        self, client: Client, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[object] = []
        connect = socket.socket.connect

        def counted(sock: socket.socket, address: Any) -> None:
            made.append(address)
            connect(sock, address)

        monkeypatch.setattr(socket.socket, "connect", counted)
        client.push_blob("a", BLOB, lambda: file.open("rb"))
        client.put_manifest("a", "v1", MANIFEST.encode(), MANIFEST.media_type)
        for _ in range(3):
            assert read(client) == DATA
            assert client.head_manifest("a", "none") is None
        assert len(made) == 1

    def test_blob_may_be_left_half_read(self, client: Client, file: Path) -> None:
        client.push_blob("a", BLOB, lambda: file.open("rb"))
        for _ in range(3):
            with client.open_blob("a", BLOB) as stream:
                assert stream.read(10) == DATA[:10]
        assert read(client) == DATA

    def test_many_threads(self, client: Client) -> None:
        blobs = [DATA[:100_000] + bytes([number]) for number in range(12)]
        failures: list[Exception] = []

        def work(data: bytes) -> None:
            blob = Descriptor("x", Digest.of(data), len(data))
            try:
                client.push_blob("a", blob, lambda: io.BytesIO(data))
                assert read(client, blob) == data
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(data,)) for data in blobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    def test_may_be_used_again_after_close(self, client: Client) -> None:
        client.ping()
        client.close()
        client.close()
        client.ping()

    def test_server_that_came_back(self, tmp_path: Path) -> None:
        with serve(tmp_path) as first, Client(first.host) as client:
            client.push_blob("a", BLOB, lambda: io.BytesIO(DATA))
            first.close()
            host, _, port = first.host.rpartition(":")
            with serve(tmp_path, address=(host, int(port))):
                assert read(client) == DATA
                client.put_manifest("a", "v1", MANIFEST.encode(), MANIFEST.media_type)


class Scripted:
    """A server that answers each connection's requests with raw bytes from a list.

    ``None`` in the list answers nothing. The requests' heads are kept in `asked`.
    """

    def __init__(self, *answers: bytes | None, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self._context = context
        self._answers = list(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        with self._socket:
            while self._answers:
                try:
                    connection, _ = self._socket.accept()
                except OSError:
                    return
                connection.settimeout(10)
                with contextlib.suppress(OSError), self._secured(connection) as secured:
                    self._talk(secured)

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._context is None:
            return connection
        try:
            return self._context.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()
            raise

    def _talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            head = b"".join(iter(stream.readline, b"\r\n"))
            self.asked.append(head.decode())
            answer = self._answers.pop(0)
            if self._context is not None:
                length = re.search(r"Content-Length: (\d+)", head.decode())
                self.bodies.append(stream.read(int(length[1])) if length else b"")
            if answer is None:
                stream.read(1)  # until the client gives up
            else:
                connection.sendall(answer)

    def close(self) -> None:
        self._answers.clear()
        with contextlib.suppress(OSError):  # closed, as all has been answered
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A response after which the connection is closed."""
    lines = [f"HTTP/1.1 {status} Whatever", "Connection: close"]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named.setdefault("Content-Length", str(len(body)))
    lines += [f"{name}: {value}" for name, value in named.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Misbehaving:
    """Starts scripted servers, and stops them."""

    def __init__(self) -> None:
        self.servers: list[Scripted] = []
        self.clients: list[Client] = []

    def __call__(self, *answers: bytes | None, timeout: float = 10) -> tuple[Client, Scripted]:
        server = Scripted(*answers)
        self.servers.append(server)
        client = Client(server.host, timeout=timeout)
        self.clients.append(client)
        return client, server


@pytest.fixture
def misbehaving() -> Iterator[Misbehaving]:
    made = Misbehaving()
    yield made
    for client in made.clients:
        client.close()
    for server in made.servers:
        server.close()


class TestWithOthers:
    MANIFEST_REPLY = reply(200, MANIFEST.encode(), Content_Type=MANIFEST.media_type)

    def test_manifest_with_other_bytes(self, misbehaving: Misbehaving) -> None:
        client, _ = misbehaving(self.MANIFEST_REPLY)
        other = Digest.of(b"other")
        with pytest.raises(DigestMismatch, match=str(other)):
            client.get_manifest("a", str(other))

    def test_manifest_with_another_digest_announced(self, misbehaving: Misbehaving) -> None:
        digest = str(Digest.of(b"other"))
        client, _ = misbehaving(reply(200, b"{}", Docker_Content_Digest=digest))
        with pytest.raises(DigestMismatch, match=digest):
            client.get_manifest("a", "v1")

    def test_digest_that_is_none(self, misbehaving: Misbehaving) -> None:
        client, _ = misbehaving(reply(200, b"{}", Docker_Content_Digest="sha256:short"))
        with pytest.raises(RegistryError, match="announces a wrong digest"):
            client.get_manifest("a", "v1")

    def test_manifest_without_digest_header(self, misbehaving: Misbehaving) -> None:
        client, server = misbehaving(self.MANIFEST_REPLY)
        assert client.get_manifest("a", "v1").digest == MANIFEST.digest
        for kind in (media_types.OCI_INDEX, media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST):
            assert kind in server.asked[0]

    def test_head_that_says_nothing(self, misbehaving: Misbehaving) -> None:
        client, server = misbehaving(reply(200), self.MANIFEST_REPLY)
        assert client.head_manifest("a", "v1") == MANIFEST.descriptor()
        assert [head.split()[0] for head in server.asked] == ["HEAD", "GET"]

    def test_endless_manifest(self, misbehaving: Misbehaving) -> None:
        client, _ = misbehaving(reply(200, bytes(5 << 20)))
        with pytest.raises(RegistryError, match="larger than"):
            client.get_manifest("a", "v1")

    @pytest.mark.parametrize("sent", [0, 100, len(DATA) - 1])
    def test_truncated_blob(self, misbehaving: Misbehaving, sent: int) -> None:
        cut = reply(200, DATA[:sent], Content_Length=str(len(DATA)))
        client, _ = misbehaving(cut)
        with pytest.raises(RegistryUnavailable, match=str(BLOB.digest)):
            read(client)

    def test_blob_of_wrong_length_or_bytes(self, misbehaving: Misbehaving) -> None:
        client, _ = misbehaving(
            reply(200, DATA[:-1]), reply(200, DATA + b"x"), reply(200, DATA[::-1])
        )
        for error in (SizeMismatch, SizeMismatch, DigestMismatch):
            with pytest.raises(error):
                read(client)

    def test_encoded_body_is_left_as_it_is(self, misbehaving: Misbehaving) -> None:
        client, server = misbehaving(reply(200, DATA, Content_Encoding="gzip"))
        assert read(client) == DATA
        assert "Accept-Encoding: identity" in server.asked[0]

    def test_silence(self, misbehaving: Misbehaving) -> None:
        client, _ = misbehaving(*[None] * 4, timeout=0.1)
        with pytest.raises(RegistryUnavailable, match="silent"):
            client.push_blob("a", BLOB, lambda: io.BytesIO(DATA))

    def test_silence_in_the_middle(self, misbehaving: Misbehaving) -> None:
        server = socket.create_server(("127.0.0.1", 0))
        with server, Client(f"127.0.0.1:{server.getsockname()[1]}", timeout=0.2) as client:

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(reply(200, DATA[:100], Content_Length=str(len(DATA))))
                    connection.recv(1)

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(RegistryUnavailable, match="silent"):
                read(client)
            thread.join()

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            host = f"127.0.0.1:{server.getsockname()[1]}"
        with Client(host) as client, pytest.raises(RegistryUnavailable, match=host) as error:
            client.get_manifest("a", "v1")
        assert "check that a registry listens" in (error.value.remedy or "")

    def test_trouble_that_passes(self, misbehaving: Misbehaving) -> None:
        busy = reply(503, Retry_After="0")
        client, server = misbehaving(busy, b"", self.MANIFEST_REPLY)
        assert client.get_manifest("a", "v1").data == MANIFEST.encode()
        assert len(server.asked) == 3

    def test_no_registry(self, misbehaving: Misbehaving) -> None:
        client, _ = misbehaving(reply(404, b"<html>nothing</html>"))
        with pytest.raises(RegistryError, match="cannot find a registry") as error:
            client.ping()
        assert error.value.status == 404

    def test_no_http(self, misbehaving: Misbehaving) -> None:
        client, _ = misbehaving(*[b"220 smtp.example ESMTP\r\n"] * 4)
        with pytest.raises(RegistryUnavailable):
            client.ping()

    def test_wants_a_login(self, misbehaving: Misbehaving) -> None:
        header = 'Basic realm="the realm"'
        client, _ = misbehaving(reply(401, b"", WWW_Authenticate=header))
        with pytest.raises(Unauthorized) as error:
            client.ping()
        assert "basic (the realm)" in str(error.value)

    def test_refuses_in_the_middle_of_a_body(self, misbehaving: Misbehaving) -> None:
        accepted = reply(202, Location="/v2/a/blobs/uploads/1?state=x")
        denied = reply(403, b'{"errors": [{"code": "DENIED", "message": "quota"}]}')
        client, server = misbehaving(reply(404), accepted, denied)
        big = Descriptor("x", BLOB.digest, len(DATA) * 8)
        with pytest.raises((Unauthorized, RegistryUnavailable)):
            client.push_blob("a", big, lambda: io.BytesIO(DATA * 8))
        assert f"PUT /v2/a/blobs/uploads/1?state=x&digest={BLOB.digest} " in server.asked[2]

    def test_upload_without_a_location(self, misbehaving: Misbehaving) -> None:
        client, _ = misbehaving(reply(404), reply(202))
        with pytest.raises(RegistryError, match="no Location"):
            client.push_blob("a", BLOB, lambda: io.BytesIO(DATA))

    def test_tags_over_pages(self, misbehaving: Misbehaving) -> None:
        link = '</v2/a/tags/list?last=b&n=2>; rel="next"'
        client, server = misbehaving(
            reply(200, b'{"name": "a", "tags": ["a", "b"]}', Link=link),
            reply(200, b'{"name": "a", "tags": null}'),
        )
        assert client.tags("a") == ["a", "b"]
        assert server.asked[1].startswith("GET /v2/a/tags/list?last=b&n=2 ")

    def test_tags_in_a_circle(self, misbehaving: Misbehaving) -> None:
        link = '<list?last=a>; rel="next"'
        client, _ = misbehaving(*[reply(200, b'{"tags": ["a"]}', Link=link)] * 3)
        with pytest.raises(RegistryError, match="in a circle"):
            client.tags("a")

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"tags": "a"}', b'{"tags": [1]}'])
    def test_tags_that_are_none(self, misbehaving: Misbehaving, body: bytes) -> None:
        client, _ = misbehaving(reply(200, body))
        with pytest.raises(RegistryError, match="cannot list the tags"):
            client.tags("a")

    def test_blob_from_another_host(self, misbehaving: Misbehaving) -> None:
        _, storage = misbehaving(reply(200, DATA))
        client, _ = misbehaving(reply(307, Location=f"http://{storage.host}/bucket/blob?sig=1"))
        assert read(client) == DATA
        assert storage.asked[0].startswith("GET /bucket/blob?sig=1 ")

    def test_tls_where_there_is_none(self, server: RegistryServer) -> None:
        expected = pytest.raises(RegistryUnavailable, match="cannot find a registry at https://")
        with Client(server.host, insecure=False) as client, expected:
            client.ping()

    def test_plain_http_to_others_is_refused(self) -> None:
        expected = pytest.raises(RegistryError, match="plain HTTP")
        with Client("http://registry.invalid") as client, expected:
            client.ping()


class TestOverTls:
    """With a certificate that the system trusts, and without."""

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        path = tmp_path / "both.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
        command += ["ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command += ["-keyout", str(path), "-out", str(tmp_path / "certificate.pem")]
        subprocess.run(command, check=True, capture_output=True)
        path.write_bytes(path.read_bytes() + (tmp_path / "certificate.pem").read_bytes())
        return path

    @pytest.fixture
    def secure(self, certificate: Path) -> Iterator[Scripted]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        accepted = reply(202, Location="/v2/a/blobs/uploads/1")
        server = Scripted(reply(404), accepted, reply(201), context=context)
        yield server
        server.close()

    def test_push(
        self, secure: Scripted, certificate: Path, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Client(f"https://{secure.host}", timeout=10) as client:
            assert client.push_blob("a", BLOB, lambda: file.open("rb"))
        assert secure.bodies[-1] == DATA

    def test_unknown_certificate(self, secure: Scripted) -> None:
        expected = pytest.raises(RegistryUnavailable, match="certificate")
        with Client(f"https://{secure.host}", timeout=10) as client, expected:
            client.ping()
