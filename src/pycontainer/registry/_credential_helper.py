"""Programs that keep credentials: the protocol of ``docker-credential-<name>``."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any, Final

from attrs import field, frozen

from pycontainer.errors import RegistryError
from pycontainer.registry._credentials import Credentials

__all__ = ["CredentialHelper"]

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_NOT_FOUND: Final = "credentials not found in native keychain"
_TOKEN_USER: Final = "<token>"  # noqa: S105  (tells that the secret is an identity token)


@frozen
class CredentialHelper:
    """One such program; it is looked for in ``PATH``.

    Attributes:
        name: What follows ``docker-credential-`` in its name.
        timeout: Seconds it may take: it may ask the user.
    """

    name: str
    timeout: float = field(default=120.0, kw_only=True)

    def get(self, server: str) -> Credentials | None:
        """What it knows for a server; None if that is nothing.

        Raises:
            RegistryError: It is not there, or fails.
        """
        done = self._run("get", server)
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            if said == _NOT_FOUND:
                return None
            raise self._failure("get", said or done.stderr.decode(errors="replace").strip())
        found = self._parse(said)
        if found["Username"] == _TOKEN_USER:
            return Credentials(token=found["Secret"])
        return Credentials(found["Username"], found["Secret"])

    def store(self, server: str, credentials: Credentials) -> None:
        """Let it keep credentials.

        Raises:
            RegistryError: It is not there, or fails.
        """
        user, secret = credentials.username, credentials.password
        if credentials.token:
            user, secret = _TOKEN_USER, credentials.token
        document = {"ServerURL": server, "Username": user, "Secret": secret}
        self._change("store", json.dumps(document), secret)

    def erase(self, server: str) -> None:
        """Let it forget what it knows for a server; nothing is fine.

        Raises:
            RegistryError: It is not there, or fails.
        """
        self._change("erase", server)

    def _change(self, verb: str, given: str, secret: str = "") -> None:
        done = self._run(verb, given)
        said = (done.stdout or done.stderr).decode(errors="replace").strip()
        if done.returncode and said != _NOT_FOUND:
            raise self._failure(verb, said.replace(secret, "***") if secret else said)

    def _run(self, verb: str, given: str) -> subprocess.CompletedProcess[bytes]:
        if not _NAME.fullmatch(self.name):
            raise RegistryError(f"{self.name!r} cannot be the name of a credential helper")
        program = f"docker-credential-{self.name}"
        try:
            return subprocess.run(  # noqa: S603  (the user's own configuration names it)
                [program, verb],
                input=given.encode(),
                capture_output=True,
                timeout=self.timeout,
                check=False,
            )
        except OSError as error:
            raise RegistryError(
                f"the credential helper {program} cannot be started: {error.strerror}",
                remedy="install it, take it out of Docker's config.json, or give credentials=",
            ) from error
        except subprocess.TimeoutExpired:
            # The exception holds what the helper was given: it must not be shown as the cause.
            raise RegistryError(
                f"the credential helper {program} {verb} took more than {self.timeout:g} s"
            ) from None

    def _parse(self, said: str) -> dict[str, Any]:
        try:
            document = json.loads(said)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or not all(
            isinstance(document.get(name), str) for name in ("Username", "Secret")
        ):
            raise self._failure("get", "its answer is of no known form")
        return document

    def _failure(self, verb: str, reason: str) -> RegistryError:
        return RegistryError(
            f"the credential helper docker-credential-{self.name} {verb} failed: "
            f"{reason[:300] or 'no reason given'}"
        )
