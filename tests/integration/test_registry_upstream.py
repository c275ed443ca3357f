"""A registry that fetches from an upstream what it does not hold."""

from __future__ import annotations

import base64
import http.client
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import pytest

from fronts import Asked, Front, Reply, basic
from pycontainer.content import Store
from pycontainer.errors import (
    ManifestNotFound,
    RegistryBlobNotFound,
    RegistryError,
    Unauthorized,
)
from pycontainer.images import Image, Registry
from pycontainer.oci import Descriptor, Digest, Index, Manifest, Platform
from pycontainer.registry import (
    Client,
    Credentials,
    RegistryServer,
    ServerOptions,
    Upstream,
    serve,
)

DATA = os.urandom(3 << 20)
BLOB = Descriptor("application/x", Digest.of(DATA), len(DATA))
MANIFEST = Manifest(config=BLOB)
USERS = {"ann": bcrypt.hashpw(b"sesame", bcrypt.gensalt(4)).decode()}


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[RegistryServer]:
    with serve(tmp_path / "origin") as server:
        with Client(server.host) as client:
            push(client, "1")
        yield server


def push(client: Client, tag: str, manifest: Manifest = MANIFEST) -> None:
    client.push_blob("team/app", BLOB, lambda: io.BytesIO(DATA))
    client.put_manifest("team/app", tag, manifest.encode(), manifest.media_type)


@contextmanager
def cache(
    path: Path, host: str, *, age: float = 60.0, keep: float | None = None, **options: object
) -> Iterator[Client]:
    """A client of a cache in front of a host."""
    upstream = Upstream(host=host, age=age, keep=keep, timeout=5)
    with (
        serve(path, options=ServerOptions(upstream=upstream, **options)) as server,  # type: ignore[arg-type]
        Client(server.host) as client,
    ):
        yield client


def read(client: Client, descriptor: Descriptor = BLOB) -> bytes:
    with client.open_blob("team/app", descriptor) as stream:
        return stream.read()


