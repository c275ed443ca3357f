"""Request bodies that come from a file, sent by the kernel where it can."""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING, BinaryIO, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from pycontainer.errors import SizeMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["FileBody", "FilePool", "SecureFilePool"]

_SPAN: Final = 8 << 20
_CHUNK: Final = 256 << 10


class FileBody:
    """What is left of an open file, as a request body of known size.

    Args:
        file: Read from where it stands.
        size: How many bytes to send; the file must hold that many.
        sent: Called with the number of bytes that have just been sent.

    Attributes:
        size: As given.
        started: Whether some of it may have been sent.
    """

    def __init__(
        self, file: BinaryIO, size: int, sent: Callable[[int], None] | None = None
    ) -> None:
        self.size = size
        self.started = False
        self._file = file
        self._sent = sent

    def __iter__(self) -> Iterator[_Span]:
        """Spans for `_FileSender.send`; urllib3 passes what a body yields on to ``send``."""
        self.started = True
        left = self.size
        while left:
            span = _Span(self._file, min(_SPAN, left))
            yield span
            left -= span.size
            if self._sent is not None:
                self._sent(span.size)


class _Span:
    """The next `size` bytes of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = size

    def send_to(self, sock: socket.socket) -> None:
        """Send them, without copying them through this process where the socket is a plain one."""
        if type(sock) is socket.socket and _has_descriptor(self.file):
            sent = sock.sendfile(self.file, offset=self.file.tell(), count=self.size)
            self._check(sent)
            return
        left = self.size
        while left:
            chunk = self.file.read(min(_CHUNK, left))
            if not chunk:
                self._check(self.size - left)
            sock.sendall(chunk)
            left -= len(chunk)

    def _check(self, sent: int) -> None:
        if sent != self.size:
            raise SizeMismatch(
                f"the file to be sent is shorter than announced: {self.size - sent} of the next "
                f"{self.size} bytes are missing"
            )


def _has_descriptor(file: BinaryIO) -> bool:
    try:
        return file.fileno() >= 0
    except (AttributeError, io.UnsupportedOperation):
        return False


class _FileSender(HTTPConnection):
    def send(self, data: Any) -> None:
        if isinstance(data, _Span):
            assert self.sock is not None, "the head of the request has been sent"
            data.send_to(self.sock)
        else:
            super().send(data)


class _SecureFileSender(HTTPSConnection):
    def send(self, data: Any) -> None:
        if isinstance(data, _Span):
            assert self.sock is not None, "the head of the request has been sent"
            data.send_to(self.sock)
        else:
            super().send(data)


class FilePool(HTTPConnectionPool):
    """Plain connections that can send a `FileBody`."""

    ConnectionCls = _FileSender


class SecureFilePool(HTTPSConnectionPool):
    """TLS connections that can send a `FileBody`."""

    ConnectionCls = _SecureFileSender
