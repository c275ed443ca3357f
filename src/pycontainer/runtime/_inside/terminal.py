"""Making a terminal inside a container (pts(4), tty_ioctl(4))."""

from __future__ import annotations

import _socket
import fcntl
import os

__all__ = ["become_terminal"]

_TIOCSCTTY = 0x540E
_TIOCGPTN = 0x80045430
_TIOCSPTLCK = 0x40045431


def become_terminal(directory: str, uid: int, console: _socket.socket) -> str:
    """Make a new terminal the controlling one of this session and its 0, 1 and 2.

    Args:
        directory: Where the container's devpts is mounted.
        uid: The user who is to own it.
        console: Takes the master side's descriptor; closed here.

    Returns:
        The path of the slave side.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open(f"{directory}/ptmx", flags)
    fcntl.ioctl(master, _TIOCSPTLCK, bytes(4))
    number = int.from_bytes(fcntl.ioctl(master, _TIOCGPTN, bytes(4)), "little")
    path = f"{directory}/{number}"
    slave = os.open(path, flags)
    if uid:
        os.fchown(slave, uid, -1)
    fcntl.ioctl(slave, _TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd, inheritable=True)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, master.to_bytes(4, "little"))]
    console.sendmsg([b"t"], rights)
    console.close()
    os.close(master)
    return path
