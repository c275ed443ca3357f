"""How a registry is served: who may do what, and within which limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from attrs import field, frozen

from pycontainer.errors import RegistryError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from pycontainer.registry._upstream import Upstream

__all__ = ["Action", "ServerOptions", "read_htpasswd"]

Action = Literal["pull", "push", "delete", "list"]
"""What is asked of a repository; ``list`` is for the names of all, with an empty repository."""

_BCRYPT: Final = ("$2a$", "$2b$", "$2y$")
_LEAST_KEY: Final = 16


def _check_key(_options: object, _attribute: object, key: bytes | None) -> None:
    if key is not None and len(key) < _LEAST_KEY:
        raise RegistryError(f"a key for tokens needs {_LEAST_KEY} bytes, found {len(key)}")


@frozen(kw_only=True)
class ServerOptions:
    """What `serve` can be told.

    Attributes:
        users: Names with bcrypt hashes of their passwords, as `read_htpasswd` gives them. Without any,
            nobody is asked who they are.
        authorize: Decides: gets a user's name (None for somebody unknown), a repository and an
            `Action`. None lets users do everything, and unknown ones only where there are no `users`.
            Called from worker threads.
        tokens: Whether clients get Bearer tokens for name and password, with the scopes that
            `authorize` grants ("Token Authentication"), in place of sending these with each request.
        token_seconds: How long a token is good.
        token_key: Random bytes, 16 at least, which servers that share a bucket or directory need to take
            each other's tokens; None for a server's own, so that its tokens end with it.
        public_url: By what clients reach the server (``https://registry.example``) where something that
            speaks TLS for it stands in between; None for what they say themselves.
        certificate: Files of a certificate chain and its key, in PEM; the server then speaks TLS.
        read_only: Whether every change is refused.
        upstream: What is not held is fetched from there and kept, and changes are refused
            (a pull-through cache). Tags are looked at again when they are of some age.
        largest_manifest: Bytes; the specification asks for 4 MiB at least.
        most_uploads: How many request bodies may come in at once; who comes later is told to come again.
        upload_seconds: How long an upload may lie still until it is forgotten.
        metrics: Whether ``/metrics`` tells, to everybody, in Prometheus' text format what the server does.
    """

    users: Mapping[str, str] = field(factory=dict, repr=False)
    authorize: Callable[[str | None, str, Action], bool] | None = None
    tokens: bool = False
    token_seconds: int = 300
    token_key: bytes | None = field(default=None, repr=False, validator=_check_key)
    public_url: str | None = None
    certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None
    read_only: bool = False
    upstream: Upstream | None = None
    largest_manifest: int = 4 << 20
    most_uploads: int = 64
    upload_seconds: float = 7 * 24 * 3600.0
    metrics: bool = False

    def allows(self, user: str | None, repository: str, action: Action) -> bool:
        """Whether somebody may do that."""
        if self.authorize is not None:
            return self.authorize(user, repository, action)
        return user is not None or not self.users


def read_htpasswd(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a file of users made by ``htpasswd -B``: lines of ``name:hash``.

    Raises:
        RegistryError: It cannot be read, or holds something else than bcrypt hashes.
    """
    users = {}
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"cannot read the users in {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, hashed = line.strip().partition(":")
        if not name or not hashed.startswith(_BCRYPT):
            raise RegistryError(
                f"line {number} of {path} is no user with a bcrypt hash",
                remedy=f"make it by: htpasswd -B {path} NAME",
            )
        users[name] = hashed
    return users
