"""Platforms: operating system, processor and its variant (OCI image-spec, image-index.md)."""

from __future__ import annotations

import platform as _host
import sys
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from pycontainer.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainer.oci._json import Json, Reader

__all__ = ["Platform"]

_ARCHITECTURES: Final = {
    "x86_64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "arm64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armhf": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}
_DEFAULT_VARIANT: Final = {"arm64": "v8", "arm": "v7"}


@frozen
class Platform:
    """What an image runs on, in Go's names: ``linux``, ``amd64``."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(factory=dict, hash=False)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``os/architecture[/variant]``; machine names such as ``x86_64`` are understood.

        Raises:
            SpecError: It is neither.
        """
        parts = text.strip().lower().split("/")
        if len(parts) == 1 and parts[0] in _ARCHITECTURES:
            parts = ["linux", parts[0]]
        if not 2 <= len(parts) <= 3 or not all(parts):
            raise SpecError(
                f"not a platform: {text!r}", remedy="write it like linux/amd64 or linux/arm/v7"
            )
        architecture, variant = _ARCHITECTURES.get(parts[1], (parts[1], ""))
        return cls(parts[0], architecture, parts[2] if len(parts) == 3 else variant)

    @classmethod
    def current(cls) -> Platform:
        """The platform whose images this machine can run: always Linux, whatever the host is."""
        machine = _host.machine().lower()
        architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
        if architecture == "amd64" and sys.maxsize < 1 << 32:
            architecture = "386"
        return cls("linux", architecture, variant)

    def matches(self, wanted: Platform) -> bool:
        """Whether this is what `wanted` asks for; a variant left out is the usual one."""
        return (
            self.os == wanted.os
            and self.architecture == wanted.architecture
            and self._full_variant() == wanted._full_variant()
        )

    def _full_variant(self) -> str:
        return self.variant or _DEFAULT_VARIANT.get(self.architecture, "")

    @classmethod
    def read(cls, reader: Reader) -> Platform:
        """Read a platform member."""
        return cls(
            os=reader.text("os"),
            architecture=reader.text("architecture"),
            variant=reader.text("variant"),
            os_version=reader.text("os.version"),
            os_features=reader.items("os.features", str),
            extra=reader.rest(),
        )

    def to_json(self) -> Json:
        """The platform as plain values."""
        document: Json = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            document["os.version"] = self.os_version
        if self.os_features:
            document["os.features"] = list(self.os_features)
        if self.variant:
            document["variant"] = self.variant
        document.update(self.extra)
        return document

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))
