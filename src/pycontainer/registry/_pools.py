"""Connection pools whose connections can send a `FileBody`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from pycontainer.registry._body import Span

if TYPE_CHECKING:
    from typing import Any

__all__ = ["FilePool", "SecureFilePool"]


class _FileSender(HTTPConnection):
    def send(self, data: Any) -> None:
        if isinstance(data, Span):
            assert self.sock is not None, "the head of the request has been sent"
            data.send_to(self.sock)
        else:
            super().send(data)


class _SecureFileSender(HTTPSConnection):
    def send(self, data: Any) -> None:
        if isinstance(data, Span):
            assert self.sock is not None, "the head of the request has been sent"
            data.send_to(self.sock)
        else:
            super().send(data)


class FilePool(HTTPConnectionPool):
    """Plain connections."""

    ConnectionCls = _FileSender


class SecureFilePool(HTTPSConnectionPool):
    """TLS connections."""

    ConnectionCls = _SecureFileSender
