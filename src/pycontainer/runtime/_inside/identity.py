"""The last steps before execve(2), of a container's command and of those beside it."""

from __future__ import annotations

import _signal
import errno
import os
import resource
import stat

from pycontainer._linux import capability, process, seccomp
from pycontainer.runtime._inside import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

__all__ = ["apply_process", "execute", "own_streams", "raise_limits", "reset_signals"]

_IGNORED = (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT)  # the others are reset by the zygote
_MOST_DESCRIPTORS = (1 << 31) - 1

Plan = dict[str, object]


def apply_process(spec: Plan, report: int) -> None:
    """Turn this process into the payload's: limits, filter, identity, directory, signals.

    Nothing stays open but the standard streams and `report`: an image whose working directory or
    command goes through ``/proc/self/fd`` would else get where an inherited descriptor leads, out of
    the container (CVE-2024-21626).

    The order is forced: the bounding set needs CAP_SETPCAP and the filter CAP_SYS_ADMIN unless
    no_new_privs is set, so both come before the change of identity takes them away.
    """
    os.closerange(3, report)
    os.closerange(max(3, report + 1), _MOST_DESCRIPTORS)
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
        own_streams(range(3), uid)
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
    os.getcwd()  # fails where that is not beneath the root
    os.umask(umask)
    reset_signals()


def _label(spec: Plan) -> None:
    """Have the kernel's security modules confine what execve(2) starts."""
    if spec["apparmor"]:
        name = "apparmor/exec" if os.path.isdir("/proc/self/attr/apparmor") else "exec"
        files.write_to(f"/proc/self/attr/{name}", str(spec["apparmor"]))
    if spec["selinux"]:
        files.write_to("/proc/self/attr/exec", str(spec["selinux"]))


def own_streams(fds: Iterable[int], uid: int, gid: int = -1) -> None:
    """Give the pipes of the standard streams to the user, who else could not open /dev/stdout."""
    for fd in fds:
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.fchown(fd, uid, gid)
        except OSError:  # another user's pipe, where this one may not change it
            pass


def reset_signals() -> None:
    """What the zygote and Python ignore is not the payload's to ignore, nor what is blocked."""
    for number in _IGNORED:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def raise_limits(spec: Plan) -> None:
    """Let `apply_process` set limits in a user namespace, where they can only be lowered."""
    limits, score = spec["rlimits"], spec["oom_score_adj"]
    assert isinstance(limits, list)
    for kind, _, hard in limits:
        soft, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or hard > most):
            try:
                resource.setrlimit(kind, (soft, hard))
            except ValueError:  # no CAP_SYS_RESOURCE
                pass
    if score is not None:
        try:
            files.write_to("/proc/self/oom_score_adj", str(score))
        except PermissionError:
            pass


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
