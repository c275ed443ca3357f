"""Files of a git repository (``ADD https://…/project.git#ref:directory``)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.build._graph import Directory, Material, Source
from pycontainer.content import remove_tree
from pycontainer.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.build._work import Work

__all__ = ["GitSource", "parse_git"]

_SCHEMES: Final = re.compile(r"(?:git|ssh)://", re.IGNORECASE)
_WEB: Final = re.compile(r"https?://[^#?]+\.git(?:#|$)", re.IGNORECASE)
_SCP: Final = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:[^:]")
_PASSWORD: Final = re.compile(r"(://[^/\s@:]*:)[^/\s@]*@")
_COMMIT: Final = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_SETTINGS: Final = (
    "core.autocrlf=false",
    "core.hooksPath=/dev/null",
    "advice.detachedHead=false",
    "init.defaultBranch=main",
    "gc.auto=0",
    "core.logAllRefUpdates=false",
)


def parse_git(text: str) -> GitSource | None:
    """The repository that a text names; None if it names none.

    Raises:
        ValueError: The part behind ``#`` cannot be one.
    """
    if not any(pattern.match(text) for pattern in (_SCHEMES, _WEB, _SCP)):
        return None
    url, _, fragment = text.partition("#")
    ref, _, directory = fragment.partition(":")
    if ref.startswith("-") or url.startswith("-"):
        raise ValueError(f"not a git reference: {ref!r}")
    if ".." in directory.split("/"):
        raise ValueError(f"{directory!r} leads out of the repository")
    return GitSource(url, ref, directory.strip("/"))


def _without_password(text: str) -> str:
    return _PASSWORD.sub(r"\1***@", text)


@frozen
class GitSource(Source):
    """What a repository holds at a reference; needs the program ``git``.

    Attributes:
        url: Where it is.
        ref: A branch, tag or commit; empty for the repository's own.
        directory: The part of it that is wanted; empty for all.
        keep_git_dir: Whether ``.git`` is kept.
        checksum: The commit that it has to be, or its beginning; empty for any.
    """

    url: str
    ref: str = ""
    directory: str = ""
    keep_git_dir: bool = False
    checksum: str = ""

    def __attrs_post_init__(self) -> None:
        if self.checksum and not re.fullmatch("[0-9a-f]{7,64}", self.checksum):
            raise ValueError(f"--checksum: not a commit: {self.checksum!r}")

    @property
    def written(self) -> str:
        """As in a Dockerfile."""
        fragment = self.ref + (f":{self.directory}" if self.directory else "")
        return f"{self.url}#{fragment}" if fragment else self.url

    @property
    def title(self) -> str:
        """As in a Dockerfile, but for a password."""
        return _without_password(self.written)

    def load(self, work: Work) -> Directory:
        """The directory, which the build's end removes.

        Raises:
            BuildError: It cannot be had, or is at another commit.
        """
        if shutil.which("git") is None:
            raise BuildError(f"{self.title} needs git, which is not installed")
        directory = Path(tempfile.mkdtemp(prefix="git-", dir=work.scratch))
        directory.chmod(0o755)
        self._git(["init", "--quiet", "--template="], directory, work)
        self._git(["remote", "add", "origin", self.url], directory, work)
        self._fetch(directory, work)
        commit = self._git(["rev-parse", "HEAD"], directory, work).strip()
        if self.checksum and not commit.startswith(self.checksum):
            raise BuildError(f"{self.title} is at commit {commit}, not {self.checksum}")
        if (directory / ".gitmodules").is_file():
            modules = ["submodule", "update", "--init", "--recursive", "--quiet", "--depth=1"]
            self._git(modules, directory, work)
        if self.keep_git_dir:
            self._forget_when(directory, work)
        else:
            for found in [directory / ".git", *directory.rglob(".git")]:
                found.unlink() if found.is_file() else remove_tree(found)
        wanted = (directory / self.directory).resolve()
        if not wanted.is_dir() or not wanted.is_relative_to(directory.resolve()):
            raise BuildError(f"{self.title}: there is no directory {self.directory}")
        algorithm = "sha1" if len(commit) == 40 else "sha256"
        return Directory(wanted, material=Material(self.uri, algorithm, commit))

    @property
    def uri(self) -> str:
        """Where it is from, as SPDX names repositories, without user and password."""
        scheme, separator, rest = self.url.partition("://")
        if not separator:
            return f"git+ssh://{self.url.rpartition('@')[2].replace(':', '/', 1)}"
        host, slash, path = rest.partition("/")
        return f"git+{scheme}://{host.rpartition('@')[2]}{slash}{path}"

    def _forget_when(self, directory: Path, work: Work) -> None:
        """Leave in ``.git`` nothing of this fetch: an index says when and where files were written."""
        (directory / ".git/FETCH_HEAD").unlink(missing_ok=True)
        (directory / ".git/index").unlink()
        self._git(["read-tree", "HEAD"], directory, work)

    def _fetch(self, directory: Path, work: Work) -> None:
        ref = self.ref or "HEAD"
        fetch = ["fetch", "--quiet", "--no-tags"]
        found = "FETCH_HEAD"
        try:
            self._git([*fetch, "--depth=1", "origin", ref], directory, work)
        except BuildError:
            # Plain web servers know nothing of depths, and not every server gives out a commit by its name.
            if _COMMIT.fullmatch(ref):
                found = ref
                self._git([*fetch, "origin"], directory, work)
            else:
                self._git([*fetch, "origin", ref], directory, work)
        self._git(["checkout", "--quiet", "--detach", found], directory, work)

    def _git(self, words: Sequence[str], directory: Path, work: Work) -> str:
        env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_DIR": str(directory / ".git")}
        if words[0] == "submodule":
            del env["GIT_DIR"]
        for name in ("GIT_WORK_TREE", "GIT_INDEX_FILE"):
            env.pop(name, None)
        settings = [word for each in _SETTINGS for word in ("-c", each)]
        command = ["git", *settings, *words]
        with (
            subprocess.Popen(  # noqa: S603  (git, by its name; no part of the words is an option)
                command,
                cwd=directory,
                env=env,
                umask=0o022,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            ) as process,
            work.cancellation.calling(process.kill),
        ):
            output, problems = process.communicate()
        if process.returncode:
            raise BuildError(
                f"{self.title}: git {words[0]} failed: {_without_password(problems.strip())}"
            )
        return output
