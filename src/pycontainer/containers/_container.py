"""Containers: started, looked after, found again, and gone without a trace."""

from __future__ import annotations

import os
import signal as signals
import warnings
from typing import TYPE_CHECKING, Final, Literal, Self

from attrs import evolve

from pycontainer.containers import _home
from pycontainer.containers._logs import LogLine, read_log
from pycontainer.containers._options import Options, words
from pycontainer.containers._process import Process, start_process
from pycontainer.content import Store
from pycontainer.errors import (
    ContainerError,
    ContainerNotFound,
    ContainerStateError,
    TimeoutExpired,
)
from pycontainer.oci.runtime import Process as OciProcess
from pycontainer.oci.runtime import RuntimeSpec
from pycontainer.runtime import (
    Network,
    State,
    default_process,
    execute,
    is_watched,
    launch,
    read_exit,
    read_state,
    resolve_user,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pycontainer.containers._mount import Mount
    from pycontainer.images import Image
    from pycontainer.runtime import Exit, Running

__all__ = ["Container"]

_GRACE_SECONDS: Final = 10.0
_DELETE_SECONDS: Final = 30.0
_LAST_LOOK_SECONDS: Final = 1.0
Status = Literal["creating", "running", "stopped"]


class Container:
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

    def __init__(
        self, store: Store, record: _home.Record, running: Running | None = None, stdin: int = -1
    ) -> None:
        self.id = record.id
        self.name = record.name
        self.image = record.image
        self.labels: Mapping[str, str] = record.labels
        self.created_at = record.created_at
        self._record = record
        self._store = store
        self._directory = _home.directory(store, record.id)
        self._running = running
        self._stdin = stdin
        self._attached = running is not None and not record.detached

    # --- making and finding ------------------------------------------------------------------

    @classmethod
    def start(
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
        network: Network = "none",
        memory: int | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        ulimits: Mapping[str, tuple[int, int]] | None = None,
        read_only: bool = False,
        no_new_privileges: bool = False,
        stdin: bool = False,
        tty: bool = False,
        detach: bool = False,
        store: Store | None = None,
        timeout: float | None = 30.0,
    ) -> Container:
        """Start a container and return once its command is executing.

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
            network: ``none``: only a loopback of its own. ``host``: the host's, shared.
            memory: Limit in bytes.
            cpus: Limit in processors, such as 1.5.
            pids: Limit of processes and threads.
            ulimits: Resource limits by name: ``{"nofile": (soft, hard)}``; -1 is no limit. Where the
                kernel refuses a higher hard limit, the highest it allows is taken.
            read_only: Whether the root file system is.
            no_new_privileges: Whether set-uid programs stay without effect.
            stdin: Whether standard input is open, for `write`.
            tty: Whether it has a terminal; includes `stdin`.
            detach: Whether it outlives this program.
            store: Where it lives; None for the default store.
            timeout: Seconds to wait for the start.

        Raises:
            ImageNotFound: There is no such image, here or in its registry.
            NameInUse: Another container has that name.
            CommandNotFound: There is no such command in the image.
            StartError: Something else kept it from starting; nothing of it is left.
            UnsupportedFeature: This machine or user cannot do what was asked.
            TimeoutExpired: The start took too long; it was undone.
        """
        options = Options(
            env=env or {},
            workdir=workdir,
            user=user,
            entrypoint=entrypoint,
            hostname=hostname,
            labels=labels or {},
            mounts=mounts,
            network=network,
            memory=memory,
            cpus=cpus,
            pids=pids,
            ulimits=ulimits or {},
            read_only=read_only,
            tty=tty,
            no_new_privileges=no_new_privileges,
        )
        store = store or Store.default()
        with _home.prepare(store, image, args, options, name=name, detach=detach) as new:
            in_r, in_w = os.pipe() if stdin or tty else (-1, -1)
            try:
                running = launch(
                    new.spec,
                    new.rootfs,
                    new.directory,
                    name=new.record.id,
                    stdin=in_r if in_r >= 0 else None,
                    log=True,
                    detach=detach,
                    remove=False,
                    timeout=timeout,
                )
            except BaseException:
                _close(in_w)
                raise
            finally:
                _close(in_r)
            return cls(store, new.record, running, in_w)

    @classmethod
    def get(cls, name_or_id: str, *, store: Store | None = None) -> Container:
        """Find a container by its name, its id, or an unambiguous beginning of that.

        Raises:
            ContainerNotFound: There is none, or more than one.
        """
        store = store or Store.default()
        records = _home.records(store)
        found = [r for r in records if name_or_id in (r.id, r.name)]
        if not found and len(name_or_id) >= 4:
            found = [r for r in records if r.id.startswith(name_or_id)]
        if len(found) != 1:
            what = "no container" if not found else f"{len(found)} containers that match"
            raise ContainerNotFound(f"{what} {name_or_id!r} in {store.path}")
        return cls(store, found[0])

    @classmethod
    def list(
        cls,
        *,
        all: bool = False,
        labels: Mapping[str, str] | None = None,
        store: Store | None = None,
    ) -> tuple[Container, ...]:
        """The containers of a store, oldest first, whichever process started them.

        Args:
            all: Also those that do not run.
            labels: Only those that carry these.
            store: None for the default store.
        """
        store = store or Store.default()
        wanted = dict(labels or {}).items()
        found = (
            cls(store, record) for record in _home.records(store) if wanted <= record.labels.items()
        )
        return tuple(c for c in found if all or c.state == "running")

    # --- what it is --------------------------------------------------------------------------

    @property
    def state(self) -> Status:
        """``creating``, ``running`` or ``stopped``, as it is now."""
        state = read_state(self._directory)
        if state is None:
            return "creating" if is_watched(self._directory) else "stopped"
        return "running" if self._exit() is None and state.alive else "stopped"

    @property
    def pid(self) -> int | None:
        """The process id of its first process on the host; None when it does not run."""
        state = read_state(self._directory)
        return state.pid if state is not None and state.alive else None

    @property
    def exit_code(self) -> int | None:
        """How it ended: 128 + n after signal n; None while it runs, or if nobody saw it end."""
        if self._running is not None:
            try:
                return self._running.exit_code
            except ContainerStateError:
                return None
        ended = self._exit()
        return None if ended is None else ended.exit_code

    @property
    def oom_killed(self) -> bool:
        """Whether the kernel killed some of it for want of memory."""
        ended = self._exit()
        return ended is not None and ended.oom_killed

    def _exit(self) -> Exit | None:
        return read_exit(self._directory)

    def _state(self) -> State:
        state = read_state(self._directory)
        if state is None or not state.alive:
            raise ContainerStateError(
                f"container {self.name} does not run",
                remedy="start another; `exit_code` and `logs` tell how this one ended",
            )
        return state

    # --- what it does ------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write to its standard input, which must have been asked for.

        Raises:
            ContainerStateError: It has none, or reads no more.
        """
        if self._stdin < 0:
            raise ContainerStateError(
                f"container {self.name} has no standard input here",
                remedy="start it with stdin=True or tty=True and write through that handle",
            )
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._stdin, view) :]
        except BrokenPipeError as error:
            raise ContainerStateError(f"container {self.name} reads no more input") from error

    def close_stdin(self) -> None:
        """End its standard input."""
        stdin, self._stdin = self._stdin, -1
        _close(stdin)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal."""
        if self._running is not None:
            self._running.resize(rows, columns)

    def logs(self, *, follow: bool = False) -> Iterator[LogLine]:
        """Its output, line by line, from the beginning.

        Args:
            follow: Wait for more until it has ended.
        """
        return read_log(self._directory / "log", follow=follow, ended=self._has_ended)

    def _has_ended(self) -> bool:
        return self._exit() is not None or self.state == "stopped"

    def exec(
        self,
        args: Sequence[str] | str,
        *,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
        input: bytes | None = None,
        stdin: bool = False,
        tty: bool = False,
        wait: bool = True,
        check: bool = False,
        timeout: float | None = None,
    ) -> Process:
        """Run another command in it.

        Args:
            args: Command and arguments; a string is split as a shell would, but no shell runs.
            env: Environment beside the container's.
            workdir: Working directory, in place of the container's.
            user: Who it runs as, in place of the container's.
            input: Written to its standard input.
            stdin: Whether its standard input stays open for `Process.write`.
            tty: Whether it has a terminal.
            wait: Whether to wait for its end, capturing its output. Otherwise it is returned as it
                runs: read it with `Process.stream` or `Process.wait`, and close it.
            check: Whether another exit code than 0 raises, where it is waited for.
            timeout: Seconds to wait; after them it is killed.

        Raises:
            ContainerError: There is nothing to run.
            ContainerStateError: The container does not run.
            CommandNotFound: There is no such command in the container.
            ProcessFailed: It failed, and `check` is set.
            TimeoutExpired: It took too long and was killed.
        """
        state = self._state()
        process = self._another_process(
            words(args), env=env or {}, workdir=workdir, user=user, tty=tty
        )
        started = start_process(
            process.args,
            lambda i, o, e: execute(state, process, stdin=i, stdout=o, stderr=e),
            stdin=stdin or input is not None,
            tty=tty,
        )
        if wait:
            with started:
                try:
                    started.wait(timeout, input=input, check=check)
                except TimeoutExpired:
                    started.kill()
                    raise
        return started

    def _another_process(
        self,
        args: tuple[str, ...],
        *,
        env: Mapping[str, str],
        workdir: str | None,
        user: str | None,
        tty: bool,
    ) -> OciProcess:
        """A process like the container's own, but for what is given here."""
        if not args:
            raise ContainerError("nothing to run: no command", remedy="give one")
        own = RuntimeSpec.parse((self._directory / "config.json").read_bytes()).process
        values = dict(entry.partition("=")[::2] for entry in own.env)
        who = resolve_user(
            f"{own.user.uid}:{own.user.gid}" if user is None else user,
            _home.reader(self._directory, self._record),
        )
        if user is None:
            who = evolve(who, groups=own.user.additional_gids, home=values.get("HOME", "/"))
        else:
            values.pop("HOME", None)
        process = default_process(
            args,
            env={**values, **env},
            cwd=workdir or own.cwd,
            user=who,
            tty=tty,
            no_new_privileges=own.no_new_privileges,
        )
        return evolve(process, rlimits=own.rlimits)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code.

        Raises:
            TimeoutExpired: It still runs after that many seconds.
            ContainerStateError: Its monitor was killed, so that nobody saw how it ended.
        """
        if self._running is not None:
            return self._running.wait(timeout)
        if not _home.wait_for_end(self._directory, timeout):
            raise TimeoutExpired(f"container {self.name} still runs after {timeout} seconds")
        ended = self._exit()
        if ended is None:
            raise ContainerStateError(
                f"nobody knows how container {self.name} ended: its monitor was killed"
            )
        return ended.exit_code

    def kill(self, signal: int | str = "SIGKILL") -> None:
        """Send a signal to its first process.

        Raises:
            ContainerStateError: It does not run.
        """
        number = signal if isinstance(signal, int) else signals.Signals[signal].value
        pidfd = self._state().open_pidfd()
        try:
            signals.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return
        finally:
            os.close(pidfd)

    def stop(self, grace: float = _GRACE_SECONDS) -> int | None:
        """Ask it to end, and end it after a grace.

        Args:
            grace: Seconds between the image's stop signal, or SIGTERM, and SIGKILL.

        Returns:
            Its exit code; None if nobody saw it end.
        """
        try:
            self.kill(self._record.stop_signal)
            self.wait(grace)
        except TimeoutExpired:
            self.kill()
            self.wait(_DELETE_SECONDS)
        except ContainerStateError:  # it has ended already
            pass
        return self.exit_code

    def delete(self, *, force: bool = False) -> None:
        """Remove it with its files and its log; one that is gone is removed.

        Args:
            force: Also when it runs: it is killed.

        Raises:
            ContainerStateError: It runs, and `force` is not set.
        """
        if not force and self.state == "running":
            raise ContainerStateError(
                f"container {self.name} runs", remedy="stop it first, or delete(force=True)"
            )
        if self._running is not None and self._attached:
            self._running.close()
        _home.delete(self._store, self._directory, self.id, _DELETE_SECONDS)
        if self._running is not None:
            self._running.close()
        self.close_stdin()
        self._attached = False

    def close(self) -> None:
        """Let the handle go. An attached container ends at once, and nothing of it stays."""
        if self._attached:
            self.delete(force=True)
        elif self._running is not None:
            self._running.close()
        self.close_stdin()
        self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_attached", False):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            self.close()

    def __repr__(self) -> str:
        return f"<Container {self.name} of {self.image}>"


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
