"""The distribution specification 1.1, clause by clause, on a server of each kind of storage.

Each test's name ends with the end-point's id in the specification's table ("Endpoints").
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from pycontainer.oci import Descriptor, Digest, Index, Manifest, media_types
from wire import Reply, Wire, image, kind, push_blob, push_manifest, server, wire

__all__ = ["kind", "server", "wire"]

DATA = b"the bytes of a blob"
DIGEST = Digest.of(DATA)
ABSENT = Digest.of(b"absent")


def path_of(reply: Reply) -> str:
    """Where a Location leads, which may be absolute or relative (RFC 7231, 7.1.2)."""
    parts = urlsplit(reply.headers["Location"])
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def code_of(reply: Reply) -> str:
    """The code of an error body: a list of errors, each with code, message and detail at most."""
    errors = json.loads(reply.body)["errors"]
    for error in errors:
        assert set(error) <= {"code", "message", "detail"}
        assert error["code"].replace("_", "").isalpha()
        assert error["code"] == error["code"].upper()
    return str(errors[0]["code"])


class TestPull:
    def test_support_is_told_1(self, wire: Wire) -> None:
        assert wire.ask("GET", "/v2/").status == 200

    def test_blob_2(self, wire: Wire) -> None:
        push_blob(wire, "a", DATA)
        get = wire.ask("GET", f"/v2/a/blobs/{DIGEST}")
        assert (get.status, get.body) == (200, DATA)
        assert get.headers["Docker-Content-Digest"] == str(DIGEST)
        head = wire.ask("HEAD", f"/v2/a/blobs/{DIGEST}")
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(DATA)))
        part = wire.ask("GET", f"/v2/a/blobs/{DIGEST}", headers={"Range": "bytes=4-8"})
        assert (part.status, part.body) == (206, b"bytes")
        for method in ("GET", "HEAD"):
            assert wire.ask(method, f"/v2/a/blobs/{ABSENT}").status == 404

    @pytest.mark.parametrize("by", ["tag", "digest"])
    def test_manifest_3(self, wire: Wire, by: str) -> None:
        document = image(wire, "a", "v1")
        target = "v1" if by == "tag" else str(document.digest)
        get = wire.ask("GET", f"/v2/a/manifests/{target}")
        assert (get.status, get.body) == (200, document.encode())
        assert get.headers["Content-Type"] == document.media_type
        head = wire.ask("HEAD", f"/v2/a/manifests/{target}")
        assert (head.status, head.body) == (200, b"")
        for name in ("Content-Type", "Content-Length", "Docker-Content-Digest"):
            assert head.headers[name] == get.headers[name]

    def test_manifest_that_is_not_there_3(self, wire: Wire) -> None:
        image(wire, "a", "v1")
        for target in ("absent", str(ABSENT)):
            reply = wire.ask("GET", f"/v2/a/manifests/{target}")
            assert (reply.status, code_of(reply)) == (404, "MANIFEST_UNKNOWN")
            assert wire.ask("HEAD", f"/v2/a/manifests/{target}").status == 404


class TestPush:
    def begin(self, wire: Wire) -> str:
        reply = wire.ask("POST", "/v2/a/blobs/uploads/", headers={"Content-Length": "0"})
        assert reply.status == 202
        return path_of(reply)

    def whole(self, wire: Wire, reply: Reply, digest: Digest = DIGEST, data: bytes = DATA) -> None:
        assert reply.status == 201
        assert wire.ask("GET", path_of(reply)).body == data
        assert wire.ask("GET", f"/v2/a/blobs/{digest}").body == data

    def test_post_then_put_4a_6(self, wire: Wire) -> None:
        location = self.begin(wire)
        joint = "&" if "?" in location else "?"
        headers = {"Content-Type": "application/octet-stream"}
        self.whole(wire, wire.ask("PUT", f"{location}{joint}digest={DIGEST}", DATA, headers))

    def test_single_post_4b(self, wire: Wire) -> None:
        reply = wire.ask("POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", DATA)
        self.whole(wire, reply)

    def test_chunks_5_6(self, wire: Wire) -> None:
        location = self.begin(wire)
        first = wire.ask("PATCH", location, DATA[:7], {"Content-Range": "0-6"})
        assert (first.status, first.headers["Range"]) == (202, "0-6")
        last = {"Content-Range": f"7-{len(DATA) - 1}"}
        self.whole(wire, wire.ask("PUT", f"{path_of(first)}?digest={DIGEST}", DATA[7:], last))

    def test_chunk_out_of_order_5(self, wire: Wire) -> None:
        location = self.begin(wire)
        reply = wire.ask("PATCH", location, DATA[:7], {"Content-Range": "7-13"})
        assert reply.status == 416
        first = wire.ask("PATCH", location, DATA[:7], {"Content-Range": "0-6"})
        again = wire.ask("PATCH", path_of(first), DATA[:7], {"Content-Range": "0-6"})
        assert again.status == 416

    def test_where_an_upload_stands_13(self, wire: Wire) -> None:
        location = self.begin(wire)
        location = path_of(wire.ask("PATCH", location, DATA[:7], {"Content-Range": "0-6"}))
        reply = wire.ask("GET", location)
        assert (reply.status, reply.headers["Range"]) == (204, "0-6")
        rest = {"Content-Range": f"7-{len(DATA) - 1}"}
        location = path_of(wire.ask("PATCH", path_of(reply), DATA[7:], rest))
        self.whole(wire, wire.ask("PUT", f"{location}?digest={DIGEST}"))

    def test_empty_blob_6(self, wire: Wire) -> None:
        location = self.begin(wire)
        reply = wire.ask("PUT", f"{location}?digest={Digest.of(b'')}")
        self.whole(wire, reply, Digest.of(b""), b"")

    def test_other_bytes_6(self, wire: Wire) -> None:
        reply = wire.ask("PUT", f"{self.begin(wire)}?digest={ABSENT}", DATA)
        assert (reply.status, code_of(reply)) == (400, "DIGEST_INVALID")
        assert wire.ask("HEAD", f"/v2/a/blobs/{ABSENT}").status == 404

    def test_mount_11(self, wire: Wire) -> None:
        push_blob(wire, "a", DATA)
        reply = wire.ask("POST", f"/v2/b/c/blobs/uploads/?mount={DIGEST}&from=a")
        assert reply.status == 201
        assert wire.ask("GET", path_of(reply)).body == DATA
        assert path_of(reply).startswith("/v2/b/c/blobs/")

    @pytest.mark.parametrize("query", [f"mount={ABSENT}&from=a", f"mount={DIGEST}&from=absent"])
    def test_mount_of_what_is_not_there_11(self, wire: Wire, query: str) -> None:
        push_blob(wire, "a", DATA)
        reply = wire.ask("POST", f"/v2/b/blobs/uploads/?{query}")
        assert reply.status == 202
        assert "/v2/b/blobs/uploads/" in path_of(reply)

    def test_mount_without_a_source_11(self, wire: Wire) -> None:
        push_blob(wire, "a", DATA)
        assert wire.ask("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}").status in {201, 202}

    def test_manifest_7(self, wire: Wire) -> None:
        document = Manifest(config=push_blob(wire, "a", DATA), layers=())
        for target in ("v1", str(document.digest)):
            reply = push_manifest(wire, "a", target, document)
            assert reply.status == 201
            assert reply.headers["Docker-Content-Digest"] == str(document.digest)
            assert wire.ask("GET", path_of(reply)).body == document.encode()

    def test_manifest_of_4_mib_7(self, wire: Wire) -> None:
        config = push_blob(wire, "a", DATA)
        room = (4 << 20) - len(Manifest(config=config, annotations={"x": ""}).encode())
        document = Manifest(config=config, annotations={"x": "x" * room})
        assert len(document.encode()) == 4 << 20
        assert push_manifest(wire, "a", "large", document).status == 201

    def test_manifest_without_its_blobs_7(self, wire: Wire) -> None:
        document = Manifest(config=Descriptor("application/x", ABSENT, 6))
        reply = push_manifest(wire, "a", "v1", document)
        assert 400 <= reply.status < 500
        assert code_of(reply) == "MANIFEST_BLOB_UNKNOWN"

    def test_subject_that_is_not_there_7a(self, wire: Wire) -> None:
        subject = Descriptor(media_types.OCI_MANIFEST, ABSENT, 6)
        document = Manifest(config=push_blob(wire, "a", DATA), subject=subject)
        reply = push_manifest(wire, "a", str(document.digest), document)
        assert (reply.status, reply.headers["OCI-Subject"]) == (201, str(ABSENT))


class TestDiscovery:
    def test_tags_8a(self, wire: Wire) -> None:
        for tag in ("v10", "V2", "latest", "A", "_b"):
            image(wire, "a", tag)
        reply = wire.ask("GET", "/v2/a/tags/list")
        assert reply.status == 200
        document = json.loads(reply.body)
        assert document["name"] == "a"
        # In lexical order, whatever their case.
        assert document["tags"] == ["_b", "A", "latest", "v10", "V2"]

    def test_tags_in_pages_8b(self, wire: Wire) -> None:
        tags = ["a", "B", "c", "D", "e"]
        for tag in tags:
            image(wire, "a", tag)
        found: list[str] = []
        path = "/v2/a/tags/list?n=2"
        while path:
            reply = wire.ask("GET", path)
            found += json.loads(reply.body)["tags"]
            path = reply.headers.get("Link", "").partition("<")[2].partition(">")[0]
        assert found == tags
        after = wire.ask("GET", "/v2/a/tags/list?last=bb")  # need not be a tag
        assert json.loads(after.body)["tags"] == ["c", "D", "e"]
        none = wire.ask("GET", "/v2/a/tags/list?n=0")
        assert (json.loads(none.body)["tags"], none.headers.get("Link")) == ([], None)

    def test_tags_of_nothing_8a(self, wire: Wire) -> None:
        reply = wire.ask("GET", "/v2/absent/tags/list")
        assert (reply.status, code_of(reply)) == (404, "NAME_UNKNOWN")

    def test_referrers_12a(self, wire: Wire) -> None:
        subject = image(wire, "a", "v1")
        config = push_blob(wire, "a", b"{}")
        documents: list[Manifest | Index] = [
            Manifest(
                config=config,
                subject=subject.descriptor(),
                artifact_type="application/one",
                annotations={"key": "value"},
            ),
            Manifest(
                config=Descriptor("application/two", config.digest, config.size),
                subject=subject.descriptor(),
            ),
            Index(
                manifests=(subject.descriptor(),),
                subject=subject.descriptor(),
                artifact_type="application/three",
            ),
        ]
        for document in documents:
            assert push_manifest(wire, "a", str(document.digest), document).status == 201
        reply = wire.ask("GET", f"/v2/a/referrers/{subject.digest}")
        assert reply.status == 200
        assert reply.headers["Content-Type"] == media_types.OCI_INDEX
        found = json.loads(reply.body)
        assert (found["schemaVersion"], found["mediaType"]) == (2, media_types.OCI_INDEX)
        entries = {entry["artifactType"]: entry for entry in found["manifests"]}
        assert set(entries) == {"application/one", "application/two", "application/three"}
        assert entries["application/one"]["annotations"] == {"key": "value"}
        assert entries["application/three"]["mediaType"] == media_types.OCI_INDEX
        for document in documents:
            assert str(document.digest) in reply.body.decode()

    def test_referrers_of_a_type_12b(self, wire: Wire) -> None:
        subject = image(wire, "a", "v1")
        config = push_blob(wire, "a", b"{}")
        for kind_of in ("application/one", "application/two"):
            document = Manifest(config=config, subject=subject.descriptor(), artifact_type=kind_of)
            push_manifest(wire, "a", str(document.digest), document)
        reply = wire.ask("GET", f"/v2/a/referrers/{subject.digest}?artifactType=application/two")
        assert reply.headers["OCI-Filters-Applied"] == "artifactType"
        found = json.loads(reply.body)["manifests"]
        assert [entry["artifactType"] for entry in found] == ["application/two"]

    def test_referrers_of_what_is_not_there_12a(self, wire: Wire) -> None:
        reply = wire.ask("GET", f"/v2/absent/referrers/{ABSENT}")
        assert (reply.status, json.loads(reply.body)["manifests"]) == (200, [])
        assert wire.ask("GET", "/v2/a/referrers/sha256:short").status == 400


class TestManagement:
    def test_tag_9(self, wire: Wire) -> None:
        image(wire, "a", "v1")
        image(wire, "a", "v2")
        assert wire.ask("DELETE", "/v2/a/manifests/v1").status == 202
        assert wire.ask("GET", "/v2/a/manifests/v1").status == 404
        assert json.loads(wire.ask("GET", "/v2/a/tags/list").body)["tags"] == ["v2"]

    def test_manifest_9(self, wire: Wire) -> None:
        document = image(wire, "a", "v1")
        path = f"/v2/a/manifests/{document.digest}"
        assert wire.ask("DELETE", path).status == 202
        for target in (path, "/v2/a/manifests/v1"):
            reply = wire.ask("GET", target)
            assert (reply.status, code_of(reply)) == (404, "MANIFEST_UNKNOWN")
        assert wire.ask("DELETE", path).status == 404

    def test_referrer_that_is_deleted_9_12a(self, wire: Wire) -> None:
        subject = image(wire, "a", "v1")
        document = Manifest(config=push_blob(wire, "a", b"{}"), subject=subject.descriptor())
        push_manifest(wire, "a", str(document.digest), document)
        wire.ask("DELETE", f"/v2/a/manifests/{document.digest}")
        reply = wire.ask("GET", f"/v2/a/referrers/{subject.digest}")
        assert json.loads(reply.body)["manifests"] == []

    def test_blob_10(self, wire: Wire) -> None:
        push_blob(wire, "a", DATA)
        path = f"/v2/a/blobs/{DIGEST}"
        assert wire.ask("DELETE", path).status == 202
        reply = wire.ask("GET", path)
        assert (reply.status, code_of(reply)) == (404, "BLOB_UNKNOWN")
        assert wire.ask("DELETE", path).status == 404
