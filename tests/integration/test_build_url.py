"""ADD of URLs: what is fetched, and what need not be fetched again."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from built_images import contents_of
from pycontainer.build import BuildCache, Builder, VertexCached
from pycontainer.build._url_cache import Validators
from pycontainer.content import Store
from pycontainer.errors import BuildError
from pycontainer.images import Image

LONG_AGO = formatdate(1_000_000_000, usegmt=True)


class Website:
    """One file behind every path, its validators, and the status of each answer."""

    def __init__(self) -> None:
        self.content = b"one"
        self.etag = ""
        self.modified = ""
        self.obeys = True
        self.answers: list[int] = []
        self.url = ""
        self.authorization: str | None = None

    def answer(self, headers: Any) -> int:
        """What a request with these headers gets."""
        if not self.obeys:
            return HTTPStatus.OK
        if "If-None-Match" in headers:
            same = headers["If-None-Match"] == self.etag
        else:
            same = bool(self.modified) and headers["If-Modified-Since"] == self.modified
        return HTTPStatus.NOT_MODIFIED if same else HTTPStatus.OK


@pytest.fixture
def website() -> Iterator[Website]:
    site = Website()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = site.answer(self.headers)
            site.authorization = self.headers["Authorization"]
            site.answers.append(status)
            self.send_response(status)
            if site.etag:
                self.send_header("ETag", site.etag)
            if site.modified:
                self.send_header("Last-Modified", site.modified)
            content = site.content if status == HTTPStatus.OK else b""
            if status == HTTPStatus.OK:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}/file"
        yield site
        server.shutdown()
        thread.join()


class Bench:
    """Builds an image with the file, and knows which steps the cache spared."""

    def __init__(self, store: Store, url: str) -> None:
        self.store = store
        self.url = url
        self.cached: list[str] = []

    def build(self, *, checksum: str = "", store: Store | None = None) -> Image:
        self.cached = []
        builder = Builder.scratch().add(self.url, "/f", checksum=checksum)
        return builder.build(store=store or self.store, progress=self._note)

    def content(self, **options: Any) -> bytes:
        return contents_of(self.build(**options))["f"]

    def _note(self, event: object) -> None:
        if isinstance(event, VertexCached):
            self.cached.append(event.title)


@pytest.fixture
def bench(store: Store, website: Website) -> Bench:
    return Bench(store, website.url)


@pytest.mark.parametrize(("etag", "modified"), [('"v1"', ""), ('W/"v1"', LONG_AGO), ("", LONG_AGO)])
def test_an_unchanged_file_is_not_fetched_again(
    bench: Bench, website: Website, etag: str, modified: str
) -> None:
    website.etag, website.modified = etag, modified
    first = bench.build()
    assert bench.cached == []
    again = bench.build()
    assert website.answers == [200, 304]
    assert bench.cached == [f"ADD --chmod=600 {website.url} /f"]
    assert again.digest == first.digest


def test_a_changed_file_is_fetched(bench: Bench, website: Website) -> None:
    website.etag = '"v1"'
    assert bench.content() == b"one"
    website.etag, website.content = '"v2"', b"two"
    assert bench.content() == b"two"
    assert bench.content() == b"two"
    assert website.answers == [200, 200, 304]


def test_a_server_that_ignores_conditions_is_not_listened_to_for_long(
    bench: Bench, website: Website
) -> None:
    website.etag, website.obeys = '"v1"', False
    first = bench.build()
    website.content = b"a body that nobody reads: the name is that of the first"
    assert bench.build().digest == first.digest
    assert website.answers == [200, 200]


@pytest.mark.parametrize("modified", ["", "now", "no date"])
def test_a_file_without_sound_validators_is_fetched_each_time(
    bench: Bench, website: Website, modified: str
) -> None:
    website.modified = formatdate(usegmt=True) if modified == "now" else modified
    assert bench.content() == b"one"
    website.content = b"two"
    assert bench.content() == b"two"
    website.content = b"one"
    assert bench.content() == b"one"
    assert website.answers == [200, 200, 200]
    assert bench.cached, "what was copied is known all the same"


def test_a_file_with_a_checksum_is_not_asked_for_again(bench: Bench, website: Website) -> None:
    checksum = f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    assert bench.content(checksum=checksum) == b"one"
    website.content = b"two"
    assert bench.content(checksum=checksum) == b"one"
    assert website.answers == [200]
    with pytest.raises(BuildError, match=hashlib.sha256(b"two").hexdigest()):
        bench.build(checksum=f"sha256:{'0' * 64}")


def test_what_was_pruned_is_fetched_again(bench: Bench, website: Website) -> None:
    website.etag = '"v1"'
    bench.build()
    assert {entry.title for entry in BuildCache(bench.store).entries()} == {
        "ADD file",
        f"ADD --chmod=600 {website.url} /f",
    }
    BuildCache(bench.store).prune()
    bench.store.collect()
    assert bench.content() == b"one"
    assert website.answers == [200, 200]


def test_other_stores_come_to_the_same_image(
    bench: Bench, website: Website, tmp_path: Path
) -> None:
    first = bench.build()
    with Store.open(tmp_path / "other") as store:
        assert bench.build(store=store).digest == first.digest
    assert website.answers == [200, 200]


def test_a_provenance_names_the_file(bench: Bench, website: Website) -> None:
    website.etag = '"v1"'
    url = bench.url.replace("//", "//user:password@")
    for _ in range(2):  # fetched, and from the cache
        builder = Builder.scratch().add(url, "/f")
        index = builder.build_index(store=bench.store, provenance=True)
        (statement,) = (
            json.loads(index.store.blobs.read_bytes(layer))
            for manifest in index.attestations(index.image())
            for layer in manifest.layers
        )
        definition = statement["predicate"]["buildDefinition"]
        digest = {"sha256": hashlib.sha256(b"one").hexdigest()}
        assert definition["resolvedDependencies"] == [{"uri": bench.url, "digest": digest}]
    assert website.answers == [200, 304]


def test_user_and_password_are_for_the_server_alone(bench: Bench, website: Website) -> None:
    bench.build()
    assert website.authorization is None
    url = bench.url.replace("//", "//me:pass%20word@")
    assert contents_of(Builder.scratch().add(url, "/f").build(store=bench.store))["f"] == b"one"
    assert website.authorization == "Basic " + base64.b64encode(b"me:pass word").decode()
    with pytest.raises(BuildError) as caught:
        Builder.scratch().add(url, "/f", checksum=f"sha256:{'0' * 64}").build(store=bench.store)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "validators"),
    [
        ({}, Validators()),
        ({"ETag": '"a"'}, Validators('"a"')),
        ({"Last-Modified": LONG_AGO}, Validators()),  # without the server's own clock
        (
            {"Last-Modified": LONG_AGO, "Date": formatdate(1_000_000_002, usegmt=True)},
            Validators("", LONG_AGO),
        ),
        (
            {"Last-Modified": LONG_AGO, "Date": formatdate(1_000_000_001, usegmt=True)},
            Validators(),
        ),
        ({"Last-Modified": "yesterday", "Date": LONG_AGO}, Validators()),
    ],
)
def test_validators(headers: dict[str, str], validators: Validators) -> None:
    assert Validators.of(headers) == validators
