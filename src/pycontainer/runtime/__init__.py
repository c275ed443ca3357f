"""From a runtime-spec document to a running container to its exit code.

The names are loaded when first used: the zygote imports what lies beneath this package and counts
each millisecond.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.runtime._cgroup_limits import NO_LIMIT
    from pycontainer.runtime._inside.audience import AUDIENCE
    from pycontainer.runtime._inside.rotation import name_of, numbers
    from pycontainer.runtime._running import Running
    from pycontainer.runtime._spec import Network, default_process, default_spec, is_rootless
    from pycontainer.runtime.bundle import RUNTIMES, find_runtime
    from pycontainer.runtime.checkpoint import criu_refusal, dump
    from pycontainer.runtime.freezer import freeze, is_frozen, thaw
    from pycontainer.runtime.launcher import adopt, execute, launch, warm_up, write_spec
    from pycontainer.runtime.limits import change_limits, change_policy
    from pycontainer.runtime.plan import OWNER, REAPER, RUNTIME, SUBPATH, SYSTEM, boot_id
    from pycontainer.runtime.reach import socket_inside
    from pycontainer.runtime.recovery import clear, finish
    from pycontainer.runtime.seccomp import parse_profile
    from pycontainer.runtime.state import (
        Exit,
        State,
        await_end,
        change_network,
        is_watched,
        last_exit,
        open_control,
        read_exit,
        read_state,
        request_audience,
        request_deletion,
        request_hold,
        request_input,
        request_release,
        request_resize,
    )
    from pycontainer.runtime.users import ResolvedUser, resolve_user
    from pycontainer.runtime.view import mounted_view

__all__ = [
    "AUDIENCE",
    "NO_LIMIT",
    "OWNER",
    "REAPER",
    "RUNTIME",
    "RUNTIMES",
    "SUBPATH",
    "SYSTEM",
    "Exit",
    "Network",
    "ResolvedUser",
    "Running",
    "State",
    "adopt",
    "await_end",
    "boot_id",
    "change_limits",
    "change_network",
    "change_policy",
    "clear",
    "criu_refusal",
    "default_process",
    "default_spec",
    "dump",
    "execute",
    "find_runtime",
    "finish",
    "freeze",
    "is_frozen",
    "is_rootless",
    "is_watched",
    "last_exit",
    "launch",
    "mounted_view",
    "name_of",
    "numbers",
    "open_control",
    "parse_profile",
    "read_exit",
    "read_state",
    "request_audience",
    "request_deletion",
    "request_hold",
    "request_input",
    "request_release",
    "request_resize",
    "resolve_user",
    "socket_inside",
    "thaw",
    "warm_up",
    "write_spec",
]

_HOMES = {
    "AUDIENCE": "_inside.audience",
    "OWNER": "plan",
    "REAPER": "plan",
    "RUNTIME": "plan",
    "RUNTIMES": "bundle",
    "SUBPATH": "plan",
    "NO_LIMIT": "_cgroup_limits",
    "SYSTEM": "plan",
    "Exit": "state",
    "Network": "_spec",
    "ResolvedUser": "users",
    "Running": "_running",
    "State": "state",
    "adopt": "launcher",
    "await_end": "state",
    "boot_id": "plan",
    "change_limits": "limits",
    "change_policy": "limits",
    "change_network": "state",
    "clear": "recovery",
    "default_process": "_spec",
    "default_spec": "_spec",
    "criu_refusal": "checkpoint",
    "dump": "checkpoint",
    "execute": "launcher",
    "find_runtime": "bundle",
    "finish": "recovery",
    "freeze": "freezer",
    "is_frozen": "freezer",
    "is_rootless": "_spec",
    "is_watched": "state",
    "last_exit": "state",
    "launch": "launcher",
    "mounted_view": "view",
    "name_of": "_inside.rotation",
    "numbers": "_inside.rotation",
    "open_control": "state",
    "parse_profile": "seccomp",
    "read_exit": "state",
    "read_state": "state",
    "request_audience": "state",
    "request_deletion": "state",
    "request_hold": "state",
    "request_input": "state",
    "request_resize": "state",
    "request_release": "state",
    "resolve_user": "users",
    "socket_inside": "reach",
    "thaw": "freezer",
    "warm_up": "launcher",
    "write_spec": "launcher",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
