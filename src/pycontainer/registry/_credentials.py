"""What a registry is told about who asks."""

from __future__ import annotations

import base64

from attrs import field, frozen

__all__ = ["ANONYMOUS", "Credentials"]


@frozen
class Credentials:
    """A user's name and password, or an identity token; neither is ever shown.

    Without any of them: nobody in particular, even if Docker's configuration knows somebody.

    Attributes:
        username: Who asks; must not have a colon.
        password: A password or an access token that stands for one.
        token: An identity token (OAuth2 refresh token), as token servers give them.
    """

    username: str = field(default="")
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @username.validator
    def _(self, attribute: object, value: str) -> None:  # noqa: ARG002  (attrs' signature)
        if ":" in value:
            raise ValueError("a user's name must not have a colon (RFC 7617)")

    def __bool__(self) -> bool:
        return bool(self.username or self.token)

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header by the Basic scheme (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that must never be shown."""
        known = (self.password, self.token, self.basic.partition(" ")[2] if self.password else "")
        return tuple(secret for secret in known if secret)


ANONYMOUS = Credentials()
