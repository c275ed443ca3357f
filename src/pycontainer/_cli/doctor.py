"""What this machine can and cannot do for containers, and what helps."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.content import Store
from pycontainer.errors import Error, UnsupportedFeature

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Check", "checks", "doctor"]

_OLDEST_KERNEL: Final = (5, 11)  # overlay in user namespaces, mount_setattr a release later


@frozen
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        ok: Whether it is there.
        needed: Whether running containers takes it; else it only does more or faster.
        found: What was found.
        remedy: What to do about it.
    """

    name: str
    ok: bool
    found: str
    needed: bool = True
    remedy: str = ""


def doctor() -> int:
    """Print all findings; return 1 if something is missing that containers need."""
    results = checks()
    for check in results:
        mark = "ok     " if check.ok else "MISSING" if check.needed else "without"
        print(f"{mark}  {check.name}: {check.found}")
        if not check.ok and check.remedy:
            print(f"         remedy: {check.remedy}")
    return 1 if any(check.needed and not check.ok for check in results) else 0


def checks() -> list[Check]:
    """Look at everything; nothing is changed."""
    probes: list[Callable[[], Check]] = [_interpreter, _system, _store, _codecs, _server]
    if sys.platform == "linux":
        probes += [_kernel, _namespaces, _overlay, _erofs, _cgroups, _user_network]
        probes += [_seccomp, _limits, _runtimes, _criu]
    return [probe() for probe in probes]


def _interpreter() -> Check:
    return Check("Python", True, f"{platform.python_version()} at {sys.executable}")


def _system() -> Check:
    return Check(
        "operating system",
        sys.platform == "linux",
        f"{platform.system()} {platform.release()} on {platform.machine()}",
        remedy="containers run on Linux; images and registries work here",
    )


def _kernel() -> Check:
    release = platform.release()
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    return Check(
        "kernel", version >= _OLDEST_KERNEL, release, remedy="a kernel of 5.12 or later is needed"
    )


def _store() -> Check:
    try:
        with Store.open() as store:
            free = shutil.disk_usage(store.path).free >> 20
            return Check("default store", True, f"{store.path}, {free} MiB free")
    except Error as error:
        return Check("default store", False, error.message, remedy=error.remedy or "")


def _codecs() -> Check:
    there = importlib.util.find_spec("isal") is not None
    return Check(
        "fast gzip (isal)",
        there,
        "installed" if there else "not installed: zlib is used, several times slower",
        needed=False,
        remedy="pip install isal",
    )


def _server() -> Check:
    there = importlib.util.find_spec("tornado") is not None
    return Check(
        "registry server (tornado)",
        there,
        "installed" if there else "not installed",
        needed=False,
        remedy="pip install 'pycontainer[server]'",
    )


def _namespaces() -> Check:
    who = "root" if os.geteuid() == 0 else "an ordinary user: one user, root, in each container"
    refused = _try("pass")
    return Check(
        "namespaces",
        not refused,
        refused or f"available, as {who}",
        remedy="sysctl user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1; on Ubuntu "
        "also kernel.apparmor_restrict_unprivileged_userns=0; or run as root",
    )


def _overlay() -> Check:
    with tempfile.TemporaryDirectory(dir=_home()) as place:
        paths = [os.path.join(place, name) for name in ("lower", "upper", "work", "target")]
        for path in paths:
            Path(path).mkdir()
        lower, upper, work, target = paths
        refused = _try(
            "from pycontainer._linux.overlay import mount_at; "
            f"mount_at({target!r}, [{lower!r}], {upper!r}, {work!r}, userxattr={os.geteuid() != 0})"
        )
    return Check(
        "overlayfs at the store",
        not refused,
        refused or "mounts",
        needed=False,
        remedy="without it each container gets a copy of its image: use a store on ext4, xfs or btrfs",
    )


