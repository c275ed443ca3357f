"""Signatures with a key, as cosign has them; checked against OpenSSL."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from fronts import Front
from pycontainer.content import Store
from pycontainer.errors import ManifestNotFound, SignatureError
from pycontainer.images import Image, PublicKey, Registry, SigningKey, create
from pycontainer.oci import Digest, ImageConfig, Manifest, Reference
from stacks import packed, pair

CONFIG = ImageConfig(os="linux", architecture="amd64")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.serve(tmp_path / "registry") as server, Registry(server.host) as registry:
        yield registry


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other") as store:
        yield store


@pytest.fixture
def image(store: Store, registry: Registry) -> Image:
    image = create(store, [pair(packed(store, {"f": b"x"}))], CONFIG, tag="app:1")
    registry.push(image, "app:1")
    return image


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture(scope="module")
def public(key: SigningKey) -> PublicKey:
    return PublicKey(key.public_pem())


@pytest.mark.parametrize("where", ["tag", "referrers"])
def test_signed_and_verified(
    image: Image,
    registry: Registry,
    other: Store,
    key: SigningKey,
    public: PublicKey,
    where: Literal["tag", "referrers"],
) -> None:
    with pytest.raises(SignatureError, match="no signature"):
        registry.verify("app:1", public)
    registry.sign("app:1", key, where=where)
    (found,) = registry.verify("app:1", public)
    assert found.digest == image.digest
    assert found.identity == f"{registry.host}/app"
    registry.sign("app:1", SigningKey.generate(), where=where)
    assert len(registry.verify("app:1", public)) == 1  # the other key's is beside it
    with pytest.raises(SignatureError, match="2 by others"):
        registry.verify("app:1", PublicKey(SigningKey.generate().public_pem()))
    assert registry.pull("app:1", store=other, signed_by=public) == image
    with pytest.raises(ManifestNotFound):
        registry.sign("app:2", key)


def test_a_pull_without_signature_fetches_nothing_else(
    image: Image, registry: Registry, other: Store, public: PublicKey
) -> None:
    with Front(registry.host) as front, Registry(front.host) as watched:
        with pytest.raises(SignatureError):
            watched.pull("app:1", store=other, signed_by=public)
        assert not [a for a in front.asked if "/blobs/" in a.path]
    assert Image.list(store=other) == ()


def test_a_signature_of_another_image_counts_for_nothing(
    image: Image, registry: Registry, store: Store, key: SigningKey, public: PublicKey
) -> None:
    second = create(store, [pair(packed(store, {"f": b"y"}))], CONFIG)
    registry.push(second, "app:2")
    registry.sign("app:2", key)
    client = registry._client
    moved = client.get_manifest("app", f"sha256-{second.digest.hex}.sig")
    client.put_manifest("app", f"sha256-{image.digest.hex}.sig", moved.data, moved.media_type)
    with pytest.raises(SignatureError):
        registry.verify("app:1", public)


def test_of_the_form_that_cosign_makes(
    image: Image, registry: Registry, key: SigningKey, tmp_path: Path
) -> None:
    """The parts are found and checked by other means than ours."""
    registry.sign("app:1", key)
    fetched = registry._client.get_manifest("app", f"sha256-{image.digest.hex}.sig")
    (layer,) = Manifest.parse(fetched.data).layers
    assert layer.media_type == "application/vnd.dev.cosign.simplesigning.v1+json"
    with registry._client.open_blob("app", layer) as stream:
        payload = stream.read()
    critical = json.loads(payload)["critical"]
    assert critical["type"] == "cosign container image signature"
    assert critical["image"] == {"docker-manifest-digest": str(image.digest)}
    encoded = layer.annotations["dev.cosignproject.cosign/signature"]
    (tmp_path / "payload").write_bytes(payload)
    (tmp_path / "signature").write_bytes(base64.b64decode(encoded))
    (tmp_path / "key.pem").write_bytes(key.public_pem())
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature"]
    subprocess.run([*command, "payload"], check=True, cwd=tmp_path, capture_output=True)


def test_keys_of_openssl(image: Image, registry: Registry, tmp_path: Path) -> None:
    made = tmp_path / "key.pem"
    command = ["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    key = SigningKey(made.read_bytes())
    again = SigningKey(key.private_pem(b"word"), b"word")
    registry.sign("app:1", again)
    assert registry.verify("app:1", PublicKey(key.public_pem()))


def test_keys_that_are_none(key: SigningKey, tmp_path: Path) -> None:
    made = tmp_path / "key.pem"
    command = ["openssl", "ecparam", "-genkey", "-name", "secp384r1", "-noout", "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(SignatureError, match="P-256"):
        SigningKey(made.read_bytes())
    with pytest.raises(SignatureError, match="password"):
        SigningKey(key.private_pem(b"word"), b"wrong")
    with pytest.raises(SignatureError, match="not a private key"):
        SigningKey(b"junk")
    with pytest.raises(SignatureError, match="not a public key"):
        PublicKey(key.private_pem())
    assert repr(key) == "SigningKey(...)"


def test_a_policy_of_ones_own(image: Image, registry: Registry, other: Store) -> None:
    asked: list[tuple[str, Digest]] = []

    class Refused(Exception):
        pass

    def accept(reference: Reference, digest: Digest) -> None:
        asked.append((reference.repository, digest))
        if len(asked) > 1:
            raise Refused

    assert registry.pull("app:1", store=other, accept=accept) == image
    with pytest.raises(Refused):
        registry.pull("app:1", store=other, accept=accept)
    assert asked[0] == ("app", image.digest)


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b'{"critical": 1}', b'{"critical": {"image": {}, "identity": {}, "type": "x"}}'],
)
def test_payloads_that_are_none(
    image: Image,
    registry: Registry,
    key: SigningKey,
    public: PublicKey,
    document: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Signed by the right key, and yet saying nothing of the image."""
    monkeypatch.setattr("pycontainer.images._sign._payload", lambda identity, digest: document)
    registry.sign("app:1", key)
    with pytest.raises(SignatureError):
        registry.verify("app:1", public)
