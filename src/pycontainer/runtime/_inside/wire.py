"""Messages between the host program and the processes here: one marshalled value a packet.

`marshal` is safe here: both ends run the same interpreter, and the sockets are private to them.
"""

from __future__ import annotations

import _socket
import marshal
import os

__all__ = ["Packet", "parse", "receive", "receive_request", "send"]

Packet = tuple[object, ...]
_MAX_DESCRIPTORS = 16
_MAX_PACKET = 1 << 16


def send(channel: _socket.socket, *packet: str | int) -> None:
    """Send one packet; a peer that has gone is no error, it wanted nothing more."""
    try:
        channel.send(marshal.dumps(packet), _socket.MSG_NOSIGNAL)
    except OSError:
        pass


def receive(channel: _socket.socket) -> Packet | None:
    """Receive one packet; None when the peer has closed."""
    try:
        data = channel.recv(_MAX_PACKET)
    except ConnectionResetError:
        return None
    return parse(data) if data else None


def parse(data: bytes) -> Packet:
    """The packet that was sent as these bytes."""
    packet: Packet = marshal.loads(data)  # noqa: S302  (a socket pair of our own)
    return packet


def receive_request(channel: _socket.socket) -> tuple[dict[str, object], list[int]] | None:
    """Receive a request: descriptors, the first of a file with the marshalled request itself.

    A request may be larger than a packet (500 layers, a large environment), a file never is too small.
    """
    size = _socket.CMSG_SPACE(4 * _MAX_DESCRIPTORS)
    data, ancillary, _, _ = channel.recvmsg(64, size, _socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    fds = [
        int.from_bytes(raw[at : at + 4], "little")
        for level, kind, raw in ancillary
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS
        for at in range(0, len(raw) // 4 * 4, 4)
    ]
    body = fds.pop(0)
    request: dict[str, object] = marshal.loads(os.pread(body, os.fstat(body).st_size, 0))  # noqa: S302
    os.close(body)
    return request, fds
