"""What a Builder knows for its builds and what makes no difference to what it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from pycontainer.build._graph import Vertex, depth_first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontainer.build.dockerfile._lowering import Request
    from pycontainer.content import Store
    from pycontainer.oci import Platform

__all__ = ["Given", "Origin", "Secret", "SshPlace", "agents_of", "secrets_of"]

Secret = str | bytes | Path
"""A secret: itself, or the path of a file that holds it."""

SshPlace = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""The socket of an SSH agent, or the file of a private key, or several of these."""


@frozen
class Origin:
    """The Dockerfile that a Builder was made from.

    Attributes:
        request: What was asked for.
        target: What was made of it, for the platform of the request.
    """

    request: Request
    target: Vertex

    def for_platform(self, target: Vertex, platform: Platform) -> Vertex:
        """A stage that goes on from the Dockerfile's, as if that had been read for another platform.

        What instructions mean depends on the platform: arguments such as ``TARGETARCH``, base images, and
        their environments.

        Raises: as `Builder.from_dockerfile`.
        """
        if platform == self.request.platform:
            return target
        from pycontainer.build.dockerfile._lowering import lower

        made = {self.target: lower(evolve(self.request, platform=platform)).target}
        for vertex in depth_first(target):
            if vertex not in made:
                inputs = tuple(made[each] for each in vertex.inputs)
                made[vertex] = vertex if inputs == vertex.inputs else evolve(vertex, inputs=inputs)
        return made[target]


@frozen(kw_only=True, repr=False)
class Given:
    """What a Builder knows for its builds and what makes no difference to what it is.

    Attributes:
        store: Where to build.
        secrets: By id.
        ssh: The socket of an agent, or the files of keys, by id.
        proxies: Variables for commands.
        insecure: Whether commands may ask for all rights.
        origin: The Dockerfile that the Builder was made from; None if there was none.
    """

    store: Store | None = None
    secrets: Mapping[str, bytes | Path] = field(factory=dict)
    ssh: Mapping[str, tuple[Path, ...]] = field(factory=dict)
    proxies: Mapping[str, str] = field(factory=dict)
    insecure: bool = False
    origin: Origin | None = None

    @property
    def ignore(self) -> tuple[str, ...]:
        """The patterns of what the Dockerfile does not see of the context."""
        return () if self.origin is None else self.origin.request.ignore

    @property
    def platform(self) -> Platform | None:
        """What the Dockerfile was read for."""
        return None if self.origin is None else self.origin.request.platform


def secrets_of(given: Mapping[str, Secret] | None) -> dict[str, bytes | Path]:
    """Secrets as steps take them."""
    return {
        name: value.encode() if isinstance(value, str) else value
        for name, value in (given or {}).items()
    }


def agents_of(given: Mapping[str, SshPlace] | None) -> dict[str, tuple[Path, ...]]:
    """Sockets of agents and files of keys as steps take them."""
    return {
        name: (Path(paths),)
        if isinstance(paths, str | os.PathLike)
        else tuple(Path(path) for path in paths)
        for name, paths in (given or {}).items()
    }
