"""Docker's configuration file, as far as it holds credentials.

``auths`` has them in the file itself; ``credHelpers`` (a registry's) and ``credsStore`` (everybody's) name a
program ``docker-credential-<name>`` that keeps them.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from pycontainer.errors import RegistryError
from pycontainer.registry._credential_helper import CredentialHelper
from pycontainer.registry._credentials import ANONYMOUS, Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["DockerConfig"]

_HUB: Final = "https://index.docker.io/v1/"
_HUB_NAMES: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


@frozen
class DockerConfig:
    """A file such as ``~/.docker/config.json``; it need not be there.

    Attributes:
        path: The file.
    """

    path: Path

    @classmethod
    def default(cls) -> DockerConfig:
        """The one in ``$DOCKER_CONFIG``, else in ``~/.docker``."""
        directory = os.environ.get("DOCKER_CONFIG")
        return cls(
            (Path(directory) if directory else Path("~/.docker").expanduser()) / "config.json"
        )

    def find(self, host: str) -> Credentials:
        """The credentials for a registry; none are known: those of nobody.

        Raises:
            RegistryError: The file cannot be understood, or a credential helper fails.
        """
        document = self._read()
        helper = _helper(document, host)
        if helper is not None:
            return helper.get(_server(host)) or ANONYMOUS
        for key, entry in _section(document, "auths").items():
            if _hostname(key) == _hostname(_server(host)) and isinstance(entry, dict):
                return self._credentials(key, entry)
        return ANONYMOUS

    def save(self, host: str, credentials: Credentials) -> None:
        """Keep credentials: with the helper that the file names for the registry, else in the file.

        Raises:
            RegistryError: They cannot be kept.
        """
        helper = _helper(self._read(), host)
        if helper is not None:
            helper.store(_server(host), credentials)

        def enter(document: dict[str, Any]) -> None:
            auths = document.setdefault("auths", {})
            _drop(auths, host)
            auths[_server(host)] = {} if helper is not None else _entry(credentials)

        self._change(enter)

    def erase(self, host: str) -> None:
        """Forget the credentials for a registry, wherever they are kept.

        Raises:
            RegistryError: They cannot be forgotten.
        """
        document = self._read()
        helper = _helper(document, host)
        if helper is not None:
            helper.erase(_server(host))
        if any(_hostname(key) == _hostname(_server(host)) for key in _section(document, "auths")):
            self._change(lambda found: _drop(_section(found, "auths"), host))

    # --- the file ----------------------------------------------------------------------------

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            # What a parser says of the file may show a part of it.
            reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
            raise RegistryError(
                f"cannot read credentials from {self.path}: {reason}",
                remedy="repair or remove the file, or give credentials= explicitly",
            ) from None
        if not isinstance(document, dict):
            raise RegistryError(f"cannot read credentials from {self.path}: it is no JSON object")
        return document

    def _change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Rewrite the file, for this user alone, keeping what is not ours; one process at a time."""
        target = self.path.resolve()
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(target.parent):
                document = self._read()
                change(document)
                _replace(target, json.dumps(document, indent="\t").encode() + b"\n")
        except OSError as error:
            raise RegistryError(f"cannot write {self.path}: {error.strerror}") from error

    def _credentials(self, key: str, entry: dict[str, Any]) -> Credentials:
        username, password = entry.get("username") or "", entry.get("password") or ""
        if entry.get("auth"):
            try:
                pair = base64.b64decode(entry["auth"], validate=True).decode()
                username, colon, password = pair.rstrip("\0").partition(":")
            except (ValueError, TypeError):
                colon = ""
            if not colon:
                raise RegistryError(
                    f"cannot read credentials from {self.path}: auths[{key!r}].auth is damaged",
                    remedy="log in again",
                ) from None
        token = entry.get("identitytoken") or ""
        if not all(isinstance(text, str) for text in (username, password, token)):
            raise RegistryError(f"cannot read credentials from {self.path}: auths[{key!r}]")
        return Credentials(username, password, token)


def _entry(credentials: Credentials) -> dict[str, str]:
    pair = f"{credentials.username}:{credentials.password}".encode()
    entry = {"auth": base64.b64encode(pair).decode()}
    if credentials.token:
        entry["identitytoken"] = credentials.token
    return entry


def _helper(document: dict[str, Any], host: str) -> CredentialHelper | None:
    for key, name in _section(document, "credHelpers").items():
        if _hostname(key) == _hostname(_server(host)) and isinstance(name, str):
            return CredentialHelper(name)
    everybodys = document.get("credsStore")
    return CredentialHelper(everybodys) if isinstance(everybodys, str) and everybodys else None


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name)
    return section if isinstance(section, dict) else {}


def _server(host: str) -> str:
    """What Docker calls a registry in its configuration and to its helpers."""
    return _HUB if host in _HUB_NAMES else host


def _hostname(key: str) -> str:
    """The host of a key, which may have a scheme and a path."""
    name = key.partition("://")[2] or key
    name = name.partition("/")[0].lower()
    return "docker.io" if name in _HUB_NAMES else name


def _drop(auths: dict[str, Any], host: str) -> None:
    for key in [key for key in auths if _hostname(key) == _hostname(_server(host))]:
        del auths[key]


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
