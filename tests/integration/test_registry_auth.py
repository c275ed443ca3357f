"""Who asks: Basic and Bearer, token servers, Docker's configuration and helpers; nothing leaks."""

from __future__ import annotations

import io
import json
import logging
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fronts import Asked, Front, Guard, Reply, TokenServer, basic
from pycontainer.errors import RegistryError, Unauthorized
from pycontainer.images import Registry
from pycontainer.oci import Descriptor, Digest, Manifest, media_types
from pycontainer.registry import ANONYMOUS, Client, Credentials, DockerConfig, RegistryServer, serve

DATA = bytes(range(256)) * 400
BLOB = Descriptor("application/x", Digest.of(DATA), len(DATA))
MANIFEST = Manifest(config=BLOB)
USER = ("ann", "pass:wörd")
ANN = Credentials(*USER)


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with serve(tmp_path / "served") as server:
        yield server


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer(user=USER) as tokens:
        yield tokens


@pytest.fixture
def guarded(server: RegistryServer, tokens: TokenServer) -> Iterator[Front]:
    with Front(server.host, before=Guard(tokens)) as front:
        yield front


def basic_only(asked: Asked) -> Reply | None:
    if asked.header("authorization") == basic(*USER):
        return None
    return Reply(401, {"WWW-Authenticate": 'Basic realm="here"'})


def push(client: Client, repository: str = "a", data: bytes = DATA) -> None:
    blob = Descriptor("application/x", Digest.of(data), len(data))
    client.push_blob(repository, blob, lambda: io.BytesIO(data))
    manifest = Manifest(config=blob)
    client.put_manifest(repository, "v1", manifest.encode(), manifest.media_type)


class TestBasic:
    def test_push_and_pull(self, server: RegistryServer) -> None:
        with (
            Front(server.host, before=basic_only) as front,
            Client(front.host, credentials=ANN) as client,
        ):
            push(client)
            assert client.get_manifest("a", "v1").data == MANIFEST.encode()
            refused = [a for a in front.asked if not a.header("authorization")]
        assert len(refused) == 1  # afterwards it is known what is wanted

    @pytest.mark.parametrize("who", [ANONYMOUS, Credentials("ann", "wrong")])
    def test_refused(self, server: RegistryServer, who: Credentials) -> None:
        with (
            Front(server.host, before=basic_only) as front,
            Client(front.host, credentials=who) as client,
        ):
            with pytest.raises(Unauthorized, match="login") as caught:
                client.ping()
            assert len(front.asked) == (2 if who else 1)
        assert caught.value.status == 401
        assert "wrong" not in str(caught.value)


