"""Containers whose users are not the machine's: a user namespace of their own (user_namespaces(7)).

The kernel asks for the rights of the machine's root where files of the host get into a container, and
for the container's own root where namespaces are made that are to be that one's. So a process in
between does the first, enters the user namespace, clones init there as its sibling, and ends.

Owners on disk are those that the container sees. Layers, the writable one too, and volumes are shown
through mounts that map them (mount_setattr(2), MOUNT_ATTR_IDMAP). Overlay makes files as whoever has mounted
it: that one's file system ids must be mapped as well, or it finds its upper layer to be read-only.
"""

from __future__ import annotations

import os

from pycontainer._linux import capability, erofs, mount, overlay, process
from pycontainer.runtime._inside import binds, init, namespaces, wire
from pycontainer.runtime._inside.devices import make_node
from pycontainer.runtime._inside.identity import own_streams, raise_limits

__all__ = ["clone", "prepare"]

Plan = dict[str, object]


def prepare(plan: Plan, payload: list[int]) -> None:
    """Make the container's user namespace, or open the one it shares, and give its streams to its root.

    Args:
        plan: Its ``user`` gets ``fd``.
        payload: What the container gets as 0, 1 and 2.

    Raises:
        OSError: The kernel makes no user namespace.
    """
    user = plan["user"]
    assert isinstance(user, dict)
    if user["joined"]:
        found = namespaces.open_namespaces([["user", *user["joined"]]])
        user["fd"] = found["user"]
    else:
        user["fd"] = namespaces.make_user_namespace(user["uid_map"], user["gid_map"])
    own_streams(payload, *user["root"])
    for group in user["groups"]:
        _give_group(group, *user["root"])


def _give_group(path: str, uid: int, gid: int) -> None:
    """Delegate a control group: what divides it, not its limits (cgroup-v2.rst, *Delegation*)."""
    for name in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"):
        try:
            os.chown(f"{path}/{name}", uid, gid)
        except FileNotFoundError:  # of the other version
            pass


def clone(
    plan: Plan, joined: dict[str, int], report: tuple[int, int], *, cgroup: int
) -> tuple[int, int]:
    """Clone init into the user namespace and the new ones that are to belong to it.

    Args:
        plan: The container's, after `prepare`.
        joined: Namespaces of other containers, by kind.
        report: Both ends of the pipe by which init says what failed.
        cgroup: Descriptor of the group that it is born in, or -1.

    Returns:
        In the parent its pid and a pidfd of it; in the child (0, -1).

    Raises:
        StepFailed: There is none.
    """
    told, tell = os.pipe()
    between, pidfd = process.clone3(process.NAMESPACE_FLAGS["mount"])
    if between == 0:
        os.close(told)
        builder = _Builder(plan)
        try:
            pid = builder.build(joined, cgroup)
        except BaseException as error:
            init.report_failure(report[1], builder.step, error)
        if pid:
            os.write(tell, b"%d" % pid)
            os._exit(0)
        os.close(tell)
        return 0, -1
    os.close(tell)
    os.close(pidfd)
    said = os.read(told, 16)
    os.close(told)
    os.waitpid(between, 0)
    if not said:
        os.close(report[1])
        raise init.StepFailed.from_wire(wire.read_all(report[0]))
    return int(said), os.pidfd_open(int(said))


