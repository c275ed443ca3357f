"""Platforms: operating system, processor and its variant (OCI image-spec, image-index.md)."""

from __future__ import annotations

import platform as _machine
import re
import sys
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.errors import SpecError
from pycontainer.oci._frozen import frozen_members
from pycontainer.oci._json import Fields, Json, merge

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Platform"]

_ARCHITECTURES: Final = {
    "aarch64": ("arm64", ""),
    "armel": ("arm", "v6"),
    "armhf": ("arm", "v7"),
    "armv5l": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
    "x86-64": ("amd64", ""),
    "x86_64": ("amd64", ""),
}
"""Names that machines and people use, in Go's words."""

_KNOWN: Final = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"}
)
_USUAL_VARIANT: Final = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
_VARIANT: Final = re.compile(r"v(\d{1,4})(?:\.(\d{1,4}))?")
_PART: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")


@frozen
class Platform:
    """What an image runs on, in Go's words: ``linux``, ``amd64``.

    Attributes:
        os: The operating system.
        architecture: The processor.
        variant: Its variant, such as ``v7``; empty for the architecture's usual one.
        os_version: Version of the operating system; only Windows images have it.
        os_features: Features it must have.
        extra: Members that this library does not know.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(factory=dict, converter=frozen_members, hash=False)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``os/architecture[/variant]``, or an architecture alone, which is Linux on it.

        Names that machines give themselves, such as ``x86_64``, are understood.

        Raises:
            SpecError: It is neither.
        """
        parts = text.strip().lower().split("/")
        if len(parts) == 1 and (parts[0] in _ARCHITECTURES or parts[0] in _KNOWN):
            parts.insert(0, "linux")
        if not 2 <= len(parts) <= 3 or not all(map(_PART.fullmatch, parts)):
            raise SpecError(
                f"not a platform: {text[:160]!r}",
                remedy="write it like linux/amd64 or linux/arm/v7",
            )
        architecture, variant = _ARCHITECTURES.get(parts[1], (parts[1], ""))
        return cls(parts[0], architecture, parts[2] if len(parts) == 3 else variant)

    @classmethod
    def current(cls) -> Platform:
        """The platform whose images this machine runs: always Linux, whatever the host is."""
        machine = _machine.machine().lower()
        architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
        if architecture == "amd64" and sys.maxsize < 1 << 32:
            architecture = "386"
        return cls("linux", architecture, variant)

    def matches(self, wanted: Platform) -> bool:
        """Whether this is what `wanted` asks for; a variant left out is the usual one."""
        return self.distance(wanted) == 0

    def distance(self, wanted: Platform) -> int | None:
        """How far an image for this platform is from the best one for `wanted`.

        Processors run programs for older variants of themselves, so those are far, not impossible.

        Returns:
            0 if it is the very one, more the older the variant is, None if it does not run there.
        """
        if (self.os, self.architecture) != (wanted.os, wanted.architecture):
            return None
        if wanted.os_version and self.os_version != wanted.os_version:
            return None
        has, wants = self._full_variant(), wanted._full_variant()
        if has == wants:
            return 0
        has_level, wants_level = _level(has), _level(wants)
        if has_level is None or wants_level is None or has_level > wants_level:
            return None
        return wants_level - has_level

    def _full_variant(self) -> str:
        return self.variant or _USUAL_VARIANT.get(self.architecture, "")

    @classmethod
    def from_json(cls, value: object, path: str = "") -> Platform:
        """Read a descriptor's ``platform``.

        Raises:
            SpecError: Something of it has the wrong type.
        """
        fields = Fields(value, path)
        return cls(
            os=fields.text("os"),
            architecture=fields.text("architecture"),
            variant=fields.text("variant"),
            os_version=fields.text("os.version"),
            os_features=fields.texts("os.features"),
            extra=fields.rest(),
        )

    def to_json(self) -> Json:
        """The platform as plain values."""
        known = {
            "architecture": self.architecture,
            "os": self.os,
            "os.version": self.os_version or None,
            "os.features": list(self.os_features) or None,
            "variant": self.variant or None,
        }
        return merge(known, self.extra)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def _level(variant: str) -> int | None:
    """``v8.2`` as a number that grows with what the processor can do."""
    match = _VARIANT.fullmatch(variant)
    return None if match is None else int(match[1]) * 10_000 + int(match[2] or 0)