class TestTokens:
    def test_one_token_for_a_push_and_one_for_a_pull(
        self, guarded: Front, tokens: TokenServer
    ) -> None:
        with Client(guarded.host, credentials=ANN) as client:
            push(client)
            assert client.get_manifest("a", "v1").digest == MANIFEST.digest
        assert list(tokens.given.values()) == [{"repository:a:pull", "repository:a:push"}]
        with Client(guarded.host, credentials=ANN) as client:
            client.get_manifest("a", "v1")
            with client.open_blob("a", BLOB) as stream:
                assert stream.read() == DATA
        assert list(tokens.given.values())[1:] == [{"repository:a:pull"}]
        assert {a.query["account"][0] for a in tokens.front.asked} == {"ann"}
        assert {a.query["service"][0] for a in tokens.front.asked} == {"test"}

    def test_scopes_are_joined_for_a_mount(self, guarded: Front, tokens: TokenServer) -> None:
        with Client(guarded.host, credentials=ANN) as client:
            push(client)
            assert not client.push_blob("b", BLOB, lambda: io.BytesIO(DATA), mount_from="a")
        assert {"repository:a:pull", "repository:b:pull", "repository:b:push"} in (
            tokens.given.values()
        )

    def test_anonymous(self, server: RegistryServer) -> None:
        with (
            TokenServer() as tokens,
            Front(server.host, before=Guard(tokens)) as front,
            Client(front.host) as client,
        ):
            push(client)
            assert not tokens.front.asked[0].header("authorization")

    def test_wrong_password(self, guarded: Front) -> None:
        with (
            Client(guarded.host, credentials=Credentials("ann", "hunter2")) as client,
            pytest.raises(Unauthorized, match=r"token server of .* refuses .* 'ann'") as caught,
        ):
            client.get_manifest("a", "v1")
        assert "hunter2" not in str(caught.value)

    def test_token_that_expires_in_the_middle(self, guarded: Front, tokens: TokenServer) -> None:
        with Client(guarded.host, credentials=ANN) as client:
            push(client)
            tokens.given.clear()  # the registry knows none of them any more
            assert client.get_manifest("a", "v1").digest == MANIFEST.digest
            tokens.given.clear()
            push(client, data=DATA + b"more")
        assert len(tokens.front.asked) == 3

    def test_new_token_that_ended_before_it_was_used(
        self, server: RegistryServer, tokens: TokenServer
    ) -> None:
        guard, ended = Guard(tokens), [True]

        def before(asked: Asked) -> Reply | None:
            if asked.header("authorization") and ended:
                ended.pop()
                tokens.given.clear()
            return guard(asked)

        with (
            Front(server.host, before=before) as front,
            Client(front.host, credentials=ANN) as client,
        ):
            assert not client.blob_exists("a", Digest.of(b"nothing"))
            assert not ended

    def test_token_is_renewed_before_it_expires(self, server: RegistryServer) -> None:
        with (
            TokenServer(lifetime=0.001) as tokens,
            Front(server.host, before=Guard(tokens)) as front,
            Client(front.host) as client,
        ):
            for _ in range(3):
                client.head_manifest("a", "v1")
            assert len(tokens.front.asked) == 3
            assert len([a for a in front.asked if not a.header("authorization")]) == 1

    def test_body_is_sent_again_whole_where_the_token_expires_before_it(
        self, server: RegistryServer, tokens: TokenServer
    ) -> None:
        guard = Guard(tokens)

        def expires_at_put(asked: Asked) -> Reply | None:
            if asked.method == "PUT" and len(tokens.front.asked) == 1:
                tokens.given.clear()
            return guard(asked)

        with (
            Front(server.host, before=expires_at_put) as front,
            Client(front.host, credentials=ANN) as client,
        ):
            push(client)
            puts = [len(a.body) for a in front.requests("PUT", "uploads")]
        assert puts == [len(DATA), len(DATA)]

    def test_refresh_token(self, server: RegistryServer) -> None:
        with (
            TokenServer(user=USER, refresh="long-lived") as tokens,
            Front(server.host, before=Guard(tokens)) as front,
        ):
            with Client(front.host, credentials=Credentials(token="long-lived")) as client:
                client.head_manifest("a", "v1")
            with Client(front.host, credentials=ANN) as client:
                client.head_manifest("a", "v1")
                client.head_manifest("b", "v1")
            assert [a.method for a in tokens.front.asked] == ["POST", "GET", "POST"]
            tokens.refresh = "another"  # the one that the client has is refused from now on
            with Client(front.host, credentials=ANN) as client:
                client.head_manifest("a", "v1")
                tokens.refresh = "a third"
                client.head_manifest("b", "v1")

    def test_many_threads_get_one_token(self, guarded: Front, tokens: TokenServer) -> None:
        with Client(guarded.host, credentials=ANN) as client:
            threads = [
                threading.Thread(target=client.head_manifest, args=("a", "v1")) for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(tokens.given) == 1

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"[]",
            b"{}",
            b'{"token": 1}',
            b'{"token": "a\\nb"}',
            b'{"token":"a","expires_in":"x"}',
        ],
    )
    def test_token_server_that_gives_none(self, answer: bytes) -> None:
        with Front(before=lambda asked: Reply(body=answer)) as realm:
            wanted = {"WWW-Authenticate": f'Bearer realm="http://{realm.host}/"'}
            with (
                Front(before=lambda asked: Reply(401, wanted)) as front,
                Client(front.host) as client,
                pytest.raises(RegistryError, match="without a token"),
            ):
                client.ping()

    @pytest.mark.parametrize(
        ("realm", "message"),
        [
            ("http://auth.example/", "plain HTTP"),
            ("http://me@127.0.0.1:1/", "user's name"),
            ("file:///etc/passwd", "not HTTP"),
            ("", "no realm"),
        ],
    )
    def test_realms_that_get_nothing(self, realm: str, message: str) -> None:
        wanted = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
        with (
            Front(before=lambda asked: Reply(401, wanted)) as front,
            Client(front.host, credentials=ANN) as client,
            pytest.raises(RegistryError, match=message),
        ):
            client.ping()

    def test_refresh_token_is_not_sent_on_to_another_host(self) -> None:
        with Front(before=lambda asked: Reply(200)) as elsewhere:
            to = {"Location": f"http://{elsewhere.host}/token"}
            with Front(before=lambda asked: Reply(307, to)) as realm:
                wanted = {"WWW-Authenticate": f'Bearer realm="http://{realm.host}/"'}
                with (
                    Front(before=lambda asked: Reply(401, wanted)) as front,
                    Client(front.host, credentials=Credentials(token="secret")) as client,
                    pytest.raises(RegistryError, match="another host"),
                ):
                    client.ping()
            assert elsewhere.asked == []