class TestPulls:
    def test_what_is_held_is_not_fetched_again(
        self, origin: RegistryServer, tmp_path: Path
    ) -> None:
        with Front(origin.host) as front, cache(tmp_path / "cache", front.host) as client:
            for _ in range(2):
                assert client.get_manifest("team/app", "1").digest == MANIFEST.digest
                assert (
                    client.get_manifest("team/app", str(MANIFEST.digest)).data == MANIFEST.encode()
                )
                assert read(client) == DATA
            assert len(front.requests("GET", "/manifests/")) == 1
            assert len(front.requests("HEAD", "/manifests/")) == 1
            assert len(front.requests("GET", "/blobs/")) == 1
            assert client.blob_size("team/app", BLOB.digest) == BLOB.size
            assert len(front.requests("HEAD", "/blobs/")) == 1

    def test_an_image_into_a_store(self, tmp_path: Path, store: Store) -> None:
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "file").write_text("hello")
        image = Image.import_rootfs(tmp_path / "root", store=store)
        with (
            Registry.serve(tmp_path / "origin") as origin,
            Registry(origin.host) as registry,
            cache(tmp_path / "cache", origin.host) as client,
            Store.open(tmp_path / "other") as other,
        ):
            registry.push(image, "team/app:1")
            with Registry(client.host) as cached:
                assert cached.pull("team/app:1", store=other).digest == image.digest

    def test_many_at_a_time_fetch_once(self, origin: RegistryServer, tmp_path: Path) -> None:
        def slowly(asked: Asked, reply: Reply) -> Reply:
            pause = 0.05 if asked.method == "GET" and "/blobs/" in asked.target else 0.0
            return Reply(reply.status, reply.headers, reply.body, pause=pause)

        with (
            Front(origin.host, after=slowly) as front,
            cache(tmp_path / "cache", front.host) as client,
            ThreadPoolExecutor(12) as threads,
        ):
            asked = [threads.submit(read, client) for _ in range(12)]
            asked += [
                threads.submit(lambda: client.get_manifest("team/app", "1").data) for _ in range(6)
            ]
            assert {future.result() for future in asked} == {DATA, MANIFEST.encode()}
            assert len(front.requests("GET", "/blobs/")) == 1
            assert len(front.requests("GET", "/manifests/")) == 1

    def test_bytes_go_on_while_they_come(self, origin: RegistryServer, tmp_path: Path) -> None:
        rest = threading.Event()

        def stop_half_way(asked: Asked) -> Reply | None:
            if asked.method != "GET" or "/blobs/" not in asked.target:
                return None
            if asked.header("range"):
                rest.wait(20)
                start = int(asked.header("range").removeprefix("bytes=").rstrip("-"))
                content_range = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"}
                return Reply(206, content_range, DATA[start:])
            return Reply(body=DATA, cut=2 << 20)

        with (
            Front(origin.host, before=stop_half_way) as front,
            cache(tmp_path / "cache", front.host) as client,
            client.open_blob("team/app", BLOB) as stream,
        ):
            first = b""
            while len(first) < 1 << 20:
                first += stream.read(1 << 18)
            assert not rest.is_set()
            rest.set()
            assert first + stream.read() == DATA

    def test_a_part_of_what_has_not_come(self, origin: RegistryServer, tmp_path: Path) -> None:
        with cache(tmp_path / "cache", origin.host) as client:
            connection = http.client.HTTPConnection(client.host, timeout=20)
            headers = {"Range": f"bytes={(3 << 20) - 5}-"}
            connection.request("GET", f"/v2/team/app/blobs/{BLOB.digest}", headers=headers)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (206, DATA[-5:])
            connection.close()

    def test_lists_are_those_of_the_upstream(self, origin: RegistryServer, tmp_path: Path) -> None:
        about = Manifest(config=BLOB, artifact_type="application/y", subject=MANIFEST.descriptor())
        with Client(origin.host) as client:
            push(client, "note", about)
        with cache(tmp_path / "cache", origin.host) as client:
            assert client.tags("team/app") == ["1", "note"]
            found = client.referrers("team/app", MANIFEST.digest, "application/y")
            assert [entry.digest for entry in found] == [about.digest]
            with pytest.raises(ManifestNotFound):
                client.tags("absent")

    def test_an_index_without_the_platforms_that_nobody_wants(
        self, origin: RegistryServer, tmp_path: Path
    ) -> None:
        entry = MANIFEST.descriptor()
        index = Index(
            manifests=(
                Descriptor(entry.media_type, entry.digest, entry.size, platform=Platform.current()),
            )
        )
        with Client(origin.host) as client:
            client.put_manifest("team/app", "all", index.encode(), index.media_type)
        with Front(origin.host) as front, cache(tmp_path / "cache", front.host) as client:
            assert client.get_manifest("team/app", "all").data == index.encode()
            assert len(front.requests("GET")) == 1

    def test_what_nobody_has(self, origin: RegistryServer, tmp_path: Path) -> None:
        absent = Descriptor("application/x", Digest.of(b"absent"), 6)
        with cache(tmp_path / "cache", origin.host) as client:
            with pytest.raises(ManifestNotFound):
                client.get_manifest("team/app", "absent")
            with pytest.raises(ManifestNotFound):
                client.get_manifest("team/app", str(absent.digest))
            with pytest.raises(RegistryBlobNotFound):
                client.open_blob("team/app", absent)
            assert client.blob_size("team/app", absent.digest) is None


