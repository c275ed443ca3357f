"""Tokens of a token server (Docker's token authentication, and its OAuth2 variant)."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from attrs import field, frozen

from pycontainer.errors import RegistryError, Unauthorized
from pycontainer.registry._requests import Request
from pycontainer.registry._scopes import Scopes, format_scopes

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.registry._challenge import Challenge
    from pycontainer.registry._credentials import Credentials
    from pycontainer.registry._requests import Answer

__all__ = ["Token", "TokenSource"]

_LIFETIME: Final = 60.0  # where the server tells none, as the specification has it
_LONGEST_LIFETIME: Final = 30 * 86400.0
_CLIENT: Final = "pycontainer"


@frozen
class Token:
    """What a token server gave.

    Attributes:
        value: The token.
        refresh: An identity token to get others by, or empty.
        stale: When it should not be used any more, on the monotonic clock.
    """

    value: str = field(repr=False)
    refresh: str = field(repr=False)
    stale: float

    @property
    def is_fresh(self) -> bool:
        """Whether a request that begins now can be made by it."""
        return time.monotonic() < self.stale


@frozen
class TokenSource:
    """Asks token servers.

    Attributes:
        registry: The registry they work for, as messages name it.
        send: Sends a request to the token server of the realm that is its target.
    """

    registry: str
    send: Callable[[Request], Answer]

    def token(self, challenge: Challenge, scopes: Scopes, credentials: Credentials) -> Token:
        """A token for these scopes.

        Raises:
            Unauthorized: The token server refuses the credentials.
            RegistryError: It cannot be reached, or answers against the rules.
        """
        realm = challenge.parameters.get("realm", "")
        if not realm:
            raise RegistryError(f"{self.registry} wants a token but does not say whose (no realm)")
        service = challenge.parameters.get("service", "")
        begun = time.monotonic()
        try:
            answer = self.send(self._request(realm, service, format_scopes(scopes), credentials))
        except Unauthorized as error:
            who = f"of {credentials.username!r}" if credentials.username else "it was given"
            raise Unauthorized(
                f"the token server of {self.registry} refuses the credentials {who}: "
                f"{error.message}",
                status=error.status,
                code=error.code,
                remedy=f'Registry("{self.registry}").login(...), or docker login',
            ) from error
        return self._read(answer, begun)

    def _request(
        self, realm: str, service: str, scopes: list[str], credentials: Credentials
    ) -> Request:
        what = f"get a token for {self.registry}"
        if credentials.token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(scopes),
                "refresh_token": credentials.token,
            }
            return Request(
                "POST",
                realm,
                what,
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                body=urlencode(form).encode(),
                repeatable=True,
                confidential=True,
            )
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        headers = {}
        if credentials:
            query.append(("account", credentials.username))
            headers["Authorization"] = credentials.basic
        separator = "&" if "?" in realm else "?"
        target = f"{realm}{separator}{urlencode(query)}" if query else realm
        return Request("GET", target, what, headers=headers)

    def _read(self, answer: Answer, begun: float) -> Token:
        try:
            document = json.loads(answer.data)
            value = document.get("token") or document.get("access_token")
            lifetime = float(document.get("expires_in") or _LIFETIME)
        except (ValueError, TypeError, AttributeError, RecursionError):
            value, lifetime = None, _LIFETIME
        # The header that it goes into must be one line of ASCII.
        if not isinstance(value, str) or not (value.isascii() and value.isprintable() and value):
            raise RegistryError(
                f"the token server of {self.registry} answers without a token", status=answer.status
            )
        refresh = document.get("refresh_token")
        lifetime = min(max(lifetime, 0.0), _LONGEST_LIFETIME)
        stale = begun + lifetime - min(10.0, lifetime / 4)
        return Token(value, refresh if isinstance(refresh, str) else "", stale)