class TestNothingLeaks:
    def test_redirects_to_another_host(self, server: RegistryServer, tokens: TokenServer) -> None:
        with Client(server.host) as client:
            push(client)
        with Front(server.host) as storage:
            guard = Guard(tokens)

            def elsewhere(asked: Asked) -> Reply | None:
                if asked.method == "GET" and "/blobs/" in asked.path:
                    to = f"http://{storage.host}{asked.target}?signature=let-me-in"
                    return guard(asked) or Reply(307, {"Location": to})
                return guard(asked)

            with (
                Front(server.host, before=elsewhere) as front,
                Client(front.host, credentials=ANN) as client,
                client.open_blob("a", BLOB) as stream,
            ):
                assert stream.read() == DATA
            assert storage.asked
            assert not any("authorization" in a.headers for a in storage.asked)

    def test_demand_of_another_host_is_not_met(self, server: RegistryServer) -> None:
        wants = {"WWW-Authenticate": 'Basic realm="give"'}
        with Front(before=lambda asked: Reply(401, wants)) as thief:
            to = {"Location": f"http://{thief.host}/"}
            with (
                Front(before=lambda asked: basic_only(asked) or Reply(302, to)) as front,
                Client(front.host, credentials=ANN) as client,
                pytest.raises(Unauthorized),
            ):
                client.ping()
            assert len(thief.asked) == 1
            assert "authorization" not in thief.asked[0].headers

    def test_plain_http_elsewhere_needs_to_be_asked_for(self) -> None:
        with (
            Client("http://registry.example", credentials=ANN) as client,
            pytest.raises(RegistryError, match="plain HTTP"),
        ):
            client.ping()

    def test_logs_errors_and_repr(
        self, server: RegistryServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Also where the registry repeats what it was sent."""
        caplog.set_level(logging.DEBUG)
        secrets = [USER[1], basic(*USER).split()[1]]

        def parrot(asked: Asked) -> Reply:
            said = f"{asked.header('authorization')} {USER[1]}"
            body = json.dumps({"errors": [{"code": "DENIED", "message": said}]})
            wants = {"WWW-Authenticate": 'Basic realm="x"'}
            return Reply(403 if said.startswith("Basic") else 401, wants, body.encode())

        with Front(before=parrot) as front, Registry(front.host, credentials=ANN) as registry:
            with pytest.raises(Unauthorized) as caught:
                registry.tags("a")
            shown = [str(caught.value), repr(caught.value), repr(registry), repr(registry._client)]
        shown += [repr(ANN), str(ANN), caplog.text]
        for secret in secrets:
            assert not any(secret in text for text in shown)
        assert "***" in shown[0]


class TestDockerConfig:
    def test_login_and_logout(self, guarded: Front, docker_config: Path) -> None:
        with Registry(guarded.host) as registry:
            with pytest.raises(Unauthorized):
                registry.login("ann", "wrong")
            assert not docker_config.exists()
            registry.login(*USER)
            assert stat.S_IMODE(docker_config.stat().st_mode) == 0o600
        with Client(guarded.host) as client:
            push(client)
        with Registry(guarded.host) as registry:
            registry.logout()
            registry.logout()
            with pytest.raises(Unauthorized):
                registry.tags("a")
        assert json.loads(docker_config.read_text()) == {"auths": {}}

    def test_login_for_this_program_alone(self, guarded: Front, docker_config: Path) -> None:
        with Registry(guarded.host) as registry:
            registry.login(*USER, save=False)
            registry._client.head_manifest("a", "v1")
        assert not docker_config.exists()

    @pytest.mark.parametrize(
        ("key", "host"),
        [
            ("r.example", "r.example"),
            ("https://r.example/v1/", "r.example"),
            ("http://R.example:5000", "r.example:5000"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "registry-1.docker.io"),
        ],
    )
    def test_forms_of_keys(self, docker_config: Path, key: str, host: str) -> None:
        entry = {"auth": basic(*USER).split()[1]}
        write(docker_config, {"auths": {"other.example": {}, key: entry}})
        config = DockerConfig.default()
        assert config.find(host) == ANN
        assert config.find("r.example:1") == ANONYMOUS
        config.save(host, Credentials("bob", "x"))
        assert len(json.loads(docker_config.read_text())["auths"]) == 2
        assert config.find(host) == Credentials("bob", "x")

    def test_other_entries(self, docker_config: Path) -> None:
        auths = {
            "a": {"username": "u", "password": "p"},
            "b": {"auth": "dTo=", "identitytoken": "t"},
        }
        write(docker_config, {"auths": auths, "proxies": {"x": 1}})
        config = DockerConfig.default()
        assert config.find("a") == Credentials("u", "p")
        assert config.find("b") == Credentials("u", "", "t")
        config.save("c", Credentials("u", token="t"))
        assert config.find("c").token == "t"
        config.erase("a")
        assert json.loads(docker_config.read_text())["proxies"] == {"x": 1}
        assert config.find("a") == ANONYMOUS

    @pytest.mark.parametrize(
        "text",
        ["{", "[]", '{"auths": {"a": {"auth": "secret!"}}}', '{"auths":{"a":{"auth":"eA=="}}}'],
    )
    def test_damaged(self, docker_config: Path, text: str) -> None:
        docker_config.parent.mkdir()
        docker_config.write_text(text)
        with pytest.raises(RegistryError, match=str(docker_config)) as caught:
            DockerConfig.default().find("a")
        assert "secret!" not in str(caught.value)

    def test_many_write_at_once(self, docker_config: Path) -> None:
        config = DockerConfig.default()
        threads = [
            threading.Thread(target=config.save, args=(f"h{i}", Credentials(f"u{i}", "p")))
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(config.find(f"h{i}").username == f"u{i}" for i in range(8))
        assert os.listdir(docker_config.parent) == ["config.json"]


HELPER = """#!/bin/sh
cd {place} || exit 9
case "$1" in
    store) cat > kept ;;
    erase) cat > erased; rm -f kept ;;
    get)
        cat > asked
        [ -f kept ] || {{ echo "credentials not found in native keychain"; exit 1; }}
        cat kept ;;
