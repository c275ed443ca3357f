"""Other programs log in to our server, by Basic authentication and by tokens, with TLS and without."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from interop.peers import Docker, Layout, busybox, busybox_tar, dockerd
from pycontainer.registry import RegistryServer, ServerOptions, serve

__all__ = ["busybox", "dockerd"]

pytestmark = pytest.mark.interop("skopeo", "docker", "dockerd")

PASSWORD = "sesame"
USERS = {"ann": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}


def users_push(user: str | None, repository: str, action: str) -> bool:
    """Everybody pulls from `public`, Ann does everything."""
    return user == "ann" or (repository.startswith("public/") and action == "pull")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("certificate")
    chain, key = directory / "ca.crt", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", chain], check=True, capture_output=True)
    return chain, key


@pytest.fixture(params=["basic", "tokens", "basic over TLS", "tokens over TLS"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, certificate: tuple[Path, Path]
) -> Iterator[RegistryServer]:
    options = ServerOptions(
        users=USERS,
        authorize=users_push,
        tokens="tokens" in request.param,
        certificate=certificate if "TLS" in request.param else None,
    )
    with serve(tmp_path / "served", options=options) as server:
        yield server


def tried(*command: str | Path) -> str:
    """Run a command; what it says if it fails, else nothing."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stderr or "failed"


def test_skopeo(
    server: RegistryServer, busybox: Layout, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    trust = ["--dest-tls-verify=false"]
    if server.url.startswith("https"):
        trust = [f"--dest-cert-dir={certificate[0].parent}"]
    # There is no such file, and no other is looked at.
    known = [f"--authfile={tmp_path / 'auth.json'}"]
    (tmp_path / "auth.json").write_text("{}")
    copy = ["skopeo", "--insecure-policy", "copy", *known]
    source, name = f"oci:{busybox.path}:box", f"docker://{server.host}"
    assert "unauthorized" in tried(*copy, *trust, source, f"{name}/public/box:1")
    wrong = tried(*copy, *trust, "--dest-creds=ann:wrong", source, f"{name}/public/box:1")
    assert "wrong" not in wrong.replace("the name or the password is wrong", "")
    assert wrong
    for repository in ("public", "closed"):
        target = f"{name}/{repository}/box:1"
        assert tried(*copy, *trust, f"--dest-creds=ann:{PASSWORD}", source, target) == ""
    trusted = [option.replace("dest", "src", 1) for option in trust]
    assert tried(*copy, *trusted, f"{name}/public/box:1", f"dir:{tmp_path / 'nobody'}") == ""
    assert "auth" in tried(*copy, *trusted, f"{name}/closed/box:1", f"dir:{tmp_path / 'closed'}")
    more = [*trusted, f"--src-creds=ann:{PASSWORD}"]
    assert tried(*copy, *more, f"{name}/closed/box:1", f"dir:{tmp_path / 'ann'}") == ""


@pytest.mark.root
def test_docker(
    server: RegistryServer, dockerd: Docker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first, second = f"{server.host}/public/box:1", f"{server.host}/closed/box:1"
    dockerd.run("import", busybox_tar(tmp_path), first)
    dockerd.run("tag", first, second)
    with pytest.raises(AssertionError):
        dockerd.run("push", first)
    with pytest.raises(AssertionError):
        dockerd.run("login", "--username", "ann", "--password", "wrong", server.host)
    dockerd.run("login", "--username", "ann", "--password", PASSWORD, server.host)
    dockerd.run("push", first)
    dockerd.run("push", second)
    dockerd.run("logout", server.host)
    dockerd.run("rmi", first, second)
    if request.node.callspec.params["server"].startswith("tokens"):
        dockerd.run(
            "pull", first
        )  # where Basic credentials are wanted, Docker does not try without
    with pytest.raises(AssertionError):
        dockerd.run("pull", second)


def test_skopeo_logs_in_and_out(server: RegistryServer, busybox: Layout, tmp_path: Path) -> None:
    """As podman and buildah do, whose library is the same."""
    known, any_certificate = f"--authfile={tmp_path / 'auth.json'}", "--tls-verify=false"
    login = ["skopeo", "login", known, any_certificate, "--username", "ann", "--password"]
    assert tried(*login, "wrong", server.host)
    assert tried(*login, PASSWORD, server.host) == ""
    copy = ["skopeo", "--insecure-policy", "copy", known, f"--dest{any_certificate[1:]}"]
    target = f"docker://{server.host}/closed/box:1"
    assert tried(*copy, f"oci:{busybox.path}:box", target) == ""
    shown = ["skopeo", "inspect", known, any_certificate, target]
    assert tried(*shown) == ""
    assert tried("skopeo", "logout", known, server.host) == ""
    assert tried(*shown)
