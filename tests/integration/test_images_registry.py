"""Images between stores and registries over loopback: parallel, verified, nothing half-made."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from archives import archive, file
from pycontainer.content import Store
from pycontainer.errors import (
    DigestMismatch,
    Error,
    ImageError,
    ManifestNotFound,
    PlatformNotFound,
    RegistryError,
    SizeMismatch,
    UnsafePath,
)
from pycontainer.images import (
    Event,
    Image,
    LayerDone,
    LayerProgress,
    LayerStarted,
    Registry,
    TransferDone,
    TransferStarted,
    create,
)
from pycontainer.oci import (
    Descriptor,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    media_types,
)
from pycontainer.registry import Client
from pycontainer.snapshots import has_layer
from stacks import packed, pair

AMD64 = ImageConfig(os="linux", architecture="amd64")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.serve(tmp_path / "registry") as server, Registry(server.host) as registry:
        yield registry


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other") as store:
        yield store


@pytest.fixture
def image(store: Store) -> Image:
    layers = [packed(store, {f"f{i}": bytes([i]) * 50_000, "d": {f"g{i}": b""}}) for i in range(5)]
    return create(store, [pair(layer) for layer in layers], AMD64, tag="app:1")


# --- there and back --------------------------------------------------------------------------


def test_an_image_goes_to_a_registry_and_into_another_store(
    image: Image, registry: Registry, other: Store
) -> None:
    pushed = registry.push(image, "team/app:1")
    assert str(pushed) == f"{registry.host}/team/app:1@{image.digest}"
    assert registry.tags("team/app") == ["1"]
    pulled = registry.pull("team/app:1", store=other)
    assert pulled == image
    assert str(pulled.reference) == f"{registry.host}/team/app:1"
    assert all(has_layer(other, diff_id) for diff_id in image.diff_ids)
    assert other.collect().removed == ()
    assert Image.get(f"{registry.host}/team/app:1", store=other) == image


def test_names_with_and_without_the_host(image: Image, registry: Registry, other: Store) -> None:
    full = f"{registry.host}/team/app:2"
    assert image.push(full).tag == "2"
    assert image.tag(full).push().tag == "2"
    for pulled in (
        registry.pull(full, store=other),
        registry.pull(f"team/app@{image.digest}", store=other),
        Image.pull(full, store=other),
    ):
        assert pulled.digest == image.digest
    assert len(Image.list(store=other)) == 2
    assert registry.tags(f"{registry.host}/team/app") == ["2"]
    with pytest.raises(ImageError, match="no name"):
        Image.get(image.id, store=image.store).push()


def test_a_scheme_may_stand_before_the_host(image: Image, registry: Registry) -> None:
    with Registry(f"http://{registry.host}") as same:
        assert same.host == registry.host
        assert same.push(image, "team/app:1").registry == registry.host
        assert same.tags("team/app") == ["1"]


def test_progress_of_both_ways(image: Image, registry: Registry, other: Store) -> None:
    events: list[Event] = []
    registry.push(image, "app:1", progress=events.append)
    _check_events(events, image, reused=False)
    events.clear()
    registry.push(image, "app:1", progress=events.append)
    assert [e.reused for e in events if isinstance(e, LayerDone)] == [True] * 5
    events.clear()
    registry.pull("app:1", store=other, progress=events.append)
    _check_events(events, image, reused=False)
    _check_stages(events, image)
    events.clear()
    registry.pull("app:1", store=other, progress=events.append)
    assert all(e.bound is None for e in events if isinstance(e, LayerDone))
    assert [e.reused for e in events if isinstance(e, LayerDone)] == [True] * 5


def _check_events(events: list[Event], image: Image, *, reused: bool) -> None:
    assert isinstance(events[0], TransferStarted)
    assert events[0].layers == image.layers
    assert isinstance(events[-1], TransferDone)
    for layer in image.layers:
        own = [e for e in events if isinstance(e, LayerStarted | LayerProgress | LayerDone)]
        own = [e for e in own if e.layer == layer]
        assert own[0] == LayerStarted(layer)
        last = own[-1]
        assert isinstance(last, LayerDone)
        assert last.reused is reused
        moved = [e.done for e in own if isinstance(e, LayerProgress)]
        assert moved == sorted(moved)
        assert moved[-1] == layer.size


def _check_stages(events: list[Event], image: Image) -> None:
    costs = {event.layer: event for event in events if isinstance(event, LayerDone)}
    for layer in image.layers:
        done = costs[layer]
        names = [stage.name for stage in done.stages]
        assert names == ["receive", "digest", "decompress", "diff_id", "write"]
        assert done.stages[0].bytes == layer.size
        assert done.bound in done.stages
        assert done.seconds > 0


def test_only_what_is_missing_moves(image: Image, registry: Registry, other: Store) -> None:
    registry.push(image, "app:1")
    registry.pull("app:1", store=other)
    more = create(
        image.store,
        [*zip(image.layers, image.diff_ids, strict=True), pair(packed(image.store, {"new": b""}))],
        image.config,
    )
    events: list[Event] = []
    registry.push(more, "app:2", progress=events.append)
    registry.pull("app:2", store=other, progress=events.append)
    assert [e.reused for e in events if isinstance(e, LayerDone)].count(False) == 2


def test_a_blob_alone_is_fetched_where_the_layer_is_there(
    image: Image, registry: Registry, other: Store
) -> None:
    registry.push(image, "app:1")
    registry.pull("app:1", store=other)
    other.blobs.delete(image.layers[0].digest)
    registry.pull("app:1", store=other)
    assert other.blobs.read_bytes(image.layers[0])


def test_many_pulls_of_one_image_at_once(image: Image, registry: Registry, other: Store) -> None:
    registry.push(image, "app:1")
    failures: list[BaseException] = []

    def pull() -> None:
        try:
            assert registry.pull("app:1", store=other) == image
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=pull) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not list((other.path / "tmp").iterdir())


def test_missing_is_asked_for_only_if_it_is(image: Image, registry: Registry, other: Store) -> None:
    name = f"{registry.host}/app:1"
    image.push(name)
    assert Image.pull(name, policy="missing", store=other) == image
    with Client(registry.host) as client:
        changed = image.manifest.evolve(annotations={"changed": "yes"})
        client.put_manifest("app", "1", changed.encode(), changed.media_type)
    assert Image.pull(name, policy="missing", store=other) == image
    assert Image.pull(name, store=other).digest == changed.digest
    with pytest.raises(PlatformNotFound):
        Image.pull(name, policy="missing", platform="linux/arm64", store=other)


# --- indexes ---------------------------------------------------------------------------------


def test_the_platform_is_chosen_through_the_index(
    image: Image, registry: Registry, other: Store
) -> None:
    arm = create(
        image.store,
        [pair(packed(image.store, {"arm": b""}))],
        ImageConfig(os="linux", architecture="arm64"),
    )
    with Client(registry.host) as client:
        entries = []
        for each in (arm, image):
            registry.push(each, f"multi:{each.platform.architecture}")
            entries.append(
                Descriptor(
                    each.descriptor.media_type,
                    each.digest,
                    each.descriptor.size,
                    platform=each.platform,
                )
            )
        index = Index(manifests=tuple(entries))
        client.put_manifest("multi", "latest", index.encode(), index.media_type)
    assert registry.pull("multi", platform="linux/arm64", store=other).digest == arm.digest
    wanted = Platform.parse("linux/amd64")
    assert registry.pull("multi", platform=wanted, store=other).digest == image.digest
    by_index = registry.pull(f"multi@{index.digest}", platform=wanted, store=other)
    assert by_index.digest == image.digest
    with pytest.raises(PlatformNotFound, match="linux/arm64"):
        registry.pull("multi", platform="linux/riscv64", store=other)
    with pytest.raises(PlatformNotFound):  # a single image of another platform
        registry.pull("multi:arm64", platform="linux/amd64", store=other)


# --- what is not there -----------------------------------------------------------------------


def test_what_is_not_there_says_so(image: Image, registry: Registry, other: Store) -> None:
    with pytest.raises(ManifestNotFound):
        registry.pull("nowhere:1", store=other)
    registry.push(image, "app:1")
    with pytest.raises(ManifestNotFound):
        registry.pull("app:2", store=other)
    _assert_empty(other)


def _assert_empty(store: Store) -> None:
    assert Image.list(store=store) == ()
    assert store.collect(dry_run=True).removed == ()
    for name in ("blobs", "layers", "tmp"):
        assert not [path for path in (store.path / name).rglob("*") if path.is_file()]


# --- a registry that lies --------------------------------------------------------------------


class Liar:
    """Serves one image's documents, and a layer that need not be what they say."""

    def __init__(self, layer: bytes, announced: Descriptor, diff_id: Digest) -> None:
        config = AMD64.evolve(diff_ids=(diff_id,))
        manifest = Manifest(config=config.descriptor(), layers=(announced,))
        self.answers = {
            "/v2/": b"{}",
            "/v2/app/manifests/1": manifest.encode(),
            f"/v2/app/blobs/{config.digest}": config.encode(),
            f"/v2/app/blobs/{announced.digest}": layer,
        }
        self.cut: set[str] = set()


