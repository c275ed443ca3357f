"""Running a command in a fresh container, as `subprocess.run` runs it on the host."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pycontainer.containers import _home
from pycontainer.containers._limits import Limits
from pycontainer.containers._names import Names
from pycontainer.containers._namespaces import Namespaces
from pycontainer.containers._networking import Networking, attach, exposed
from pycontainer.containers._options import Options
from pycontainer.containers._process import Completed, start_process
from pycontainer.containers._security import Security
from pycontainer.content import Store
from pycontainer.runtime import launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontainer.containers._mount import Mount
    from pycontainer.containers._networking import NetworkChoice
    from pycontainer.containers._runtime import Runtime
    from pycontainer.images import Image
    from pycontainer.network import Ports
    from pycontainer.oci import Platform

__all__ = ["run"]


def run(
    image: Image | str,
    args: Sequence[str] | str = (),
    *,
    input: bytes | None = None,
    check: bool = False,
    env: Mapping[str, str] | None = None,
    workdir: str | None = None,
    user: str | None = None,
    entrypoint: Sequence[str] | None = None,
    hostname: str | None = None,
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
    tty: bool = False,
    runtime: Runtime | None = None,
    platform: str | Platform | None = None,
    store: Store | None = None,
    timeout: float | None = None,
) -> Completed:
    """Run a command in a container of its own and return what became of it.

    Nothing is left of the container when this returns or raises.

    Args:
        image: As for `Container.start`, like all that is not listed here.
        args: Command in place of the image's.
        input: Written to its standard input; None for an empty one.
        check: Whether another exit code than 0 raises.
        env: Environment beside the image's.
        workdir: Working directory.
        user: Who it runs as.
        entrypoint: In place of the image's.
        hostname: Name of the host inside.
        mounts: What is mounted into it.
        network: What it is connected to.
        ports: What the host publishes of it.
        expose: Ports it listens on beside the image's.
        publish_all: Whether the host publishes all of these.
        memory: Limit in bytes.
        cpus: Limit in processors.
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
        tty: Whether it has a terminal; all output then is `Completed.stdout`.
        runtime: What starts it: this library (``embedded``), or ``runc`` or ``crun`` where that is
            installed; None for what PYCONTAINER_RUNTIME says, else ``embedded``.
        platform: Which of several images of that name.
        store: Where the image is; None for the default store.
        timeout: Seconds for all of it.

    Raises:
        ProcessFailed: It failed, and `check` is set.
        TimeoutExpired: It took too long and was killed.
        CommandNotFound: There is no such command in the image.
        ImageNotFound: There is no such image, here or in its registry.
        UnsupportedFeature: This machine or user cannot do what was asked.
    """
    begun = time.monotonic()
    options = Options(
        env=env or {},
        workdir=workdir,
        user=user,
        entrypoint=entrypoint,
        hostname=hostname,
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
        runtime=runtime,
        platform=platform,
    )
    store = store or Store.default()
    with _home.prepare(store, image, args, options) as new, attach(store, new) as attached:
        process = start_process(
            new.spec.process.args,
            lambda stdin, stdout, stderr: launch(
                new.spec,
                new.rootfs,
                new.directory,
                name=new.record.id,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                events=new.events,
                network=attached.plan,
                kept_open=attached.fds,
                complete=new.complete,
                write_down=new.write_down,
                timeout=timeout,
            ),
            stdin=input is not None,
            tty=tty,
        )
        with process:
            left = None if timeout is None else max(0.0, begun + timeout - time.monotonic())
            process.wait(left, input=input)
            # It needs its layers no more; the directory is removed by its monitor meanwhile.
            _home.forget(store, new.record.id)
    result = process.completed(time.monotonic() - begun)
    return result.check() if check else result
