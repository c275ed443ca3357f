"""Bodies of blobs on their way out: by the kernel from file to socket, where both are real."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    import socket

__all__ = ["send_file"]

_log = logging.getLogger("pycontainer.registry")

_SPAN: Final = 1 << 20
_SILENCE: Final = 60.0
"""Seconds in which a client must take one span, or it is given up."""


async def send_file(sock: socket.socket, file: BinaryIO, start: int, end: int) -> bool:
    """Send a part of a file over a connection that nobody else writes to.

    The event loop waits for the socket, and the kernel copies: a slow client costs neither a
    thread nor memory.

    Args:
        sock: The connection; duplicated, because the loop knows one owner for a descriptor, and
            that is a stream.
        file: What to send from; it must have a descriptor.
        start: First byte.
        end: Where to stop.

    Returns:
        Whether all of it was sent: a file that has become shorter ends the transfer.

    Raises:
        OSError: The client went away, or took nothing for too long (TimeoutError).
    """
    loop = asyncio.get_running_loop()
    with sock.dup() as own:
        own.setblocking(False)
        while start < end:
            try:
                async with asyncio.timeout(_SILENCE):
                    sent = await loop.sock_sendfile(
                        own, file, start, min(_SPAN, end - start), fallback=False
                    )
            except asyncio.SendfileNotAvailableError as error:  # so it calls a connection's end
                raise ConnectionResetError(str(error)) from error
            if sent == 0:
                _log.error("a blob is shorter than it was when its reading began")
                return False
            start += sent
    return True
