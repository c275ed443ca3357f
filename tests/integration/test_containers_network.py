"""Containers in networks, as a program uses them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pycontainer as pc
from busybox import busybox_image
from own_network import inside, ip, own_network
from pycontainer import errors
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.runtime import socket_inside

pytestmark = [pytest.mark.root, pytest.mark.runtimes]

# Says its name to whoever connects.
SERVER = "exec nc -ll -p 80 -e hostname"


@pytest.fixture(scope="module")
def namespace() -> Iterator[int]:
    with own_network() as new:
        yield new


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, namespace: int) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("network") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def net(shared: Store, request: pytest.FixtureRequest) -> Iterator[pc.Network]:
    network = pc.Network.create("net", store=shared)
    yield network
    network.delete()


@pytest.fixture(autouse=True)
def nothing_left(shared: Store) -> Iterator[None]:
    yield
    # The kernel removes an interface pair a little after its namespace.
    deadline = time.monotonic() + 5
    while (left := pairs()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left
    assert elements() == ""
    assert not any(network.endpoints for network in pc.Network.list(store=shared))
    for names in shared.directory("networks").iterdir():
        assert list(names.iterdir()) == []


def pairs() -> str:
    return "\n".join(line for line in ip("-br link show").splitlines() if line.startswith("pv-"))


def elements() -> str:
    """The maps of the table, if there is one."""
    listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    return "\n".join(
        line for line in listed.stdout.splitlines() if " : " in line and "type" not in line
    )


def sh(image: Image, script: str, **options: object) -> pc.Completed:
    return pc.run(image, ["sh", "-c", script], store=image.store, timeout=30, **options)  # type: ignore[arg-type]


def serve(image: Image, script: str = SERVER, port: int = 80, **options: object) -> pc.Container:
    return pc.Container.start(
        image,
        ["sh", "-c", script],
        store=image.store,
        ready=pc.ready.port(port),
        **options,  # type: ignore[arg-type]
    )


def said(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=10) as connection:
        return connection.makefile().read().strip()


# --- a network -------------------------------------------------------------------------------


def test_a_container_has_its_address_and_a_way_out(image: Image, net: pc.Network) -> None:
    done = sh(image, "ip addr show eth0; ip route; cat /etc/hosts /etc/resolv.conf", network=net)
    assert "inet " + str(net.gateway).rpartition(".")[0] in done.text
    assert f"default via {net.gateway} dev eth0" in done.text
    assert "nameserver 127.0.0.11" in done.text


def test_containers_find_each_other_by_name(image: Image, net: pc.Network) -> None:
    with serve(
        image, network=pc.Membership(net, aliases=("db", "DB2")), name="server", hostname="host1"
    ) as server:
        assert server.ip_address is not None
        for name in ("server", "db", "db2", "DB", "host1", server.id[:12], "server.net"):
            assert sh(image, f"nc {name} 80", network="net").text == "host1\n", name
        script = f"nslookup {server.ip_address} 127.0.0.11"
        assert "server" in sh(image, script, network=net).text
    assert sh(image, "nslookup server 127.0.0.11", network=net).exit_code != 0


def test_several_with_one_alias_take_turns(image: Image, net: pc.Network) -> None:
    member = pc.Membership(net, aliases=("worker",))
    with serve(image, network=member) as one, serve(image, network=member) as two:
        text = sh(image, "nslookup -type=a worker 127.0.0.11", network=net).text
        assert str(one.ip_address) in text
        assert str(two.ip_address) in text


def test_networks_are_apart(image: Image, net: pc.Network, shared: Store) -> None:
    other = pc.Network.create("other", store=shared)
    with serve(image, network=net, name="server") as server:
        script = f"nc -w 1 {server.ip_address} 80"
        assert sh(image, script, network=net).exit_code == 0
        assert sh(image, script, network=other).exit_code != 0
        assert sh(image, "nc -w 1 server 80", network=other).exit_code != 0
        with serve(image, network=(other, net)) as both:
            assert {each.interface for each in both.endpoints} == {"eth0", "eth1"}
            assert both.exec(["nc", "server", "80"]).exit_code == 0
    other.delete()


def test_addresses_may_be_chosen(image: Image, shared: Store) -> None:
    network = pc.Network.create("chosen", subnet="10.77.0.0/24", ipv6="fd77::/64", store=shared)
    member = pc.Membership(network, address="10.77.0.9", ipv6_address="fd77::9")
    with serve(image, network=member, name="six") as server:
        assert server.ip_address == "10.77.0.9"
        assert [each.ipv6_address for each in server.endpoints] == ["fd77::9"]
        done = sh(image, "nc fd77::9 80; nslookup -type=aaaa six 127.0.0.11", network=network)
        assert server.id[:12] in done.text
        assert done.text.count("fd77::9") == 1
        with pytest.raises(errors.AddressInUse):
            sh(image, "true", network=member)
        # The host itself reaches it, too.
        assert said("fd77::9", 80) == server.id[:12]
    network.delete()


def test_an_unknown_network_is_told(image: Image) -> None:
    with pytest.raises(errors.NetworkNotFound, match="nothing"):
        sh(image, "true", network="nothing")
    assert list(image.store.directory("containers").iterdir()) == []


def test_modes_do_not_mix(image: Image) -> None:
    for network in (("host", "bridge"), ("none", "bridge"), ("container:x", "bridge")):
        with pytest.raises(errors.NetworkError, match="goes with no other"):
            sh(image, "true", network=network)
    with pytest.raises(errors.NetworkError, match="no ports"):
        sh(image, "true", network="host", ports=[80])


def test_a_failing_start_gives_all_back(image: Image, net: pc.Network) -> None:
    with pytest.raises(errors.CommandNotFound):
        pc.run(image, ["no such command"], network=net, ports=["8080:80"], store=image.store)
    with serve(image, network=net, ports=["8080:80"]) as server:
        assert said("127.0.0.1", 8080) == server.id[:12]


# --- the way out -----------------------------------------------------------------------------


@pytest.fixture
def outside(namespace: int) -> Iterator[int]:
    """A host beyond this one's uplink, at 192.0.2.2 and fd02::2; the default route leads there."""
    with own_network() as far:
        with inside(namespace):
            ip("link add up0 type veth peer name far0")
            subprocess.run(
                ["ip", "link", "set", "far0", "netns", f"/proc/{os.getpid()}/fd/{far}"], check=True
            )
            ip("addr add 192.0.2.1/24 dev up0")
            ip("addr add fd02::1/64 dev up0 nodad")
            ip("link set up0 up")
            ip("route add default via 192.0.2.2")
            ip("-6 route add default via fd02::2")
        ip("addr add 192.0.2.2/24 dev far0")
        ip("addr add fd02::2/64 dev far0 nodad")
        ip("link set far0 up")
        with inside(namespace):
            yield far
            ip("link delete up0")