esac
"""


class TestHelpers:
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        self.program(tmp_path, HELPER.format(place=tmp_path))
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        return tmp_path

    def program(self, place: Path, text: str) -> None:
        path = place / "docker-credential-test"
        path.write_text(text)
        path.chmod(0o700)

    @pytest.mark.parametrize(
        ("config", "host", "server"),
        [
            ({"credsStore": "test"}, "r.example", "r.example"),
            ({"credHelpers": {"r.example": "test"}, "credsStore": "x"}, "r.example", "r.example"),
            ({"credsStore": "test"}, "docker.io", "https://index.docker.io/v1/"),
        ],
    )
    def test_there_and_back(
        self, place: Path, docker_config: Path, config: dict[str, object], host: str, server: str
    ) -> None:
        write(docker_config, config)
        found = DockerConfig.default()
        assert found.find(host) == ANONYMOUS
        assert (place / "asked").read_text() == server
        for who in (ANN, Credentials(token="t")):
            found.save(host, who)
            assert json.loads((place / "kept").read_text())["ServerURL"] == server
            assert found.find(host) == who
        assert USER[1] not in docker_config.read_text()
        found.erase(host)
        assert found.find(host) == ANONYMOUS
        assert (place / "erased").read_text() == server

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("#!/bin/sh\necho locked; exit 1\n", "locked"),
            ("#!/bin/sh\necho '{}'\n", "no known form"),
            ("#!/nowhere\n", "cannot be started"),
        ],
    )
    def test_that_fails(self, place: Path, docker_config: Path, text: str, message: str) -> None:
        self.program(place, text)
        write(docker_config, {"credsStore": "test"})
        with pytest.raises(RegistryError, match=message):
            DockerConfig.default().find("a")

    @pytest.mark.parametrize("name", ["no-such-helper", "../evil", "a b"])
    def test_that_is_not_there(self, docker_config: Path, name: str) -> None:
        write(docker_config, {"credHelpers": {"a": name}})
        with pytest.raises(RegistryError, match="helper"):
            DockerConfig.default().find("a")
        assert DockerConfig.default().find("b") == ANONYMOUS

    def test_failure_to_store_does_not_tell_the_secret(
        self, place: Path, docker_config: Path
    ) -> None:
        self.program(place, "#!/bin/sh\ncat >&2; exit 1\n")
        write(docker_config, {"credsStore": "test"})
        with pytest.raises(RegistryError) as caught:
            DockerConfig.default().save("a", Credentials("ann", "hunter2"))
        assert "hunter2" not in str(caught.value)


def write(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


def test_names_with_colons_are_refused() -> None:
    with pytest.raises(ValueError, match="colon"):
        Credentials("a:b", "c")


def test_manifest_kinds_are_asked_for(guarded: Front) -> None:
    with Client(guarded.host, credentials=ANN) as client:
        client.head_manifest("a", "v1")
    assert media_types.OCI_INDEX in guarded.asked[-1].header("accept")
