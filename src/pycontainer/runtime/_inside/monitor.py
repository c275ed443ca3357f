"""The monitor: one small process for each container, its parent and its undertaker.

It makes the cgroup, clones init into new namespaces, keeps the log, writes down what becomes of the
container, and cleans up. It ends an attached container when the host program dies; that of a
detached one goes on alone. It holds ``lock`` as long as it lives: who can take the lock knows that
nobody looks after the container.

Files beneath the container's directory that it writes: ``state.json`` (once the container runs),
``exit.json`` (once it has ended), ``log`` and the FIFOs behind it, ``control.sock``.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import time

from pycontainer._linux import erofs, overlay, process
from pycontainer._linux.tree import remove_tree
from pycontainer.runtime._inside import ahead, cgroup, commands, files, init, wire
from pycontainer.runtime._inside.events import Events
from pycontainer.runtime._inside.streams import Streams

__all__ = ["Monitor", "main"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.runtime._inside.keeper import Keeper
    from pycontainer.runtime._inside.network import Interfaces
    from pycontainer.runtime._inside.usermode import UserMode

_KILL = 9


def main(request: dict[str, object], owner: _socket.socket, fds: list[int], host: int) -> None:
    """Run one container from start to end.

    Args:
        request: The plan of `pycontainer.runtime.plan`, with ``directory``, ``detach``, ``remove``.
        owner: The socket of who asked for the container.
        fds: Where it waits for its files a pipe that tells of them; its stdin, stdout, stderr; then
            what has to be kept open.
        host: A pidfd of the host program, or -1 for a detached container.
    """
    watch = Monitor(request, owner, host)
    needed = 4 if request["adopted"] or request["waits"] else 3
    watch.kept_open = fds[needed:]
    try:
        _live(watch, fds[:needed])
    finally:
        watch.clean_up()


def _live(watch: Monitor, stdio: list[int]) -> None:
    try:
        watch.start(stdio)
    except init.StepFailed as error:
        watch.give_up(error.step, error.errno, error.text)
    except OSError as error:
        watch.give_up(watch.step, error.errno or 0, str(error))
    except Exception as error:  # a mistake of ours: the owner must hear of it
        watch.give_up(watch.step, 0, f"{type(error).__name__}: {error}")
    else:
        watch.run()


class Monitor:
    """What one container needs as long as it is there; `commands`, `keeper` and others act on it."""

    def __init__(self, request: dict[str, object], owner: _socket.socket, host: int) -> None:
        self.plan = request
        self.owner = owner
        self.host = host
        self.detached = bool(request["detach"])
        self.remove = bool(request["remove"])
        run = request["run"]
        assert isinstance(run, int)
        self.run_number = run
        self.cgroup = request["cgroup"]
        self.step = "prepare"
        self.listener: _socket.socket | None = None
        self.clients: dict[int, _socket.socket] = {owner.fileno(): owner}
        self.pidfd = -1
        self.pid = 0
        self.exit: tuple[str, int, bool] | None = None
        self.delete_requested = False
        self.released = False
        self.events = Events(request["events"])
        self.streams = Streams()
        self.keeper: Keeper | None = None
        self.network: Interfaces | UserMode | None = None
        self.left: list[object] = []
        self.kept_open: list[int] = []

    # --- start -------------------------------------------------------------------------------

    def start(self, stdio: list[int]) -> None:
        """Bring the container to life or raise; what was made is undone by `clean_up`."""
        os.chdir(str(self.plan["directory"]))  # also keeps the names below short (sun_path)
        if not self.plan["adopted"]:
            self._lock()
        if self.plan["upkeep"]:
            from pycontainer.runtime._inside.keeper import Keeper  # few containers need it

            self.keeper = Keeper(self.plan["upkeep"], stdio[-3:])
        self._prepare_network()
        if self.plan["adopted"]:
            from pycontainer.runtime._inside.adoption import adopt

            adopt(self, stdio)
        else:
            if self.plan["waits"]:
                self.plan["gate"] = [stdio.pop(0), self.host]
            self.bring_to_life(stdio)

    def bring_to_life(self, stdio: list[int]) -> None:
        """Do what each start of the container takes, this monitor's first or not."""
        if self.plan["keep"] or self.run_number > 1:  # its files may have been mounted before
            init.forget_volatile(self.plan["rootfs"])
        self.step = "create the control group"
        foreign = "bundle" in self.plan or "restore" in self.plan
        cgroup.create(self.cgroup, limited=not foreign)
        self.step = "open the standard streams"
        limit = () if self.keeper is None else self.keeper.log_limit
        payload = self.streams.open(
            stdio,
            log=bool(self.plan["log"]),
            live=bool(self.plan["live"]),
            tty=bool(self.plan["tty"]),
            limit=limit,
            mend=bool(self.plan["keep"]) and self.listener is None,
        )
        if foreign:
            self._bring_to_life_otherwise(payload)
            return
        if self.plan["user"]:
            from pycontainer.runtime._inside import mapped  # most containers have none

            self.step = "make the user namespace"
            mapped.prepare(self.plan, payload)
        self.step = "clone the container"
        group = cgroup.open_v2(self.cgroup)
        report, console, go = self._clone(payload, group)
        # From here on init works, too; what it need not wait for is done beside it.
        erofs.forget()
        self.step = "filter devices"
        cgroup.filter_devices(self.cgroup, group)
        try:
            os.write(go, b"g")
        except BrokenPipeError:  # it has failed already, and says below why
            pass
        if group >= 0:
            os.close(group)
        self.streams.close_payload_side()
        if self.network is not None:
            self._connect(go)
        self._await_start(report, console, go)

    def _bring_to_life_otherwise(self, payload: list[int]) -> None:
        """Have another program make the container's first process; few containers do."""
        if "restore" in self.plan:
            from pycontainer.runtime._inside import restoring

            restoring.bring_to_life(self, payload)
        else:
            from pycontainer.runtime._inside import bundle

            bundle.bring_to_life(self, payload)

    def _await_start(self, report: int, console: _socket.socket | None, go: int) -> None:
        """Wait until init has executed its command, and say so."""
        begun = self.prepare_state()
        # Only now may it execute the command: from here on others find it if this process is killed.
        try:
            os.write(go, b"s")
        except BrokenPipeError:  # it has failed already, and says below why
            pass
        os.close(go)
        if console is not None:
            self.streams.take_terminal(console)
        failure = wire.read_all(report)
        if failure:
            raise init.StepFailed.from_wire(failure)
        self._publish_state(begun)

    def announce(self, begun: int) -> None:
        """Say that the command, which another runtime has started, is executing."""
        self._publish_state(begun)

    def prepare_state(self) -> int:
        """Write down which process it is, and give its start time; needed before it executes its command."""
        self.step = "write the state down"
        if self.listener is None:
            self.listen()
        begun = process.start_time(self.pid)
        self.describe(begun, time.time())
        return begun

    def _publish_state(self, begun: int) -> None:
        files.publish("state.json")
        if self.keeper is not None:
            self.keeper.began()
        self.events.of_container("start")
        wire.send(self.owner, "running", self.pid, begun)
        starting = self.plan.pop("starting", -1)
        assert isinstance(starting, int)
        if starting >= 0:  # the first time
            os.close(starting)

    def _clone(self, payload: list[int], group: int) -> tuple[int, _socket.socket | None, int]:
        """Clone init.

        Returns:
            A pipe on which it tells why it failed, the socket on which its terminal comes, and the
            pipe by which it is let go on.
        """
        joined = self._prepare_namespaces()
        self.step = "clone the container"
        report_r, report_w = os.pipe()
        wait, go = os.pipe()
        console, console_inside = (
            _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            if self.plan["tty"]
            else (None, None)
        )
        namespaces, made = self.plan["namespaces"], self.plan.pop("ahead", ahead.NOTHING)
        assert isinstance(namespaces, int)
        assert isinstance(made, ahead.Made)
        if self.plan["user"]:
            from pycontainer.runtime._inside import mapped

            self.pid, self.pidfd = mapped.clone(
                self.plan, joined, (report_r, report_w), cgroup=group
            )
        else:
            self.pid, self.pidfd = ahead.clone3(namespaces, made, cgroup=group)
        if self.pid == 0:
            os.close(go)
            init.main(self.plan, payload, report_w, wait, console_inside, joined, made)
        os.close(report_w)
        os.close(wait)
        if gate := self.plan.pop("gate", None):
            assert isinstance(gate, list)
            os.close(gate[0])
        for fd in joined.values():
            os.close(fd)
        self._forget_id_maps()
        if console_inside is not None:
            console_inside.close()
        return report_r, console, go

    def _prepare_namespaces(self) -> dict[str, int]:
        """Open what the container joins, and make what its mounts need; few containers do."""
        if not self.plan["joined"] and not self.plan["id_maps"] and not self.plan["user"]:
            return {}
        from pycontainer.runtime._inside import namespaces

        self.step = "map the owners of a mount"
        namespaces.make_id_maps(self.plan["id_maps"], self.plan["user"])
        self.step = "join the namespaces of another container"
        joined = namespaces.open_namespaces(self.plan["joined"])
        if not self.plan["user"]:
            namespaces.join_for_children(joined)
        return joined

    def _forget_id_maps(self) -> None:
        if self.plan["id_maps"] or self.plan["user"]:
            from pycontainer.runtime._inside import namespaces

            namespaces.close_id_maps(self.plan["id_maps"], self.plan["user"])

    def _prepare_network(self) -> None:
        network = self.plan["network"]
        assert isinstance(network, dict)
        if network.get("by") == "program":
            from pycontainer.runtime._inside.usermode import UserMode

            self.network = UserMode(network)
        elif network:
            from pycontainer.runtime._inside.network import Interfaces  # most containers have none

            self.network = Interfaces(network)

    def _connect(self, go: int) -> None:
        """Make the container's interfaces, while it mounts, and let it go on from there."""
        self.step = "connect to the network"
        assert self.network is not None
        try:
            self.network.connect(self.pid)
            self.events.of_networks("connect", self.network.networks)
            os.write(go, b"n")
        except BrokenPipeError:  # as above
            pass
        except OSError:
            os.close(go)
            raise

    def _lock(self) -> None:
        fd = os.open("lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        # No other monitor has this directory; but whoever asks for one holds the lock for a moment.
        fcntl.flock(fd, fcntl.LOCK_EX)

    def listen(self) -> None:
        """Take connections of those who want something of the container."""
        listener = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        )
        try:
            listener.bind("control.sock")
        except OSError:  # that of a monitor that was killed
            os.unlink("control.sock")
            listener.bind("control.sock")
        listener.listen(16)
        self.listener = listener

    def describe(self, begun: int, started_at: float) -> None:
        """Prepare the state, which holds once init has executed its command."""
        files.prepare(
            "state.json",
            b'{"pid": %d, "start_time": %d, "monitor": %d, "monitor_start_time": %d, '
            b'"started_at": %.6f, "boot_id": "%s", "run": %d, "restarts": %d}\n'
            % (
                self.pid,
                begun,
                os.getpid(),
                process.start_time(os.getpid()),
                started_at,
                str(self.plan["boot_id"]).encode(),
                self.run_number,
                0 if self.keeper is None else self.keeper.restarts,
            ),
        )

    def give_up(self, step: str, code: int, text: str) -> None:
        """Tell the owner why there is no container; the rest is `clean_up`'s."""
        self.remove = not self.plan["keep"]
        wire.send(self.owner, "failed", step, code, text)

    # --- life --------------------------------------------------------------------------------

    def run(self) -> None:
        """Look after the container until nobody needs this process any more."""
        poll = select.poll()
        if self.host >= 0:
            poll.register(self.host, select.POLLIN)
        assert self.listener is not None
        for fd in (self.listener.fileno(), self.owner.fileno()):
            poll.register(fd, select.POLLIN)
        self.look_after(poll)
        while not self._finished():
            ready = poll.poll() if self.keeper is None else poll.poll(self.keeper.milliseconds())
            for fd, _ in ready:
                self._handle(fd, poll)
            if self.keeper is not None:
                self.keeper.act(self, poll)

    def look_after(self, poll: select.poll) -> None:
        """Have the container's process and streams polled."""
        poll.register(self.pidfd, select.POLLIN)
        self.streams.register(poll)
        if self.network is not None:
            self.network.register(poll)

    def _handle(self, fd: int, poll: select.poll) -> None:
        assert self.listener is not None
        if fd == self.pidfd:
            poll.unregister(fd)
            self._ended(poll)
        elif fd == self.host:
            poll.unregister(fd)
            self.delete()
        elif fd == self.listener.fileno():
            self._accept(poll)
        elif fd in self.clients:
            commands.obey(self, fd, poll)
        elif (self.network is None or not self.network.handle(fd, poll)) and (
            self.keeper is None or not self.keeper.handles(fd, poll, self)
        ):
            self.streams.handle(fd, poll)

    def _finished(self) -> bool:
        """Whether this process can go.

        A detached container's goes once the exit is written down. An attached one's waits for its
        owner, so that the container's directory is removed even if that owner is killed.
        """
        if self.exit is None or (self.keeper is not None and self.keeper.start_due is not None):
            return False
        return self.detached or self.remove or self.delete_requested or self.released

    def _ended(self, poll: select.poll) -> None:
        code = self._exit_code()
        if not self.plan["own_pids"]:  # its end was not that of all the others
            cgroup.kill(self.cgroup)
        out_of_memory = cgroup.oom_killed(self.cgroup)
        self.streams.drain(poll)
        if self.network is not None:
            self.left = self.network.networks
            self.network.down(poll)
        if self.keeper is not None:
            failed = 1 if code is None else code
            self.keeper.ended(failed, poll, may_go_on=not self.delete_requested)
        if self.keeper is None or self.keeper.start_due is None:
            self._close_kept()
        self.record_exit(code, out_of_memory)

    def _exit_code(self) -> int | None:
        """128 + n after signal n; None where nobody knows."""
        status: int | None
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:  # an adopted one
            from pycontainer.runtime._inside.adoption import exit_status

            status = exit_status(self.plan["adopted"], self.pidfd)
        if status is None:
            return None
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def _record_end(self, how: str = "") -> None:
        self.events.of_container("die", how)
        self.events.of_networks("disconnect", self.left)
        self.left = []

    def record_exit(self, code: int | None, out_of_memory: bool) -> None:
        """Write down how the container ended, and tell who wants to know."""
        if code is None:
            self._record_end()
            self.exit = ("lost", 0, out_of_memory)
            return
        due = None if self.keeper is None else self.keeper.start_due
        if self.detached or not self.remove:  # else it would be removed at once
            self._write_exit(code, out_of_memory, due)
        if out_of_memory:
            self.events.of_container("oom")
        self._record_end(f', "exitCode": "{code}"')
        self.exit = ("exit" if due is None else "died", code, out_of_memory)
        for client in self.clients.values():
            wire.send(client, *self.exit)

    def _write_exit(self, code: int, out_of_memory: bool, due: float | None) -> None:
        document = (
            b'{"run": %d, "restarts": %d, "exit_code": %d, "oom_killed": %s, "finished_at": %.6f, '
            b'"next": %s}\n'
            % (
                self.run_number,
                0 if self.keeper is None else self.keeper.restarts,
                code,
                b"true" if out_of_memory else b"false",
                time.time(),
                b"null" if due is None else b"%.6f" % due,
            )
        )
        try:
            files.write_atomically("exit.json", document)
        except OSError:  # how it ended is worth more than the last it said
            self.streams.shorten_log()
            try:
                files.write_atomically("exit.json", document)
            except OSError:  # its owner hears of it all the same
                pass

    def _accept(self, poll: select.poll) -> None:
        assert self.listener is not None
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
        except OSError:
            return
        client = _socket.socket(fileno=fd)
        self.clients[fd] = client
        poll.register(fd, select.POLLIN)
        if self.exit is not None:
            wire.send(client, *self.exit)

    def hold(self) -> None:
        """Let the container's end, also one before its next start, be the last of this monitor."""
        if self.keeper is not None and self.keeper.hold() and self.exit is not None:
            _, code, out_of_memory = self.exit
            self.record_exit(code, out_of_memory)

    def delete(self) -> None:
        """End the container, and remove it once it has ended."""
        self.delete_requested = self.remove = True
        self.hold()
        if self.exit is None:
            self.kill()

    def kill(self) -> None:
        """Kill all that runs in the container."""
        cgroup.kill(self.cgroup)
        try:
            process.kill_by_pidfd(self.pidfd, _KILL)
        except ProcessLookupError:
            pass

    def bury(self) -> None:
        """End what was cloned and take its exit code, which tells nothing."""
        if not self.pid:
            return
        self.kill()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:  # reaped, but its exit could not be written down
            pass

    # --- end ---------------------------------------------------------------------------------

    def _close_kept(self) -> None:
        while self.kept_open:
            os.close(self.kept_open.pop())

    def clean_up(self) -> None:
        """Remove what this process made; the whole directory where nobody will ask for it."""
        if self.exit is None:
            self.bury()
            if self.network is not None:
                self.events.of_networks("disconnect", self.network.networks)
                self.network.down()
        self._close_kept()  # before the owner hears that all is done, and asks for a port again
        left = cgroup.destroy(self.cgroup)
        for name in ("control.sock", "out.fifo", "err.fifo"):
            try:
                os.unlink(name)
            except FileNotFoundError:
                pass
        if self.remove and not left:  # else whoever comes next must know of the groups
            os.chdir("/")
            rootfs = self.plan["rootfs"]
            assert isinstance(rootfs, dict)
            if rootfs["volatile"] and rootfs["work"]:
                overlay.clear_work(rootfs["work"])
            remove_tree(str(self.plan["directory"]))
            if self.exit is not None:
                self.events.of_container("destroy")
        for client in self.clients.values():  # their end of file: all is done
            client.close()