@pytest.fixture
def serve_liar() -> Iterator[Callable[[Liar], str]]:
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def serve(liar: Liar) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = liar.answers.get(self.path)
                self.send_response(404 if data is None else 200)
                data = data or b""
                if "manifests" in self.path:
                    self.send_header("Content-Type", media_types.OCI_MANIFEST)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if self.path in liar.cut else data)

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        servers.append((server, thread))
        return f"127.0.0.1:{server.server_address[1]}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


GOOD = archive(file(b"good", b"x" * 5000))
EVIL = archive(file(b"fine", b"x"), file(b"../../../../etc/passwd", b"root::0:0::/:\n"))


def _layer(data: bytes) -> Descriptor:
    return Descriptor(media_types.OCI_LAYER, Digest.of(data), len(data))


@pytest.mark.parametrize(
    ("liar", "error"),
    [
        (Liar(GOOD.replace(b"xx", b"xy"), _layer(GOOD), Digest.of(GOOD)), DigestMismatch),
        (Liar(GOOD[:-600], _layer(GOOD), Digest.of(GOOD)), SizeMismatch),
        (Liar(GOOD + bytes(512), _layer(GOOD), Digest.of(GOOD)), SizeMismatch),
        (Liar(GOOD, _layer(GOOD), Digest.of(EVIL)), DigestMismatch),
        (Liar(EVIL, _layer(EVIL), Digest.of(EVIL)), UnsafePath),
    ],
    ids=["other bytes", "truncated", "goes on", "other tar", "hostile"],
)
def test_nothing_is_kept_of_what_is_wrong(
    serve_liar: Callable[[Liar], str], store: Store, liar: Liar, error: type[Error]
) -> None:
    host = serve_liar(liar)
    with pytest.raises(error):
        Image.pull(f"{host}/app:1", store=store)
    _assert_empty(store)


