"""Who decides whether an image may come in: a signature, a function of the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import frozen

from pycontainer.images import _sign

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.images._sign import PublicKey
    from pycontainer.oci import Digest, Reference
    from pycontainer.registry import Client

__all__ = ["Policy", "Trust"]

Policy = Literal["always", "missing", "never"]
"""When a registry is asked for an image."""


@frozen(kw_only=True)
class Trust:
    """What must hold of an image before more than its manifest is fetched.

    Attributes:
        signed_by: By whose key it must be signed; None for no matter.
        accept: Raises to refuse the name with the digest that it stands for; None for nobody.
    """

    signed_by: PublicKey | None = None
    accept: Callable[[Reference, Digest], None] | None = None

    def refuse_without_asking(self, policy: Policy) -> None:
        """Refuse to take an image out of the store that nobody has judged.

        Raises:
            ValueError: By that policy the registry need not be asked, although something is to hold.
        """
        if policy != "always" and (self.signed_by is not None or self.accept is not None):
            raise ValueError(
                f"signed_by= and accept= judge what the registry has; with policy={policy!r} an image "
                "of the store would pass unseen: leave the policy 'always', which fetches no layer "
                "that is there"
            )

    def check(self, client: Client, reference: Reference, digest: Digest) -> None:
        """Let a digest pass, or raise.

        Args:
            client: Of the registry, which has the signatures.
            reference: What was asked for.
            digest: What that stands for, an image or an index.

        Raises:
            SignatureError: It has no such signature.
        """
        if self.signed_by is not None:
            _sign.verified(client, reference.repository, digest, self.signed_by)
        if self.accept is not None:
            self.accept(reference, digest)
