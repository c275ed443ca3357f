"""The loopback interface of a fresh network namespace (netdevice(7))."""

from __future__ import annotations

import _socket
import fcntl

__all__ = ["up"]

_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x41


def up() -> None:
    """Switch ``lo`` of this network namespace on."""
    request = b"lo".ljust(16, b"\0") + _IFF_UP_RUNNING.to_bytes(2, "little") + bytes(22)
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(sock.fileno(), _SIOCSIFFLAGS, request)
    finally:
        sock.close()