class TestEviction:
    def test_what_nobody_asks_for_goes_and_comes_again(
        self, origin: RegistryServer, tmp_path: Path
    ) -> None:
        other = Descriptor("application/x", Digest.of(b"other"), 5)
        unused = Manifest(config=other)
        with Client(origin.host) as client:
            client.push_blob("team/app", other, lambda: io.BytesIO(b"other"))
            client.put_manifest("team/app", "2", unused.encode(), unused.media_type)
        place = tmp_path / "cache"
        gone = [place / "blobs/sha256" / each.digest.hex for each in (other, unused)]
        with cache(place, origin.host, keep=1.0) as client:
            for tag, blob in (("1", BLOB), ("2", other)):
                client.get_manifest("team/app", tag)
                read(client, blob)
            assert all(path.exists() for path in gone)
            deadline = time.monotonic() + 20
            while any(path.exists() for path in gone):
                assert time.monotonic() < deadline
                assert client.get_manifest("team/app", "1").digest == MANIFEST.digest
                time.sleep(0.05)
            # What was asked for all the time is there, with its blob, and nothing else.
            kept = {path.name for path in (place / "blobs/sha256").iterdir()}
            assert kept == {MANIFEST.digest.hex, BLOB.digest.hex}
            tags = place / "repositories/team/app/_tags"
            assert [path.name for path in tags.iterdir()] == ["1"]
            assert client.get_manifest("team/app", "2").digest == unused.digest
            assert read(client, other) == b"other"

    def test_also_what_an_earlier_server_left(self, origin: RegistryServer, tmp_path: Path) -> None:
        place = tmp_path / "cache"
        with cache(place, origin.host) as client:
            client.get_manifest("team/app", "1")
            read(client)
        week_ago = time.time() - 7 * 24 * 3600
        for path in place.glob("repositories/team/app/*/sha256/*"):
            os.utime(path, (week_ago, week_ago))
        with cache(place, origin.host, keep=24 * 3600.0):
            deadline = time.monotonic() + 10
            while list((place / "blobs/sha256").iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def test_nothing_goes_by_itself_where_that_is_not_asked(
        self, origin: RegistryServer, tmp_path: Path
    ) -> None:
        place = tmp_path / "cache"
        with cache(place, origin.host) as client:
            client.get_manifest("team/app", "1")
            read(client)
        for path in place.glob("repositories/team/app/*/sha256/*"):
            os.utime(path, (0, 0))
        with cache(place, origin.host) as client:
            time.sleep(0.5)
        assert len(list((place / "blobs/sha256").iterdir())) == 2


class TestTags:
    def test_are_looked_at_again_when_they_are_old(
        self, origin: RegistryServer, tmp_path: Path
    ) -> None:
        later = Manifest(config=BLOB, annotations={"n": "2"})
        with (
            Client(origin.host) as client,
            Front(origin.host) as front,
            cache(tmp_path / "cache", front.host, age=0.5) as cached,
        ):
            assert cached.get_manifest("team/app", "1").digest == MANIFEST.digest
            push(client, "1", later)
            assert cached.get_manifest("team/app", "1").digest == MANIFEST.digest
            time.sleep(0.6)
            assert cached.get_manifest("team/app", "1").digest == later.digest
            time.sleep(0.6)
            fetched = len(front.requests("GET"))
            assert cached.get_manifest("team/app", "1").digest == later.digest
            assert len(front.requests("GET")) == fetched
            client.delete_manifest("team/app", "1")
            time.sleep(0.6)
            with pytest.raises(ManifestNotFound):
                cached.get_manifest("team/app", "1")

    @pytest.mark.parametrize("trouble", ["gone", 429, 503])
    def test_stay_while_the_upstream_is_in_trouble(
        self, origin: RegistryServer, tmp_path: Path, trouble: str | int
    ) -> None:
        broken = threading.Event()

        def fail(asked: Asked) -> Reply | None:
            if not broken.is_set():
                return None
            if trouble == "gone":
                return Reply(hang_up=True)
            return Reply(int(trouble), {"Retry-After": "1000"})

        with (
            Front(origin.host, before=fail) as front,
            cache(tmp_path / "cache", front.host, age=0) as client,
        ):
            assert client.get_manifest("team/app", "1").digest == MANIFEST.digest
            assert read(client) == DATA
            broken.set()
            assert client.get_manifest("team/app", "1").digest == MANIFEST.digest
            assert client.tags("team/app") == ["1"]
            assert client.referrers("team/app", MANIFEST.digest) == []
            assert read(client) == DATA

    def test_of_an_upstream_that_was_not_there_are_served_by_a_later_server(
        self, origin: RegistryServer, tmp_path: Path
    ) -> None:
        with cache(tmp_path / "cache", origin.host) as client:
            client.get_manifest("team/app", "1")
            read(client)
        origin.close()
        with cache(tmp_path / "cache", origin.host) as client:
            assert client.get_manifest("team/app", "1").digest == MANIFEST.digest
            assert read(client) == DATA


class TestFaults:
    def test_wrong_bytes_are_never_whole_and_never_kept(
        self, origin: RegistryServer, tmp_path: Path
    ) -> None:
        wrong = bytes(len(DATA))

        def lie(asked: Asked) -> Reply | None:
            return (
                Reply(body=wrong) if asked.method == "GET" and "/blobs/" in asked.target else None
            )

        with (
            Front(origin.host, before=lie) as front,
            cache(tmp_path / "cache", front.host) as client,
        ):
            connection = http.client.HTTPConnection(client.host, timeout=20)
            connection.request("GET", f"/v2/team/app/blobs/{BLOB.digest}")
            answer = connection.getresponse()
            assert answer.headers["Content-Length"] == str(len(DATA))
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
            connection.close()
        with cache(tmp_path / "cache", origin.host) as client:
            assert read(client) == DATA
        assert list((tmp_path / "cache" / "uploads").iterdir()) == []

    def test_a_wrong_manifest_is_refused(self, origin: RegistryServer, tmp_path: Path) -> None:
        def lie(asked: Asked) -> Reply | None:
            wrong = Manifest(config=BLOB, annotations={"wrong": "yes"}).encode()
            by_digest = asked.method == "GET" and "/manifests/sha256:" in asked.target
            return Reply(body=wrong) if by_digest else None

        with (
            Front(origin.host, before=lie) as front,
            cache(tmp_path / "cache", front.host) as client,
        ):
            with pytest.raises(RegistryError) as caught:
                client.get_manifest("team/app", "1")
            assert caught.value.status == 502

    @pytest.mark.parametrize(
        ("status", "error", "seen"),
        [
            (401, Unauthorized, 403),
            (403, Unauthorized, 403),
            (500, RegistryError, 502),
            (429, RegistryError, 429),
        ],
    )
    def test_failures_are_told(
        self,
        origin: RegistryServer,
        tmp_path: Path,
        status: int,
        error: type[RegistryError],
        seen: int,
    ) -> None:
        reply = Reply(
            status, {"Retry-After": "1000"}, b'{"errors": [{"code": "X", "message": "why"}]}'
        )
        with (
            Front(origin.host, before=lambda _: reply) as front,
            cache(tmp_path / "cache", front.host) as client,
        ):
            for ask in (
                lambda: client.get_manifest("team/app", "1"),
                lambda: read(client),
                lambda: client.tags("team/app"),
            ):
                with pytest.raises(error) as caught:
                    ask()
                assert caught.value.status == seen

    def test_changes_are_refused(self, origin: RegistryServer, tmp_path: Path) -> None:
        with cache(tmp_path / "cache", origin.host) as client:
            changes: list[Callable[[], object]] = [
                lambda: client.put_manifest(
                    "team/app", "2", MANIFEST.encode(), MANIFEST.media_type
                ),
                lambda: client.delete_manifest("team/app", "1"),
                lambda: client.push_blob("team/b", BLOB, lambda: io.BytesIO(DATA)),
            ]
            for change in changes:
                with pytest.raises(RegistryError, match="cache of another") as caught:
                    change()
                assert caught.value.status == 405

    def test_ends_in_the_middle_of_a_blob(self, origin: RegistryServer, tmp_path: Path) -> None:
        held = threading.Event()

        def linger(asked: Asked) -> Reply | None:
            if asked.method != "GET" or "/blobs/" not in asked.target:
                return None
            return Reply(body=DATA[: 1 << 20], length=len(DATA), linger=held)

        with Front(origin.host, before=linger) as front:
            upstream = Upstream(host=front.host, timeout=1)
            server = serve(tmp_path / "cache", options=ServerOptions(upstream=upstream))
            with Client(server.host) as client, client.open_blob("team/app", BLOB) as stream:
                assert stream.read(1000)
                begun = time.monotonic()
                server.close()
                assert time.monotonic() - begun < 8
            held.set()
        with cache(tmp_path / "cache", origin.host) as client:
            assert read(client) == DATA


class TestCredentials:
    def test_those_of_clients_and_of_the_cache_are_kept_apart(
        self, origin: RegistryServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        secret = basic("proxy", "upstream secret")

        def guard(asked: Asked) -> Reply | None:
            if asked.header("authorization") == secret:
                return None
            return Reply(401, {"WWW-Authenticate": 'Basic realm="upstream"'})

        with Front(origin.host, before=guard) as front:
            upstream = Upstream(
                host=front.host, credentials=Credentials("proxy", "upstream secret")
            )
            options = ServerOptions(upstream=upstream, users=USERS)
            assert "secret" not in repr(options)
            with serve(tmp_path / "cache", options=options) as server:
                with Client(server.host, credentials=Credentials("ann", "sesame")) as client:
                    assert client.get_manifest("team/app", "1").digest == MANIFEST.digest
                    assert read(client) == DATA
                connection = http.client.HTTPConnection(server.host, timeout=20)
                connection.request("GET", "/v2/team/app/manifests/1")
                answer = connection.getresponse()
                text = str(answer.headers) + answer.read().decode()
                assert answer.status == 401
                assert "upstream" not in text
                assert answer.headers["WWW-Authenticate"] == 'Basic realm="pycontainer"'
                connection.close()
            sent = {asked.header("authorization") for asked in front.asked}
            assert sent <= {"", secret}
            encoded = base64.b64encode(b"ann:sesame").decode()
            assert all(encoded not in str(asked.headers) for asked in front.asked)
        assert "upstream secret" not in caplog.text

    def test_nobody_is_asked_for_by_default(self, origin: RegistryServer, tmp_path: Path) -> None:
        def guard(asked: Asked) -> Reply | None:
            return Reply(401, {"WWW-Authenticate": 'Basic realm="upstream"'})

        with (
            Front(origin.host, before=guard) as front,
            cache(tmp_path / "cache", front.host) as client,
        ):
            with pytest.raises(Unauthorized):
                client.get_manifest("team/app", "1")
            assert all(not asked.header("authorization") for asked in front.asked)


def test_a_store_is_no_cache(store: Store) -> None:
    with pytest.raises(RegistryError, match="cache"):
        Registry.serve(store, options=ServerOptions(upstream=Upstream(host="registry.example")))
