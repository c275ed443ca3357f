"""What a caller wants of a container, and how that and the image's config become a runtime-spec."""

from __future__ import annotations

import resource
import shlex
import socket
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from pycontainer.containers._limits import Limits
from pycontainer.containers._names import Names, check_hostname, mounts_of_files
from pycontainer.containers._namespaces import Namespaces
from pycontainer.containers._networking import NO_NETWORKING, Networking
from pycontainer.containers._populate import with_volumes_of
from pycontainer.containers._ranges import allocate
from pycontainer.containers._runtime import Runtime, chosen_runtime
from pycontainer.containers._security import Security
from pycontainer.containers._upkeep import Upkeep
from pycontainer.errors import ContainerError
from pycontainer.oci import runtime as oci
from pycontainer.runtime import (
    NO_LIMIT,
    REAPER,
    RUNTIME,
    SYSTEM,
    default_process,
    default_spec,
    is_rootless,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pycontainer.containers._mount import Mount
    from pycontainer.content import Store
    from pycontainer.images import Image
    from pycontainer.oci import ContainerConfig, Platform
    from pycontainer.runtime import ResolvedUser

__all__ = ["Options", "command_line", "lift", "limited", "without_lifted", "words"]

_CPU_PERIOD: Final = 100_000


@frozen(kw_only=True)
class Options:
    """The options that `run` and `Container.start` share; they are documented there."""

    env: Mapping[str, str] = field(factory=dict)
    workdir: str | None = None
    user: str | None = None
    entrypoint: Sequence[str] | None = None
    hostname: str | None = None
    labels: Mapping[str, str] = field(factory=dict)
    mounts: Sequence[Mount] = ()
    networking: Networking = NO_NETWORKING
    expose: tuple[str, ...] = ()
    platform: str | Platform | None = None
    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    ulimits: Mapping[str, tuple[int, int]] = field(factory=dict)
    read_only: bool = False
    tty: bool = False
    no_new_privileges: bool = False
    security: Security = field(factory=Security)
    limits: Limits = field(factory=Limits)
    names: Names = field(factory=Names)
    namespaces: Namespaces = field(factory=Namespaces)
    init: bool = False
    system: bool = False
    upkeep: Upkeep = field(factory=Upkeep)
    runtime: Runtime | None = None

    def for_image(self, config: ContainerConfig) -> Options:
        """The same with what the image asks for besides: its volumes, its ports."""
        if not (config.volumes or config.exposed_ports or self.expose):
            return self
        return evolve(
            self,
            mounts=with_volumes_of(config, self.mounts),
            networking=self.networking.with_exposed(self._exposed(config)),
        )

    def _exposed(self, config: ContainerConfig) -> tuple[str, ...]:
        return tuple(sorted({*config.exposed_ports, *self.expose}))

    def to_spec(
        self,
        image: Image,
        args: Sequence[str] | str,
        *,
        store: Store,
        directory: Path,
        container_id: str,
        user: ResolvedUser,
        find: Callable[[str], Path],
    ) -> oci.RuntimeSpec:
        """The container as a runtime-spec document; `write_files` is to follow.

        Args:
            image: Whose config gives what the caller does not.
            args: Command, in place of the image's.
            store: Where volumes are.
            directory: The container's own.
            container_id: Names the host unless something else does.
            user: Who it runs as.
            find: Gives the directory of another container by its name or id.

        Raises:
            ContainerError: There is nothing to run, or a mount is impossible.
        """
        config = image.config.config
        on_host = self.networking.mode == "host"
        hostname = self.hostname_of(container_id)
        env = dict(entry.partition("=")[::2] for entry in config.env)
        env.setdefault("HOSTNAME", hostname)
        env.update(self.env)
        process = default_process(
            command_line(image, args, self.entrypoint),
            env=env,
            cwd=self.workdir or config.working_dir or "/",
            user=user,
            tty=self.tty,
            rlimits=self._rlimits(),
            no_new_privileges=self.no_new_privileges,
        )
        spec = default_spec(
            process,
            hostname=hostname,
            network="host" if on_host else "none",
            mounts=[
                *mounts_of_files(directory),
                *(mount.to_oci(store, directory) for mount in self.mounts),
            ],
            readonly=self.read_only,
            resources=self._resources(),
        )
        marks = {REAPER: self.init, SYSTEM: self.system}
        annotations = {name: "true" for name, on in marks.items() if on}
        if (runtime := chosen_runtime(self.runtime)) != "embedded":
            annotations[RUNTIME] = runtime
        if annotations or self.names.domainname:
            spec = spec.evolve(annotations=annotations, domainname=self.names.domainname)
        self._check_rights()
        spec = self.limits.apply(self.security.apply(spec), container_id)
        if self.networking.mode in ("own", "container") and is_rootless():
            own = self.networking.mode == "own"
            spec = self.security.without_raw_sockets(spec, own_network=own)
        spec = self.networking.apply(spec, find)
        return self.namespaces.apply(
            spec, find, lambda: allocate(store, container_id), store=store.path.resolve()
        )

    def write_files(self, directory: Path, container_id: str) -> None:
        """Write a container's hosts, resolv.conf and hostname."""
        on_host = self.networking.mode == "host"
        self.names.host_files(directory, self.hostname_of(container_id), host_network=on_host)

    def _check_rights(self) -> None:
        if self.security.privileged and self.namespaces.user not in (None, "host"):
            raise ContainerError(
                "privileged containers get what is the machine's, and so must have its users",
                remedy="leave privileged or the users out",
            )

    def hostname_of(self, container_id: str) -> str:
        """The name of the container's host; refuses what is none."""
        self.names.check()
        own = self.namespaces.own_names
        if not own and (self.hostname is not None or self.names.domainname):
            raise ContainerError(
                "a container that shares the names of host and domain has none of its own",
                remedy="leave out hostname and domainname, or uts",
            )
        if self.hostname is not None:
            check_hostname(self.hostname)
        if self.networking.mode == "host" or not own:
            return socket.gethostname()
        return self.hostname or container_id[:12]

    def to_config(self, image: Image, args: Sequence[str] | str) -> ContainerConfig:
        """The image's config with what the caller wants instead, as an image of the container has it."""
        config = image.config.config
        env = dict(entry.partition("=")[::2] for entry in config.env)
        env.update(self.env)
        entrypoint, cmd = config.entrypoint, words(args) or config.cmd
        if self.entrypoint is not None:
            entrypoint, cmd = tuple(self.entrypoint), words(args)
        return evolve(
            config,
            env=tuple(f"{name}={value}" for name, value in env.items()),
            entrypoint=entrypoint,
            cmd=cmd or None,
            exposed_ports=self._exposed(config),
            working_dir=self.workdir or config.working_dir,
            user=config.user if self.user is None else self.user,
            labels={**config.labels, **self.labels},
        )

    def _rlimits(self) -> list[oci.Rlimit]:
        if not self.ulimits:
            return []
        known = {
            name.removeprefix("RLIMIT_").lower() for name in dir(resource) if "RLIMIT_" in name
        }
        for name in self.ulimits:
            if name not in known:
                raise ContainerError(
                    f"there is no resource limit {name!r}",
                    remedy=f"choose from {', '.join(sorted(known))}",
                )
        unlimited = (1 << 64) - 1  # as the runtime specification writes it
        return [
            oci.Rlimit(f"RLIMIT_{name.upper()}", *(n if n >= 0 else unlimited for n in limits))
            for name, limits in self.ulimits.items()
        ]

    def _resources(self) -> oci.Resources:
        return limited(oci.Resources(), memory=self.memory, cpus=self.cpus, pids=self.pids)


def limited(
    resources: oci.Resources, *, memory: int | None, cpus: float | None, pids: int | None
) -> oci.Resources:
    """Resources with these limits in place of their own; None leaves one as it is.

    Raises:
        ContainerError: One makes no sense.
    """
    if memory is not None:
        resources = evolve(resources, memory=memory)
    if pids is not None:
        resources = evolve(resources, pids=pids)
    if cpus is None:
        return resources
    if cpus <= 0:
        raise ContainerError(f"cannot run on {cpus} processors")
    return evolve(resources, cpu_quota=int(cpus * _CPU_PERIOD), cpu_period=_CPU_PERIOD)


def lift(
    resources: oci.Resources, *, memory: int | None, cpus: float | None, pids: int | None
) -> oci.Resources:
    """Resources with each limit that there is and that is to be lifted written as `NO_LIMIT`."""
    if memory == NO_LIMIT and resources.memory is not None:
        resources = evolve(resources, memory=NO_LIMIT, memory_swap=None)
    if cpus == NO_LIMIT and resources.cpu_quota is not None:
        resources = evolve(resources, cpu_quota=NO_LIMIT)
    if pids == NO_LIMIT and resources.pids is not None:
        resources = evolve(resources, pids=NO_LIMIT)
    return resources


def without_lifted(resources: oci.Resources) -> oci.Resources:
    """Resources as a next start is to have them: who lacks a limit needs no control group for it."""
    if resources.memory == NO_LIMIT:
        resources = evolve(resources, memory=None)
    if resources.cpu_quota == NO_LIMIT:
        resources = evolve(resources, cpu_quota=None, cpu_period=None)
    if resources.pids == NO_LIMIT:
        resources = evolve(resources, pids=None)
    return resources


def words(args: Sequence[str] | str) -> tuple[str, ...]:
    """A command as its words; a string is split as a shell would, but no shell runs."""
    return tuple(shlex.split(args)) if isinstance(args, str) else tuple(args)


def command_line(
    image: Image, args: Sequence[str] | str, entrypoint: Sequence[str] | None
) -> tuple[str, ...]:
    """Entrypoint and command by Docker's rules.

    The caller's command replaces the image's; the caller's entrypoint replaces both of the image's.

    Raises:
        ContainerError: That leaves nothing to run.
    """
    config = image.config.config
    given = words(args)
    if entrypoint is not None:
        line = (*entrypoint, *given)
    else:
        line = (*(config.entrypoint or ()), *(given or config.cmd or ()))
    if not line:
        raise ContainerError(
            f"nothing to run: image {image.reference or image.id.short} has no command",
            remedy="give one",
        )
    return line
