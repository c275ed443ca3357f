"""The fourth kind of process the zygote clones: it makes a socket in a container's network namespace."""

from __future__ import annotations

import _socket
import os

from pycontainer._linux import process
from pycontainer.runtime._inside import wire

__all__ = ["main"]


def main(request: dict[str, object], owner: _socket.socket, fds: list[int], host: int) -> None:
    """Make a socket and send its descriptor.

    Args:
        request: ``family`` and ``type`` of the socket.
        owner: The socket of who asked.
        fds: A pidfd of the container's init.
        host: A pidfd of the host program, of no use here.
    """
    if host >= 0:
        os.close(host)
    family, kind = request["family"], request["type"]
    assert isinstance(family, int)
    assert isinstance(kind, int)
    try:
        process.setns(fds[0], process.NAMESPACE_FLAGS["network"])
        made = _socket.socket(family, kind | _socket.SOCK_CLOEXEC)
    except OSError as error:
        wire.send(owner, "failed", "enter the network", error.errno or 0, str(error))
        return
    rights = made.fileno().to_bytes(4, "little")
    owner.sendmsg([b"s"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
