"""A registry in an object store, by one server and by several."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from objectstore import ObjectStore
from pycontainer.errors import DigestMismatch, RegistryError
from pycontainer.oci import Descriptor, Digest, Manifest
from pycontainer.registry import Client, S3Bucket, ServerOptions, Upstream, serve
from pycontainer.registry._s3 import S3Storage
from pycontainer.registry._storage import StorageFailed, StoredManifest

SMALL = b"some bytes"
LARGE = os.urandom(17 << 20)  # more than two parts


def described(data: bytes) -> Descriptor:
    return Descriptor("application/x", Digest.of(data), len(data))


@pytest.fixture
def bucket(object_store: ObjectStore) -> S3Bucket:
    return object_store.bucket()


@pytest.fixture
def storages(bucket: S3Bucket) -> Iterator[tuple[S3Storage, S3Storage]]:
    """Those of two servers."""
    one, other = S3Storage(bucket), S3Storage(bucket)
    yield one, other
    one.close()
    other.close()


def read(storage: S3Storage, repository: str, digest: Digest) -> bytes | None:
    file = storage.open_blob(repository, digest)
    if file is None:
        return None
    with file:
        return file.read()


def add_blob(storage: S3Storage, repository: str, data: bytes) -> Descriptor:
    upload = storage.begin_upload(repository)
    upload.write(data)
    upload.commit(Digest.of(data))
    return described(data)


def add_manifest(storage: S3Storage, tag: str | None, config: Descriptor) -> Digest:
    manifest = Manifest(config=config, annotations={"tag": str(tag)})
    stored = StoredManifest(manifest.encode(), manifest.media_type, manifest.digest)
    storage.put_manifest("a", stored, subject=None)
    if tag is not None:
        storage.put_tag("a", tag, stored.digest)
    return stored.digest


class TestUploads:
    @pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=len)
    def test_leave_nothing_but_the_blob(
        self,
        object_store: ObjectStore,
        bucket: S3Bucket,
        storages: tuple[S3Storage, S3Storage],
        data: bytes,
    ) -> None:
        blob = add_blob(storages[0], "a/b", data)
        assert object_store.keys(bucket) == {
            f"blobs/sha256/{blob.digest.hex}",
            f"repositories/a/b/_blobs/sha256/{blob.digest.hex}",
        }
        assert object_store.unfinished(bucket) == 0
        assert read(storages[1], "a/b", blob.digest) == data
        assert read(storages[1], "a", blob.digest) is None

    @pytest.mark.parametrize("data", [SMALL, LARGE], ids=len)
    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_go_on_at_another_server(
        self,
        object_store: ObjectStore,
        bucket: S3Bucket,
        storages: tuple[S3Storage, S3Storage],
        data: bytes,
        algorithm: str,
    ) -> None:
        digest, step = Digest.of(data, algorithm), len(data) // 3
        upload = storages[0].begin_upload("a")
        for n, start in enumerate(range(0, len(data), step)):
            upload.write(data[start : start + step])
            upload.close()
            resumed = storages[(n + 1) % 2].resume_upload("a", upload.id)
            assert resumed is not None
            assert resumed.offset == min(start + step, len(data))
            upload = resumed
        upload.commit(digest)
        assert read(storages[0], "a", digest) == data
        assert storages[0].resume_upload("a", upload.id) is None
        assert not [key for key in object_store.keys(bucket) if key.startswith("uploads/")]

    def test_other_bytes_are_discarded(
        self, object_store: ObjectStore, bucket: S3Bucket, storages: tuple[S3Storage, S3Storage]
    ) -> None:
        for data in (SMALL, LARGE):
            upload = storages[0].begin_upload("a")
            upload.write(data)
            with pytest.raises(DigestMismatch):
                upload.commit(Digest.of(b"other"))
        assert object_store.keys(bucket) == set()
        assert object_store.unfinished(bucket) == 0

    def test_two_servers_that_write_to_one_make_no_wrong_blob(
        self, storages: tuple[S3Storage, S3Storage]
    ) -> None:
        begun = storages[0].begin_upload("a")
        begun.close()
        uploads = [storage.resume_upload("a", begun.id) for storage in storages]
        wrong = bytes(len(LARGE))
        for start in range(0, len(LARGE), 1 << 20):
            for upload, data in zip(uploads, (LARGE, wrong), strict=True):
                assert upload is not None
                upload.write(data[start : start + (1 << 20)])
        first, second = uploads
        assert first is not None
        assert second is not None
        # What is complained of may differ; it must not become a blob with the other's bytes.
        with contextlib.suppress(DigestMismatch, StorageFailed):
            first.commit(Digest.of(LARGE))
        assert read(storages[0], "a", Digest.of(LARGE)) in (None, LARGE)
        second.cancel()
        first.cancel()

    def test_expire(
        self, object_store: ObjectStore, bucket: S3Bucket, storages: tuple[S3Storage, S3Storage]
    ) -> None:
        for data in (SMALL, LARGE):
            upload = storages[0].begin_upload("a")
            upload.write(data)
            upload.close()
        assert storages[1].expire_uploads(3600) == 0
        storages[0].begin_upload("a").write(LARGE)  # its server was killed
        assert storages[1].expire_uploads(-5) == 3
        assert object_store.keys(bucket) == set()
        assert object_store.unfinished(bucket) == 0


class TestCollecting:
    def test_what_nothing_needs(
        self, object_store: ObjectStore, bucket: S3Bucket, storages: tuple[S3Storage, S3Storage]
    ) -> None:
        storage = storages[0]
        kept = add_blob(storage, "a", b"kept")
        untagged = add_blob(storage, "a", b"untagged")
        alone = add_blob(storage, "b", b"alone")
        manifest = add_manifest(storage, "v1", kept)
        loose = add_manifest(storage, None, untagged)
        assert storage.collect(young=3600, untagged=True).blobs == 0
        collected = storage.collect(young=-5, untagged=False)
        assert (collected.links, collected.blobs, collected.freed) == (1, 1, alone.size)
        assert read(storages[1], "b", alone.digest) is None
        assert storage.collect(young=-5, untagged=True).blobs == 2
        assert storage.manifest("a", loose) is None
        assert storage.manifest("a", manifest) == storage.manifest("a", "v1")
        assert object_store.keys(bucket) == {
            "collected",
            f"blobs/sha256/{kept.digest.hex}",
            f"blobs/sha256/{manifest.hex}",
            f"repositories/a/_blobs/sha256/{kept.digest.hex}",
            f"repositories/a/_manifests/sha256/{manifest.hex}",
            "repositories/a/_tags/v1",
        }

    def test_what_nobody_asks_for(self, storages: tuple[S3Storage, S3Storage]) -> None:
        storage = storages[0]
        blobs = [add_blob(storage, "a", data) for data in (b"wanted", b"unwanted")]
        wanted, unwanted = (
            add_manifest(storage, tag, blob) for tag, blob in zip("12", blobs, strict=True)
        )
        time.sleep(3)
        storage.touch("a", wanted)
        storage.touch("a", Digest.of(b"what is not there"))
        evicted = storage.evict(unused=1.5)
        assert (evicted.links, evicted.blobs) == (2, 2)
        assert storages[1].manifest("a", "1") == storages[1].manifest("a", wanted)
        assert read(storages[1], "a", blobs[0].digest) == b"wanted"
        assert storages[1].manifest("a", unwanted) is None
        assert storages[1].tags("a") == ["1"]

    def test_pushes_meanwhile_lose_nothing(self, bucket: S3Bucket) -> None:
        """Even if nothing counts as young, so that all that has no manifest yet is taken."""
        ended = threading.Event()
        collector = S3Storage(bucket)

        def collect() -> int:
            count = 0
            while not ended.is_set():
                count += collector.collect(young=-5, untagged=True).links
                time.sleep(0.5)  # a push has to fit between two
            return count

        def push(host: str, n: int) -> bool:
            data = f"the same config {n % 2}".encode()
            manifest = Manifest(config=described(data), annotations={"n": str(n)})
            with Client(host) as client:
                for _ in range(20):
                    try:
                        client.push_blob("a", described(data), lambda: io.BytesIO(data))
                        client.put_manifest("a", f"v{n}", manifest.encode(), manifest.media_type)
                    except RegistryError as error:
                        if error.code != "MANIFEST_BLOB_UNKNOWN":
                            raise
                    else:
                        return True
            return False

        with ExitStack() as stack:
            servers = [stack.enter_context(serve(bucket)) for _ in range(2)]
            threads = stack.enter_context(ThreadPoolExecutor(5))
            taken = threads.submit(collect)
            pushed = [threads.submit(push, servers[n % 2].host, n) for n in range(6)]
            results = [future.result() for future in pushed]
            ended.set()
            taken.result()
            client = stack.enter_context(Client(servers[0].host))
            for n, done in enumerate(results):
                if done:
                    found = Manifest.parse(client.get_manifest("a", f"v{n}").data)
                    with client.open_blob("a", found.config) as stream:
                        assert stream.read() == f"the same config {n % 2}".encode()
            assert any(results)
        collector.close()

    def test_the_mark_of_a_killed_collection_does_not_hold_for_ever(
        self,
        bucket: S3Bucket,
        storages: tuple[S3Storage, S3Storage],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("pycontainer.registry._s3._MARK_SECONDS", 2.0)
        storages[0]._objects.put("collecting/killed", b"")
        begun = time.monotonic()
        add_blob(storages[1], "a", SMALL)
        assert 0.5 < time.monotonic() - begun < 20


PROGRAM = """
import sys, threading
from pycontainer.registry import S3Bucket, serve
server = serve(S3Bucket(*sys.argv[1:]))
print(server.host, flush=True)
threading.Event().wait()
"""


class TestServers:
    def test_a_killed_one_loses_nothing_that_it_acknowledged(self, bucket: S3Bucket) -> None:
        blob, half = described(LARGE), len(LARGE) // 2
        place = (bucket.name, bucket.prefix, str(bucket.endpoint), str(bucket.region))
        command = [sys.executable, "-c", PROGRAM, *place]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            connection = http.client.HTTPConnection(process.stdout.readline().strip(), timeout=20)
            connection.request("POST", "/v2/a/blobs/uploads/")
            answer = connection.getresponse()
            answer.read()
            location = answer.headers["Location"]
            connection.request("PATCH", location, LARGE[:half])
            answer = connection.getresponse()
            answer.read()
            assert answer.headers["Range"] == f"0-{half - 1}"
            connection.putrequest("PUT", f"{location}?digest={blob.digest}")
            connection.putheader("Content-Length", str(len(LARGE) - half))
            connection.endheaders(bytes(9 << 20))  # others than those that will come
            process.kill()
            connection.close()
        with serve(bucket) as server, Client(server.host) as client:
            connection = http.client.HTTPConnection(server.host, timeout=20)
            connection.request("GET", location)
            answer = connection.getresponse()
            answer.read()
            assert answer.headers["Range"] == f"0-{half - 1}"
            connection.request("PUT", f"{location}?digest={blob.digest}", LARGE[half:])
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 201
            connection.close()
            with client.open_blob("a", blob) as stream:
                assert stream.read() == LARGE

    def test_share_a_bucket(self, bucket: S3Bucket) -> None:
        config = described(SMALL)
        manifest = Manifest(config=config)
        with serve(bucket) as one, serve(bucket) as other:
            with Client(one.host) as client:
                client.push_blob("a", config, lambda: io.BytesIO(SMALL))
                client.put_manifest("a", "v1", manifest.encode(), manifest.media_type)
            with Client(other.host) as client:
                assert client.get_manifest("a", "v1").digest == manifest.digest
                assert client.tags("a") == ["v1"]
                assert not client.push_blob("a", config, lambda: pytest.fail("sent"))
                client.delete_manifest("a", "v1")
            with Client(one.host) as client:
                assert client.tags("a") == []

    def test_as_a_cache(self, bucket: S3Bucket, tmp_path: object) -> None:
        blob = described(LARGE)
        with serve(str(tmp_path)) as origin:
            with Client(origin.host) as client:
                client.push_blob("a", blob, lambda: io.BytesIO(LARGE))
            options = ServerOptions(upstream=Upstream(host=origin.host))
            with serve(bucket, options=options) as server, Client(server.host) as client:
                with client.open_blob("a", blob) as stream:
                    assert stream.read() == LARGE
                origin.close()
                with client.open_blob("a", blob) as stream:
                    assert stream.read() == LARGE

    def test_no_such_bucket(self, object_store: ObjectStore) -> None:
        with pytest.raises(RegistryError, match="absent"):
            serve(S3Bucket("absent", "", object_store.url, "us-east-1"))

    def test_an_object_store_that_goes_is_told(self) -> None:
        with ObjectStore() as own:
            bucket = own.bucket()
            with serve(bucket) as server:
                own.close()
                connection = http.client.HTTPConnection(server.host, timeout=60)
                connection.request("GET", "/v2/a/tags/list")
                answer = connection.getresponse()
                assert (answer.status, b"amazon" in answer.read()) == (503, False)
                connection.close()


def test_urls() -> None:
    assert S3Bucket.parse("s3://images/some/where/") == S3Bucket("images", "some/where")
    assert str(S3Bucket("images", "some/where")) == "s3://images/some/where"
    for wrong in ("s3://", "images", "s3:///x"):
        with pytest.raises(RegistryError, match="names no bucket"):
            S3Bucket.parse(wrong)
