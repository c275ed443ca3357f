"""A Dockerfile as a Builder goes on from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pycontainer.build._file_steps import FileSteps
from pycontainer.build._git import parse_git
from pycontainer.build._given import Given, Origin
from pycontainer.build._graph import Vertex
from pycontainer.build._sources import LocalSource
from pycontainer.build.dockerfile._frontend import read_request
from pycontainer.build.dockerfile._ignore_file import read_ignore
from pycontainer.build.dockerfile._lowering import Lowered, NamedContext, lower
from pycontainer.build.dockerfile._scope import PROXIES
from pycontainer.errors import BuildError
from pycontainer.images import Image

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from pycontainer.build._builder import Builder
    from pycontainer.build.dockerfile import Dockerfile
    from pycontainer.content import Store
    from pycontainer.oci import Platform

__all__ = ["read_dockerfile"]

_SCHEME: Final = re.compile("[a-z][a-z0-9+.-]*://")


def read_dockerfile(
    dockerfile: str | os.PathLike[str] | Dockerfile | None,
    *,
    context: Path,
    target: str | None,
    args: Mapping[str, str],
    contexts: Mapping[str, str | os.PathLike[str] | Image | Builder],
    platform: Platform,
    store: Store,
) -> tuple[Lowered, Given]:
    """The wanted stage, and what its Builder has to know; for arguments and errors see `Builder`."""
    request = read_request(
        dockerfile,
        context=context,
        target=target,
        args=args,
        contexts={name: _named(value) for name, value in contexts.items()},
        platform=platform,
        store=store,
    )
    lowered = lower(request)
    proxies = {name: value for name, value in request.args.items() if name in PROXIES}
    return lowered, Given(store=store, proxies=proxies, origin=Origin(request, lowered.target))


def _named(context: str | os.PathLike[str] | Image | Builder) -> NamedContext:
    """A named context as the frontend takes it."""
    if isinstance(context, FileSteps):
        return context.target
    if isinstance(context, Image):
        return context
    text = str(context)
    if text.startswith("docker-image://"):
        return text
    if (git := parse_git(text)) is not None:
        return Vertex(git)
    if _SCHEME.match(text):
        raise BuildError(
            f"no context can be had from {text}",
            remedy="name a directory, docker-image://NAME or a git repository, or give a Builder or an "
            "Image, such as Image.load makes of an OCI layout",
        )
    path = Path(context)
    return Vertex(LocalSource(path.absolute(), read_ignore(path)))
