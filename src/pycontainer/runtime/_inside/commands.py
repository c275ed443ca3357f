"""What programs ask of a container's monitor, through its socket."""

from __future__ import annotations

from pycontainer.runtime._inside import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import select

    from pycontainer.runtime._inside.monitor import Monitor

__all__ = ["obey"]


def obey(monitor: Monitor, fd: int, poll: select.poll) -> None:
    """Take one packet of a client, or its end, and do what it says."""
    client = monitor.clients[fd]
    packet = wire.receive(client)
    if packet is None:
        _lose(monitor, fd, poll)
    elif packet[0] == "delete":
        monitor.delete()
    elif packet[0] == "hold":
        monitor.hold()
        wire.send(client, "held")
    elif packet[0] == "release":
        monitor.released = True
        monitor.hold()
    elif packet[0] == "cgroup":
        assert isinstance(packet[1], dict)
        assert isinstance(monitor.cgroup, dict)
        monitor.cgroup.update(packet[1])
        wire.send(client, "changed")
    elif packet[0] == "policy":
        _change_policy(monitor, str(packet[1]), packet[2])
        wire.send(client, "changed")
    elif packet[0] == "kill" and monitor.exit is None:
        monitor.kill()
    elif packet[0] == "resize":
        monitor.streams.resize(*packet[1:])
    elif packet[0] == "attach":
        monitor.streams.gather_audience()
        wire.send(client, "changed")
    elif packet[0] == "input":
        assert isinstance(packet[1], bytes)
        monitor.streams.type(packet[1], poll)
    elif packet[0] in ("plug", "unplug") and monitor.exit is None:
        _change_network(monitor, packet, client, poll)


def _lose(monitor: Monitor, fd: int, poll: select.poll) -> None:
    poll.unregister(fd)
    if fd != monitor.owner.fileno():
        monitor.clients.pop(fd).close()
    elif not monitor.detached:  # kept open: its end tells the owner that all is done
        monitor.delete()


def _change_network(
    monitor: Monitor, packet: wire.Packet, client: _socket.socket, poll: select.poll
) -> None:
    """Put the running container into a network, or take it out of one, and answer."""
    from pycontainer.runtime._inside.network import Interfaces

    verb, what, *upstreams = packet
    if monitor.network is None:
        monitor.network = Interfaces({"endpoints": [], "upstreams": upstreams})
    assert isinstance(monitor.network, Interfaces)  # else there was no place to be had
    try:
        if verb == "unplug":
            monitor.network.unplug(what, poll)
        else:
            assert isinstance(what, dict)
            monitor.network.plug(what, monitor.pid, poll)
    except OSError as error:
        wire.send(client, "failed", "connect to the network", error.errno or 0, str(error))
    else:
        wire.send(client, "changed")


def _change_policy(monitor: Monitor, policy: str, most: object) -> None:
    assert isinstance(most, int)
    if monitor.keeper is None:
        from pycontainer.runtime._inside.keeper import Keeper

        monitor.keeper = Keeper({"restart": ["no", 0], "health": None, "log": []}, [])
        monitor.keeper.began()
    monitor.keeper.change_policy(policy, most)
