"""Platforms as callers name them."""

from __future__ import annotations

from typing import Final

from pycontainer.oci import Platform

__all__ = ["ALL", "one_platform", "parse_platform"]

ALL: Final = "all"
"""In place of a platform: each that there is."""


def parse_platform(platform: str | Platform | None) -> Platform | None:
    """A platform that may be given as text.

    Raises:
        SpecError: The text is none.
    """
    return Platform.parse(platform) if isinstance(platform, str) else platform


def one_platform(platform: str | Platform | None) -> Platform | None:
    """The same where `ALL` may be meant; None for that, too."""
    return None if platform == ALL else parse_platform(platform)
