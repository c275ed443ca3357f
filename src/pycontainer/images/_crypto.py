"""What is used of `cryptography`, which is there only with the extra ``sign``."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["InvalidSignature", "UnsupportedAlgorithm", "ec", "hashes", "serialization"]
