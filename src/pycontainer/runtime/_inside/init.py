"""Container set-up inside the new namespaces, up to execve(2).

All that can be prepared is prepared by the host (`pycontainer.runtime.plan`): what arrives is data, a
list of steps in the order in which they are done. Nothing may be imported after pivot_root(2).
"""

from __future__ import annotations

import _signal
import errno
import marshal
import os
import resource
import stat

from pycontainer._linux import capability, loopback, mount, overlay, process, seccomp
from pycontainer._linux.path import make_target
from pycontainer._linux.tree import remove_tree
from pycontainer.runtime._inside import cgroup, files
from pycontainer.runtime._inside.terminal import become_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself would cost a container three milliseconds
    import _socket
    from typing import NoReturn

__all__ = [
    "StepFailed",
    "apply_process",
    "execute",
    "forget_volatile",
    "main",
    "mount_files",
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
    plan: Plan, stdio: list[int], report: int, go: int, console: _socket.socket | None
) -> NoReturn:
    """Set the container up and execute its command; never returns.

    Args:
        plan: What `pycontainer.runtime.plan.compile_plan` made.
        stdio: Descriptors for 0, 1 and 2; empty where a terminal is made.
        report: Closed by a successful execve(2); else the failure is written here.
        go: Readable once the control groups are as they are to be.
        console: Where the terminal's master side goes.
    """
    setup = _Setup(plan, stdio, console)
    setup.go = go
    try:
        for step in (
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
        ):
            setup.step = step.__name__.replace("_", " ")
            step()
        setup.step = "take the process's identity"
        spec = plan["process"]
        assert isinstance(spec, dict)
        apply_process(spec)
        setup.step = "execute"
        execute(spec)
    except BaseException as error:
        report_failure(report, setup.step, error)


def mount_files(plan: Plan) -> int:
    """Mount a container's files and no more; return its root directory.

    Args:
        plan: Of a whole plan ``rootfs``, ``mountpoint`` and ``mounts``.
    """
    setup = _Setup(plan, [], None)
    setup.mount_root()
    setup.mount_all()
    return setup.root


def forget_volatile(rootfs: object) -> None:
    """Remove overlay's mark that an upper was not synced: it was the same boot, nothing is lost."""
    assert isinstance(rootfs, dict)
    if rootfs["volatile"] and rootfs["work"]:
        remove_tree(f"{rootfs['work']}/work/incompat")


class _Setup:
    """The steps that build a container's surroundings, each named as errors name it."""

    def __init__(self, plan: Plan, stdio: list[int], console: _socket.socket | None) -> None:
        self.plan = plan
        self.stdio = stdio
        self.console = console
        self.go = -1
        self.root = -1
        self.step = ""

    def mount_root(self) -> None:
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

    def join_cgroup(self) -> None:
        if not os.read(self.go, 1):
            raise InterruptedError(errno.EINTR, "the monitor gave up")
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

    def _bind(self, entry: dict[str, object]) -> None:
        source, target, attributes = entry["source"], entry["target"], entry["attributes"]
        assert isinstance(source, str)
        assert isinstance(attributes, int)
        tree = mount.bind(source, recursive=bool(entry["recursive"]))
        if attributes:
            mount.set_attributes(tree, attributes, recursive=bool(entry["recursive"]))
        directory = stat.S_ISDIR(os.fstat(tree).st_mode)
        self._attach(tree, str(target), directory=directory)

    def _mount_cgroups(self, entry: dict[str, object]) -> None:
        """Show the container its own control groups."""
        groups, target, attributes = entry["groups"], str(entry["target"]), entry["attributes"]
        assert isinstance(groups, list)
        assert isinstance(attributes, int)
        readonly = _NO_NEW_FILES | attributes
        if groups == [["", "cgroup2", []]]:
            self._attach(mount.filesystem("cgroup2", readonly), target, directory=True)
            return
        options = (("mode", "755"),)
        tree = mount.filesystem("tmpfs", _NO_NEW_FILES, options)
        top = os.dup(tree)
        self._attach(tree, target, directory=True)
        for name, kind, flags in groups:
            group = mount.filesystem(kind, readonly, tuple((flag, None) for flag in flags))
            self._attach(group, f"{target}/{name}", directory=True)
        mount.set_attributes(top, mount.RDONLY)
        os.close(top)

    def _attach(self, tree: int, target: str, *, directory: bool) -> None:
        place = make_target(self.root, target, directory=directory)
        mount.attach(tree, b"", place)
        os.close(place)
        os.close(tree)

    def make_devices(self) -> None:
        devices, links = self.plan["devices"], self.plan["links"]
        assert isinstance(devices, list)
        assert isinstance(links, list)
        places: dict[str, int] = {}
        for device in devices:
            path = device["path"].lstrip("/")
            self.step = f"make the device /{path}"
            if self.plan["bind_devices"]:  # mknod(2) is not for a user namespace
                tree = mount.bind("/" + path, recursive=False)
                self._attach(tree, path, directory=False)
                continue
            above, name = os.path.split(path)
            if above not in places:
                places[above] = make_target(self.root, above, directory=True)
            _make_node(places[above], name, device)
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
        if self.plan["loopback"]:
            loopback.up()

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
        for path in _strings(self.plan["masked_paths"]):
            try:
                mode = os.stat(path).st_mode
            except OSError:
                continue
            if stat.S_ISDIR(mode):
                options = (("size", "0"), ("nr_inodes", "1"))
                tree = mount.filesystem("tmpfs", _NO_NEW_FILES | mount.RDONLY, options)
            else:
                tree = mount.bind("/dev/null", recursive=False)
            mount.attach(tree, path)
            os.close(tree)
        if self.plan["readonly"]:
            mount.set_attributes(mount.AT_FDCWD, mount.RDONLY, path="/")

    def name_host(self) -> None:
        name, domain = str(self.plan["hostname"]), str(self.plan["domainname"])
        if name:
            process.set_hostname(name, domain)


