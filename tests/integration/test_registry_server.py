"""The registry server on the wire: what the distribution specification says, request by request."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from pycontainer.errors import RegistryError, UnsupportedFeature
from pycontainer.oci import Descriptor, Digest, Index, Manifest, media_types
from pycontainer.registry import RegistryServer, serve
from wire import Reply, Wire, image, kind, push_blob, push_manifest, server, wire

__all__ = ["kind", "server", "wire"]

DATA = b"0123456789" * 10
DIGEST = Digest.of(DATA)
BIG = os.urandom(1 << 20) * 3  # above what goes through the event loop's buffers


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestBase:
    def test_ping(self, wire: Wire) -> None:
        for path in ("/v2/", "/v2"):
            reply = wire.ask("GET", path)
            assert (reply.status, json.loads(reply.body)) == (200, {})
        assert wire.ask("HEAD", "/v2/").body == b""

    def test_nothing_there(self, wire: Wire) -> None:
        reply = wire.ask("GET", "/v1/")
        assert (reply.status, reply.code) == (404, "UNSUPPORTED")
        assert reply.headers["Content-Type"] == "application/json; charset=utf-8"

    def test_method_not_allowed(self, wire: Wire) -> None:
        reply = wire.ask("DELETE", "/v2/")
        assert (reply.status, reply.code) == (405, "UNSUPPORTED")

    @pytest.mark.parametrize(
        "path",
        [
            "/v2/UPPER/manifests/v1",
            "/v2/a/../b/tags/list",
            "/v2/a%2f..%2fb/tags/list",
            "/v2/_tags/tags/list",
            "/v2/a//b/blobs/uploads/",
        ],
    )
    def test_names_that_are_none(self, wire: Wire, path: str) -> None:
        reply = wire.ask("GET", path)
        assert (reply.status, reply.code) == (400, "NAME_INVALID")


class TestBlobs:
    def path(self, wire: Wire, data: bytes) -> str:
        return f"/v2/a/b/blobs/{push_blob(wire, 'a/b', data).digest}"

    @pytest.mark.parametrize("data", [b"", DATA, BIG])
    def test_head_and_get(self, wire: Wire, data: bytes) -> None:
        path = self.path(wire, data)
        head, get = wire.ask("HEAD", path), wire.ask("GET", path)
        assert (head.status, head.body) == (200, b"")
        assert (get.status, get.body) == (200, data)
        for name in ("Content-Length", "Content-Type", "Docker-Content-Digest", "Accept-Ranges"):
            assert head.headers[name] == get.headers[name]
        assert get.headers["Content-Length"] == str(len(data))
        assert get.headers["Docker-Content-Digest"] == str(Digest.of(data))

    def test_connection_lives_on_after_a_large_blob(self, wire: Wire) -> None:
        path = self.path(wire, BIG)
        port = wire.port
        assert [wire.ask("GET", path).body == BIG for _ in range(3)] == [True] * 3
        assert wire.ask("GET", "/v2/").status == 200
        assert wire.port == port

    def test_clients_that_leave_are_no_errors(
        self, wire: Wire, server: RegistryServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        blob = push_blob(wire, "a/b", BIG)
        host, _, port = server.host.rpartition(":")
        for _ in range(20):
            with socket.create_connection((host, int(port))) as client:
                # Closed with bytes unread, so that the server hears of it at once.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(
                    f"GET /v2/a/b/blobs/{blob.digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
                )
                client.recv(1)
        assert wire.ask("GET", f"/v2/a/b/blobs/{blob.digest}").body == BIG
        assert not [record for record in caplog.records if record.levelname == "ERROR"]

    def test_old_clients_get_large_blobs_too(self, wire: Wire, server: RegistryServer) -> None:
        path = self.path(wire, BIG)
        host, _, port = server.host.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        assert answer.partition(b"\r\n\r\n")[2] == BIG
        closed = wire.ask("GET", path, headers={"Connection": "close"})
        assert closed.body == BIG

    @pytest.mark.parametrize("data", [DATA, BIG])
    def test_ranges(self, wire: Wire, data: bytes) -> None:
        path, size = self.path(wire, data), len(data)
        for header, start, end in (
            ("bytes=0-0", 0, 1),
            ("bytes=5-", 5, size),
            (f"bytes=5-{size * 2}", 5, size),
            ("bytes=-7", size - 7, size),
        ):
            reply = wire.ask("GET", path, headers={"Range": header})
            assert (reply.status, reply.body) == (206, data[start:end])
            assert reply.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
        beyond = wire.ask("GET", path, headers={"Range": f"bytes={size}-"})
        assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")

    def test_unchanged(self, wire: Wire) -> None:
        path = self.path(wire, DATA)
        etag = wire.ask("HEAD", path).headers["Etag"]
        reply = wire.ask("GET", path, headers={"If-None-Match": etag})
        assert (reply.status, reply.body) == (304, b"")

    def test_unknown(self, wire: Wire) -> None:
        push_blob(wire, "elsewhere")
        for method in ("GET", "DELETE"):
            reply = wire.ask(method, f"/v2/a/blobs/{DIGEST}")
            assert (reply.status, reply.code) == (404, "BLOB_UNKNOWN")
        assert wire.ask("HEAD", f"/v2/a/blobs/{DIGEST}").status == 404
        reply = wire.ask("GET", "/v2/a/blobs/sha256:12")
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")

    def test_delete(self, wire: Wire) -> None:
        path = self.path(wire, DATA)
        assert wire.ask("DELETE", path).status == 202
        assert wire.ask("HEAD", path).status == 404


class TestUploads:
    UPLOADS = "/v2/a/b/blobs/uploads/"

    def begin(self, wire: Wire) -> str:
        reply = wire.ask("POST", self.UPLOADS)
        assert (reply.status, reply.headers["Range"]) == (202, "0-0")
        assert reply.headers["Docker-Upload-UUID"] in reply.headers["Location"]
        return reply.headers["Location"]

    def finished(self, wire: Wire, reply: Reply, data: bytes = DATA) -> None:
        digest = Digest.of(data)
        assert reply.status == 201
        assert reply.headers["Location"] == f"/v2/a/b/blobs/{digest}"
        assert reply.headers["Docker-Content-Digest"] == str(digest)
        assert wire.ask("GET", reply.headers["Location"]).body == data

    @pytest.mark.parametrize("data", [b"", DATA, BIG])
    def test_post_then_put(self, wire: Wire, data: bytes) -> None:
        location = self.begin(wire)
        self.finished(wire, wire.ask("PUT", f"{location}?digest={Digest.of(data)}", data), data)

    @pytest.mark.parametrize("data", [b"", DATA, BIG])
    def test_single_post(self, wire: Wire, data: bytes) -> None:
        path = f"{self.UPLOADS}?digest={Digest.of(data)}"
        self.finished(wire, wire.ask("POST", path, data), data)

    def test_streamed_patch(self, wire: Wire) -> None:
        location = self.begin(wire)
        parts = iter([BIG[:700_000], BIG[700_000:]])
        reply = wire.ask("PATCH", location, parts)  # Transfer-Encoding: chunked
        assert (reply.status, reply.headers["Range"]) == (202, f"0-{len(BIG) - 1}")
        self.finished(wire, wire.ask("PUT", f"{location}?digest={Digest.of(BIG)}"), BIG)

    def test_chunks(self, wire: Wire) -> None:
        location = self.begin(wire)
        for start in range(0, 90, 30):
            headers = {"Content-Range": f"{start}-{start + 29}"}
            reply = wire.ask("PATCH", location, DATA[start : start + 30], headers)
            assert (reply.status, reply.headers["Range"]) == (202, f"0-{start + 29}")
            location = reply.headers["Location"]
            status = wire.ask("GET", location)
            assert (status.status, status.headers["Range"]) == (204, f"0-{start + 29}")
        headers = {"Content-Range": "90-99"}
        last = wire.ask("PUT", f"{location}?digest={DIGEST}", DATA[90:], headers)
        self.finished(wire, last)

    def test_chunk_out_of_order(self, wire: Wire) -> None:
        location = self.begin(wire)
        wire.ask("PATCH", location, DATA[:10], {"Content-Range": "0-9"})
        for given in ("11-20", "0-9", "nonsense"):
            reply = wire.ask("PATCH", location, DATA[:10], {"Content-Range": given})
            assert (reply.status, reply.headers["Range"]) == (416, "0-9")
            assert reply.headers["Location"] == location
        short = wire.ask("PATCH", location, DATA[:10], {"Content-Range": "10-99"})
        assert (short.status, short.code) == (400, "SIZE_INVALID")
        assert wire.ask("GET", location).headers["Range"] == "0-9"

    def test_other_bytes(self, wire: Wire) -> None:
        location = self.begin(wire)
        reply = wire.ask("PUT", f"{location}?digest={DIGEST}", b"other bytes")
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
        assert wire.ask("HEAD", f"/v2/a/b/blobs/{DIGEST}").status == 404
        assert wire.ask("GET", location).code == "BLOB_UPLOAD_UNKNOWN"

    @pytest.mark.parametrize("query", ["", "?digest=sha256:12", "?digest=md5:00"])
    def test_digest_wanted(self, wire: Wire, query: str) -> None:
        location = self.begin(wire)
        reply = wire.ask("PUT", location + query, DATA)
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
        self.finished(wire, wire.ask("PUT", f"{location}?digest={DIGEST}", DATA))

    def test_sha512(self, wire: Wire) -> None:
        digest = Digest.of(DATA, "sha512")
        reply = wire.ask("PUT", f"{self.begin(wire)}?digest={digest}", DATA)
        assert reply.headers["Docker-Content-Digest"] == str(digest)
        assert wire.ask("GET", reply.headers["Location"]).body == DATA

    def test_cancel(self, wire: Wire) -> None:
        location = self.begin(wire)
        assert wire.ask("DELETE", location).status == 204
        for method in ("GET", "PATCH", "DELETE"):
            reply = wire.ask(method, location)
            assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN")

    def test_of_another_repository(self, wire: Wire) -> None:
        location = self.begin(wire).replace("/a/b/", "/a/c/")
        assert wire.ask("PATCH", location, DATA).status == 404

    def test_mount(self, wire: Wire) -> None:
        push_blob(wire, "source")
        reply = wire.ask("POST", f"{self.UPLOADS}?mount={DIGEST}&from=source")
        self.finished(wire, reply)

    def test_mount_of_what_is_not_there(self, wire: Wire) -> None:
        reply = wire.ask("POST", f"{self.UPLOADS}?mount={DIGEST}&from=source")
        assert reply.status == 202
        location = reply.headers["Location"]
        self.finished(wire, wire.ask("PUT", f"{location}?digest={DIGEST}", DATA))
        reply = wire.ask("POST", f"{self.UPLOADS}?mount={DIGEST}&from=UPPER")
        assert (reply.status, reply.code) == (400, "NAME_INVALID")

    def test_connection_lost_in_the_middle(self, wire: Wire, server: RegistryServer) -> None:
        location = self.begin(wire)
        cut = Wire(server.host)
        cut.connection.putrequest("PATCH", location)
        cut.connection.putheader("Content-Length", "100")
        cut.connection.endheaders(DATA[:40])
        time.sleep(0.1)
        cut.connection.close()
        wait_until(lambda: wire.ask("GET", location).headers["Range"] == "0-39")
        reply = wire.ask("PATCH", location, DATA[40:], {"Content-Range": "40-99"})
        assert reply.status == 202
        self.finished(wire, wire.ask("PUT", f"{location}?digest={DIGEST}"))

    @pytest.mark.parametrize("kind", ["directory"], indirect=True)
    def test_single_post_that_is_cut_leaves_nothing(
        self, wire: Wire, server: RegistryServer, tmp_path: Path
    ) -> None:
        cut = Wire(server.host)
        cut.connection.putrequest("POST", f"{self.UPLOADS}?digest={DIGEST}")
        cut.connection.putheader("Content-Length", "100")
        cut.connection.endheaders(DATA[:40])
        uploads = tmp_path / "served/uploads"
        wait_until(lambda: uploads.exists() and any(uploads.iterdir()))
        cut.connection.close()
        wait_until(lambda: not any(uploads.iterdir()))

    @pytest.mark.parametrize("kind", ["directory"], indirect=True)
    def test_client_that_leaves_before_the_answer(
        self, wire: Wire, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pycontainer.registry._uploads import FileUpload

        commit, entered, left = FileUpload.commit, threading.Event(), threading.Event()

        def slow(upload: FileUpload, digest: Digest) -> None:
            entered.set()
            left.wait(5)
            time.sleep(0.05)
            commit(upload, digest)

        monkeypatch.setattr(FileUpload, "commit", slow)
        location = self.begin(wire)
        hasty = Wire(server.host)
        hasty.connection.request("PUT", f"{location}?digest={DIGEST}", DATA)
        assert entered.wait(5)
        hasty.connection.close()
        left.set()
        wait_until(lambda: wire.ask("HEAD", f"/v2/a/b/blobs/{DIGEST}").status == 200)
        assert wire.ask("GET", location).code == "BLOB_UPLOAD_UNKNOWN"

    def test_goes_on_after_a_restart(self, tmp_path: Path) -> None:
        with serve(tmp_path / "served") as server:
            wire = Wire(server.host)
            location = self.begin(wire)
            wire.ask("PATCH", location, DATA[:40])
            wire.connection.close()
        with serve(tmp_path / "served") as server:
            wire = Wire(server.host)
            assert wire.ask("GET", location).headers["Range"] == "0-39"
            wire.ask("PATCH", location, DATA[40:])
            self.finished(wire, wire.ask("PUT", f"{location}?digest={DIGEST}"))
            wire.connection.close()

    def test_refused_body_leaves_the_connection_usable(self, wire: Wire) -> None:
        wire.ask("GET", "/v2/")
        port = wire.port
        reply = wire.ask("PATCH", f"{self.UPLOADS}{'0' * 32}", BIG)
        assert reply.code == "BLOB_UPLOAD_UNKNOWN"
        assert wire.ask("GET", "/v2/").status == 200
        assert wire.port == port

    @pytest.mark.parametrize("kind", ["directory"], indirect=True)
    def test_disk_full(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from pycontainer.registry._uploads import FileUpload

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        location = self.begin(wire)
        with monkeypatch.context() as patch:
            patch.setattr(FileUpload, "write", fail)
            reply = wire.ask("PATCH", location, BIG)
        assert (reply.status, reply.code) == (500, "UNKNOWN")
        assert b"space" not in reply.body
        assert "No space left" in caplog.text
        assert wire.ask("GET", location).headers["Range"] == "0-0"


class TestManifests:
    def test_put_get_head(self, wire: Wire) -> None:
        document = Manifest(config=push_blob(wire, "a"))
        put = push_manifest(wire, "a", "v1", document)
        assert put.status == 201
        assert put.headers["Location"] == f"/v2/a/manifests/{document.digest}"
        assert put.headers["Docker-Content-Digest"] == str(document.digest)
        assert "OCI-Subject" not in put.headers
        for target in ("v1", str(document.digest)):
            get = wire.ask("GET", f"/v2/a/manifests/{target}")
            assert (get.status, get.body) == (200, document.encode())
            assert get.headers["Content-Type"] == document.media_type
            assert get.headers["Docker-Content-Digest"] == str(document.digest)
            head = wire.ask("HEAD", f"/v2/a/manifests/{target}")
            assert (head.status, head.body) == (200, b"")
            assert head.headers["Content-Length"] == str(len(document.encode()))

    def test_unknown(self, wire: Wire) -> None:
        reply = wire.ask("GET", "/v2/a/manifests/v1")
        assert (reply.status, reply.code) == (404, "MANIFEST_UNKNOWN")
        assert wire.ask("HEAD", "/v2/a/manifests/v1").status == 404
        assert wire.ask("DELETE", "/v2/a/manifests/v1").code == "MANIFEST_UNKNOWN"
        assert wire.ask("GET", "/v2/a/manifests/~x").code == "TAG_INVALID"
        assert wire.ask("GET", "/v2/a/manifests/sha256:x").code == "DIGEST_INVALID"

    def test_refused(self, wire: Wire) -> None:
        absent = Manifest(config=Descriptor("x/y", DIGEST, len(DATA)))
        assert push_manifest(wire, "a", "v1", absent).code == "MANIFEST_BLOB_UNKNOWN"
        assert wire.ask("PUT", "/v2/a/manifests/v1", b"{}").code == "MANIFEST_INVALID"
        config = push_blob(wire, "a")
        other = Digest.of(b"other")
        reply = push_manifest(wire, "a", str(other), Manifest(config=config))
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
        assert wire.ask("GET", "/v2/a/tags/list").code == "NAME_UNKNOWN"

    def test_too_large(self, wire: Wire) -> None:
        document = Manifest(config=push_blob(wire, "a"), annotations={"x": "y" * (4 << 20)})
        reply = push_manifest(wire, "a", "v1", document)
        assert (reply.status, reply.code) == (413, "SIZE_INVALID")
        assert wire.ask("GET", "/v2/").status == 200

    def test_delete(self, wire: Wire) -> None:
        document = image(wire, "a", "v1")
        # In a store it would go with its last name.
        push_manifest(wire, "a", str(document.digest), document)
        assert wire.ask("DELETE", "/v2/a/manifests/v1").status == 202
        assert wire.ask("GET", "/v2/a/manifests/v1").status == 404
        assert wire.ask("GET", f"/v2/a/manifests/{document.digest}").status == 200
        assert wire.ask("DELETE", f"/v2/a/manifests/{document.digest}").status == 202
        assert wire.ask("GET", f"/v2/a/manifests/{document.digest}").status == 404

    def test_referrers(self, wire: Wire) -> None:
        subject = Descriptor(media_types.OCI_MANIFEST, Digest.of(b"later"), 5)
        document = Manifest(
            config=push_blob(wire, "a"), subject=subject, artifact_type="application/sig"
        )
        put = push_manifest(wire, "a", str(document.digest), document)
        assert put.headers["OCI-Subject"] == str(subject.digest)
        path = f"/v2/a/referrers/{subject.digest}"
        reply = wire.ask("GET", path)
        assert reply.headers["Content-Type"] == media_types.OCI_INDEX
        assert "OCI-Filters-Applied" not in reply.headers
        (entry,) = Index.parse(reply.body).manifests
        assert (entry.digest, entry.artifact_type) == (document.digest, "application/sig")
        other = wire.ask("GET", f"{path}?artifactType=application/other")
        assert other.headers["OCI-Filters-Applied"] == "artifactType"
        assert Index.parse(other.body).manifests == ()
        assert wire.ask("GET", "/v2/never/referrers/sha256:1").code == "DIGEST_INVALID"
        empty = wire.ask("GET", f"/v2/never/referrers/{DIGEST}")
        assert (empty.status, Index.parse(empty.body).manifests) == (200, ())


class TestLists:
    def test_tags(self, wire: Wire) -> None:
        for tag in ("c", "a", "b"):
            image(wire, "a/b", tag)
        reply = wire.ask("GET", "/v2/a/b/tags/list")
        assert json.loads(reply.body) == {"name": "a/b", "tags": ["a", "b", "c"]}
        assert "Link" not in reply.headers
        first = wire.ask("GET", "/v2/a/b/tags/list?n=2")
        assert json.loads(first.body)["tags"] == ["a", "b"]
        assert first.headers["Link"] == '</v2/a/b/tags/list?n=2&last=b>; rel="next"'
        second = wire.ask("GET", "/v2/a/b/tags/list?n=2&last=b")
        assert json.loads(second.body)["tags"] == ["c"]
        assert "Link" not in second.headers
        assert wire.ask("GET", "/v2/a/b/tags/list?n=x").code == "PAGINATION_NUMBER_INVALID"
        assert wire.ask("GET", "/v2/none/tags/list").code == "NAME_UNKNOWN"

    def test_catalog(self, wire: Wire) -> None:
        for name in ("b", "a/c", "a"):
            image(wire, name, "v1")
        assert json.loads(wire.ask("GET", "/v2/_catalog").body)["repositories"] == ["a", "a/c", "b"]
        page = wire.ask("GET", "/v2/_catalog?n=1&last=a")
        assert json.loads(page.body)["repositories"] == ["a/c"]
        assert page.headers["Link"] == '</v2/_catalog?n=1&last=a%2Fc>; rel="next"'


class TestServing:
    def test_tls_client_is_turned_away_at_once(self, server: RegistryServer) -> None:
        host, _, port = server.host.rpartition(":")
        greeting = bytes.fromhex("1603010100010000fc0303") + bytes(200)
        with socket.create_connection((host, int(port)), 3) as sock:
            sock.sendall(greeting)
            assert sock.recv(1000).startswith(b"HTTP/1.0 400 ")

    def test_garbage_is_answered(self, server: RegistryServer) -> None:
        host, _, port = server.host.rpartition(":")
        with socket.create_connection((host, int(port)), 3) as sock:
            sock.sendall(b"\x00\x01nonsense\r\n\r\n")
            assert sock.recv(1000).startswith((b"HTTP/1.1 400 ", b""))

    def test_close_twice_frees_the_address(self, tmp_path: Path) -> None:
        server = serve(tmp_path)
        host, _, port = server.host.rpartition(":")
        server.close()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), 1)
        with serve(tmp_path, address=(host, int(port))) as again:
            assert again.host == server.host
            assert again.url == f"http://{again.host}"

    def test_close_ends_its_threads(self, tmp_path: Path) -> None:
        before = set(threading.enumerate())
        with serve(tmp_path) as server:
            wire = Wire(server.host)
            push_blob(wire, "a")
            wire.connection.close()
        assert set(threading.enumerate()) == before

    def test_close_cuts_what_is_under_way(self, tmp_path: Path) -> None:
        with serve(tmp_path) as server:
            idle, reading, writing = (Wire(server.host) for _ in range(3))
            push_blob(idle, "a", BIG * 4)
            reading.connection.request("GET", f"/v2/a/blobs/{Digest.of(BIG * 4)}")
            response = reading.connection.getresponse()
            location = idle.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
            writing.connection.putrequest("PATCH", location)
            writing.connection.putheader("Content-Length", "1000")
            writing.connection.endheaders(b"some")
            time.sleep(0.1)
            start = time.monotonic()
        assert time.monotonic() - start < 2
        with pytest.raises((OSError, http.client.HTTPException)):
            response.read()
        for each in (idle, reading, writing):
            each.connection.close()
        response.close()

    def test_address_in_use(self, tmp_path: Path, server: RegistryServer) -> None:
        host, _, port = server.host.rpartition(":")
        with pytest.raises(RegistryError, match="cannot serve a registry at"):
            serve(tmp_path, address=(host, int(port)))

    def test_no_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(RegistryError, match="cannot serve a registry from"):
            serve(tmp_path / "file")

    def test_without_tornado(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.startswith("pycontainer.registry._h")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr("pycontainer.registry._http", raising=False)
        monkeypatch.setitem(sys.modules, "tornado.httpserver", None)
        with pytest.raises(UnsupportedFeature, match="serving a registry") as error:
            serve(tmp_path)
        assert "pycontainer[server]" in (error.value.remedy or "")

    def test_ipv6(self, tmp_path: Path) -> None:
        with serve(tmp_path, address=("::1", 0)) as server:
            assert server.host.startswith("[::1]:")
            wire = Wire(server.host)
            assert wire.ask("GET", "/v2/").status == 200
            wire.connection.close()

    def test_leaked_server_warns_and_ends(self, tmp_path: Path) -> None:
        server = serve(tmp_path)
        host, _, port = server.host.rpartition(":")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del server
        assert [str(w.message) for w in caught] == [
            f"unclosed RegistryServer('http://{host}:{port}')"
        ]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), 1)

    def test_two_servers_share_a_directory(self, tmp_path: Path) -> None:
        with serve(tmp_path) as one, serve(tmp_path) as other:
            first, second = Wire(one.host), Wire(other.host)
            location = first.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
            first.ask("PATCH", location, DATA[:50])
            second.ask("PATCH", location, DATA[50:])
            assert first.ask("PUT", f"{location}?digest={DIGEST}").status == 201
            assert second.ask("GET", f"/v2/a/blobs/{DIGEST}").body == DATA
            first.connection.close()
            second.connection.close()

    def test_many_clients_at_once(self, server: RegistryServer) -> None:
        failures: list[object] = []

        def work(number: int) -> None:
            wire = Wire(server.host)
            try:
                data = BIG[: 300_000 + number]
                blob = push_blob(wire, f"r{number % 3}", data)
                if wire.ask("GET", f"/v2/r{number % 3}/blobs/{blob.digest}").body != data:
                    failures.append(number)
            except Exception as error:
                failures.append(error)
            finally:
                wire.connection.close()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
