"""Container set-up inside the new namespaces, up to execve(2).

All that can be prepared is prepared by the host (`pycontainer.runtime.plan`): what arrives is data, a
list of steps in the order in which they are done. Nothing may be imported after pivot_root(2).
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import stat

from pycontainer._linux import loopback, mount, overlay, process
from pycontainer._linux.path import make_target
from pycontainer._linux.tree import remove_tree
from pycontainer.runtime._inside import ahead, binds, cgroup, files
from pycontainer.runtime._inside.devices import make_node
from pycontainer.runtime._inside.identity import apply_process, execute
from pycontainer.runtime._inside.terminal import become_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself would cost a container three milliseconds
    import _socket
    from types import ModuleType
    from typing import NoReturn

__all__ = [
    "StepFailed",
    "forget_volatile",
    "main",
    "mount_files",
    "prepare_root",
    "report_failure",
]

_NO_NEW_FILES = mount.NOSUID | mount.NODEV | mount.NOEXEC

Plan = dict[str, object]


class StepFailed(Exception):
    """A step of a start failed; crosses processes by `to_wire` and `from_wire`."""

    def __init__(self, step: str, code: int, text: str) -> None:
        super().__init__(step, code, text)
        self.step = step
        self.errno = code
        self.text = text

    def to_wire(self) -> bytes:
        """The failure as bytes."""
        return marshal.dumps((self.step, self.errno, self.text))

    @classmethod
    def from_wire(cls, data: bytes) -> StepFailed:
        """The failure that `to_wire` made bytes of."""
        return cls(*marshal.loads(data))  # noqa: S302  (from our own child)


def report_failure(fd: int, step: str, error: BaseException) -> NoReturn:
    """Say through a pipe why there will be no execve(2), and end."""
    code = error.errno if isinstance(error, OSError) and error.errno else 0
    text = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    os.write(fd, StepFailed(step, code, text).to_wire())
    os._exit(127)


def main(
    plan: Plan,
    stdio: list[int],
    report: int,
    go: int,
    console: _socket.socket | None,
    joined: dict[str, int],
    made: ahead.Made,
) -> NoReturn:
    """Set the container up and execute its command; never returns.

    Args:
        plan: What `pycontainer.runtime.plan.compile_plan` made.
        stdio: Descriptors for 0, 1 and 2; empty where a terminal is made.
        report: Closed by a successful execve(2); else the failure is written here.
        go: Readable once the control groups are as they are to be.
        console: Where the terminal's master side goes.
        joined: Namespaces of others to enter, by kind.
        made: What was made before the container was asked for; this process is in its namespaces.
    """
    setup = _Setup(plan, stdio, console, joined, made)
    setup.go = go
    try:
        for step in (
            setup.join_namespaces,
            setup.await_files,
            setup.mount_root,
            setup.join_cgroup,
            setup.mount_all,
            setup.make_devices,
            setup.open_terminal,
            setup.configure_network,
            setup.enter_root,
            setup.set_sysctls,
            setup.protect_paths,
            setup.name_host,
            setup.await_monitor,
        ):
            setup.step = step.__name__.replace("_", " ")
            step()
        setup.step = "take the process's identity"
        spec = plan["process"]
        assert isinstance(spec, dict)
        if setup.reaper is not None:
            setup.reaper.stay_first(spec["capabilities"], tty=console is not None)
        apply_process(spec, report)
        setup.step = "execute"
        execute(spec)
    except BaseException as error:
        report_failure(report, setup.step, error)


def mount_files(plan: Plan) -> int:
    """Mount a container's files and no more; return its root directory.

    Args:
        plan: Of a whole plan ``rootfs``, ``mountpoint`` and ``mounts``.
    """
    setup = _Setup(plan, [], None, {}, ahead.NOTHING)
    setup.mount_root()
    setup.mount_all()
    return setup.root


def prepare_root(plan: Plan, entries: list[int]) -> dict[str, int]:
    """Mount a container's root for another runtime, and open what some of its binds show.

    Args:
        plan: The container's.
        entries: Which of the plan's mounts.

    Returns:
        Descriptors of detached mounts, by the numbers of the entries.
    """
    setup = _Setup(plan, [], None, {}, ahead.NOTHING)
    setup.mount_root()
    mounts = plan["mounts"]
    assert isinstance(mounts, list)
    return {str(number): setup.open_bind(mounts[number]) for number in entries}


def forget_volatile(rootfs: object) -> None:
    """Remove overlay's mark that an upper was not synced: it was the same boot, nothing is lost."""
    assert isinstance(rootfs, dict)
    if rootfs["volatile"] and rootfs["work"]:
        remove_tree(f"{rootfs['work']}/work/incompat")


