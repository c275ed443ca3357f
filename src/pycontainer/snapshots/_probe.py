"""Whether overlay works in a place, tried once there and remembered by this process."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pycontainer._linux import overlay
from pycontainer.layers import Ownership

if TYPE_CHECKING:
    from pycontainer.content import Store

__all__ = ["overlay_refusal"]

_log = logging.getLogger("pycontainer.snapshots")
_TIMEOUT: Final = 10.0
# An ordinary user's mounts happen in a user namespace, and a process with threads (this one, perhaps)
# cannot enter one: a fresh interpreter tries.
_AS_USER: Final = """
import sys; sys.path.insert(0, sys.argv[1])
from pycontainer._linux import overlay, process
uid, gid = sys.argv[5:]
process.unshare(process.NAMESPACE_FLAGS["user"] | process.NAMESPACE_FLAGS["mount"])
for name, text in ("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1"):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
overlay.detached([sys.argv[2]], sys.argv[3], sys.argv[4], userxattr=True)
"""

_lock = threading.Lock()
_known: dict[tuple[int, Path, int, int], str] = {}


def overlay_refusal(store: Store) -> str:
    """Why the kernel refuses overlay mounts over a store's file system; empty if it does not."""
    status = store.path.stat()
    # The kernel gives the device number of a file system that has gone to the next one.
    key = (os.geteuid(), store.path, status.st_dev, status.st_ino)
    with _lock:
        if key not in _known:
            _known[key] = _try_overlay(store)
            if _known[key]:
                _log.info("no overlay in %s, layers will be copied: %s", store.path, _known[key])
        return _known[key]


def _try_overlay(store: Store) -> str:
    with store.temporary("probe") as directory:
        places = [directory / name for name in ("lower", "upper", "work")]
        for place in places:
            place.mkdir()
        lower, upper, work = map(str, places)
        if os.geteuid() != 0:
            return _try_as_user(lower, upper, work)
        userxattr = Ownership.current().userxattr  # root, but of a user namespace
        try:
            os.close(overlay.detached([lower], upper, work, userxattr=userxattr))
        except OSError as error:
            return str(error)
        return ""


def _try_as_user(lower: str, upper: str, work: str) -> str:
    package_root = str(Path(__file__).resolve().parents[2])
    ids = [str(os.geteuid()), str(os.getegid())]
    command = [sys.executable, "-I", "-S", "-c", _AS_USER, package_root, lower, upper, work, *ids]
    try:
        done = subprocess.run(  # noqa: S603  (our own interpreter and code)
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return (last or f"exit code {done.returncode}") if done.returncode else ""
