"""Skopeo finds and reads the signatures that we store as cosign does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.peers import Layout, busybox
from pycontainer.content import Store
from pycontainer.images import Image, Registry, SigningKey

__all__ = ["busybox"]

pytestmark = pytest.mark.interop("skopeo")

DISABLED = "Debian-local change: sigstore disabled"
"""What Debian's skopeo says once it has found a signature of this kind and is to check it."""


@pytest.fixture
def registry(tmp_path: Path, busybox: Layout, store: Store) -> Iterator[Registry]:
    (image,) = Image.load(busybox.path, store=store)
    with Registry.serve(tmp_path / "served") as server, Registry(server.host) as registry:
        registry.push(image, "team/signed:1")
        registry.push(image, "team/bare:1")
        yield registry


def copied(registry: Registry, name: str, key: SigningKey, directory: Path) -> str:
    """Copy an image that must have a signature by a key; what skopeo says against it, else nothing."""
    directory.mkdir()
    (directory / "cosign.pub").write_bytes(key.public_pem())
    wanted = {
        "type": "sigstoreSigned",
        "keyPath": str(directory / "cosign.pub"),
        "signedIdentity": {"type": "matchRepository"},
    }
    policy = {"default": [{"type": "reject"}], "transports": {"docker": {registry.host: [wanted]}}}
    (directory / "policy.json").write_text(json.dumps(policy))
    (directory / "places").mkdir()
    places = f"docker:\n  {registry.host}:\n    use-sigstore-attachments: true\n"
    (directory / "places/here.yaml").write_text(places)
    command: list[str | Path] = ["skopeo", "--policy", directory / "policy.json"]
    command += ["--registries.d", directory / "places", "copy", "--src-tls-verify=false"]
    command += [f"docker://{registry.host}/{name}", f"dir:{directory / 'copy'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) == (directory / "copy/manifest.json").exists()
    return "" if done.returncode == 0 else done.stderr


def test_skopeo_wants_a_signature(registry: Registry, tmp_path: Path) -> None:
    key = SigningKey.generate()
    assert "no signature exists" in copied(registry, "team/signed:1", key, tmp_path / "before")
    registry.sign("team/signed:1", key)
    said = copied(registry, "team/signed:1", key, tmp_path / "after")
    assert said == "" or DISABLED in said
    assert "no signature exists" in copied(registry, "team/bare:1", key, tmp_path / "bare")
    other = SigningKey.generate()
    assert copied(registry, "team/signed:1", other, tmp_path / "other") != ""
