"""Signatures of images as cosign makes and finds them: with a key (ECDSA on P-256).

What is signed is a small JSON document that names the manifest's digest ("simple signing"). It is the
layer of a manifest, and the signature one of that layer's annotations. The manifest is found under the tag
``sha256-<hex>.sig``, or as a referrer of the image.
"""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

from pycontainer.content import VerifiedReader
from pycontainer.errors import (
    ManifestNotFound,
    SignatureError,
    SpecError,
    UnsupportedFeature,
)
from pycontainer.oci import Descriptor, Digest, ImageConfig, Manifest, parse_manifest

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Literal

    from pycontainer.oci import Reference
    from pycontainer.registry import Client

__all__ = ["PublicKey", "Signature", "SigningKey", "sign", "verified"]

_PAYLOAD_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
_ARTIFACT_TYPE: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
_ANNOTATION: Final = "dev.cosignproject.cosign/signature"
_KIND: Final = "cosign container image signature"
_LARGEST_PAYLOAD: Final = 1 << 20
_MOST: Final = 1000


@frozen
class Signature:
    """A signature that was found right.

    Attributes:
        digest: The manifest that it is of.
        identity: The name that the image was signed under; may be empty.
        annotations: What else was signed with it.
    """

    digest: Digest
    identity: str
    annotations: dict[str, Any] = field(factory=dict, hash=False)


class PublicKey:
    """What signatures are checked by; needs the extra ``sign``.

    Args:
        pem: A public key (PEM), as in ``cosign.pub``.

    Raises:
        SignatureError: It is no key on P-256.
        UnsupportedFeature: There is no `cryptography`.
    """

    def __init__(self, pem: bytes) -> None:
        crypto = _import()
        try:
            key = crypto.serialization.load_pem_public_key(pem)
        except (ValueError, TypeError, crypto.UnsupportedAlgorithm) as error:
            raise SignatureError(f"not a public key: {error}") from error
        self._key = _checked(crypto, key, crypto.ec.EllipticCurvePublicKey)

    def verifies(self, payload: bytes, signature: bytes) -> bool:
        """Whether a signature of these bytes was made with the private half."""
        crypto = _import()
        try:
            self._key.verify(signature, payload, crypto.ec.ECDSA(crypto.hashes.SHA256()))
        except crypto.InvalidSignature:
            return False
        return True


class SigningKey:
    """What signatures are made with; needs the extra ``sign``. It is never shown.

    Args:
        pem: A private key (PEM, PKCS #8 or SEC 1).
        password: What it is encrypted with; None if it is not.

    Raises:
        SignatureError: It is no key on P-256, or the password is wrong.
        UnsupportedFeature: There is no `cryptography`.
    """

    def __init__(self, pem: bytes, password: bytes | None = None) -> None:
        crypto = _import()
        try:
            key = crypto.serialization.load_pem_private_key(pem, password)
        except (ValueError, TypeError, crypto.UnsupportedAlgorithm):
            # The reason may tell of what was given.
            raise SignatureError("not a private key, or not with that password") from None
        self._key = _checked(crypto, key, crypto.ec.EllipticCurvePrivateKey)

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key."""
        crypto = _import()
        serialization = crypto.serialization
        pem = crypto.ec.generate_private_key(crypto.ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return cls(pem)

    def private_pem(self, password: bytes | None = None) -> bytes:
        """The key as PEM (PKCS #8), encrypted if a password is given; ``cosign import-key-pair`` takes it."""
        serialization = _import().serialization
        encryption: Any = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password)
        data: bytes = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
        return data

    def public_pem(self) -> bytes:
        """The public half as PEM."""
        serialization = _import().serialization
        data: bytes = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return data

    def sign(self, payload: bytes) -> bytes:
        """A signature of these bytes."""
        crypto = _import()
        data: bytes = self._key.sign(payload, crypto.ec.ECDSA(crypto.hashes.SHA256()))
        return data

    def __repr__(self) -> str:
        return "SigningKey(...)"


