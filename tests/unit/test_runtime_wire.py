"""Messages between the host program and its containers' monitors."""

from __future__ import annotations

import socket

from pycontainer.runtime._inside import wire


def test_what_a_peer_sent_before_it_left_is_received() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here:
        with there:
            wire.send(here, "died", 1)  # never read, which the kernel tells this end
            wire.send(there, "hold")
            wire.send(there, "release")
        assert wire.receive(here) == ("hold",)
        assert wire.receive(here) == ("release",)
        assert wire.receive(here) is None


def test_a_peer_that_left_without_a_word() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here:
        wire.send(here, "died", 1)
        there.close()
        assert wire.receive(here) is None
