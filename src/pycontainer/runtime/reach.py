"""Sockets in a container's network namespace, for the host program: no port has to be published."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from pycontainer.errors import ContainerError
from pycontainer.runtime import _zygote
from pycontainer.runtime._inside import wire

if TYPE_CHECKING:
    from pycontainer.runtime.state import State

__all__ = ["socket_inside"]

_SECONDS = 30.0


def socket_inside(
    state: State,
    family: socket.AddressFamily = socket.AF_INET,
    kind: socket.SocketKind = socket.SOCK_STREAM,
) -> socket.socket:
    """A new socket, not connected, as a process of the container would make it.

    Args:
        state: Of the container; without a network of its own the socket is one of the host's.
        family: Address family.
        kind: Kind of socket.

    Raises:
        ContainerStateError: The container has ended.
        ContainerError: There can be none.
    """
    if "network" not in state.namespaces:
        return socket.socket(family, kind)
    request = {"operation": "reach", "family": int(family), "type": int(kind), "detach": False}
    pidfd = state.open_pidfd()
    try:
        channel = _zygote.submit(request, [pidfd], _SECONDS)
    finally:
        os.close(pidfd)
    with channel:
        data, fds, _, _ = socket.recv_fds(channel, 1 << 12, 1, socket.MSG_CMSG_CLOEXEC)
    if fds:
        return socket.socket(fileno=fds[0])
    if not data:
        raise ContainerError("the process that was to enter the container's network was killed")
    _, step, _, text = wire.parse(data)
    raise ContainerError(f"cannot {step} of the container: {text}")
