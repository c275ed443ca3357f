"""What a Builder knows for its builds and what makes no difference to what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from pycontainer.errors import BuildError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from pycontainer.build.dockerfile import Dockerfile
    from pycontainer.content import Store
    from pycontainer.oci import Platform

__all__ = ["Given", "Secret", "secrets_of", "sockets_of"]

Secret = str | bytes | Path
"""A secret: itself, or the path of a file that holds it."""


@frozen(kw_only=True, repr=False)
class Given:
    """What a Builder knows for its builds and what makes no difference to what it is.

    Attributes:
        store: Where to build.
        secrets: By id.
        ssh: Sockets of agents, by id.
        proxies: Variables for commands.
        insecure: Whether commands may ask for all rights.
        dockerfile: What the Builder was made from.
        ignore: The patterns of that Dockerfile's ignore file.
        platform: What that Dockerfile was read for.
    """

    store: Store | None = None
    secrets: Mapping[str, bytes | Path] = field(factory=dict)
    ssh: Mapping[str, Path] = field(factory=dict)
    proxies: Mapping[str, str] = field(factory=dict)
    insecure: bool = False
    dockerfile: Dockerfile | None = None
    ignore: tuple[str, ...] = ()
    platform: Platform | None = None

    def refuse_other_platforms(self, platforms: Iterable[Platform]) -> None:
        """Refuse platforms that a Dockerfile was not read for: its arguments and bases depend on them.

        Raises:
            BuildError: There is one.
        """
        for platform in platforms:
            if self.platform is not None and platform != self.platform:
                raise BuildError(
                    f"the Dockerfile was read for {self.platform}, not for {platform}",
                    remedy=f"build Builder.from_dockerfile(…, platform={str(platform)!r})",
                )


def secrets_of(given: Mapping[str, Secret] | None) -> dict[str, bytes | Path]:
    """Secrets as steps take them."""
    return {
        name: value.encode() if isinstance(value, str) else value
        for name, value in (given or {}).items()
    }


def sockets_of(given: Mapping[str, str | os.PathLike[str]] | None) -> dict[str, Path]:
    """Sockets of agents as steps take them."""
    return {name: Path(path) for name, path in (given or {}).items()}
