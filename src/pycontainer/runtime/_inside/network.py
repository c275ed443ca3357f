"""A container's interfaces, as its monitor makes them: pairs on bridges, published ports, names.

The plan says all (`pycontainer.network.join` makes it). While init mounts, the monitor connects; init
then waits at a gate until that is done. Loaded only by the monitors of containers that have networks.
"""

from __future__ import annotations

import errno
import os

from pycontainer._linux import ethtool, netlink, rtnetlink
from pycontainer._linux import nftables as nft
from pycontainer._linux.process import NAMESPACE_FLAGS, setns
from pycontainer.runtime._inside.resolver import Resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select

__all__ = ["Interfaces"]

_TABLE = nft.Table("pycontainer")  # see `pycontainer.network._ruleset`

Step = dict[str, object]


class Interfaces:
    """What a container has of networks: made by `connect`, gone after `down`.

    Args:
        plan: ``endpoints``: what to make; ``upstreams``: addresses of name servers for other names.
    """

    def __init__(self, plan: dict[str, object]) -> None:
        steps, upstreams = plan["endpoints"], plan["upstreams"]
        assert isinstance(steps, list)
        assert isinstance(upstreams, list)
        self._steps: list[Step] = steps
        self._published: dict[str, bytes] = {}
        self._connected: list[Step] = []
        self._resolver = Resolver(upstreams)
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def networks(self) -> list[object]:
        """Ids and names of the networks that the container is in now."""
        return [step["network"] for step in self._connected]

    # --- the start and the end of a run ------------------------------------------------------

    def connect(self, pid: int) -> None:
        """Make all interfaces in the network namespace of a process, and open its resolver."""
        if self._connected:  # by a start that then failed
            self.down()
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            for step in self._steps:
                self._make_pair(step, namespace)
            setns(namespace, NAMESPACE_FLAGS["network"])
            try:
                with netlink.Socket(netlink.ROUTE) as inner:
                    inner.send(rtnetlink.set_link("lo", up=True))
                    for step in self._steps:
                        _configure(inner, step)
                self._resolver.open()
            finally:
                setns(self._own, NAMESPACE_FLAGS["network"])
        finally:
            os.close(namespace)
        for step in self._steps:
            self._publish(step)
        self._resolver.serve([_directory(step) for step in self._steps])

    def adopt(self, pid: int) -> None:
        """Look after what a monitor that was killed had made; without a resolver if there can be none."""
        self._connected = list(self._steps)
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(namespace, NAMESPACE_FLAGS["network"])
            try:
                self._resolver.open()
            except OSError:  # a name that is not found is no reason to end the container
                pass
            finally:
                setns(self._own, NAMESPACE_FLAGS["network"])
        finally:
            os.close(namespace)
        for step in self._steps:
            self._publish(step)
        self._resolver.serve([_directory(step) for step in self._steps])

    def down(self, poll: select.poll | None = None) -> None:
        """Take all away; the interfaces themselves go with the network namespace.

        To remove them here would cost tens of milliseconds of waiting for the kernel's readers (RCU).
        """
        self._resolver.close(poll)
        for step in self._connected:
            self._withdraw(step)
            with netlink.Socket(netlink.ROUTE) as links:
                _attempt(links, rtnetlink.set_link(str(step["link"]), up=False))
        self._connected = []

    # --- while it runs -----------------------------------------------------------------------

    def plug(self, step: Step, pid: int, poll: select.poll) -> None:
        """Put the container into one more network."""
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._make_pair(step, namespace)
            setns(namespace, NAMESPACE_FLAGS["network"])
            try:
                with netlink.Socket(netlink.ROUTE) as inner:
                    _configure(inner, step, new_way_out=not any(s["gateways"] for s in self._steps))
                if not self._resolver.is_open:
                    self._resolver.open()
                    self._resolver.register(poll)
            finally:
                setns(self._own, NAMESPACE_FLAGS["network"])
        except BaseException:
            self._remove(step)
            raise
        finally:
            os.close(namespace)
        self._publish(step)
        self._steps.append(step)
        self._resolver.serve([_directory(each) for each in self._steps])

    def unplug(self, endpoint: object, poll: select.poll) -> None:
        """Take the container out of a network."""
        for step in [each for each in self._steps if each["id"] == endpoint]:
            self._withdraw(step)
            self._remove(step)
            self._steps.remove(step)
            if step in self._connected:
                self._connected.remove(step)
        self._resolver.serve([_directory(each) for each in self._steps])
        if not self._steps:
            self._resolver.close(poll)

    def register(self, poll: select.poll) -> None:
        """Have the resolver's sockets polled."""
        self._resolver.register(poll)

    def handle(self, fd: int, poll: select.poll) -> bool:
        """Serve a descriptor that is ready; False if it is not one of these."""
        return self._resolver.handle(fd, poll)

    # --- one endpoint ------------------------------------------------------------------------

    def _make_pair(self, step: Step, namespace: int) -> None:
        link, bridge, mac = str(step["link"]), step["bridge"], step["mac"]
        assert isinstance(bridge, int)
        assert isinstance(mac, bytes)
        pair = rtnetlink.add_veth(link, bridge, str(step["interface"]), mac, namespace)
        self._connected.append(step)
        with netlink.Socket(netlink.ROUTE) as links:
            try:
                links.send(pair)
            except FileExistsError:  # that of the run before, whose namespace is not yet gone
                links.send(rtnetlink.delete_link(link))
                links.send(pair)
            # Its own message, while the interface is down: see there. Refused without IPv6.
            _attempt(links, rtnetlink.set_no_automatic_address(link))
            links.send(rtnetlink.set_hairpin(link), rtnetlink.set_link(link, up=True))

    def _remove(self, step: Step) -> None:
        with netlink.Socket(netlink.ROUTE) as links:
            _attempt(links, rtnetlink.delete_link(str(step["link"])))

    def _publish(self, step: Step) -> None:
        """Let others find and reach it."""
        ethtool.has_link(str(step["link"]))  # for its side effect
        names = str(step["names"])
        if names in self._published:  # of a run before
            _write(names, self._published[names])
        else:
            self._published[names] = _read(names)
        elements = _elements(step)
        if not elements:
            return
        additions = [_TABLE.add_elements(name, element) for name, element in elements]
        with netlink.Socket(netlink.NETFILTER) as filters:
            try:
                nft.transact(filters, additions)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.EBUSY):
                    raise
                # The host's port was free, so this is what a killed monitor left of another container.
                stale = [
                    _TABLE.delete_elements(name, element)
                    for name, element in elements
                    if _TABLE.find_element(filters, name, element) is not None
                ]
                nft.transact(filters, stale + additions)

    def _withdraw(self, step: Step) -> None:
        names = str(step["names"])
        try:
            self._published[names] = _read(names)  # it may have been renamed since
            os.unlink(names)
        except FileNotFoundError:
            pass
        elements = _elements(step)
        if not elements:
            return
        deletions = [_TABLE.delete_elements(name, element) for name, element in elements]
        with netlink.Socket(netlink.NETFILTER) as filters:
            try:
                nft.transact(filters, deletions)
            except OSError:  # somebody flushed the rules, or some of them
                for deletion in deletions:
                    try:
                        nft.transact(filters, [deletion])
                    except OSError:
                        pass


