"""What breaks on the way: each ends in success or in an error that says it, never in a wrong byte."""

from __future__ import annotations

import contextlib
import io
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import evolve

from fronts import Asked, Front, Guard, Reply, TokenServer, forward
from pycontainer.content import Store
from pycontainer.errors import (
    ContentError,
    DigestMismatch,
    RegistryError,
    RegistryTimeout,
    RegistryUnavailable,
    SizeMismatch,
)
from pycontainer.images import Event, Image, LayerProgress, Registry, create
from pycontainer.oci import Compression, Descriptor, Digest, ImageConfig
from pycontainer.registry import Client, Deadline, RegistryServer, serve
from pycontainer.registry._retry import Retry
from stacks import packed, pair

CONFIG = ImageConfig(os="linux", architecture="amd64")
DATA = random.Random(6).randbytes(700_000)
BLOB = Descriptor("application/x", Digest.of(DATA), len(DATA))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has configured credentials, and pauses are short."""
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
    again = Retry.again

    def quick(self: Retry, attempt: int, failed: object, *, repeatable: bool) -> bool:
        return again(evolve(self, first=0.001), attempt, failed, repeatable=repeatable)  # type: ignore[arg-type]

    monkeypatch.setattr(Retry, "again", quick)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with serve(tmp_path / "served") as server:
        yield server


@pytest.fixture
def image(store: Store, server: RegistryServer) -> Image:
    """An image of three layers of about a megabyte, which is in the registry as app:1."""
    source = random.Random(5)
    layers = [
        packed(store, {f"f{i}": source.randbytes(1 << 20)}, Compression.ZSTD) for i in range(3)
    ]
    image = create(store, [pair(layer) for layer in layers], CONFIG, tag="app:1")
    image.push(f"{server.host}/app:1")
    return image


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other") as store:
        yield store


def is_layer(asked: Asked, image: Image) -> bool:
    digests = {str(layer.digest) for layer in image.layers}
    return asked.method == "GET" and asked.path.rpartition("/")[2] in digests


class Cuts:
    """Cuts answers that have layers, at random places; so many times in all."""

    def __init__(self, image: Image, times: int, seed: int = 1) -> None:
        self.left = times
        self._image = image
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, asked: Asked, reply: Reply) -> Reply:
        with self._lock:
            if not self.left or not is_layer(asked, self._image) or not reply.body:
                return reply
            self.left -= 1
            return evolve(reply, cut=self._random.randrange(len(reply.body)))


# --- pulls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_pull_that_is_cut_ten_times_fetches_each_byte_once(
    image: Image, server: RegistryServer, other: Store, seed: int
) -> None:
    cuts = Cuts(image, 10, seed)
    with Front(server.host, after=cuts) as front:
        pulled = Image.pull(f"{front.host}/app:1", store=other)
        assert pulled == image
        assert cuts.left == 0
        assert front.sent <= 1.05 * image.size
    for layer in image.layers:
        other.blobs.read_bytes(layer)


def test_a_later_program_goes_on_where_an_earlier_one_was_killed(
    image: Image, server: RegistryServer, tmp_path: Path
) -> None:
    killed = threading.Event()

    def slow(asked: Asked, reply: Reply) -> Reply:
        return reply if killed.is_set() else evolve(reply, pause=0.2 * is_layer(asked, image))

    home = tmp_path / "other"

    def kept() -> int:
        return sum(path.stat().st_size for path in (home / "blobs").glob("*/.*.partial"))

    with Front(server.host, after=slow) as front:
        program = f"import pycontainer as pc; pc.Image.pull('{front.host}/app:1', timeout=60)"
        child = subprocess.Popen(
            [sys.executable, "-c", program], env=os.environ | {"PYCONTAINER_HOME": str(home)}
        )
        try:
            while kept() < image.size // 4:
                assert child.poll() is None
                time.sleep(0.01)
        finally:
            child.kill()
            child.wait()
        killed.set()
        had = kept()
        with Store.open(home) as other:
            asked = len(front.asked)
            assert Image.pull(f"{front.host}/app:1", store=other) == image
            ranges = [a.header("range") for a in front.asked[asked:] if is_layer(a, image)]
            assert sum(int(r.removeprefix("bytes=").rstrip("-") or 0) for r in ranges) == had
            other.collect()
            assert kept() == 0


def test_what_was_kept_and_is_damaged_is_fetched_anew(
    image: Image, server: RegistryServer, other: Store
) -> None:
    damaged = [b"x" * 1000, bytes(image.layers[1].size), bytes(image.layers[2].size + 1)]
    for layer, junk in zip(image.layers, damaged, strict=True):
        path = other.blobs.path(layer.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.partial").write_bytes(junk)
    assert Image.pull(f"{server.host}/app:1", store=other) == image
    for layer in image.layers:
        other.blobs.read_bytes(layer)


def test_programs_that_want_the_same_image_fetch_it_once(
    image: Image, server: RegistryServer, tmp_path: Path
) -> None:
    with Front(server.host, after=lambda asked, reply: evolve(reply, pause=0.002)) as front:
        program = f"import pycontainer as pc; pc.Image.pull('{front.host}/app:1', timeout=60)"
        env = os.environ | {"PYCONTAINER_HOME": str(tmp_path / "both")}
        children = [subprocess.Popen([sys.executable, "-c", program], env=env) for _ in range(2)]
        assert [child.wait(60) for child in children] == [0, 0]
        fetched = [asked.path for asked in front.asked if is_layer(asked, image)]
    assert len(fetched) == len(set(fetched)) == 3


@pytest.mark.parametrize("times", [1, 3])
def test_a_server_that_ignores_ranges(
    image: Image, server: RegistryServer, other: Store, times: int
) -> None:
    cuts = Cuts(image, times)

    def whole(asked: Asked) -> Reply | None:
        if asked.header("range"):
            headers = {k: v for k, v in asked.headers.items() if k != "range"}
            return cuts(asked, forward(server.host, evolve(asked, headers=headers)))
        return None

    with Front(server.host, before=whole, after=cuts) as front:
        assert Image.pull(f"{front.host}/app:1", store=other) == image
    assert cuts.left == 0


@pytest.mark.parametrize("header", ["bytes 0-99/100", "bytes 17-99/100", "nonsense", ""])
def test_a_server_that_sends_another_range(
    image: Image, server: RegistryServer, other: Store, header: str
) -> None:
    cuts = Cuts(image, 1)

    def lie(asked: Asked, reply: Reply) -> Reply:
        if asked.header("range"):
            return evolve(reply, headers={**reply.headers, "Content-Range": header})
        return cuts(asked, reply)

    with (
        Front(server.host, after=lie) as front,
        pytest.raises(RegistryError, match="asked for the bytes from"),
    ):
        Image.pull(f"{front.host}/app:1", store=other)
    assert Image.list(store=other) == ()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda r: evolve(r, body=r.body[:-9]), SizeMismatch),
        (lambda r: evolve(r, body=r.body[:-9], length=-1), (ContentError, RegistryError)),
        (lambda r: evolve(r, body=r.body + b"more"), SizeMismatch),
        (lambda r: evolve(r, body=r.body[:-1] + b"\0"), (DigestMismatch, ContentError)),
        (lambda r: evolve(r, cut=10), RegistryUnavailable),
        (lambda r: Reply(416), RegistryError),
        (lambda r: Reply(404), RegistryError),
        (lambda r: Reply(500), RegistryError),
    ],
)
def test_wrong_bodies(
    image: Image,
    server: RegistryServer,
    other: Store,
    change: Callable[[Reply], Reply],
    error: type[Exception] | tuple[type[Exception], ...],
) -> None:
    def damage(asked: Asked, reply: Reply) -> Reply:
        return change(reply) if is_layer(asked, image) else reply

    with Front(server.host, after=damage) as front:
        with pytest.raises(error):
            Image.pull(f"{front.host}/app:1", store=other)
        assert Image.list(store=other) == ()
    # Whatever was kept, the right bytes are found afterwards.
    assert Image.pull(f"{server.host}/app:1", store=other) == image


@pytest.mark.parametrize("status", [429, 503])
def test_busy_servers_are_left_alone_for_as_long_as_they_ask(
    image: Image, server: RegistryServer, other: Store, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(Deadline, "sleep", lambda self, seconds: pauses.append(seconds))
    busy = [Reply(status, {"Retry-After": "7"})] * 3

    def before(asked: Asked) -> Reply | None:
        return busy.pop() if busy and is_layer(asked, image) else None

    with Front(server.host, before=before) as front:
        assert Image.pull(f"{front.host}/app:1", store=other) == image
    assert pauses == [7.0] * 3


def test_a_trickle_ends_with_the_time_for_the_whole(
    image: Image, server: RegistryServer, other: Store
) -> None:
    def trickle(asked: Asked, reply: Reply) -> Reply:
        return evolve(reply, pause=0.1) if is_layer(asked, image) else reply

    with Front(server.host, after=trickle) as front:
        begun = time.monotonic()
        with pytest.raises(RegistryTimeout, match=r"longer than 0\.4 s"):
            Image.pull(f"{front.host}/app:1", store=other, within=0.4)
        assert time.monotonic() - begun < 5
        before = front.sent
    assert Image.pull(f"{server.host}/app:1", store=other) == image
    assert before < image.size


def test_a_callback_cancels_at_once_and_nothing_is_lost(
    image: Image, server: RegistryServer, other: Store
) -> None:
    def trickle(asked: Asked, reply: Reply) -> Reply:
        return evolve(reply, pause=0.02) if is_layer(asked, image) else reply

    class Enough(Exception):
        pass

    def progress(event: Event) -> None:
        if isinstance(event, LayerProgress) and event.done:
            raise Enough

    with Front(server.host, after=trickle) as front:
        with pytest.raises(Enough):
            Image.pull(f"{front.host}/app:1", store=other, progress=progress)
        assert Image.list(store=other) == ()
        assert Image.pull(f"{front.host}/app:1", store=other) == image
        assert front.sent <= 1.3 * image.size


def test_a_token_that_expires_while_layers_come(
    image: Image, server: RegistryServer, other: Store
) -> None:
    cuts = Cuts(image, 4)
    with TokenServer() as tokens:

        def expire(asked: Asked, reply: Reply) -> Reply:
            left = cuts.left
            reply = cuts(asked, reply)
            # Twice in all: more often no request is sent anew.
            if cuts.left != left and cuts.left % 2 == 0:
                tokens.given.clear()
            return reply

        with Front(server.host, before=Guard(tokens), after=expire) as front:
            assert Image.pull(f"{front.host}/app:1", store=other) == image


def test_cuts_of_a_host_that_it_is_redirected_to(
    image: Image, server: RegistryServer, other: Store
) -> None:
    cuts = Cuts(image, 6)
    with Front(server.host, after=cuts) as storage:

        def elsewhere(asked: Asked) -> Reply | None:
            if is_layer(asked, image):
                return Reply(307, {"Location": f"http://{storage.host}{asked.target}?sig=1"})
            return None

        with Front(server.host, before=elsewhere) as front:
            assert Image.pull(f"{front.host}/app:1", store=other) == image
            assert storage.sent <= 1.05 * image.size


# --- pushes ----------------------------------------------------------------------------------


def push(client: Client, sent: list[int] | None = None, chunk: int | None = None) -> None:
    progress = None if sent is None else sent.append
    client.push_blob("a", BLOB, lambda: io.BytesIO(DATA), progress=progress, chunk=chunk)


def check(server: RegistryServer) -> None:
    with Client(server.host) as client, client.open_blob("a", BLOB) as stream:
        assert stream.read() == DATA


class HalfTaken:
    """Lets only a part of a blob's bytes through to the registry, so many times."""

    def __init__(self, server: RegistryServer, times: int, part: float = 0.5) -> None:
        self.left = times
        self.host = server.host
        self.part = part
        self.arrived = 0

    def __call__(self, asked: Asked) -> Reply | None:
        if (
            asked.method not in {"PUT", "PATCH"}
            or len(asked.body) < 2
            or "uploads" not in asked.path
        ):
            return None
        if not self.left:
            self.arrived += len(asked.body)
            return None
        self.left -= 1
        part = asked.body[: int(len(asked.body) * self.part)]
        self.arrived += len(part)
        start = int(asked.header("content-range").partition("-")[0] or 0)
        headers = {
            **asked.headers,
            "content-length": str(len(part)),
            "content-range": f"{start}-{start + len(part) - 1}",
        }
        target = asked.target.partition("?")[0]
        forward(self.host, Asked("PATCH", target, headers, part))
        return Reply(hang_up=True)


