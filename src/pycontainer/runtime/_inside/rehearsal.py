"""What a start does first, done once before with nothing at stake.

A process shares its pages with the one that it was cloned from until it writes to them; then each is
copied, which takes some microseconds. Python writes to more than two hundred before init is cloned, for
it counts references everywhere. The process that waits for a request has the time to do so before.
"""

from __future__ import annotations

import _socket
import os

from pycontainer.runtime._inside import ahead, cgroup, wire
from pycontainer.runtime._inside.streams import Streams

__all__ = ["rehearse"]

_NO_GROUPS = {"parents": [], "directories": [], "writes": [], "v2": ""}


def rehearse(recipe: ahead.Recipe) -> dict[str, object]:
    """Receive a request of about the usual size, and do what leaves nothing behind of what follows.

    Args:
        recipe: What the last container wanted, which makes the most of its request.

    Returns:
        That request, for who goes on with it.
    """
    mounts, devices, links = recipe or ([], [], [])
    request = _receive(
        {
            "operation": "start",
            "namespaces": ahead.FLAGS,
            "joined": [],
            "user": None,
            "mounts": mounts,
            "devices": devices,
            "links": links,
            "rootfs": {"lowers": []},
            "network": {},
            "cgroup": {},
            "detach": False,
            "remove": True,
            "run": 1,
            "events": [],
        }
    )
    cgroup.create(_NO_GROUPS)
    cgroup.open_v2(_NO_GROUPS)
    streams = Streams()
    streams.open(list(os.pipe()), log=False, tty=False)
    streams.close_payload_side()
    try:
        os.mkdir("/")
    except OSError:  # as each start meets some, such as a group's parent that is there
        pass
    ahead.rehearse()
    return request


def _receive(request: dict[str, object]) -> dict[str, object]:
    sender, receiver = _pair()
    owner, end = _pair()
    wire.put_request(owner, request)
    rights = end.fileno().to_bytes(4, "little")
    sender.sendmsg([b"r"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    received = wire.receive_request(receiver)
    assert received is not None
    for sock in (sender, receiver, owner, end, received[1]):
        sock.close()
    return received[0]


def _pair() -> tuple[_socket.socket, _socket.socket]:
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