def _configure(inner: netlink.Socket, step: Step, *, new_way_out: bool = True) -> None:
    """Give an interface its addresses and routes; `inner` is of its own namespace."""
    interface, addresses, gateways = str(step["interface"]), step["addresses"], step["gateways"]
    assert isinstance(addresses, list)
    assert isinstance(gateways, list)
    _attempt(inner, rtnetlink.set_no_automatic_address(interface))
    found = rtnetlink.find_link(inner, interface)
    if found is None:
        raise OSError(errno.ENODEV, "it vanished", f"find the interface {interface}")
    inner.send(
        *(rtnetlink.add_address(found.index, address, prefix) for address, prefix in addresses),
        rtnetlink.set_link(interface, up=True),
    )
    if new_way_out:
        for gateway in gateways:
            _attempt(inner, rtnetlink.add_route(gateway))  # EEXIST: the first network's is kept


def _attempt(socket: netlink.Socket, message: netlink.Message) -> None:
    """Send what may be refused without harm."""
    try:
        socket.send(message)
    except OSError:
        pass


def _elements(step: Step) -> list[tuple[str, nft.Element]]:
    elements = step["elements"]
    assert isinstance(elements, list)
    return [(name, nft.Element(key, data)) for name, key, data in elements]


def _directory(step: Step) -> str:
    return str(step["names"]).rpartition("/")[0]


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def _write(path: str, data: bytes) -> None:
    directory, _, name = path.rpartition("/")
    temporary = f"{directory}/.{name}"
    fd = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    os.rename(temporary, path)