def answering(far: int) -> socket.socket:
    with inside(far):
        listener = socket.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True)

    def answer() -> None:
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(f"{peer[0]}\n".encode())

    threading.Thread(target=answer, daemon=True).start()
    return listener


def stop(listener: socket.socket) -> None:
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_what_is_outside_sees_the_hosts_address(image: Image, shared: Store, outside: int) -> None:
    network = pc.Network.create("out", ipv6=True, store=shared)
    listener = answering(outside)
    assert sh(image, "nc 192.0.2.2 80", network=network).text == "::ffff:192.0.2.1\n"
    assert sh(image, "nc fd02::2 80", network=network).text == "fd02::1\n"
    stop(listener)
    network.delete()


def test_internal_networks_lead_nowhere(image: Image, shared: Store, outside: int) -> None:
    network = pc.Network.create("closed", internal=True, store=shared)
    listener = answering(outside)
    assert sh(image, "nc -w 1 192.0.2.2 80", network=network).exit_code != 0
    with serve(image, network=network, name="server"):
        assert sh(image, "nc server 80", network=network).exit_code == 0
        route = f"ip route add default via {network.gateway}; nc -w 1 192.0.2.2 80"
        security = pc.Security(cap_add=["NET_ADMIN"])
        assert sh(image, route, network=network, security=security).exit_code != 0
    stop(listener)
    network.delete()


# --- published ports -------------------------------------------------------------------------


