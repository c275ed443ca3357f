"""Containers whose command is an init system, such as systemd: what that finds on a machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from attrs import evolve

from pycontainer.containers._mount import Mount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.containers._options import Options

__all__ = ["as_system"]

_INIT: Final = "/sbin/init"
# By https://systemd.io/CONTAINER_INTERFACE: a clean shutdown, and how it knows where it is.
_STOP: Final = "SIGRTMIN+3"
_ENVIRONMENT: Final = {"container": "oci"}
_TMPFS: Final = (("/run", 0o755), ("/run/lock", 0o1777), ("/tmp", 0o1777))  # noqa: S108


def as_system(options: Options, args: Sequence[str] | str) -> Options:
    """The options of a container that boots a system.

    Args:
        options: As the caller gives them; what is said there counts.
        args: The command; without one it is ``/sbin/init``.
    """
    there = {os.path.normpath(mount.target) for mount in options.mounts}
    made = [Mount.tmpfs(path, mode=mode) for path, mode in _TMPFS if path not in there]
    entrypoint = options.entrypoint
    if not args and entrypoint is None:
        entrypoint = (_INIT,)
    return evolve(
        options,
        entrypoint=entrypoint,
        env={**_ENVIRONMENT, **options.env},
        mounts=[*made, *options.mounts],
        tty=True,
        system=True,
        upkeep=evolve(options.upkeep, stop_signal=options.upkeep.stop_signal or _STOP),
    )
