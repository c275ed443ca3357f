"""Bodies of blobs on their way out: by the kernel from file to socket, where both are real."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, BinaryIO, Final

from pycontainer.errors import RegistryError
from pycontainer.registry._arriving import Arriving

if TYPE_CHECKING:
    import socket

__all__ = ["Part", "send_file"]

_log = logging.getLogger("pycontainer.registry")

_SPAN: Final = 1 << 20
_NOT_BLOCKING: Final = getattr(os, "RWF_NOWAIT", 0)  # Linux has it
_SILENCE: Final = 60.0
"""Seconds in which a client must take one span, or it is given up."""


class Part:
    """Bytes of a blob that are to be sent.

    Args:
        blob: The blob: an open file, which is closed with this, or one that still comes.
    """

    def __init__(self, blob: BinaryIO | Arriving) -> None:
        self._arriving = blob if isinstance(blob, Arriving) else None
        self.file = blob.open() if isinstance(blob, Arriving) else blob
        self.size = blob.size if isinstance(blob, Arriving) else self.file.seek(0, 2)
        self.start, self.end = 0, self.size

    def limit(self, start: int, end: int) -> None:
        """Send only the bytes from `start` up to `end`."""
        self.start, self.end = start, end

    @property
    def has_descriptor(self) -> bool:
        """Whether the kernel can read it."""
        try:
            return self.file.fileno() >= 0
        except (AttributeError, OSError):
            return False

    async def until(self, offset: int) -> int:
        """How far it can be read now, once that is beyond `offset`.

        Raises:
            ConnectionError: It does not come.
        """
        if self._arriving is None:
            return self.end
        try:
            return min(self.end, await asyncio.wrap_future(self._arriving.beyond(offset)))
        except RegistryError as error:
            raise ConnectionError(str(error)) from error

    def read_at_once(self, offset: int, n: int) -> bytes | None:
        """Bytes from there on, if they are in memory; None if reading them would block."""
        if not _NOT_BLOCKING or not self.has_descriptor:
            return None
        data = bytearray(n)
        try:
            found = os.preadv(self.file.fileno(), [data], offset, _NOT_BLOCKING)
        except OSError:  # they are not in memory, or this file system cannot tell
            return None
        return bytes(memoryview(data)[:found]) if found else None

    def read(self, offset: int, n: int) -> bytes:
        """Bytes from there on; blocks.

        Raises:
            EOFError: It has become shorter.
        """
        if self.has_descriptor:
            data = os.pread(self.file.fileno(), n, offset)
        else:
            if self.file.tell() != offset:
                self.file.seek(offset)
            data = self.file.read(n)
        if not data:
            raise EOFError("a blob is shorter than it was when its reading began")
        return data


async def send_file(sock: socket.socket, part: Part) -> bool:
    """Send a part of a file over a connection that nobody else writes to.

    The event loop waits for the socket, and the kernel copies: a slow client costs neither a
    thread nor memory.

    Args:
        sock: The connection; duplicated, because the loop knows one owner for a descriptor, and
            that is a stream.
        part: What to send; it must have a descriptor.

    Returns:
        Whether all of it was sent: a file that has become shorter ends the transfer.

    Raises:
        OSError: The client went away, took nothing for too long (TimeoutError), or the blob does
            not come.
    """
    loop = asyncio.get_running_loop()
    start = part.start
    with sock.dup() as own:
        own.setblocking(False)
        while start < part.end:
            ready = await part.until(start)
            try:
                async with asyncio.timeout(_SILENCE):
                    sent = await loop.sock_sendfile(
                        own, part.file, start, min(_SPAN, ready - start), fallback=False
                    )
            except asyncio.SendfileNotAvailableError as error:  # so it calls a connection's end
                raise ConnectionResetError(str(error)) from error
            if sent == 0:
                _log.error("a blob is shorter than it was when its reading began")
                return False
            start += sent
    return True
