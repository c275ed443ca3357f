"""Who asks, and whether they may: the server's side of Basic and token authentication."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, cast

import bcrypt
from attrs import frozen

from pycontainer.registry._codes import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pycontainer.registry._server_options import Action, ServerOptions

__all__ = ["Guard", "Identity", "actions_of", "needed"]

_REALM: Final = "pycontainer"
_MOST_REMEMBERED: Final = 1000
_NOBODY: Final = bcrypt.hashpw(b"", bcrypt.gensalt(4)).decode()
_METHODS: Final[Mapping[str, Action]] = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}
_ACTIONS: Final[tuple[Action, ...]] = ("pull", "push", "delete")


@frozen
class Identity:
    """Somebody who asks.

    Attributes:
        user: Their name; None if they did not say it.
        granted: What their token is for, by repository; None where they sent none.
    """

    user: str | None = None
    granted: Mapping[str, frozenset[str]] | None = None


def needed(method: str, path: str, repository: str | None) -> tuple[str, Action] | None:
    """The repository and what a request does to it; None where it is enough to be known."""
    if repository is not None:
        return repository, _METHODS.get(method, "push")
    return ("", "list") if path.startswith("/v2/_catalog") else None


def actions_of(scope: str) -> tuple[str, list[Action]]:
    """The repository and the actions of a scope such as ``repository:team/app:pull,push``.

    Raises:
        ApiError: It is no such scope.
    """
    kind, _, rest = scope.partition(":")
    name, _, words = rest.rpartition(":")
    if kind == "registry" and name == "catalog":
        return "", ["list"]
    if kind != "repository" or not name:
        raise ApiError("UNSUPPORTED", f"no such scope: {scope[:200]!r}", status=400)
    asked = words.split(",")
    return name, [action for action in _ACTIONS if action in asked or "*" in asked]


class Guard:
    """Checks requests against the options of a server; safe for many threads."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._key = options.token_key or secrets.token_bytes(32)
        self._known: dict[str, bytes] = {}

    @property
    def open(self) -> bool:
        """Whether everybody may do everything."""
        return not self._options.users and self._options.authorize is None

    def identify(self, authorization: str | None) -> Identity:
        """Who sent a request with that header.

        Raises:
            ApiError: The name, password or token is wrong.
        """
        if not authorization:
            return Identity()
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "basic" and not self._options.tokens:
            return Identity(self.user_of(value.strip()))
        if scheme.lower() == "bearer" and self._options.tokens:
            return self._read_token(value.strip())
        raise _unauthorized("this registry does not take that kind of credentials")

    def user_of(self, basic: str) -> str | None:
        """The name in Basic credentials, once the password is found right; None if both are empty."""
        try:
            name, colon, password = base64.b64decode(basic, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _unauthorized("the credentials are not of the Basic scheme's form") from error
        if colon and not name and not password:  # so skopeo and podman say that they know nobody
            return None
        if not colon or not self.password_is(name, password):
            raise _unauthorized("the name or the password is wrong")
        return name

    def password_is(self, name: str, password: str) -> bool:
        """Whether that is a user's password; slow the first time, as bcrypt is meant to be."""
        digest = hmac.digest(self._key, f"{name}\0{password}".encode(), hashlib.sha256)
        if (known := self._known.get(name)) is not None and hmac.compare_digest(known, digest):
            return True
        hashed = self._options.users.get(name, _NOBODY).encode()
        try:
            right = bcrypt.checkpw(password.encode(), hashed) and name in self._options.users
        except ValueError:  # more than bcrypt takes
            return False
        if right:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[name] = digest
        return right

    def check(self, who: Identity, repository: str, action: Action) -> None:
        """Let a request pass, or raise.

        Raises:
            ApiError: It is not known who asks, or they may not do that.
        """
        if self.permits(who, repository, action):
            return
        if who.user is None or (
            who.granted is not None and self._may(who.user, repository, action)
        ):
            raise _unauthorized(f"{action} needs credentials that allow it")
        raise ApiError("DENIED", f"{who.user} may not {action} {repository or 'repositories'}")

    def permits(self, who: Identity, repository: str, action: Action) -> bool:
        """Whether they may, by their token where they have one."""
        if who.granted is not None and action not in who.granted.get(repository, ()):
            return False
        return self._may(who.user, repository, action)

    def _may(self, user: str | None, repository: str, action: Action) -> bool:
        return self._options.allows(user, repository, action)

    def challenge(self, origin: str, wanted: tuple[str, Action] | None) -> str:
        """What ``WWW-Authenticate`` says.

        Args:
            origin: Scheme and host by which the client reached this server.
            wanted: What it wanted to do.
        """
        if not self._options.tokens:
            return f'Basic realm="{_REALM}"'
        text = f'Bearer realm="{origin}/token",service="{_REALM}"'
        if wanted is None:
            return text
        repository, action = wanted
        if action == "list":
            return f'{text},scope="registry:catalog:*"'
        return (
            f'{text},scope="repository:{repository}:{"pull,push" if action == "push" else action}"'
        )

    # --- tokens ------------------------------------------------------------------------------

    def make_token(self, user: str | None, scopes: Iterable[str]) -> str:
        """A token for what a user may do of that."""
        granted: dict[str, list[str]] = {}
        for scope in scopes:
            repository, actions = actions_of(scope)
            allowed = [action for action in actions if self._may(user, repository, action)]
            granted[repository] = sorted({*granted.get(repository, []), *allowed})
        claims = {"sub": user, "access": granted, "exp": time.time() + self._options.token_seconds}
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode())
        return f"{payload.decode()}.{self._sign(payload)}"

    def _read_token(self, token: str) -> Identity:
        payload, _, signature = token.partition(".")
        if not hmac.compare_digest(self._sign(payload.encode()).encode(), signature.encode()):
            raise _unauthorized("the token is not of this server")
        claims = cast("dict[str, Any]", json.loads(base64.urlsafe_b64decode(payload)))
        if claims["exp"] < time.time():
            raise _unauthorized("the token has expired")
        access = {name: frozenset(actions) for name, actions in claims["access"].items()}
        return Identity(claims["sub"], access)

    def _sign(self, payload: bytes) -> str:
        return hmac.new(self._key, b"token:" + payload, hashlib.sha256).hexdigest()


def _unauthorized(message: str) -> ApiError:
    return ApiError("UNAUTHORIZED", message)
