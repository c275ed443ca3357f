"""Messages between the host program and the processes here: one marshalled value a packet.

`marshal` is safe here: both ends run the same interpreter, and the sockets are private to them.
"""

from __future__ import annotations

import _socket
import marshal
import os

__all__ = [
    "MAX_PACKET",
    "Packet",
    "parse",
    "put_request",
    "read_all",
    "receive",
    "receive_request",
    "send",
    "send_values",
]

Packet = tuple[object, ...]
_MAX_DESCRIPTORS = 16
MAX_PACKET = 1 << 16


def send(channel: _socket.socket, *packet: str | int) -> None:
    """Send one packet; a peer that has gone is no error, it wanted nothing more."""
    try:
        channel.send(marshal.dumps(packet), _socket.MSG_NOSIGNAL)
    except OSError:
        pass


def send_values(channel: _socket.socket, *packet: object) -> None:
    """Send one packet of any plain values, as `send` does."""
    try:
        channel.send(marshal.dumps(packet), _socket.MSG_NOSIGNAL)  # type: ignore[arg-type]
    except OSError:
        pass


def receive(channel: _socket.socket) -> Packet | None:
    """Receive one packet; None when the peer has closed."""
    try:
        data = channel.recv(MAX_PACKET)
    except ConnectionResetError:  # it left something unread; what it sent comes after this word
        data = channel.recv(MAX_PACKET)
    return parse(data) if data else None


def parse(data: bytes) -> Packet:
    """The packet that was sent as these bytes."""
    packet: Packet = marshal.loads(data)  # noqa: S302  (a socket pair of our own)
    return packet


def read_all(fd: int) -> bytes:
    """Read from a pipe until its end, and close it."""
    parts = []
    while part := os.read(fd, MAX_PACKET):
        parts.append(part)
    os.close(fd)
    return b"".join(parts)


def put_request(owner: _socket.socket, request: dict[str, object]) -> int:
    """Leave a request in the owner's end of a socket pair, for who gets the other end.

    As long as nobody has read it nothing was begun; and the kernel tells the owner if nobody will: the
    other end was closed with something in it (ECONNRESET).

    Returns:
        A descriptor that has to go with the other end, or -1: a request may be larger than a packet
        (500 layers, a large environment), and is in a file then.
    """
    data = marshal.dumps(request)
    if len(data) <= MAX_PACKET:
        owner.send(data, _socket.MSG_NOSIGNAL)
        return -1
    body = os.memfd_create("request", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(body, view) :]
        owner.send(marshal.dumps(None), _socket.MSG_NOSIGNAL)
    except BaseException:
        os.close(body)
        raise
    return body


def receive_request(
    channel: _socket.socket,
) -> tuple[dict[str, object], _socket.socket, list[int]] | None:
    """Receive a request, the socket for answers, and what descriptors came with them."""
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
    owner = _socket.socket(fileno=fds.pop(0))
    request: dict[str, object] | None = marshal.loads(owner.recv(MAX_PACKET))  # noqa: S302
    if request is None:
        body = fds.pop(0)
        request = marshal.loads(os.pread(body, os.fstat(body).st_size, 0))  # noqa: S302
        os.close(body)
    return request, owner, fds
