"""Files of git repositories: ADD, and contexts that are repositories."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from build_bench import Bench, bench, website
from pycontainer.build import Builder, Output
from pycontainer.build._git import GitSource, parse_git
from pycontainer.build._graph import Material
from pycontainer.build._work import Work
from pycontainer.content import Store
from pycontainer.errors import BuildError

__all__ = ["bench", "website"]  # fixtures


@pytest.fixture
def repository(tmp_path: Path) -> str:
    place = tmp_path / "project"
    (place / "sub").mkdir(parents=True)
    (place / "sub/file").write_text("in git")
    (place / "top").write_text("top")
    run = ["git", "-C", str(place), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*run, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*run, "add", "."], check=True)
    subprocess.run([*run, "commit", "-q", "-m", "one"], check=True)
    return f"file://{place}"


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_repositories(bench: Bench, repository: str) -> None:
    with bench.store.temporary() as scratch:
        work = Work(store=bench.store, scratch=scratch)
        found = GitSource(repository, "main", "sub").load(work).path
        assert {path.name for path in found.iterdir()} == {"file"}
        found = GitSource(repository, keep_git_dir=True).load(work).path
        assert {path.name for path in found.iterdir()} == {".git", "sub", "top"}
        with pytest.raises(BuildError, match="not 0000"):
            GitSource(repository, checksum="0" * 40).load(work)
        with pytest.raises(BuildError, match="git fetch failed"):
            GitSource(repository, "no-such-branch").load(work)


@pytest.fixture
def served(website: str, repository: str, tmp_path: Path) -> str:
    """The repository, on a web server that knows nothing of git."""
    place = tmp_path / "www/p.git"
    subprocess.run(["git", "clone", "-q", "--bare", repository, str(place)], check=True)
    subprocess.run(["git", "-C", str(place), "update-server-info"], check=True)
    return f"{website}/p.git"


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_repositories_of_plain_web_servers(bench: Bench, served: str) -> None:
    files = bench.files(f"FROM scratch\nADD {served}#main:sub /a/\nADD {served} /b/\n")
    assert files == {"a/file": b"in git", "b/sub/file": b"in git", "b/top": b"top"}


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_errors_hold_no_password(bench: Bench) -> None:
    error = bench.error("FROM scratch\nADD http://me:pass@localhost:1/p.git /\n")
    assert "http://me:***@localhost:1/p.git: git fetch failed" in error.message
    assert "pass" not in error.message


@pytest.mark.parametrize(
    ("url", "uri"),
    [
        ("https://me:secret@host/p.git", "git+https://host/p.git"),
        ("git@host:team/p.git", "git+ssh://host/team/p.git"),
        ("ssh://git@host:22/p.git", "git+ssh://host:22/p.git"),
    ],
)
def test_how_a_provenance_names_repositories(url: str, uri: str) -> None:
    assert GitSource(url).uri == uri


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_repository_tells_its_commit(bench: Bench, repository: str) -> None:
    with bench.store.temporary() as scratch:
        found = GitSource(repository).load(Work(store=bench.store, scratch=scratch)).material
    path = repository.removeprefix("file://")
    head = subprocess.run(["git", "-C", path, "rev-parse", "HEAD"], capture_output=True, check=True)
    assert found == Material(f"git+{repository}", "sha1", head.stdout.decode().strip())


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_repositories_as_named_contexts(bench: Bench, served: str) -> None:
    text = "FROM scratch\nCOPY --from=project . /\n"
    assert bench.files(text, contexts={"project": f"{served}#main:sub"}) == {"file": b"in git"}
    printed = bench.builder(text, contexts={"project": f"{served}#main:sub"}).to_dockerfile()
    assert str(printed) == text
    assert printed.contexts == {"project": f"{served}#main:sub"}
    with pytest.raises(BuildError, match="no context can be had from oci-layout://place") as caught:
        bench.build(text, contexts={"project": "oci-layout://place"})
    assert "Image.load" in str(caught.value.remedy)


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_git_dir_is_the_same_each_time(served: str, tmp_path: Path) -> None:
    builder = Builder.scratch().add(served, "/src", keep_git_dir=True)
    images = []
    for name in ("one", "two"):
        with Store.open(tmp_path / name) as store:
            written = Output("rootfs-directory", tmp_path / f"{name}-root")
            images.append(builder.build(store=store, outputs=written))
    assert images[0].digest == images[1].digest
    status = ["git", "-C", str(tmp_path / "one-root/src"), "status", "--porcelain"]
    assert subprocess.run(status, capture_output=True, check=True).stdout == b""


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("git://host/p.git#main:sub", GitSource("git://host/p.git", "main", "sub")),
        ("https://host/p.git", GitSource("https://host/p.git")),
        ("git@host:team/p.git#v1", GitSource("git@host:team/p.git", "v1")),
        ("https://host/p.tar.gz", None),
        ("dir/file", None),
    ],
)
def test_what_is_a_git_repository(text: str, source: GitSource | None) -> None:
    assert parse_git(text) == source