def test_a_connection_that_breaks_is_an_error(
    serve_liar: Callable[[Liar], str], store: Store
) -> None:
    liar = Liar(GOOD, _layer(GOOD), Digest.of(GOOD))
    liar.cut = {path for path in liar.answers if path.endswith(Digest.of(GOOD).hex)}
    host = serve_liar(liar)
    with pytest.raises((RegistryError, SizeMismatch)):
        Image.pull(f"{host}/app:1", store=store, timeout=5)
    assert store.collect().removed == ()  # what has come was kept until now
    _assert_empty(store)


def test_a_callback_that_raises_ends_the_pull(
    image: Image, registry: Registry, other: Store
) -> None:
    registry.push(image, "app:1")

    def callback(event: Event) -> None:
        if isinstance(event, LayerDone):
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        registry.pull("app:1", store=other, progress=callback)
    assert Image.list(store=other) == ()
    other.collect()
    _assert_empty(other)


def test_what_is_pushed_is_what_the_registry_serves(image: Image, registry: Registry) -> None:
    registry.push(image, "app:1")
    with Client(registry.host) as client:
        fetched = client.get_manifest("app", "1")
        assert fetched.data == image.manifest.encode()
        assert json.loads(fetched.data)["mediaType"] == media_types.OCI_MANIFEST
