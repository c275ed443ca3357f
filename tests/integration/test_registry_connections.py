"""Ways to a registry: TLS with certificates of one's own, proxies, IPv6, Unix sockets, mirrors."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve, frozen

from fronts import Asked, Front, Reply, forward
from pycontainer.content import Store
from pycontainer.errors import ManifestNotFound, RegistryError, RegistryUnavailable
from pycontainer.images import Image, Registry, create
from pycontainer.oci import Compression, ImageConfig
from pycontainer.registry import Client, RegistryServer, Tls, serve
from pycontainer.registry import _mirrors as mirrors_module
from stacks import packed, pair

CONFIG = ImageConfig(os="linux", architecture="amd64")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of this machine's configuration matters; certs.d is where this returns."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
    monkeypatch.setattr("pycontainer.registry._tls.places", lambda: (tmp_path / "certs.d",))
    return tmp_path / "certs.d"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with serve(tmp_path / "served") as server:
        yield server


# --- TLS -------------------------------------------------------------------------------------


@frozen
class Pair:
    """A self-signed certificate and its key, both in one file."""

    path: Path

    @property
    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        return context


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    """Of a server at 127.0.0.1, and of a client."""
    found = []
    for name in ("server", "client"):
        path = tmp_path_factory.mktemp("certificates") / name
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]
        command += ["-nodes", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", f"{path}.key", "-out", f"{path}.cert"]
        subprocess.run(command, check=True, capture_output=True)
        key, certificate = Path(f"{path}.key"), Path(f"{path}.cert")
        path.write_bytes(key.read_bytes() + certificate.read_bytes())
        found.append(Pair(path))
    return found[0], found[1]


class TestTls:
    def test_authorities_of_certs_d(
        self, server: RegistryServer, made: tuple[Pair, Pair], environment: Path
    ) -> None:
        with Front(server.host, context=made[0].server) as front:
            url = f"https://{front.host}"
            with Client(url) as client, pytest.raises(RegistryUnavailable, match="certificate"):
                client.ping()
            directory = environment / front.host
            directory.mkdir(parents=True)
            (directory / "ca.crt").write_bytes(made[0].path.read_bytes())
            with Client(url) as client:
                client.ping()

    def test_given_authorities_and_none_at_all(
        self, server: RegistryServer, made: tuple[Pair, Pair]
    ) -> None:
        with Front(server.host, context=made[0].server) as front:
            for tls in (Tls(authorities=(made[0].path,)), Tls(verify=False)):
                with Client(f"https://{front.host}", tls=tls) as client:
                    client.ping()

    def test_a_registry_on_this_machine_that_certificates_are_configured_for_speaks_tls(
        self, server: RegistryServer, made: tuple[Pair, Pair], environment: Path
    ) -> None:
        with Front(server.host, context=made[0].server) as front:
            with Client(front.host, tls=Tls(authorities=(made[0].path,))) as client:
                client.ping()
            directory = environment / front.host
            directory.mkdir(parents=True)
            (directory / "ca.crt").write_bytes(made[0].path.read_bytes())
            with Client(front.host) as client:
                client.ping()
        with Client(server.host) as client:
            client.ping()

    def test_plain_http_where_tls_is_spoken_says_what_to_do(self) -> None:
        """Servers in Go answer so."""
        refusal = Reply(400, body=b"Client sent an HTTP request to an HTTPS server.\n")
        with Front(before=lambda _: refusal) as front, Client(front.host) as client:
            with pytest.raises(RegistryError) as caught:
                client.ping()
            assert caught.value.remedy == f"if it speaks TLS, name it https://{front.host}"

    def test_a_certificate_is_shown_to_the_registry_alone(
        self, server: RegistryServer, made: tuple[Pair, Pair], environment: Path
    ) -> None:
        context = made[0].server
        context.load_verify_locations(made[1].path)
        context.verify_mode = ssl.CERT_REQUIRED
        with Front(server.host, context=context) as front:
            url = f"https://{front.host}"
            trust = Tls(authorities=(made[0].path,))
            with Client(url, tls=trust) as client, pytest.raises(RegistryUnavailable):
                client.ping()
            directory = environment / front.host
            directory.mkdir(parents=True)
            (directory / "ca.crt").write_bytes(made[0].path.read_bytes())
            (directory / "me.cert").write_bytes(made[1].path.with_suffix(".cert").read_bytes())
            with Client(url) as client, pytest.raises(RegistryError, match=r"me\.key"):
                client.ping()
            (directory / "me.key").write_bytes(made[1].path.with_suffix(".key").read_bytes())
            with Client(url) as client:
                client.ping()
                to = {"Location": f"{url}/v2/"}
                with Front(
                    before=lambda asked: Reply(307, to), context=made[0].server
                ) as elsewhere:
                    both = Tls(authorities=(made[0].path,), certificate=made[1].path)
                    with (
                        Client(f"https://{elsewhere.host}", tls=both) as other,
                        pytest.raises(RegistryUnavailable),
                    ):
                        other.ping()

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        (tmp_path / "junk").write_text("junk")
        for tls in (
            Tls(authorities=(tmp_path / "junk",)),
            Tls(certificate=tmp_path / "junk"),
            Tls(certificate=tmp_path / "absent"),
        ):
            with (
                Client("https://127.0.0.1:1", tls=tls) as client,
                pytest.raises(RegistryError, match="certificate file"),
            ):
                client.ping()


# --- ways ------------------------------------------------------------------------------------


def test_proxy_of_the_environment(server: RegistryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def proxy(asked: Asked) -> Reply:
        assert asked.target.startswith("http://registry.test:5000/")
        return forward(server.host, evolve(asked, target=asked.target.partition(":5000")[2]))

    with Front(before=proxy) as front:
        monkeypatch.setenv("http_proxy", f"http://ann:secret@{front.host}")
        with Client("registry.test:5000", insecure=True) as client:
            client.ping()
        assert front.asked[0].header("proxy-authorization").startswith("Basic ")
        with Client(server.host) as client:  # this machine is reached without
            client.ping()
        monkeypatch.setenv("no_proxy", "registry.test")
        with (
            Client("registry.test:5000", insecure=True, timeout=2) as client,
            pytest.raises(RegistryUnavailable) as caught,
        ):
            client.ping()
        assert "secret" not in str(caught.value)
        assert len(front.asked) == 1


def test_tls_through_a_proxy(
    server: RegistryServer, made: tuple[Pair, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By CONNECT; the certificate is the registry's."""
    with Front(server.host, context=made[0].server) as front, tunnel(front.host) as (proxy, asked):
        monkeypatch.setenv("https_proxy", proxy)
        monkeypatch.setattr("pycontainer.registry._pools.is_loopback", lambda host: False)
        with Client(f"https://{front.host}", tls=Tls(authorities=(made[0].path,))) as client:
            client.ping()
    assert asked[0].startswith(f"CONNECT {front.host} ".encode())


