"""What drivers tell of interfaces: SIOCETHTOOL (linux/ethtool.h)."""

from __future__ import annotations

import _socket
import ctypes
import fcntl
import struct

__all__ = ["has_link"]

_SIOCETHTOOL = 0x8946
_GET_LINK = 0x0A


def has_link(name: str) -> bool:
    """Whether an interface has a carrier.

    As a side effect the kernel acts on a change of that now rather than when its queue comes to it; for
    what is sent to a port of a bridge before that is lost, and sent again only after a second.
    """
    value = ctypes.create_string_buffer(struct.pack("=II", _GET_LINK, 0), 8)
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(value))
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(sock.fileno(), _SIOCETHTOOL, request)
    finally:
        sock.close()
    return bool(struct.unpack("=II", value.raw)[1])