class _Builder:
    """What the process in between does; `step` names what it is at, for errors."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.step = ""
        user = plan["user"]
        assert isinstance(user, dict)
        self.namespace: int = user["fd"]
        self.root: list[int] = user["root"]
        self.place = str(plan["mountpoint"])

    def build(self, joined: dict[str, int], cgroup: int) -> int:
        """Gather what the container gets of the host, and clone init; 0 in that."""
        self.step = "mount root"
        self._take_binds()
        self._make_place()
        self.plan["root_tree"] = self._root()
        self.step = "make the devices"
        self.plan["device_trees"] = self._devices()
        self.step = "open the control groups"
        group = self.plan["cgroup"]
        assert isinstance(group, dict)
        names = [f"{directory}/tasks" for directory in group.get("join", ())]
        self.plan["group_files"] = [os.open(name, os.O_WRONLY | os.O_CLOEXEC) for name in names]
        spec = self.plan["process"]
        assert isinstance(spec, dict)
        raise_limits(spec)
        self.step = "enter the user namespace"
        process.setns(self.namespace, process.NAMESPACE_FLAGS["user"])
        namespaces.join_for_children(joined)
        self.step = "clone the container"
        flags = self.plan["namespaces"]
        assert isinstance(flags, int)
        pid, pidfd = process.clone3(flags, cgroup=cgroup, sibling=True)
        if pid:
            os.close(pidfd)
        return pid

    def _take_binds(self) -> None:
        """Clone what binds show; those that pass mounts on while they still have to do with the host's."""
        mounts = self.plan["mounts"]
        assert isinstance(mounts, list)
        wanted = [entry for entry in mounts if entry["kind"] == "bind"]
        for entry in wanted:
            if entry["propagation"] == mount.MS_SLAVE:
                entry["tree"] = binds.clone_source(entry)
        mount.mount("none", "/", None, mount.MS_REC | mount.MS_PRIVATE)
        for entry in wanted:
            self.step = f"mount {entry['target']}"
            entry.setdefault("tree", -1)
            if entry["tree"] < 0:
                entry["tree"] = binds.clone_source(entry)
            binds.shape(entry["tree"], entry)

    def _make_place(self) -> None:
        """A directory that the container's root may enter, with room for mounts."""
        tree = mount.filesystem("tmpfs", 0, (("mode", "755"), ("source", "tmpfs")))
        mount.attach(tree, self.place)
        os.close(tree)
        os.chdir(self.place)

    def _root(self) -> int:
        rootfs = self.plan["rootfs"]
        assert isinstance(rootfs, dict)
        if rootfs["kind"] != "overlay":
            tree = mount.bind(rootfs["path"], recursive=False)
            self._map(tree, rootfs["path"])
            return tree
        lowers = [self._show(str(n), lower) for n, lower in enumerate(rootfs["lowers"])]
        upper = work = None
        if rootfs["upper"] and rootfs["work"]:  # overlay wants both on one mount
            above = self._show("changes", os.path.dirname(rootfs["upper"]))
            upper = f"{above}/{os.path.basename(rootfs['upper'])}"
            work = f"{above}/{os.path.basename(rootfs['work'])}"
        os.mkdir("root")
        _, permitted, inheritable = capability.get_capabilities()
        process.set_filesystem_ids(*self.root)
        capability.set_capabilities(permitted, permitted, inheritable)
        overlay.mount_at(
            f"{self.place}/root", lowers, upper, work, volatile=bool(rootfs["volatile"])
        )
        process.set_filesystem_ids(0, 0)
        tree = mount.bind("root", recursive=False)
        mount.unmount("root")
        return tree

    def _show(self, name: str, source: str) -> str:
        """Mount a directory or image with its owners mapped; give the path."""
        if source.endswith(erofs.SUFFIX):
            tree = erofs.detached(source)
        else:
            tree = mount.bind(source, recursive=False)
        self._map(tree, source)
        os.mkdir(name)
        mount.attach(tree, name)
        os.close(tree)
        return f"{self.place}/{name}"

    def _map(self, tree: int, source: str) -> None:
        binds.map_owners(tree, self.namespace, source, recursive=False)

    def _devices(self) -> list[int]:
        """Nodes that the container's root owns, made by the only one who may: the machine's."""
        devices = self.plan["devices"]
        assert isinstance(devices, list)
        os.mkdir("devices")
        above = os.open("devices", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        trees = []
        for number, device in enumerate(devices):
            name = str(number)
            make_node(above, name, device)
            trees.append(mount.bind(name, recursive=False, directory=above))
        os.close(above)
        return trees