@contextlib.contextmanager
def tunnel(host: str) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that knows only CONNECT, for one connection."""
    asked: list[bytes] = []
    address, _, port = host.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve_one() -> None:
            connection, _ = listener.accept()
            with connection, socket.create_connection((address, int(port))) as onward:
                asked.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 200 Fine\r\n\r\n")
                relay(connection, onward)

        thread = threading.Thread(target=serve_one)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", asked
        thread.join()


def relay(one: socket.socket, other: socket.socket) -> None:
    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=copy, args=(other, one))
    thread.start()
    copy(one, other)
    thread.join()


@pytest.mark.parametrize("proxy", ["http://[", "ftp://127.0.0.1"])
def test_proxies_that_are_none(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with Client("registry.test") as client, pytest.raises(RegistryError, match="proxy"):
        client.ping()


def test_ipv6_literal(tmp_path: Path) -> None:
    with serve(tmp_path, address=("::1", 0)) as server, Registry(server.host) as registry:
        assert server.host.startswith("[::1]:")
        with pytest.raises(ManifestNotFound):
            registry.tags("a")


def test_unix_socket(server: RegistryServer, tmp_path: Path) -> None:
    path = tmp_path / "registry.sock"
    address, _, port = server.host.rpartition(":")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve_one() -> None:
            connection, _ = listener.accept()
            with connection, socket.create_connection((address, int(port))) as onward:
                relay(connection, onward)

        thread = threading.Thread(target=serve_one)
        thread.start()
        with Client(f"unix://{path}") as client:
            client.ping()
            assert client.head_manifest("a", "v1") is None
        thread.join()
    path.unlink()
    with (
        Client(f"unix://{path}") as client,
        pytest.raises(RegistryUnavailable, match=r"registry\.sock") as caught,
    ):
        client.ping()
    assert caught.value.remedy == f"check that a registry listens at unix://{path}"


# --- mirrors ---------------------------------------------------------------------------------


class TestMirrors:
    @pytest.fixture(autouse=True)
    def health(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mirrors_module, "_health", mirrors_module._Health())

    @pytest.fixture
    def image(self, store: Store, server: RegistryServer) -> Image:
        layer = packed(store, {"f": bytes(range(256)) * 4000}, Compression.NONE)
        image = create(store, [pair(layer)], CONFIG, tag="app:1")
        image.push(f"{server.host}/app:1")
        return image

    @pytest.fixture
    def other(self, tmp_path: Path) -> Iterator[Store]:
        with Store.open(tmp_path / "other") as store:
            yield store

    def test_the_first_that_has_it(
        self, image: Image, server: RegistryServer, other: Store, tmp_path: Path
    ) -> None:
        with (
            serve(tmp_path / "empty") as empty,
            Front(empty.host) as lacking,
            Front(server.host) as having,
            Front(server.host) as registry,
        ):
            mirrors = [lacking.host, having.host]
            pulled = Image.pull(f"{registry.host}/app:1", store=other, mirrors=mirrors)
            assert pulled == image
            assert str(pulled.reference) == f"{registry.host}/app:1"
            assert registry.asked == []
            assert lacking.asked
            with pytest.raises(ManifestNotFound):
                Image.pull(f"{registry.host}/app:2", store=other, mirrors=mirrors)
            assert len(registry.asked) == 1

    def test_one_that_is_down_is_left_alone(
        self, image: Image, server: RegistryServer, other: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = [Reply(503, {"Retry-After": "60"})] * 9
        with Front(before=lambda asked: broken[0]) as down:
            with Registry(server.host, mirrors=[down.host]) as registry:
                assert registry.pull("app:1", store=other) == image
                assert registry.pull("app:1", store=other) == image
            assert len(down.asked) == 1
            monkeypatch.setattr(mirrors_module, "_REST", 0.0)
            mirrors_module._health.works(f"http://{down.host}")
            assert Image.pull(f"{server.host}/app:1", store=other, mirrors=[down.host]) == image
            assert len(down.asked) > 1

    def test_one_that_breaks_in_the_middle(
        self, image: Image, server: RegistryServer, other: Store
    ) -> None:
        layer = str(image.layers[0].digest)

        def break_once(asked: Asked, reply: Reply) -> Reply:
            if layer not in asked.path:
                return reply
            if asked.header("range"):
                return Reply(500, {"Retry-After": "60"})
            return evolve(reply, cut=600_000)

        with (
            Front(server.host, after=break_once) as mirror,
            Front(server.host) as registry,
        ):
            image_name = f"{registry.host}/app:1"
            assert Image.pull(image_name, store=other, mirrors=[mirror.host]) == image
            rest = [a for a in registry.asked if layer in a.path]
            assert [a.header("range") for a in rest] == ["bytes=600000-"]
