"""What a Dockerfile build is given, read and put together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pycontainer.build.dockerfile._document import Dockerfile
from pycontainer.build.dockerfile._ignore_file import read_ignore
from pycontainer.build.dockerfile._lint import check, lint_options
from pycontainer.build.dockerfile._lint_options import CHECK_ARG
from pycontainer.build.dockerfile._lowering import NamedContext, Request
from pycontainer.errors import BuildError, DockerfileError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from pycontainer.content import Store
    from pycontainer.oci import Platform

__all__ = ["read_request"]


def read_request(
    dockerfile: str | os.PathLike[str] | Dockerfile | None,
    *,
    context: Path,
    target: str | None,
    args: Mapping[str, str],
    contexts: Mapping[str, NamedContext],
    platform: Platform,
    store: Store,
) -> Request:
    """Read the Dockerfile and the ignore file of a context. For the arguments see `Request`.

    Raises:
        DockerfileError: The Dockerfile cannot be read, or wants warnings to be errors and has some.
        BuildError: The context or the ignore file cannot be read.
    """
    if not context.is_dir():
        raise BuildError(f"the context {context} is not a directory")
    path = None
    if not isinstance(dockerfile, Dockerfile):
        path = context / "Dockerfile" if dockerfile is None else Path(dockerfile)
        dockerfile = Dockerfile.read(path)
    ignore = read_ignore(context, path)
    _refuse_warnings(dockerfile, ignore, args.get(CHECK_ARG))
    return Request(
        dockerfile=dockerfile,
        context=context,
        ignore=ignore,
        target=target,
        args=args,
        contexts=contexts,
        platform=platform,
        store=store,
    )


def _refuse_warnings(dockerfile: Dockerfile, ignore: tuple[str, ...], options: str | None) -> None:
    """Refuse what has warnings where ``# check=error=true`` stands."""
    if not lint_options(dockerfile, options).error:
        return
    warnings = check(dockerfile, ignore=ignore, options=options)
    if warnings:
        first = warnings[0].location
        listed = "\n".join(map(str, warnings))
        raise DockerfileError(
            f"warnings are errors here, and there are {len(warnings)}:\n{listed}",
            file=dockerfile.file,
            line=first.first,
            remedy="mend them, or leave a rule out with # check=skip=RULE;error=true",
        )
