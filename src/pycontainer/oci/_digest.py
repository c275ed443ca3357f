"""Digests (OCI image-spec, descriptor.md, *Digests*)."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from attrs import frozen

from pycontainer.errors import SpecError

__all__ = ["Digest"]

_HEX_DIGITS: Final = {"sha256": 64, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]+")
_SHOWN: Final = 160


@frozen(order=True)
class Digest:
    """An algorithm and what it makes of some bytes, in hexadecimal.

    Attributes:
        algorithm: ``sha256`` or ``sha512``.
        hex: 64 or 128 hexadecimal digits in lower case.

    Raises:
        ValueError: The parts do not make a digest; what comes from outside goes through `parse`.
    """

    algorithm: str
    hex: str

    def __attrs_post_init__(self) -> None:
        if fault := _fault(self.algorithm, self.hex):
            raise ValueError(f"not a digest: {str(self)[:_SHOWN]!r}: {fault}")

    @classmethod
    def parse(cls, text: str, *, path: str = "") -> Digest:
        """Read ``sha256:…``.

        Args:
            text: The digest.
            path: Where in a document it stands, for the error.

        Raises:
            SpecError: It is no digest, or of an algorithm that is not supported.
        """
        algorithm, colon, encoded = text.partition(":")
        fault = _fault(algorithm, encoded) if colon else "there is no colon in it"
        if fault:
            raise SpecError(f"not a digest: {text[:_SHOWN]!r}: {fault}", path=path)
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of some bytes."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @property
    def short(self) -> str:
        """The first twelve digits, for people."""
        return self.hex[:12]

    def hasher(self) -> hashlib._Hash:
        """A fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def _fault(algorithm: str, encoded: str) -> str | None:
    digits = _HEX_DIGITS.get(algorithm)
    if digits is None:
        return f"the algorithm is none of {', '.join(_HEX_DIGITS)}"
    if len(encoded) != digits or not _HEX.fullmatch(encoded):
        return f"{algorithm} has {digits} hexadecimal digits in lower case"
    return None