class _Setup:
    """The steps that build a container's surroundings, each named as errors name it."""

    def __init__(
        self,
        plan: Plan,
        stdio: list[int],
        console: _socket.socket | None,
        joined: dict[str, int],
        made: ahead.Made,
    ) -> None:
        self.plan = plan
        self.made = made
        self.stdio = stdio
        self.console = console
        self.joined = joined
        self.shared: dict[str, int] = {}
        self.reaper: ModuleType | None = None
        self.go = -1
        self.root = -1
        self.step = ""

    def join_namespaces(self) -> None:
        if self.plan["user"]:  # until now the machine's root, whom that namespace does not know
            process.set_groups([])
            process.set_ids(0, 0)
            process.set_dumpable(True)  # or its files in /proc would stay that one's
        if self.joined:
            from pycontainer.runtime._inside import namespaces

            namespaces.join(self.joined)
        if self.plan["reaper"]:
            from pycontainer.runtime._inside import reaper  # nothing can be imported later

            self.reaper = reaper

    def await_files(self) -> None:
        """Wait until the host program has made what is mounted; with the program goes the container."""
        gate = self.plan.get("gate")
        if gate is None:
            return
        assert isinstance(gate, list)
        poll = select.poll()
        for fd in gate:
            poll.register(fd, select.POLLIN)
        made = gate[0] in (fd for fd, _ in poll.poll())
        if not made or not os.read(gate[0], 1):
            raise InterruptedError(errno.EINTR, "the host program gave up")

    def mount_root(self) -> None:
        if self.plan.get("user"):
            self._take_root()
            return
        mounts = self.plan["mounts"]
        assert isinstance(mounts, list)
        for entry in mounts:
            # While they still have to do with the host's: what it mounts there later shows up.
            if entry.get("propagation") in (mount.MS_SHARED, mount.MS_SLAVE):
                self.shared[entry["target"]] = binds.clone_source(entry)
        # Nothing mounted from here on may show up on the host.
        mount.mount("none", "/", None, mount.MS_REC | mount.MS_PRIVATE)
        rootfs, target = self.plan["rootfs"], str(self.plan["mountpoint"])
        assert isinstance(rootfs, dict)
        if rootfs["kind"] == "overlay":
            overlay.mount_at(
                target,
                rootfs["lowers"],
                rootfs["upper"],
                rootfs["work"],
                userxattr=rootfs["userxattr"],
                volatile=rootfs["volatile"],
            )
        else:
            tree = mount.bind(rootfs["path"], recursive=False)
            mount.attach(tree, target)
            os.close(tree)
        os.chdir(target)
        self.root = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _take_root(self) -> None:
        """Put up what `mapped` has gathered, beneath a working directory that was chosen for that."""
        tree = self.plan["root_tree"]
        assert isinstance(tree, int)
        mount.attach(tree, ".")
        os.fchdir(tree)
        self.root = tree

    def join_cgroup(self) -> None:
        if not os.read(self.go, 1):
            raise InterruptedError(errno.EINTR, "the monitor gave up")
        if self.plan["user"]:
            cgroup.join_opened(self.plan["group_files"])
        else:
            cgroup.join(self.plan["cgroup"])
        # Only now, so that the group just joined is the root that this namespace shows.
        if self.plan["cgroup_namespace"]:
            process.unshare(process.NAMESPACE_FLAGS["cgroup"])

    def mount_all(self) -> None:
        mounts = self.plan["mounts"]
        assert isinstance(mounts, list)
        for entry in mounts:
            self.step = f"mount {entry['target']}"
            if entry["kind"] == "bind":
                self._bind(entry)
            elif entry["kind"] == "cgroup":
                self._mount_cgroups(entry)
            else:
                self._filesystem(entry)

    def _filesystem(self, entry: dict[str, object]) -> None:
        kind, target = str(entry["kind"]), str(entry["target"])
        attributes, options = entry["attributes"], entry["options"]
        assert isinstance(attributes, int)
        assert isinstance(options, list)
        if kind in ("proc", "sysfs") or target == "/dev":
            self._refuse_symlink(target)
        tree = self.made.trees.get(target)
        if tree is not None:
            self._attach(tree, target, directory=True)
            return
        try:
            tree = mount.filesystem(kind, attributes, tuple(options))
        except PermissionError:
            if kind != "sysfs":
                raise
            # A user namespace may not mount sysfs where part of the host's is hidden: show that one.
            tree = mount.bind("/sys")
            mount.set_attributes(tree, attributes, recursive=True)
        self._attach(tree, target, directory=True)

    def _refuse_symlink(self, target: str) -> None:
        """Masks go by path: an image that points /proc elsewhere would leave it unmasked.

        Devices do so too, and before pivot_root(2): behind a /dev that is a link is the host.
        """
        try:
            mode = os.stat(target.lstrip("/"), follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, "must be a directory in the image", target)

    def open_bind(self, entry: dict[str, object]) -> int:
        """Clone what a bind shows, with the owners and attributes that it is to have."""
        tree = self.shared.pop(str(entry["target"]), -1)
        if tree < 0:
            tree = binds.clone_source(entry)
        binds.shape(tree, entry)
        return tree

    def _bind(self, entry: dict[str, object]) -> None:
        target = str(entry["target"])
        tree = entry.pop("tree", -1)
        assert isinstance(tree, int)
        if tree < 0:
            tree = self.open_bind(entry)
        directory = stat.S_ISDIR(os.fstat(tree).st_mode)
        self._attach(tree, target, directory=directory)

    def _mount_cgroups(self, entry: dict[str, object]) -> None:
        """Show the container its own control groups."""
        groups, target, attributes = entry["groups"], str(entry["target"]), entry["attributes"]
        assert isinstance(groups, list)
        assert isinstance(attributes, int)
        delegated = entry["delegated"]
        assert isinstance(delegated, list)
        if groups == [["", "cgroup2", []]]:
            if "" in delegated:
                attributes = 0
            tree = mount.filesystem("cgroup2", _NO_NEW_FILES | attributes)
            self._attach(tree, target, directory=True)
            return
        options = (("mode", "755"),)
        tree = mount.filesystem("tmpfs", _NO_NEW_FILES, options)
        top = os.dup(tree)
        self._attach(tree, target, directory=True)
        for name, kind, flags in groups:
            allowed = 0 if name in delegated else attributes
            group = mount.filesystem(kind, _NO_NEW_FILES | allowed, _group_options(flags))
            self._attach(group, f"{target}/{name}", directory=True)
        mount.set_attributes(top, mount.RDONLY)
        os.close(top)

    def _attach(self, tree: int, target: str, *, directory: bool) -> None:
        place = make_target(self.root, target, directory=directory)
        mount.attach(tree, b"", place)
        os.close(place)
        os.close(tree)

    def make_devices(self) -> None:
        if "/dev" in self.made.trees:  # they came with it
            return
        devices, links = self.plan["devices"], self.plan["links"]
        assert isinstance(devices, list)
        assert isinstance(links, list)
        made = self.plan.get("device_trees", [])
        assert isinstance(made, list)
        places: dict[str, int] = {}
        for number, device in enumerate(devices):
            path = device["path"].lstrip("/")
            self.step = f"make the device /{path}"
            if made:
                self._attach(made[number], path, directory=False)
                continue
            if self.plan["bind_devices"]:  # mknod(2) is not for a user namespace
                tree = mount.bind("/" + path, recursive=False)
                self._attach(tree, path, directory=False)
                continue
            above, name = os.path.split(path)
            if above not in places:
                places[above] = make_target(self.root, above, directory=True)
            make_node(places[above], name, device)
        for place in places.values():
            os.close(place)
        for target, path in links:
            os.symlink(target, path.lstrip("/"))

    def open_terminal(self) -> None:
        os.setsid()
        if self.console is None:
            for number, fd in enumerate(self.stdio):
                os.dup2(fd, number, inheritable=True)
            return
        spec = self.plan["process"]
        assert isinstance(spec, dict)
        slave = become_terminal("dev/pts", spec["uid"], self.console)
        self._attach(mount.bind(slave, recursive=False), "dev/console", directory=False)

    def configure_network(self) -> None:
        if self.plan["loopback"] and not self.made.namespaces:
            loopback.up()
        if self.plan["network"] and not os.read(self.go, 1):
            raise OSError(errno.ECANCELED, "the container's monitor has gone")

    def await_monitor(self) -> None:
        """Wait until it is written down which process this is: no command runs that nobody can find."""
        if not os.read(self.go, 1):
            raise InterruptedError(errno.EINTR, "the monitor gave up")

    def enter_root(self) -> None:
        mount.pivot_root(".", ".")
        mount.unmount(".")
        os.chdir("/")
        os.close(self.root)

    def set_sysctls(self) -> None:
        sysctls = self.plan["sysctl"]
        assert isinstance(sysctls, dict)
        for name, value in sysctls.items():
            self.step = f"set sysctl {name}"
            files.write_to("/proc/sys/" + name.replace(".", "/"), value)

    def protect_paths(self) -> None:
        for path in _strings(self.plan["readonly_paths"]):
            try:
                tree = mount.bind(path)
            except FileNotFoundError:
                continue
            mount.set_attributes(tree, _NO_NEW_FILES | mount.RDONLY)
            mount.attach(tree, path)
            os.close(tree)
        empty = ""
        for path in _strings(self.plan["masked_paths"]):
            try:
                mode = os.stat(path).st_mode
            except OSError:
                continue
            if not stat.S_ISDIR(mode):
                tree = mount.bind("/dev/null", recursive=False)
            elif empty:
                tree = mount.bind(empty, recursive=False)
            else:
                options = (("size", "0"), ("nr_inodes", "1"))
                tree = mount.filesystem("tmpfs", _NO_NEW_FILES | mount.RDONLY, options)
                empty = path
            mount.attach(tree, path)
            os.close(tree)
        if self.plan["readonly"]:
            mount.set_attributes(mount.AT_FDCWD, mount.RDONLY, path="/")

    def name_host(self) -> None:
        name, domain = str(self.plan["hostname"]), str(self.plan["domainname"])
        if name:
            process.set_hostname(name, domain)


def _group_options(flags: list[str]) -> tuple[tuple[str, str | None], ...]:
    """The parameters by which a v1 hierarchy that is mounted elsewhere is mounted once more."""
    options: list[tuple[str, str | None]] = []
    for flag in flags:
        key, named, value = flag.partition("=")
        if named:
            options.append(("none", None))
        options.append((key, value if named else None))
    return tuple(options)


def _strings(value: object) -> list[str]:
    assert isinstance(value, list)
    return value
