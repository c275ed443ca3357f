"""Bodies of blobs on their way out: by the kernel from file to socket, where both are real."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from tornado.iostream import IOStream

__all__ = ["send_file"]

_log = logging.getLogger("pycontainer.registry")

_SPAN: Final = 1 << 20
_SILENCE: Final = 60.0
"""Seconds in which a client must take one span, or it is given up."""


async def send_file(stream: IOStream, file: BinaryIO, start: int, end: int) -> bool:
    """Send a part of a file over a connection that nobody else writes to.

    The event loop waits for the socket, and the kernel copies: a slow client costs neither a
    thread nor memory. The stream's socket is duplicated because the loop knows one owner for a
    descriptor, and that is the stream.

    Returns:
        False if the client went away or took nothing for too long.
    """
    loop = asyncio.get_running_loop()
    try:
        with stream.socket.dup() as sock:
            sock.setblocking(False)
            while start < end:
                async with asyncio.timeout(_SILENCE):
                    sent = await loop.sock_sendfile(
                        sock, file, start, min(_SPAN, end - start), fallback=False
                    )
                if sent == 0:
                    _log.error("a blob is shorter than it was when its reading began")
                    return False
                start += sent
    except OSError as error:  # TimeoutError is one too
        _log.info("a client left in the middle of a blob: %r", error)
        return False
    return True
