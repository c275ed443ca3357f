"""By which runtime a container's first process is started."""

from __future__ import annotations

import os
from typing import Final, Literal, get_args

from pycontainer.errors import ContainerError
from pycontainer.runtime import find_runtime

__all__ = ["Runtime", "chosen_runtime"]

Runtime = Literal["embedded", "runc", "crun"]

_VARIABLE: Final = "PYCONTAINER_RUNTIME"


def chosen_runtime(given: Runtime | None) -> Runtime:
    """The runtime that a caller asks for, or else the environment; without either ``embedded``.

    Raises:
        ContainerError: There is none of that name.
        UnsupportedFeature: It is not installed.
    """
    name = given or os.environ.get(_VARIABLE) or "embedded"
    known: tuple[Runtime, ...] = get_args(Runtime)
    for runtime in known:
        if name == runtime:
            if runtime != "embedded":
                find_runtime(runtime)
            return runtime
    where = f"runtime={name!r}" if given else f"{_VARIABLE}={name}"
    raise ContainerError(f"{where} is no runtime", remedy=f"choose from {', '.join(known)}")