def _make_node(place: int, name: str, device: dict[str, int]) -> None:
    number = os.makedev(device["major"], device["minor"])
    os.mknod(name, device["type"] | device["mode"], number, dir_fd=place)
    os.chmod(name, device["mode"], dir_fd=place)
    if device["uid"] or device["gid"]:
        os.chown(name, device["uid"], device["gid"], dir_fd=place)


def _strings(value: object) -> list[str]:
    assert isinstance(value, list)
    return value


def apply_process(spec: Plan) -> None:
    """Turn this process into the payload's: limits, filter, identity, directory, signals.

    The order is forced: the bounding set needs CAP_SETPCAP and the filter CAP_SYS_ADMIN unless
    no_new_privs is set, so both come before the change of identity takes them away.
    """
    _set_limits(spec)
    cwd, filters, flags = str(spec["cwd"]), spec["seccomp"], spec["seccomp_flags"]
    os.makedirs(cwd, exist_ok=True)
    _label(spec)
    capabilities = spec["capabilities"]
    assert isinstance(capabilities, dict)
    assert filters is None or isinstance(filters, bytes)
    assert isinstance(flags, int)
    capability.drop_bounding(capabilities["bounding"])
    if filters and not spec["no_new_privileges"]:
        seccomp.install_filter(filters, flags)
    uid, gid, groups, umask = spec["uid"], spec["gid"], spec["groups"], spec["umask"]
    assert isinstance(umask, int)
    assert isinstance(uid, int)
    assert isinstance(gid, int)
    assert isinstance(groups, list)
    if uid:
        _own_streams(uid)
    if spec["may_set_groups"]:
        process.set_groups(groups)
    process.set_keep_capabilities()
    process.set_ids(uid, gid)
    capability.set_capabilities(
        capabilities["effective"], capabilities["permitted"], capabilities["inheritable"]
    )
    capability.raise_ambient(capabilities["ambient"])
    if spec["no_new_privileges"]:
        process.set_no_new_privileges()
        if filters:
            seccomp.install_filter(filters, flags)
    os.chdir(cwd)
    os.umask(umask)
    _reset_signals()


def _label(spec: Plan) -> None:
    """Have the kernel's security modules confine what execve(2) starts."""
    if spec["apparmor"]:
        name = "apparmor/exec" if os.path.isdir("/proc/self/attr/apparmor") else "exec"
        files.write_to(f"/proc/self/attr/{name}", str(spec["apparmor"]))
    if spec["selinux"]:
        files.write_to("/proc/self/attr/exec", str(spec["selinux"]))


def _own_streams(uid: int) -> None:
    """Give the pipes of the standard streams to the user, who else could not open /dev/stdout."""
    for fd in range(3):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.fchown(fd, uid, -1)
        except OSError:  # another user's pipe, where this one may not change it
            pass


def _reset_signals() -> None:
    """Neither what Python ignores nor what the host program ignored or blocked is the payload's."""
    for number in range(1, _signal.NSIG):
        try:
            _signal.signal(number, _signal.SIG_DFL)
        except (OSError, ValueError):  # SIGKILL, SIGSTOP, and those that libc keeps to itself
            pass
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _set_limits(spec: Plan) -> None:
    limits, score = spec["rlimits"], spec["oom_score_adj"]
    assert isinstance(limits, list)
    for kind, soft, hard in limits:
        try:
            resource.setrlimit(kind, (soft, hard))
        except ValueError:  # raising the hard limit takes CAP_SYS_RESOURCE: go as far as it goes
            most = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (soft if 0 <= soft <= most else most, most))
    if score is not None:
        try:
            files.write_to("/proc/self/oom_score_adj", str(score))
        except PermissionError:
            pass


def execute(spec: Plan) -> NoReturn:
    """execve(2) of the command, looked up in the container's PATH.

    Raises:
        OSError: It is not there (ENOENT) or cannot be executed.
    """
    args, env = spec["args"], spec["env"]
    assert isinstance(args, list)
    assert isinstance(env, dict)
    process.close_on_exec_from(3)
    command = args[0]
    if "/" in command:
        os.execve(command, args, env)  # noqa: S606
    found: OSError = FileNotFoundError(errno.ENOENT, "not found in $PATH", command)
    for directory in env.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":"):
        try:
            os.execve(f"{directory or '.'}/{command}", args, env)  # noqa: S606
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found = error
    raise found
