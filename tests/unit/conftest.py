"""What unit tests do without: a network, the host's own included."""

from __future__ import annotations

import errno
import os
import socket

import pytest


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections fail as on a machine without interfaces: who needs them is an integration test."""
    connect = socket.socket.connect

    def unreachable(self: socket.socket, address: object, /) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", unreachable)
