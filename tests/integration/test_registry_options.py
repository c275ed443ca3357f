"""What a registry server can be told: users, tokens, TLS, limits, upkeep."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import logging
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from attrs import evolve

from pycontainer.errors import RegistryError
from pycontainer.oci import Descriptor, Digest, Manifest
from pycontainer.registry import (
    Client,
    Credentials,
    RegistryServer,
    ServerOptions,
    read_htpasswd,
    serve,
)

USERS = {
    name: bcrypt.hashpw(f"{name}'s".encode(), bcrypt.gensalt(4)).decode() for name in ("ann", "bob")
}
ANN = Credentials("ann", "ann's")
BOB = Credentials("bob", "bob's")
DATA = b"some bytes"


def authorize(user: str | None, repository: str, action: str) -> bool:
    """Everybody pulls from `open`, Ann does everything, Bob pulls."""
    return user == "ann" or (action == "pull" and (user == "bob" or repository == "open"))


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def ask(
    server: RegistryServer, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(server.host, timeout=10)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def push(client: Client, repository: str, tag: str, data: bytes = DATA) -> Manifest:
    descriptor = Descriptor("application/x", Digest.of(data), len(data))
    client.push_blob(repository, descriptor, lambda: io.BytesIO(data))
    manifest = Manifest(config=descriptor)
    client.put_manifest(repository, tag, manifest.encode(), manifest.media_type)
    return manifest


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "served"


class TestUsers:
    @pytest.fixture(params=[False, True], ids=["basic", "tokens"])
    def server(self, request: pytest.FixtureRequest, place: Path) -> Iterator[RegistryServer]:
        options = ServerOptions(users=USERS, authorize=authorize, tokens=request.param)
        with serve(place, options=options) as server:
            yield server

    def test_who_may_push_and_pull(self, server: RegistryServer) -> None:
        with Client(server.host, credentials=ANN) as ann:
            pushed = push(ann, "open", "v1")
            push(ann, "closed", "v1")
            assert ann.get_manifest("closed", "v1").digest == pushed.digest
        with Client(server.host, credentials=BOB) as bob:
            assert bob.get_manifest("closed", "v1").digest == pushed.digest
            with pytest.raises(RegistryError):
                push(bob, "open", "v2", b"other")
        with Client(server.host) as nobody, pytest.raises(RegistryError):
            nobody.get_manifest("closed", "v1")

    def test_wrong_password(self, server: RegistryServer) -> None:
        with (
            Client(server.host, credentials=Credentials("ann", "bob's")) as client,
            pytest.raises(RegistryError) as caught,
        ):
            client.get_manifest("closed", "v1")
        assert "bob's" not in str(caught.value)

    def test_mount_needs_the_source(self, place: Path) -> None:
        def source_is_anns(user: str | None, repository: str, action: str) -> bool:
            return user == "ann" or repository != "secret"

        options = ServerOptions(users=USERS, authorize=source_is_anns)
        digest = Digest.of(DATA)
        path = f"/v2/open/blobs/uploads/?mount={digest}&from=secret"
        with serve(place, options=options) as server:
            with Client(server.host, credentials=ANN) as ann:
                push(ann, "secret", "v1")
            assert ask(server, "POST", path, **basic("bob", "bob's"))[0] == 202
            assert ask(server, "POST", path, **basic("ann", "ann's"))[0] == 201


def test_basic_challenge_and_catalog(place: Path) -> None:
    with serve(place, options=ServerOptions(users=USERS)) as server:
        status, headers, body = ask(server, "GET", "/v2/")
        assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="pycontainer"')
        assert json.loads(body)["errors"][0]["code"] == "UNAUTHORIZED"
        assert ask(server, "GET", "/v2/_catalog")[0] == 401
        assert ask(server, "GET", "/v2/_catalog", **basic("bob", "bob's"))[0] == 200
        for header in ("Basic !!!", "Basic " + "A" * 2000, "Bearer x", "Basic", "Negotiate x"):
            assert ask(server, "GET", "/v2/", Authorization=header)[0] == 401


def test_an_empty_name_and_password_are_nobodys(place: Path) -> None:
    """Skopeo and podman answer a Basic challenge so where they know nobody."""
    options = ServerOptions(users=USERS, authorize=authorize)
    with serve(place, options=options) as server:
        with Client(server.host, credentials=ANN) as ann:
            push(ann, "open", "v1")
            push(ann, "closed", "v1")
        assert ask(server, "GET", "/v2/open/manifests/v1", **basic("", ""))[0] == 200
        status, headers, _ = ask(server, "GET", "/v2/closed/manifests/v1", **basic("", ""))
        assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="pycontainer"')
        assert ask(server, "GET", "/v2/", **basic("", ""))[0] == 401
        assert ask(server, "GET", "/v2/open/manifests/v1", **basic("", "x"))[0] == 401


def test_servers_that_share_a_key_take_each_others_tokens(place: Path) -> None:
    key = os.urandom(32)
    common = ServerOptions(users=USERS, tokens=True, token_key=key)
    other = evolve(common, token_key=os.urandom(32))
    assert key.hex() not in repr(common)
    assert repr(key) not in repr(common)
    path = "/token?scope=repository:a:pull"
    with (
        serve(place, options=common) as one,
        serve(place, options=common) as two,
        serve(place, options=other) as three,
    ):
        _, _, body = ask(one, "GET", path, **basic("ann", "ann's"))
        bearer = {"Authorization": f"Bearer {json.loads(body)['token']}"}
        found = [ask(each, "GET", "/v2/a/tags/list", **bearer)[0] for each in (one, two, three)]
    assert found == [404, 404, 401]
    with pytest.raises(RegistryError, match="16 bytes"):
        ServerOptions(tokens=True, token_key=b"short")


def test_who_stands_before_a_server_is_named_in_its_challenge(place: Path) -> None:
    options = ServerOptions(users=USERS, tokens=True, public_url="https://registry.example/")
    with serve(place, options=options) as server:
        _, headers, _ = ask(server, "GET", "/v2/")
    assert headers["WWW-Authenticate"].startswith('Bearer realm="https://registry.example/token",')


def test_tokens_have_scopes_and_an_end(place: Path) -> None:
    options = ServerOptions(users=USERS, authorize=authorize, tokens=True, token_seconds=1)
    with serve(place, options=options) as server:
        _, headers, _ = ask(server, "GET", "/v2/a/b/manifests/x")
        wanted = (
            f'Bearer realm="{server.url}/token",service="pycontainer",scope="repository:a/b:pull"'
        )
        assert headers["WWW-Authenticate"] == wanted

        def token(scope: str, who: dict[str, str]) -> str:
            status, _, body = ask(server, "GET", f"/token?service=x&scope={scope}", **who)
            assert status == 200
            document = json.loads(body)
            assert document["token"] == document["access_token"]
            return f"Bearer {document['token']}"

        pull = token("repository:a/b:pull", basic("bob", "bob's"))
        assert ask(server, "GET", "/v2/a/b/manifests/x", Authorization=pull)[0] == 404
        assert ask(server, "GET", "/v2/other/manifests/x", Authorization=pull)[0] == 401
        push = token("repository:a/b:pull,push", basic("bob", "bob's"))
        assert ask(server, "POST", "/v2/a/b/blobs/uploads/", Authorization=push)[0] == 403
        changed = pull[:-1] + ("0" if pull[-1] != "0" else "1")
        for wrong in (changed, "Bearer a.b", "Bearer \xff", basic("bob", "bob's")["Authorization"]):
            assert ask(server, "GET", "/v2/a/b/manifests/x", Authorization=wrong)[0] == 401
        assert ask(server, "GET", "/token", **basic("bob", "no"))[0] == 401
        assert ask(server, "GET", "/token?scope=nonsense")[0] == 400
        form = "grant_type=password&username=ann&password=ann's&scope=repository:a:push"
        assert ask(server, "POST", "/token", form)[0] == 200
        assert ask(server, "POST", "/token", form.replace("ann's", "no"))[0] == 401
        assert ask(server, "POST", "/token", "grant_type=refresh_token")[0] == 400
        time.sleep(1.1)
        assert ask(server, "GET", "/v2/a/b/manifests/x", Authorization=pull)[0] == 401


def test_htpasswd(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(f"# who\nann:{USERS['ann']}\n\n")
    assert read_htpasswd(file) == {"ann": USERS["ann"]}
    file.write_text("ann:{SHA}abc\n")
    with pytest.raises(RegistryError, match=r"line 1 of .* bcrypt"):
        read_htpasswd(file)
    with pytest.raises(RegistryError, match="cannot read"):
        read_htpasswd(tmp_path / "none")
    assert USERS["ann"] not in repr(ServerOptions(users=USERS))


def test_tls(place: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make.split(), *name, *files], check=True, capture_output=True)
    options = ServerOptions(certificate=(certificate, key))
    with serve(place, options=options) as server:
        assert server.url == f"https://{server.host}"
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection(server.host, timeout=10, context=context)
        digest = Digest.of(DATA * 100_000)
        path = f"/v2/a/blobs/uploads/?digest={digest}"
        for method, target, body, status in [
            ("POST", path, DATA * 100_000, 201),
            ("GET", f"/v2/a/blobs/{digest}", None, 200),
        ]:
            connection.request(method, target, body)
            response = connection.getresponse()
            assert response.status == status
            read = response.read()
        assert read == DATA * 100_000
        connection.close()
    with pytest.raises(RegistryError, match="certificate"):
        serve(place, options=ServerOptions(certificate=(key, certificate)))


def test_read_only(place: Path) -> None:
    with serve(place) as server, Client(server.host) as client:
        manifest = push(client, "a", "v1")
    with serve(place, options=ServerOptions(read_only=True)) as server:
        assert ask(server, "GET", "/v2/a/manifests/v1")[0] == 200
        for method, path in [
            ("POST", "/v2/a/blobs/uploads/"),
            ("PUT", "/v2/a/manifests/v2"),
            ("DELETE", f"/v2/a/manifests/{manifest.digest}"),
        ]:
            status, _, body = ask(server, method, path)
            assert (status, json.loads(body)["errors"][0]["code"]) == (405, "UNSUPPORTED")


def test_limits(place: Path) -> None:
    options = ServerOptions(largest_manifest=100, most_uploads=1)
    with serve(place, options=options) as server:
        assert ask(server, "PUT", "/v2/a/manifests/v1", b"{" * 101)[0] == 413
        location = ask(server, "POST", "/v2/a/blobs/uploads/")[1]["Location"]
        slow = http.client.HTTPConnection(server.host, timeout=10)
        slow.putrequest("PATCH", location)
        slow.putheader("Content-Length", "10")
        slow.endheaders(b"some")
        deadline = time.monotonic() + 5
        while (reply := ask(server, "POST", "/v2/a/blobs/uploads/"))[0] != 429:
            assert time.monotonic() < deadline
        assert reply[1]["Retry-After"] == "1"
        slow.send(b"bytes.")
        assert slow.getresponse().status == 202
        slow.close()
        assert ask(server, "POST", "/v2/a/blobs/uploads/")[0] == 202


def test_uploads_that_lie_still_are_forgotten(place: Path) -> None:
    with serve(place) as server:
        locations = [ask(server, "POST", "/v2/a/blobs/uploads/")[1]["Location"] for _ in range(2)]
        old = place / "uploads" / locations[0].rpartition("/")[2]
        killed = place / "uploads" / ("0" * 32)
        killed.mkdir()
        (killed / "repository").write_text("a")
        for path in (old / "data", old, killed):
            os.utime(path, (0, 0))
    with serve(place) as server:
        deadline = time.monotonic() + 5
        while old.exists() or killed.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert ask(server, "GET", locations[0])[0] == 404
        assert ask(server, "GET", locations[1])[0] == 204


def test_metrics_and_access_log(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "pycontainer.registry.access"),
        serve(place, options=ServerOptions(metrics=True)) as server,
        Client(server.host) as client,
    ):
        push(client, "a", "v1", bytes(300_000))
        reply = ask(server, "GET", f"/v2/a/blobs/{Digest.of(bytes(300_000))}")
        assert len(reply[2]) == 300_000
        text = ask(server, "GET", "/metrics")[2].decode()
        assert 'requests_total{method="GET",status="200"}' in text
        sent = next(line for line in text.splitlines() if 'bytes_total{direction="sent"}' in line)
        assert float(sent.split()[-1]) >= 300_000
    lines = [record.getMessage() for record in caplog.records]
    assert any('"PUT /v2/a/manifests/v1 HTTP/1.1" 201' in line for line in lines)
    assert any("/blobs/" in line and " 200 300000 " in line for line in lines)
    with serve(place) as server:
        assert ask(server, "GET", "/metrics")[0] == 404


def test_graceful_stop_lets_requests_end(place: Path) -> None:
    with serve(place) as server:
        location = ask(server, "POST", "/v2/a/blobs/uploads/")[1]["Location"]
        connection = http.client.HTTPConnection(server.host, timeout=10)
        connection.putrequest("PATCH", location)
        connection.putheader("Content-Length", "10")
        connection.endheaders(b"some")
        time.sleep(0.1)
        stopping = threading.Thread(target=server.close, kwargs={"grace": 10.0})
        stopping.start()
        time.sleep(0.1)
        connection.send(b"bytes.")
        assert connection.getresponse().status == 202
        connection.close()
        stopping.join(5)
        assert not stopping.is_alive()


class TestCollection:
    def blobs(self, place: Path) -> set[str]:
        return {path.name for path in (place / "blobs/sha256").iterdir()}

    def test_what_no_manifest_needs_goes(self, place: Path) -> None:
        with serve(place) as server, Client(server.host) as client:
            kept, gone = push(client, "a", "kept"), push(client, "b", "gone", b"others")
            push(client, "c", "shares")
            client.push_blob("a", Descriptor("", Digest.of(b"new"), 3), lambda: io.BytesIO(b"new"))
            assert ask(server, "DELETE", f"/v2/b/manifests/{gone.digest}")[0] == 202
            assert server.collect() == server.collect().__class__(blobs=1, freed=len(gone.encode()))
            done = server.collect(young=0)
            assert (done.links, done.blobs, done.freed) == (2, 2, 3 + len(b"others"))
            assert self.blobs(place) == {kept.digest.hex, Digest.of(DATA).hex}
            assert client.get_manifest("c", "shares").digest == kept.digest

    def test_untagged_manifests_go_where_that_is_asked(self, place: Path) -> None:
        with serve(place) as server, Client(server.host) as client:
            first = push(client, "a", "v1")
            second = push(client, "a", "v1", b"others")
            assert server.collect(young=0).links == 0
            assert server.collect(young=0, untagged=True).links == 2
            assert self.blobs(place) == {second.digest.hex, Digest.of(b"others").hex}
            assert ask(server, "GET", f"/v2/a/manifests/{first.digest}")[0] == 404

    def test_pushes_go_on_meanwhile(self, place: Path) -> None:
        stop = threading.Event()
        with serve(place) as server:

            def collect() -> None:
                while not stop.is_set():
                    server.collect(young=30)

            collector = threading.Thread(target=collect)
            collector.start()
            try:
                with Client(server.host) as client:
                    for number in range(12):
                        data = b"%d" % (number % 5)
                        manifest = push(client, f"r{number % 3}", "v", data)
                        digest = client.get_manifest(f"r{number % 3}", "v").digest
                        assert digest == manifest.digest
                        path = f"/v2/r{number % 3}/blobs/{Digest.of(data)}"
                        assert ask(server, "GET", path)[2] == data
                        # Now nothing needs the blob, and it has long been there.
                        ask(server, "DELETE", f"/v2/r{number % 3}/manifests/{digest}")
                        link = f"repositories/r{number % 3}/_blobs/sha256/{Digest.of(data).hex}"
                        with contextlib.suppress(FileNotFoundError):
                            os.utime(place / link, (0, 0))
            finally:
                stop.set()
                collector.join()


def test_command_line(place: Path, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(f"ann:{USERS['ann']}\n")
    command = [sys.executable, "-m", "pycontainer", "registry", str(place)]
    more = ["--address", "127.0.0.1:0", "--users", str(tmp_path / "users"), "--public"]
    log = tmp_path / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, *more, "--access-log"], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        host = process.stdout.readline().rpartition("http://")[2].strip()
        with Client(host, credentials=ANN) as ann:
            manifest = push(ann, "a", "v1")
        with Client(host, credentials=Credentials()) as nobody:
            assert nobody.get_manifest("a", "v1").digest == manifest.digest
            with pytest.raises(RegistryError):
                push(nobody, "a", "v2", b"other")
        process.terminate()
        assert process.wait(15) == 0
    assert '127.0.0.1 - ann "PUT /v2/a/manifests/v1 HTTP/1.1" 201' in log.read_text()
    collected = subprocess.run([*command, "--collect"], capture_output=True, text=True, check=True)
    assert collected.stdout == "0 links and 0 blobs of 0 bytes are gone\n"
    refused = subprocess.run([*command, "--key", "x"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "certificate needs its key" in refused.stderr
