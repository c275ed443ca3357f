"""The ``Authorization`` headers of one registry's requests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from attrs import evolve

from pycontainer.errors import Unauthorized
from pycontainer.registry._scopes import Scopes, parse_scopes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontainer.registry._challenge import Challenge
    from pycontainer.registry._credentials import Credentials
    from pycontainer.registry._tokens import Token, TokenSource

__all__ = ["Authorizer"]

_KEPT: Final = 256


class Authorizer:
    """Knows by what a registry lets a request in; safe for many threads.

    What a registry wants it tells in its first refusal. From then on headers are made beforehand:
    one token for all requests that it covers, and another one in time before it expires.

    Args:
        find: Finds the credentials, when they are first needed.
        source: Where tokens come from.
    """

    def __init__(self, find: Callable[[], Credentials], source: TokenSource) -> None:
        self._find = find
        self._source = source
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._refresh = ""
        self._challenge: Challenge | None = None
        self._tokens: dict[Scopes, Token] = {}

    def header(self, scopes: Sequence[str]) -> str | None:
        """What a request should have; None if nothing is known to be wanted.

        Args:
            scopes: What the request needs to be allowed.

        Raises:
            RegistryError: A new token was needed and cannot be got.
        """
        with self._lock:
            if self._challenge is None:
                return None
            return self._make(self._challenge, parse_scopes(scopes))

    def renewed(
        self, used: str | None, challenges: Sequence[Challenge], scopes: Sequence[str]
    ) -> str | None:
        """What to try again by, after a refusal; None if there is nothing else to try.

        Args:
            used: The header that was refused.
            challenges: What the registry wants.
            scopes: What the request needs to be allowed.

        Raises:
            RegistryError: A new token cannot be got.
        """
        with self._lock:
            challenge = self._choose(challenges)
            if challenge is None:
                return None
            self._challenge = challenge
            for known, token in list(self._tokens.items()):
                if used == _bearer(token):
                    del self._tokens[known]
            asked = challenge.parameters.get("scope", "")
            header = self._make(challenge, parse_scopes((*scopes, asked)))
            return None if header == used else header

    def forget(self, credentials: Credentials | None = None) -> None:
        """Use these credentials from now on; None for those that will be found."""
        with self._lock:
            self._credentials = credentials
            self._refresh = ""
            self._tokens.clear()

    def redact(self, text: str) -> str:
        """A text that a registry answered, without secrets that it may have repeated."""
        known = self._credentials
        secrets = [*known.secrets] if known is not None else []
        secrets += [self._refresh, *(token.value for token in list(self._tokens.values()))]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text

    def _choose(self, challenges: Sequence[Challenge]) -> Challenge | None:
        """The one to meet: a token if there is a choice, a password only if there is one."""
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        if "bearer" in by_scheme:
            return by_scheme["bearer"]
        if "basic" in by_scheme and self._known().username:
            return by_scheme["basic"]
        return None

    def _make(self, challenge: Challenge, scopes: Scopes) -> str:
        if challenge.scheme == "basic":
            return self._known().basic
        for covered, token in list(self._tokens.items()):
            if not token.is_fresh:
                del self._tokens[covered]
            elif scopes <= covered:
                return _bearer(token)
        token = self._fetch(challenge, scopes)
        self._refresh = token.refresh or self._refresh
        while len(self._tokens) >= _KEPT:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[scopes] = token
        return _bearer(token)

    def _fetch(self, challenge: Challenge, scopes: Scopes) -> Token:
        if self._refresh:
            try:
                renewing = evolve(self._known(), token=self._refresh)
                return self._source.token(challenge, scopes, renewing)
            except Unauthorized:
                self._refresh = ""
        return self._source.token(challenge, scopes, self._known())

    def _known(self) -> Credentials:
        if self._credentials is None:
            self._credentials = self._find()
        return self._credentials


def _bearer(token: Token) -> str:
    return f"Bearer {token.value}"