def sign(
    client: Client,
    reference: Reference,
    subject: Descriptor,
    key: SigningKey,
    where: Literal["tag", "referrers"],
) -> Digest:
    """Sign a manifest and store the signature in its repository, beside those that are there.

    Returns:
        Digest of the manifest with the signature.
    """
    repository = reference.repository
    payload = _payload(f"{reference.registry}/{repository}", subject.digest)
    layer = Descriptor(
        _PAYLOAD_TYPE,
        Digest.of(payload),
        len(payload),
        annotations={_ANNOTATION: base64.b64encode(key.sign(payload)).decode()},
    )
    layers = [layer]
    if where == "tag":
        layers = [*_layers(client, repository, _tag(subject.digest)), layer]
    diff_ids = tuple(each.digest for each in layers)
    config = ImageConfig(os="", architecture="", diff_ids=diff_ids)
    manifest = Manifest(
        config=config.descriptor(),
        layers=tuple(layers),
        artifact_type=_ARTIFACT_TYPE if where == "referrers" else None,
        subject=subject if where == "referrers" else None,
    )
    client.push_blob(repository, layer, lambda: io.BytesIO(payload))
    client.push_blob(repository, manifest.config, lambda: io.BytesIO(config.encode()))
    name = _tag(subject.digest) if where == "tag" else str(manifest.digest)
    return client.put_manifest(repository, name, manifest.encode(), manifest.media_type)


def verified(client: Client, repository: str, digest: Digest, key: PublicKey) -> list[Signature]:
    """The signatures of a manifest that were made with a key.

    Raises:
        SignatureError: There is none.
        RegistryError: The registry cannot be reached or refuses.
    """
    layers = list(_layers(client, repository, _tag(digest)))
    for entry in client.referrers(repository, digest, _ARTIFACT_TYPE):
        layers += _layers(client, repository, str(entry.digest))
    found = [_check(client, repository, layer, digest, key) for layer in layers[:_MOST]]
    right = [signature for signature in found if signature is not None]
    if not right:
        raise SignatureError(
            f"{client.host}/{repository}@{digest} has no signature by that key "
            f"({len(layers)} by others or of other images)"
        )
    return right


def _check(
    client: Client, repository: str, layer: Descriptor, digest: Digest, key: PublicKey
) -> Signature | None:
    if layer.media_type != _PAYLOAD_TYPE or layer.size > _LARGEST_PAYLOAD:
        return None
    try:
        signature = base64.b64decode(layer.annotations.get(_ANNOTATION, ""), validate=True)
    except ValueError:
        return None
    with client.open_blob(repository, layer) as stream:
        payload = VerifiedReader(stream, layer).read()
    if not key.verifies(payload, signature):
        return None
    try:
        document = json.loads(payload)
        critical = document["critical"]
        named = critical["image"]["docker-manifest-digest"]
        identity = str(critical["identity"].get("docker-reference") or "")
        kind, optional = critical["type"], document.get("optional") or {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if kind != _KIND or named != str(digest) or not isinstance(optional, dict):
        return None
    return Signature(digest, identity, optional)


def _layers(client: Client, repository: str, reference: str) -> tuple[Descriptor, ...]:
    try:
        fetched = client.get_manifest(repository, reference)
        document = parse_manifest(fetched.data, fetched.media_type or None)
    except (ManifestNotFound, SpecError):
        return ()
    return document.layers if isinstance(document, Manifest) else ()


def _payload(identity: str, digest: Digest) -> bytes:
    document = {
        "critical": {
            "identity": {"docker-reference": identity},
            "image": {"docker-manifest-digest": str(digest)},
            "type": _KIND,
        },
        "optional": None,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _tag(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.hex}.sig"


def _checked(crypto: Any, key: Any, kind: type) -> Any:
    if not isinstance(key, kind) or not isinstance(key.curve, crypto.ec.SECP256R1):  # type: ignore[attr-defined]
        raise SignatureError("not an ECDSA key on the curve P-256")
    return key


def _import() -> ModuleType | Any:
    try:
        from pycontainer.images import _crypto
    except ImportError as error:
        raise UnsupportedFeature(
            "signing images", str(error), remedy="pip install 'pycontainer[sign]'"
        ) from error
    return _crypto
