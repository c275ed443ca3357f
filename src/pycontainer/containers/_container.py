"""Containers: started, looked after, found again, and gone without a trace."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from pycontainer.containers import _home
from pycontainer.containers._finding import Finding
from pycontainer.containers._limits import Limits
from pycontainer.containers._names import Names
from pycontainer.containers._namespaces import Namespaces
from pycontainer.containers._networking import Networking, exposed
from pycontainer.containers._options import Options
from pycontainer.containers._scale import start_all
from pycontainer.containers._security import Security
from pycontainer.containers._startable import ClassOrInstance, Startable, start_of
from pycontainer.containers._system import as_system
from pycontainer.containers._upkeep import GRACE_SECONDS, Upkeep
from pycontainer.containers.ready import Ready, wait_until_ready
from pycontainer.content import Store
from pycontainer.runtime import write_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainer.containers._health import HealthCheck
    from pycontainer.containers._logs import LogOptions
    from pycontainer.containers._mount import Mount
    from pycontainer.containers._networking import NetworkChoice
    from pycontainer.containers._runtime import Runtime
    from pycontainer.images import Image
    from pycontainer.network import Ports
    from pycontainer.oci import Platform

__all__ = ["Container"]


class Container(Finding):
    """A container of a store, running or stopped.

    Started by `Container.start`; found again, from any process, by `Container.get` and
    `Container.list`. An attached container ends with its handle (`close`, or leaving it as a context
    manager) and with the program that started it, however that ends. A detached one lives on; its
    handle is only a handle.

    Attributes:
        id: 64 hexadecimal digits.
        name: The name given, or the first twelve of those.
        image: Reference of the image, or its id where it has no name.
        labels: What the caller wrote on it.
        created_at: Seconds since the epoch.
    """

    # --- making and finding ------------------------------------------------------------------

    def _start_new(  # type: ignore[misc]  # bound to the class, by `start` below
        cls: type[Container],  # noqa: N805
        image: Image | str,
        args: Sequence[str] | str = (),
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
        entrypoint: Sequence[str] | None = None,
        hostname: str | None = None,
        labels: Mapping[str, str] | None = None,
        mounts: Sequence[Mount] = (),
        network: NetworkChoice = None,
        ports: Ports = (),
        expose: Sequence[int | str] = (),
        publish_all: bool = False,
        memory: int | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        ulimits: Mapping[str, tuple[int, int]] | None = None,
        read_only: bool = False,
        no_new_privileges: bool = False,
        security: Security | None = None,
        limits: Limits | None = None,
        names: Names | None = None,
        namespaces: Namespaces | None = None,
        init: bool = False,
        system: bool = False,
        stdin: bool = False,
        tty: bool = False,
        detach: bool = False,
        remove: bool = False,
        stop_signal: str | None = None,
        stop_timeout: float = GRACE_SECONDS,
        restart: str = "no",
        healthcheck: HealthCheck | Literal["image", "none"] | None = "image",
        log: LogOptions | Literal["none"] | None = None,
        runtime: Runtime | None = None,
        platform: str | Platform | None = None,
        ready: Ready | None = None,
        store: Store | None = None,
        timeout: float | None = 30.0,
    ) -> Container:
        """Start a container and return once its command is executing, or it is ready.

        Of a container ``c`` that was created or has ended, ``c.start(ready=..., timeout=...)`` starts
        that one: see `start_again`.

        Args:
            image: The image, or its name in the store; one that is not there is pulled.
            args: Command in place of the image's; a string is split as a shell would.
            name: A name, unique in the store.
            env: Environment beside the image's.
            workdir: Working directory; made if it is not there.
            user: ``user[:group]`` by name or number, in place of the image's.
            entrypoint: In place of the image's; the image's command then counts no more.
            hostname: Name of the host inside.
            labels: To find it by.
            mounts: Directories, tmpfs and volumes to mount.
            network: ``none``: only a loopback interface of its own. A `Network`, its name or a
                `Membership` in it, or several of these; ``bridge`` is the default network's name.
                ``host``: the host's, shared. ``container:<name or id>``: another container's, shared.
                None is ``bridge`` where there are `ports`, else ``none``.
            ports: What the host publishes: each a port of the container, or a text like
                ``8080:80``, ``127.0.0.1:53:53/udp`` or ``8000-8009:80``; or a mapping from the
                container's port to the host's. Ports of the host that are left open are chosen; see
                `address`.
            expose: Ports on which it listens, beside those that the image names: 80, ``53/udp`` or
                ``8000-8009``. That alone opens nothing; it is for `publish_all`, and for who reads it.
            publish_all: Whether the host publishes each port that is exposed, at one that is free.
            memory: Limit in bytes.
            cpus: Limit in processors, such as 1.5.
            pids: Limit of processes and threads.
            ulimits: Resource limits by name: ``{"nofile": (soft, hard)}``; -1 is no limit. Where the
                kernel refuses a higher hard limit, the highest it allows is taken.
            read_only: Whether the root file system is.
            no_new_privileges: Whether set-uid programs stay without effect.
            security: Further rights, or fewer; see `Security`.
            limits: Further limits; see `Limits`.
            names: Its domain, further hosts, name servers; see `Names`.
            namespaces: What it shares with the host or with other containers; see `Namespaces`.
            init: Whether its first process is one of this library's, which reaps orphans and passes
                signals on to the command.
            system: Whether its command is an init system such as systemd, ``/sbin/init`` where none is
                given: it gets a terminal, ``/run`` and ``/tmp`` in memory, control groups to divide, and
                SIGRTMIN+3 to stop.
            stdin: Whether standard input is open, for `write`.
            tty: Whether it has a terminal; includes `stdin`.
            detach: Whether it outlives this program.
            remove: Whether it goes with its end, files and log and all.
            stop_signal: What `stop` sends first, by name; None for the image's, else SIGTERM.
            stop_timeout: Seconds that `stop` then waits before it kills.
            restart: When it is started again after its end: ``no``; ``on-failure``: after another exit
                code than 0, with ``:n`` at most so many times; ``always``; ``unless-stopped``: as
                ``always``, but after a reboot only if nobody had stopped it.
            healthcheck: How it is asked for its health: as the image says (``image``), as a `HealthCheck`
                says, or not at all (``none`` or None).
            log: Whether its log is limited, see `LogOptions`; ``none``: there is none, and what it writes
                goes only to who is attached.
            runtime: What starts its first process: this library (``embedded``), or ``runc`` or ``crun``
                where that is installed; None for what PYCONTAINER_RUNTIME says, else ``embedded``.
            platform: Which of several images of that name, such as ``linux/arm64``; None for this
                machine's. Programs of other processors need an emulator that the host's kernel knows
                (binfmt_misc).
            ready: What to wait for, such as ``pycontainer.ready.port(80)``, or a function that takes the
                container and tells whether it is ready.
            store: Where it lives; None for the default store.
            timeout: Seconds to wait for the start and until it is ready.

        Raises:
            ImageNotFound: There is no such image, here or in its registry.
            NameInUse: Another container has that name.
            CommandNotFound: There is no such command in the image.
            StartError: Something else kept it from starting; nothing of it is left.
            UnsupportedFeature: This machine or user cannot do what was asked.
            NetworkError: A network is not there, or a port or an address is taken (`PortInUse`).
            TimeoutExpired: The start took too long; it was undone.
            NotReadyInTime: It was not ready within the time; it was removed.
            NotReady: It ended before it was ready; it was removed.
        """
        begun = time.monotonic()
        options = Options(
            env=env or {},
            workdir=workdir,
            user=user,
            entrypoint=entrypoint,
            hostname=hostname,
            labels=labels or {},
            mounts=mounts,
            networking=Networking.of(network, ports, publish_all=publish_all),
            expose=exposed(expose),
            memory=memory,
            cpus=cpus,
            pids=pids,
            ulimits=ulimits or {},
            read_only=read_only,
            tty=tty,
            no_new_privileges=no_new_privileges,
            security=security or Security(),
            limits=limits or Limits(),
            names=names or Names(),
            namespaces=namespaces or Namespaces(),
            init=init,
            upkeep=Upkeep.of(
                stop_signal=stop_signal,
                stop_timeout=stop_timeout,
                restart=restart,
                healthcheck=healthcheck,
                log=log,
            ),
            runtime=runtime,
            platform=platform,
        )
        if system:
            options = as_system(options, args)
        store = store or Store.default()
        with _home.prepare(
            store,
            image,
            args,
            options,
            name=name,
            detach=detach,
            stdin=stdin or options.tty,
            remove=remove,
        ) as new:
            container = cls(store, new.record, *start_of(store, new, timeout=timeout))
            if ready is not None:
                left = None if timeout is None else max(0.0, begun + timeout - time.monotonic())
                container._wait_or_delete(ready, left)
            return container

    start = ClassOrInstance(_start_new, Startable.start_again)

    @classmethod
    def create(
        cls,
        image: Image | str,
        args: Sequence[str] | str = (),
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
        entrypoint: Sequence[str] | None = None,
        hostname: str | None = None,
        labels: Mapping[str, str] | None = None,
        mounts: Sequence[Mount] = (),
        network: NetworkChoice = None,
        ports: Ports = (),
        expose: Sequence[int | str] = (),
        publish_all: bool = False,
        memory: int | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        ulimits: Mapping[str, tuple[int, int]] | None = None,
        read_only: bool = False,
        no_new_privileges: bool = False,
        security: Security | None = None,
        limits: Limits | None = None,
        names: Names | None = None,
        namespaces: Namespaces | None = None,
        init: bool = False,
        system: bool = False,
        stdin: bool = False,
        tty: bool = False,
        detach: bool = False,
        remove: bool = False,
        stop_signal: str | None = None,
        stop_timeout: float = GRACE_SECONDS,
        restart: str = "no",
        healthcheck: HealthCheck | Literal["image", "none"] | None = "image",
        log: LogOptions | Literal["none"] | None = None,
        runtime: Runtime | None = None,
        platform: str | Platform | None = None,
        store: Store | None = None,
    ) -> Container:
        """Make a container to be started later, by its `start`.

        All is as for `start`, with the same arguments. An attached one is removed with its handle also
        if it was never started.

        Raises:
            ImageNotFound: There is no such image, here or in its registry.
            NameInUse: Another container has that name.
            ContainerError: There is nothing to run, or the options do not fit the image.
        """
        options = Options(
            env=env or {},
            workdir=workdir,
            user=user,
            entrypoint=entrypoint,
            hostname=hostname,
            labels=labels or {},
            mounts=mounts,
            networking=Networking.of(network, ports, publish_all=publish_all),
            expose=exposed(expose),
            memory=memory,
            cpus=cpus,
            pids=pids,
            ulimits=ulimits or {},
            read_only=read_only,
            tty=tty,
            no_new_privileges=no_new_privileges,
            security=security or Security(),
            limits=limits or Limits(),
            names=names or Names(),
            namespaces=namespaces or Namespaces(),
            init=init,
            upkeep=Upkeep.of(
                stop_signal=stop_signal,
                stop_timeout=stop_timeout,
                restart=restart,
                healthcheck=healthcheck,
                log=log,
            ),
            runtime=runtime,
            platform=platform,
        )
        if system:
            options = as_system(options, args)
        store = store or Store.default()
        with _home.prepare(
            store,
            image,
            args,
            options,
            name=name,
            detach=detach,
            stdin=stdin or options.tty,
            remove=remove,
            kept=True,
        ) as new:
            write_spec(new.spec, new.directory)
            new.write_down()
            owned = -1 if detach else _home.own(new.directory)
            return cls(store, new.record, owned=owned)

    @classmethod
    def scale(
        cls,
        image: Image | str,
        count: int,
        args: Sequence[str] | str = (),
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        mounts: Sequence[Mount] = (),
        network: NetworkChoice = None,
        ports: Ports = (),
        expose: Sequence[int | str] = (),
        publish_all: bool = False,
        memory: int | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        security: Security | None = None,
        limits: Limits | None = None,
        detach: bool = False,
        runtime: Runtime | None = None,
        platform: str | Platform | None = None,
        ready: Ready | None = None,
        store: Store | None = None,
        timeout: float | None = 30.0,
    ) -> tuple[Container, ...]:
        """Start containers alike, several at a time; if one fails, none of them stays.

        They share the image's layers; each has its own changes, and its own volumes without names.

        Args:
            image: As for `start`, like all that is not listed here.
            count: How many.
            args: Command in place of the image's.
            name: What their names begin with; ``-1`` and so on follow.
            env: Environment beside the image's.
            labels: To find them by.
            mounts: What each gets mounted; volumes with names are shared.
            network: What each is connected to; all of them have its aliases.
            ports: What the host publishes of each: ports that are left open, or ranges of them.
            expose: Ports each listens on beside the image's.
            publish_all: Whether the host publishes all of these.
            memory: Limit in bytes, of each.
            cpus: Limit in processors, of each.
            pids: Limit of processes and threads, of each.
            security: Further rights, or fewer.
            limits: Further limits.
            detach: Whether they outlive this program.
            runtime: What starts their first processes.
            platform: Which of several images of that name.
            ready: What to wait for, of each.
            store: Where they live.
            timeout: Seconds for the start of each.

        Raises:
            Error: What the first that failed raised, as for `start`.
        """
        store = store or Store.default()
        image = _home.find_image(image, store, platform)

        def start(number: int) -> Container:
            return cls.start(
                image,
                args,
                name=None if name is None else f"{name}-{number + 1}",
                env=env,
                labels=labels,
                mounts=mounts,
                network=network,
                ports=ports,
                expose=expose,
                publish_all=publish_all,
                memory=memory,
                cpus=cpus,
                pids=pids,
                security=security,
                limits=limits,
                detach=detach,
                runtime=runtime,
                ready=ready,
                store=store,
                timeout=timeout,
            )

        return start_all(start, count)

    def _wait_or_delete(self, ready: Ready, timeout: float | None) -> None:
        """Wait until it is ready; one that does not become so is not left behind."""
        try:
            self.wait_ready(ready, timeout=timeout)
        except BaseException:
            self.delete(force=True)
            raise

    # --- waiting -----------------------------------------------------------------------------

    def wait_ready(self, ready: Ready, *, timeout: float | None = 30.0) -> None:
        """Wait until it is ready for something.

        Args:
            ready: As for `start`.
            timeout: Seconds.

        Raises:
            NotReadyInTime: It is not within the time; it goes on running.
            NotReady: It has ended. As the other it tells state, exit code and last output.
        """
        wait_until_ready(self, ready, timeout)