def test_a_published_port_is_reached_from_everywhere(image: Image, outside: int) -> None:
    with serve(image, ports=["8080:80"]) as server:
        name = server.id[:12]
        assert server.address(80) == ("127.0.0.1", 8080)
        assert said("127.0.0.1", 8080) == name
        assert said("192.0.2.1", 8080) == name
        with inside(outside):
            assert said("192.0.2.1", 8080) == name
        assert server.exec(["nc", "192.0.2.1", "8080"]).stdout.decode().strip() == name
        assert sh(image, "nc 192.0.2.1 8080", network="bridge").text.strip() == name
        other = pc.Network.create("elsewhere", store=image.store)
        assert sh(image, "nc 192.0.2.1 8080", network=other).text.strip() == name
        other.delete()


def test_localhost_is_not_reached_from_outside(image: Image, outside: int) -> None:
    with serve(image, ports=["127.0.0.1:8080:80"]) as server:
        assert said("127.0.0.1", 8080) == server.id[:12]
        with pytest.raises(OSError, match="refused"):
            said("192.0.2.1", 8080)
        with inside(outside):
            ip("route add 127.0.0.9/32 via 192.0.2.1")
            with pytest.raises(OSError, match="refused"):
                said("192.0.2.1", 8080)


def test_random_ports_differ(image: Image) -> None:
    with serve(image, ports=[80]) as one, serve(image, ports={80: None}) as two:
        assert one.address(80) != two.address(80)
        for each in (one, two):
            assert said(*each.address(80)) == each.id[:12]
        with pytest.raises(errors.NetworkError, match="not published"):
            one.address(81)