def _erofs() -> Check:
    from pycontainer.snapshots import erofs_advantage, erofs_refusal

    with Store.open() as store:
        refused = erofs_refusal(store)
        found = refused or f"mounts; ready {erofs_advantage(store):.1f} times as fast as unpacked"
    return Check(
        "layers without unpacking (snapshotter erofs)",
        not refused,
        found,
        needed=False,
        remedy="layers are unpacked; else a kernel of 6.12 or later, root, and a store on ext4 or xfs",
    )


def _cgroups() -> Check:
    from pycontainer.oci.runtime import Resources
    from pycontainer.runtime import cgroups

    try:
        limits = Resources(memory=1 << 26, pids=100, cpu_quota=100_000, cpu_period=100_000)
        cgroups.plan("doctor", limits)
    except Error as error:
        return Check("limits (cgroups)", False, error.message, False, error.remedy or "")
    return Check("limits (cgroups)", True, "memory, processors and pids")


def _user_network() -> Check:
    from pycontainer.network import user_mode

    found = [path for name in user_mode.PROGRAMS if (path := shutil.which(name))]
    open_to_all = os.access(user_mode.TUN, os.R_OK | os.W_OK)
    device = "" if open_to_all else f"; {user_mode.TUN} is not there or not open to this user"
    remedy = f"modprobe tun; chmod 666 {user_mode.TUN}" if found else "install passt or slirp4netns"
    return Check(
        "networks of ordinary users (pasta, slirp4netns)",
        bool(found) and open_to_all,
        (", ".join(found) or "neither is installed") + device,
        needed=False,
        remedy=remedy,
    )


def _seccomp() -> Check:
    status = Path("/proc/self/status").read_text()
    there = "Seccomp:" in status
    return Check(
        "seccomp",
        there,
        "available" if there else "the kernel was built without it",
        remedy="use a kernel with CONFIG_SECCOMP_FILTER",
    )


def _limits() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Check(
        "open files",
        hard >= 4096,
        f"{soft}, at most {hard}",
        needed=False,
        remedy="raise the limit: ulimit -n",
    )


def _runtimes() -> Check:
    from pycontainer.runtime import RUNTIMES, find_runtime

    found = []
    for name in RUNTIMES:
        with contextlib.suppress(UnsupportedFeature):
            found.append(find_runtime(name))
    return Check(
        "other runtimes (runtime=...)",
        bool(found),
        ", ".join(found) or "none installed",
        needed=False,
        remedy="this library starts containers itself; for others: apt-get install runc crun",
    )


def _criu() -> Check:
    from pycontainer.runtime import criu_refusal

    refused = criu_refusal()
    return Check(
        "checkpoints (criu)",
        not refused,
        refused or "works",
        needed=False,
        remedy="apt-get install criu, in a version that knows this kernel; run as root",
    )


def _home() -> Path:
    """Where the store is, or the nearest directory above it."""
    with Store.open() as store:
        return store.directory("tmp")


def _try(statement: str) -> str:
    """Run a statement in namespaces of its own; return why that failed, or nothing."""
    prepare = (
        "import os; from pycontainer._linux.process import NAMESPACE_FLAGS as F, unshare; "
        f"ordinary, uid, gid = {os.geteuid() != 0}, os.geteuid(), os.getegid(); "
        "unshare((F['user'] if ordinary else 0) | F['mount']); "
        # Without its ids mapped, the user owns nothing in the new namespace, not even the directories.
        "[open(f'/proc/self/{name}', 'w').write(text) for name, text in (('setgroups', 'deny'), "
        "('uid_map', f'0 {uid} 1'), ('gid_map', f'0 {gid} 1')) if ordinary]; "
    )
    result = subprocess.run(  # noqa: S603  (our own interpreter and text)
        [sys.executable, "-c", prepare + statement],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    lines = result.stderr.strip().splitlines()
    return "" if result.returncode == 0 else (lines or ["refused"])[-1]
