"""Runtime-spec documents with Docker's defaults."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from attrs import evolve

from pycontainer.oci.runtime import (
    Capabilities,
    Device,
    Mount,
    Namespace,
    Process,
    Resources,
    RuntimeSpec,
    User,
)
from pycontainer.runtime import _defaults as docker
from pycontainer.runtime._device_filter import DEFAULT_DEVICE_RULES
from pycontainer.runtime.users import ResolvedUser

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainer.oci.runtime import Rlimit

__all__ = ["Network", "default_process", "default_spec", "is_rootless"]

Network = Literal["none", "host"]
_ROOT = ResolvedUser()
_MOUNTS = tuple(Mount(*mount) for mount in docker.MOUNTS)
_DEVICES = tuple(Device(path, "c", major, minor) for path, major, minor in docker.DEVICES)
_NAMESPACES = tuple(Namespace(kind) for kind in ("pid", "ipc", "uts", "mount", "cgroup"))
_NETWORK = Namespace("network")


def is_rootless() -> bool:
    """Whether containers of this process run in a user namespace of an ordinary user."""
    return os.geteuid() != 0


def default_process(
    args: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    user: ResolvedUser = _ROOT,
    tty: bool = False,
    rlimits: Sequence[Rlimit] = (),
    no_new_privileges: bool = False,
) -> Process:
    """A process as Docker starts it: its capabilities, and PATH, HOME and TERM where not given.

    Args:
        args: Command and arguments.
        env: Environment.
        cwd: Working directory; made if it is not there.
        user: Who it runs as.
        tty: Whether it gets a terminal.
        rlimits: Resource limits; raised no further than the kernel lets this user.
        no_new_privileges: Whether set-uid programs stay without effect.
    """
    environment = {"PATH": docker.PATH, **(env or {})}
    environment.setdefault("HOME", user.home)
    if tty:
        environment.setdefault("TERM", "xterm")
    # Like Docker: the bounding set is the same for all, only root has them in effect.
    names = docker.CAPABILITIES
    active = names if user.uid == 0 else ()
    return Process(
        args=tuple(args),
        env=tuple(f"{name}={value}" for name, value in environment.items()),
        cwd=cwd or "/",
        user=User(user.uid, user.gid, user.groups),
        terminal=tty,
        capabilities=Capabilities(bounding=names, effective=active, permitted=active),
        rlimits=tuple(rlimits),
        no_new_privileges=no_new_privileges,
    )


def default_spec(
    process: Process,
    *,
    hostname: str = "",
    network: Network = "none",
    mounts: Sequence[Mount] = (),
    readonly: bool = False,
    resources: Resources | None = None,
    sysctl: Mapping[str, str] | None = None,
) -> RuntimeSpec:
    """A container with Docker's default isolation.

    Args:
        process: What it runs.
        hostname: Its name; left out where the host's network namespace, and so its name, is used.
        network: ``none`` for a network namespace with only loopback, ``host`` for the host's.
        mounts: Mounted after the standard ones, in this order.
        readonly: Whether the root file system is.
        resources: Limits.
        sysctl: Kernel parameters of the container's namespaces.
    """
    limits = resources or Resources()
    return RuntimeSpec(
        process=process,
        root_readonly=readonly,
        hostname=hostname,
        mounts=(*_MOUNTS, *mounts),
        namespaces=(*_NAMESPACES, _NETWORK) if network == "none" else _NAMESPACES,
        devices=_DEVICES,
        resources=limits if limits.devices else evolve(limits, devices=DEFAULT_DEVICE_RULES),
        sysctl=dict(sysctl or {}),
        masked_paths=docker.MASKED_PATHS,
        readonly_paths=docker.READONLY_PATHS,
    )