def test_udp_is_published(image: Image) -> None:
    with (
        serve(image, ports=["5353:53/udp"]) as server,
        socket_inside(server._state(), kind=socket.SOCK_DGRAM) as within,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        within.bind(("0.0.0.0", 53))
        client.connect(server.address(53, "udp"))
        for side in (within, client):
            side.settimeout(10)
        client.send(b"question")
        question, sender = within.recvfrom(100)
        within.sendto(b"answer to " + question, sender)
        assert client.recv(100) == b"answer to question"


def test_a_port_is_had_once(image: Image) -> None:
    with serve(image, ports=["8080:80"]) as server:
        with pytest.raises(errors.PortInUse, match="8080"):
            serve(image, ports=["8080:80"])
        with pytest.raises(OSError, match="in use"), socket.socket() as program:
            program.bind(("0.0.0.0", 8080))
        server.stop(0)
        serve(image, ports=["8080:80"]).close()  # it is free with the container's end
    with socket.create_server(("0.0.0.0", 8081)), pytest.raises(errors.PortInUse):
        serve(image, ports=["8081:80"])


def test_all_ports_that_are_exposed_are_published(image: Image) -> None:
    asks = pc.Builder(image).expose("81-82", "53/udp").build(store=image.store)
    with serve(asks, ports=["8080:80"], expose=["80", 90], publish_all=True) as server:
        assert {(p.container_port, p.protocol) for p in server.ports} == {
            (80, "tcp"),
            (81, "tcp"),
            (82, "tcp"),
            (90, "tcp"),
            (53, "udp"),
        }
        assert server.address(80) == ("127.0.0.1", 8080)  # as it was asked for
        assert said("127.0.0.1", 8080) == server.id[:12]
        assert len({p.host_port for p in server.ports if p.protocol == "tcp"}) == 4
        exposed = server.inspect().config.exposed_ports
        assert exposed == ("53/udp", "80/tcp", "81/tcp", "82/tcp", "90/tcp")
        assert server.commit().config.config.exposed_ports == exposed
    with serve(image, publish_all=True, expose=[80]) as server:
        assert said(*server.address(80)) == server.id[:12]
    alike = pc.Container.scale(
        image,
        2,
        ["sh", "-c", SERVER],
        expose=[80],
        publish_all=True,
        ready=pc.ready.port(80),
        store=image.store,
    )
    for each in alike:
        assert said(*each.address(80)) == each.id[:12]
        each.close()


def test_what_is_exposed_is_not_open_by_that_alone(image: Image) -> None:
    with serve(image, expose=["80/tcp"]) as server:
        assert server.ports == ()
        assert server.endpoints == ()
        assert server.inspect().config.exposed_ports == ("80/tcp",)
    with serve(image, publish_all=True) as nothing:  # the image names no port
        assert nothing.ports == ()
        assert [each.network for each in nothing.endpoints] == ["bridge"]
    with pytest.raises(errors.NetworkError, match="no ports"):
        sh(image, "true", network="host", publish_all=True)


def test_ports_stay_through_a_restart(image: Image) -> None:
    with serve(image, ports=[80]) as server:
        before = server.address(80)
        server.restart(0, ready=pc.ready.port(80))
        assert said(*server.address(80)) == server.id[:12]
    with serve(image, "echo hello | nc -l -p 80", ports=[80], restart="always") as server:
        before = server.address(80)
        assert said(*before) == "hello"
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(ConnectionError):  # it is about to be started again
                assert said(*before) == "hello"
                break
            time.sleep(0.01)
        assert server.address(80) == before
        assert server.inspect().restart_count >= 1


# --- sockets inside, shared and changing networks --------------------------------------------


def test_connect_needs_no_published_port(image: Image, net: pc.Network) -> None:
    for network in (None, net):
        with serve(image, network=network) as server, server.connect(80) as connection:
            assert connection.makefile().read().strip() == server.id[:12]
    with serve(image, network=net) as server, socket_inside(server._state()) as listener:
        listener.bind((server.ip_address, 81))
        listener.listen()
        server.connect(81).close()
        with pytest.raises(errors.PortUnreachable, match="port 82"):
            server.connect(82)


def test_a_container_shares_anothers_network(image: Image, net: pc.Network) -> None:
    with serve(image, network=net, name="server") as server:
        done = sh(image, "nc 127.0.0.1 80; hostname; nc server 80", network="container:server")
        first, own, third = done.text.split()
        assert first == third == server.id[:12] != own
        with (
            serve(image, "sleep 60", network=f"container:{server.id}") as guest,
            pytest.raises(errors.ContainerStateError, match="no network of its own"),
        ):
            net.connect(guest)
    with serve(image) as lonely:
        assert sh(image, "nc 127.0.0.1 80", network=f"container:{lonely.name}").exit_code == 0
        lonely.stop(0)
        with pytest.raises(errors.ContainerStateError, match="does not run"):
            sh(image, "true", network=f"container:{lonely.name}")


@pytest.mark.parametrize("first", [None, "bridge"])
def test_networks_come_and_go_while_it_runs(
    image: Image, net: pc.Network, first: str | None
) -> None:
    with (
        serve(image, network=net, name="server") as server,
        pc.Container.start(
            image, ["sleep", "60"], network=first, name="client", store=image.store
        ) as client,
    ):
        assert client.exec(["nc", "-w", "1", "server", "80"]).exit_code != 0
        endpoint = net.connect(client, aliases=["late"])
        assert endpoint in client.endpoints
        assert client.exec(["nc", "server", "80"]).stdout.decode().strip() == server.id[:12]
        assert server.exec(["ping", "-c", "1", "late"]).exit_code == 0
        with pytest.raises(errors.NetworkError, match="already"):
            net.connect(client)
        net.disconnect(client)
        assert client.exec(["nc", "-w", "1", server.ip_address or "", "80"]).exit_code != 0
        assert server.exec(["ping", "-c", "1", "late"]).exit_code != 0
        with pytest.raises(errors.NetworkError, match="not in network"):
            net.disconnect(client)
        net.connect(client)


@pytest.mark.parametrize("first", [None, "bridge"])
def test_networks_that_came_while_it_ran_are_kept(
    image: Image, net: pc.Network, shared: Store, first: str | None
) -> None:
    names = pc.Names(extra_hosts={"far": "10.9.9.9"})
    with (
        serve(image, network=net, name="server") as server,
        pc.Container.start(
            image, ["sleep", "600"], network=first, name="client", names=names, store=shared
        ) as client,
    ):
        net.connect(client, aliases=["late"])
        before = [each.network for each in client.endpoints]
        client.restart(0)
        assert [each.network for each in client.endpoints] == before
        assert server.exec(["ping", "-c", "1", "late"]).exit_code == 0
        assert client.exec(["nc", "server", "80"]).stdout.decode().strip() == server.id[:12]
        assert client.exec(["grep", "10.9.9.9", "/etc/hosts"]).exit_code == 0
        found = pc.Container.get("client", store=shared)
        net.disconnect(found)
        found.close()
        client.restart(0)
        assert net.name not in [each.network for each in client.endpoints]
        assert len(client.endpoints) == (0 if first is None else 1)
        assert client.exec(["nc", "-w", "1", "server", "80"]).exit_code != 0


def test_names_of_elsewhere_are_asked_for(image: Image, net: pc.Network, namespace: int) -> None:
    def answer(query: bytes) -> bytes:
        head = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
        return head + query[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\x04\x01\x02\x03\x04"

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.7", 53))

        def respond() -> None:
            query, client = server.recvfrom(512)
            server.sendto(answer(query), client)

        thread = threading.Thread(target=respond)
        thread.start()
        names = pc.Names(dns=["127.0.0.6", "127.0.0.7"])  # nobody listens at the first
        done = sh(image, "nslookup -type=a example.org 127.0.0.11", network=net, names=names)
        thread.join()
    assert "1.2.3.4" in done.text


def test_names_of_containers_are_found_with_name_servers_of_the_callers(
    image: Image, net: pc.Network
) -> None:
    names = pc.Names(dns=["192.0.2.53"], dns_search=["example.org"])
    with serve(image, name="server", network=net) as server:
        script = "cat /etc/resolv.conf; nc server 80"
        lines = sh(image, script, network=net, names=names).text.splitlines()
    assert lines == ["nameserver 127.0.0.11", "search example.org", server.id[:12]]


def over_tcp(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    query = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + labels + b"\0\0" + bytes((kind,)) + b"\0\1"
    return len(query).to_bytes(2, "big") + query


def received(connection: socket.socket) -> bytes:
    with connection.makefile("rb", buffering=0) as reader:
        size = int.from_bytes(reader.read(2) or b"", "big")
        return reader.read(size) or b""


def test_names_are_asked_for_over_tcp_of_the_next_server_that_answers(
    image: Image, net: pc.Network, namespace: int
) -> None:
    def respond(listener: socket.socket, *, answers: bool) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                query = received(connection)
                if answers:
                    head = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
                    text = head + query[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\x04\x01\x02\x03\x04"
                    connection.sendall(len(text).to_bytes(2, "big") + text)

    listeners = [socket.create_server((f"127.0.0.{n}", 53)) for n in (7, 8)]
    for listener, answers in zip(listeners, (False, True), strict=True):
        threading.Thread(target=respond, args=(listener,), kwargs={"answers": answers}).start()
    # The first has no server, the second hangs up, the third answers.
    names = pc.Names(dns=["127.0.0.6", "127.0.0.7", "127.0.0.8"])
    with (
        serve(image, network=net, names=names, name="server") as server,
        socket_inside(server._state()) as client,
    ):
        client.settimeout(10)
        client.connect(("127.0.0.11", 53))
        client.sendall(over_tcp("example.org") + over_tcp("server") + over_tcp("example.com"))
        assert received(client).endswith(b"\x01\x02\x03\x04")
        assert received(client).endswith(socket.inet_aton(server.ip_address or ""))
        assert received(client).endswith(b"\x01\x02\x03\x04")
        for listener in listeners:
            stop(listener)
        client.sendall(over_tcp("example.net"))
        client.shutdown(socket.SHUT_WR)
        assert received(client)[3] & 15 == 2  # SERVFAIL: nobody could be asked
        assert client.recv(1) == b""


def test_a_server_that_says_nothing_is_passed_over_when_the_client_asks_again(
    image: Image, net: pc.Network, namespace: int
) -> None:
    silent, server = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    silent.bind(("127.0.0.7", 53))
    server.bind(("127.0.0.8", 53))
    names = pc.Names(dns=["127.0.0.7", "127.0.0.8"])
    with (
        silent,
        server,
        serve(image, network=net, names=names) as container,
        socket_inside(container._state(), kind=socket.SOCK_DGRAM) as client,
    ):
        for end in (silent, server, client):
            end.settimeout(10)
        client.connect(("127.0.0.11", 53))
        query = over_tcp("example.org")[2:]
        client.send(query)
        assert silent.recv(512) == query
        client.send(query)
        asked, sender = server.recvfrom(512)
        server.sendto(asked[:2] + b"\x81\x83" + asked[4:], sender)
        assert client.recv(512)[:4] == query[:2] + b"\x81\x83"


def test_a_renamed_container_is_found_by_its_new_name(image: Image, net: pc.Network) -> None:
    member = pc.Membership(net, aliases=("web",))
    with serve(image, network=member, name="before") as server, serve(image, network=net) as client:

        def found(name: str) -> bool:
            return client.exec(["nslookup", "-type=a", name, "127.0.0.11"]).exit_code == 0

        assert found("before")
        server.rename("after")
        for _ in range(2):
            assert found("after")
            assert found("after.net")
            assert found("web")
            assert not found("before")
            server.restart(0)
        pc.Container.get("after", store=image.store).rename("last")
        assert found("last")
        assert not found("after")


def test_a_renamed_container_keeps_its_name_though_its_monitor_is_killed(
    image: Image, net: pc.Network
) -> None:
    container = serve(image, network=net, name="before", detach=True)
    os.kill(container._state().monitor, signal.SIGKILL)
    container.close()
    with Store.open(image.store.path) as again, serve(image, network=net) as client:
        found = pc.Container.get("before", store=again)
        found.rename("after")
        for name, code in (("after", 0), ("before", 1)):
            assert client.exec(["nslookup", "-type=a", name, "127.0.0.11"]).exit_code == code
        found.delete(force=True)


def test_hosts_of_the_callers(image: Image, net: pc.Network) -> None:
    names = pc.Names(extra_hosts={"gate": "host-gateway", "other": "10.1.2.3"})
    text = sh(image, "cat /etc/hosts", network=net, names=names, hostname="me").text
    assert f"{net.gateway}\tgate\n10.1.2.3\tother\n" in text
    assert "\tme\n" in text


# --- many, and sudden ends -------------------------------------------------------------------


def test_many_at_once(image: Image, net: pc.Network) -> None:
    with serve(image, network=net, name="server"), ThreadPoolExecutor(8) as pool:
        done = list(
            pool.map(lambda _: sh(image, "nc server 80", network=net, ports=[80]), range(40))
        )
    assert {each.exit_code for each in done} == {0}


HOST = """
import sys, time
import pycontainer as pc
from pycontainer.content import Store
with Store.open(sys.argv[1]) as store:
    image = pc.Image.get("busybox:test", store=store)
    c = pc.Container.start(image, ["sleep", "600"], ports=["8080:80"], store=store, name="victim")
    print(c.pid, c.id, flush=True)
    time.sleep(600)
"""


def _await_end(pid: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize("victims", ["host", "monitor", "both"])
def test_nothing_is_left_after_sudden_ends(image: Image, shared: Store, victims: str) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(shared.path)], stdout=subprocess.PIPE, text=True
    )
    assert host.stdout is not None
    _, container_id = host.stdout.readline().split()
    home = shared.directory("containers") / container_id
    state = pc.Container.get("victim", store=shared)._state()
    assert "8080" in elements()
    if victims in ("monitor", "both"):
        os.kill(state.monitor, signal.SIGKILL)
    if victims in ("host", "both"):
        host.kill()
    if victims == "monitor":
        pc.Container.get("victim", store=shared).delete(force=True)
        host.kill()
    host.wait(10)
    host.stdout.close()
    if victims == "host":
        deadline = time.monotonic() + 10
        while home.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    if victims == "both":
        _await_end(state.monitor)  # its lock goes with it
        os.utime(home, (0, 0))  # as if it were old: young ones may be in the making
    with Store.open(shared.path) as again:
        assert pc.Container.list(all=True, store=again) == ()
        assert not any(network.endpoints for network in pc.Network.list(store=again))
    assert "8080" not in elements()
    with socket.create_server(("0.0.0.0", 8080)):
        pass


def test_a_detached_container_keeps_its_network_though_its_monitor_is_killed(
    image: Image, net: pc.Network
) -> None:
    container = serve(
        image, network=pc.Membership(net, aliases=("web",)), ports=["8080:80"], detach=True
    )
    monitor = container._state().monitor
    os.kill(monitor, signal.SIGKILL)
    container.close()
    _await_end(monitor)
    with Store.open(image.store.path) as again:
        found = pc.Container.get(container.id, store=again)
        assert found._state().monitor != monitor
        assert said(*found.address(80)) == container.id[:12]
        assert found.exec(["nslookup", "-type=a", "web", "127.0.0.11"]).exit_code == 0
        with pytest.raises(errors.PortInUse):
            serve(image, ports=["8080:80"])
        found.delete(force=True)
    serve(image, ports=["8080:80"]).close()