def test_an_upload_goes_on_where_the_registry_says(server: RegistryServer) -> None:
    half = HalfTaken(server, 5)
    sent: list[int] = []
    with Front(server.host, before=half) as front, Client(front.host) as client:
        push(client, sent)
    assert half.left == 0
    assert half.arrived == len(DATA)
    assert sum(sent) == len(DATA)
    check(server)


@pytest.mark.parametrize("chunk", [100_000, 350_000, 1 << 20])
def test_an_upload_in_chunks(server: RegistryServer, chunk: int) -> None:
    half = HalfTaken(server, 2)
    with Front(server.host, before=half) as front, Client(front.host) as client:
        push(client, chunk=chunk)
        assert max(len(a.body) for a in front.requests("PATCH")) <= chunk
    check(server)


def test_requests_that_are_too_large(
    server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycontainer.registry._upload._SMALLER", 300_000)

    def small(asked: Asked) -> Reply | None:
        return Reply(413) if len(asked.body) > 300_000 else None

    with Front(server.host, before=small) as front, Client(front.host) as client:
        push(client)
    check(server)


def test_an_answer_that_is_lost(server: RegistryServer) -> None:
    lost = ["PUT"]

    def lose(asked: Asked, reply: Reply) -> Reply:
        if asked.method in lost:
            lost.remove(asked.method)
            return Reply(hang_up=True)
        return reply

    with Front(server.host, after=lose) as front, Client(front.host) as client:
        push(client)
        assert len(front.requests("PUT")) == 1
    check(server)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_registries(server: RegistryServer, status: int) -> None:
    busy = [Reply(status, {"Retry-After": "0"})] * 2

    def before(asked: Asked) -> Reply | None:
        return busy.pop() if busy and asked.method == "PUT" else None

    with Front(server.host, before=before) as front, Client(front.host) as client:
        push(client)
    check(server)


@pytest.mark.parametrize(
    "claim",
    ["0-9999999999", "0-349998", "0-350010", f"0-{len(DATA) - 1}", "", "junk"],
)
def test_a_registry_that_lies_about_offsets(server: RegistryServer, claim: str) -> None:
    half = HalfTaken(server, 1)

    def lie(asked: Asked, reply: Reply) -> Reply:
        if asked.method == "GET" and "uploads" in asked.path:
            headers = {k: v for k, v in reply.headers.items() if k.lower() != "range"}
            return evolve(reply, headers={**headers, "Range": claim} if claim else headers)
        return reply

    with Front(server.host, before=half, after=lie) as front, Client(front.host) as client:
        push(client)
    check(server)


def test_an_upload_that_is_forgotten(server: RegistryServer) -> None:
    gone = [True]

    def forget(asked: Asked) -> Reply | None:
        if asked.method == "PUT" and gone:
            gone.pop()
            return Reply(404, body=b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}')
        return None

    with Front(server.host, before=forget) as front, Client(front.host) as client:
        push(client)
    check(server)


def test_a_registry_that_always_breaks(server: RegistryServer) -> None:
    def break_down(asked: Asked) -> Reply | None:
        return Reply(hang_up=True) if asked.method == "PUT" else None

    with Front(server.host, before=break_down) as front, Client(front.host) as client:
        with pytest.raises(RegistryUnavailable, match=str(BLOB.digest)):
            push(client)
        assert len(front.requests("PUT")) <= 5
        assert not client.blob_exists("a", BLOB.digest)


def test_a_push_has_an_end(image: Image, server: RegistryServer) -> None:
    def silent(asked: Asked) -> Reply | None:
        if asked.method == "PUT":
            time.sleep(0.5)
        return None

    with (
        Front(server.host, before=silent) as front,
        Registry(front.host) as registry,
        contextlib.suppress(RegistryTimeout),
    ):
        registry.push(image, "new:1", within=0.2)
        pytest.fail("it took longer than it may")


# --- streams ---------------------------------------------------------------------------------


class Pipe:
    """What can be read once, in odd pieces; nobody knows its size."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, n: int, /) -> bytes:
        return self._file.read(min(n, 37_000))


def push_stream(client: Client, chunk: int = 100_000) -> None:
    sent: list[int] = []
    assert (
        client.push_stream("a", Pipe(DATA), BLOB.media_type, chunk=chunk, progress=sent.append)
        == BLOB
    )
    assert sum(sent) == len(DATA)


@pytest.mark.parametrize("chunk", [33_333, 100_000, 700_000, 1 << 20])
def test_a_stream_goes_in_chunks(server: RegistryServer, chunk: int) -> None:
    with Front(server.host) as front, Client(front.host) as client:
        push_stream(client, chunk)
        assert [len(a.body) for a in front.requests("PATCH")] == [
            min(chunk, len(DATA) - start) for start in range(0, len(DATA), chunk)
        ]
        assert [len(a.body) for a in front.requests("PUT")] == [0]
    check(server)


def test_a_stream_of_nothing(server: RegistryServer) -> None:
    with Client(server.host) as client:
        nothing = client.push_stream("a", io.BytesIO())
        assert (nothing.size, nothing.digest) == (0, Digest.of(b""))
        assert client.blob_exists("a", nothing.digest)
        with pytest.raises(ValueError, match="chunks of 0"):
            client.push_stream("a", io.BytesIO(), chunk=0)


@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
def test_a_stream_goes_on_where_the_registry_says(server: RegistryServer, part: float) -> None:
    half = HalfTaken(server, 3, part)
    with Front(server.host, before=half) as front, Client(front.host) as client:
        push_stream(client)
    assert half.left == 0
    assert half.arrived == len(DATA)
    check(server)


def test_a_stream_whose_last_answers_are_lost(server: RegistryServer) -> None:
    lost = ["PUT", "PATCH"]

    def lose(asked: Asked, reply: Reply) -> Reply:
        if asked.method in lost:
            lost.remove(asked.method)
            return Reply(hang_up=True)
        return reply

    with Front(server.host, after=lose) as front, Client(front.host) as client:
        push_stream(client)
        assert len(front.requests("PUT")) == 1
    assert not lost
    check(server)


def test_a_stream_whose_end_does_not_get_through(server: RegistryServer) -> None:
    broken = [Reply(hang_up=True), Reply(503, {"Retry-After": "0"})]

    def before(asked: Asked) -> Reply | None:
        return broken.pop() if broken and asked.method == "PUT" else None

    with Front(server.host, before=before) as front, Client(front.host) as client:
        push_stream(client)
    check(server)


def test_a_stream_to_who_wants_smaller_requests(
    server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycontainer.registry._stream_upload._SMALLEST", 30_000)

    def small(asked: Asked) -> Reply | None:
        return Reply(413) if len(asked.body) > 40_000 else None

    with Front(server.host, before=small) as front, Client(front.host) as client:
        push_stream(client, 400_000)
    check(server)


def test_a_stream_to_who_wants_larger_requests(server: RegistryServer) -> None:
    def ask_for_more(asked: Asked, reply: Reply) -> Reply:
        if asked.method == "POST":
            return evolve(reply, headers={**reply.headers, "OCI-Chunk-Min-Length": "250000"})
        return reply

    with Front(server.host, after=ask_for_more) as front, Client(front.host) as client:
        push_stream(client)
        assert [len(a.body) for a in front.requests("PATCH")] == [250_000, 250_000, 200_000]
    check(server)


@pytest.mark.parametrize("claim", ["0-99999", "0-99998", "0-9999999", "0-120000", "", None])
def test_a_registry_that_lies_about_a_stream(server: RegistryServer, claim: str | None) -> None:
    """The third chunk is lost. What has been read cannot be read again: that must be an error."""
    half = HalfTaken(server, 1, 0.5)

    def before(asked: Asked) -> Reply | None:
        return half(asked) if asked.header("content-range").startswith("200000-") else None

    def lie(asked: Asked, reply: Reply) -> Reply:
        if asked.method == "GET" and "uploads" in asked.path:
            if claim is None:
                return Reply(404, body=b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}')
            headers = {k: v for k, v in reply.headers.items() if k.lower() != "range"}
            return evolve(reply, headers={**headers, "Range": claim} if claim else headers)
        return reply

    with (
        Front(server.host, before=before, after=lie) as front,
        Client(front.host) as client,
        pytest.raises(RegistryError, match="cannot be read again"),
    ):
        push_stream(client)
    assert half.left == 0


def test_a_registry_that_lies_a_little_about_a_stream(server: RegistryServer) -> None:
    half = HalfTaken(server, 1, 0.5)

    def lie(asked: Asked, reply: Reply) -> Reply:
        if asked.method == "GET" and "uploads" in asked.path:
            return evolve(reply, headers={**reply.headers, "Range": "0-49000"})
        return reply

    with Front(server.host, before=half, after=lie) as front, Client(front.host) as client:
        with pytest.raises(RegistryError):
            push_stream(client)
        assert not client.blob_exists("a", BLOB.digest)


def test_a_stream_to_a_registry_that_always_breaks(server: RegistryServer) -> None:
    def break_down(asked: Asked) -> Reply | None:
        return Reply(hang_up=True) if asked.method == "PATCH" else None

    with Front(server.host, before=break_down) as front, Client(front.host) as client:
        with pytest.raises(RegistryUnavailable, match="bytes from 0 on"):
            push_stream(client)
        assert len(front.requests("PATCH")) <= 5


def test_a_token_that_expires_while_a_stream_goes(server: RegistryServer) -> None:
    with TokenServer() as tokens:

        def expire(asked: Asked, reply: Reply) -> Reply:
            if asked.method == "PATCH":
                tokens.given.clear()
            return reply

        with (
            Front(server.host, before=Guard(tokens), after=expire) as front,
            Client(front.host) as client,
        ):
            push_stream(client)
    check(server)
