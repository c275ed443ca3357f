"""Request bodies that come from a file, sent by the kernel where it can."""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING, BinaryIO, Final

from pycontainer.errors import SizeMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FileBody", "Span"]

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
        self._begin = file.tell() if file.seekable() else None
        self._sent = sent

    def __iter__(self) -> Iterator[Span]:
        """The file in spans; urllib3 passes what a body yields on to its connection's ``send``."""
        self.started = True
        left = self.size
        while left:
            span = Span(self._file, min(_SPAN, left))
            yield span
            left -= span.size
            if self._sent is not None:
                self._sent(span.size)

    def rewind(self) -> bool:
        """Go back to where it began; False if the file cannot."""
        if not self.started:
            return True
        if self._begin is None:
            return False
        self._file.seek(self._begin)
        self.started = False
        return True


class Span:
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
