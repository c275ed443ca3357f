"""Networks of an ordinary user's containers: pasta or slirp4netns, one for each container."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from busybox import busybox_tree
from ordinary import UID, Ordinary, ordinary_user
from own_network import inside, ip, own_network

pytestmark = pytest.mark.root

PROGRAMS = ("pasta", "slirp4netns")

PRELUDE = """
import os, socket, sys, time
import pycontainer as pc
from pycontainer import errors
from pycontainer.runtime import socket_inside
store = pc.Store.default()
if not pc.Image.list():
    pc.Image.import_rootfs(os.environ["TREE"], tag="busybox:test")
image = pc.Image.get("busybox:test")
# The client speaks first and ends nothing: a pasta of before 2024-03-26 loses what it then hears.
SERVER = "exec nc -ll -p 80 -e sh -c 'read word; hostname'"

def sh(text, network="bridge", **options):
    return pc.run(image, ["sh", "-c", text], network=network, timeout=30, **options)

def serve(text=SERVER, **options):
    return pc.Container.start(image, ["sh", "-c", text], ready=pc.ready.port(80), **options)

def call(host, **options):
    return sh(f"mkfifo /tmp/open; nc -w 3 {host} 80 <>/tmp/open", **options)

def say(*words):
    print(*words, flush=True)

def pause():
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def namespace() -> Iterator[int]:
    with own_network() as new:
        yield new


@pytest.fixture(scope="module")
def outside(namespace: int) -> Iterator[int]:
    """A host beyond this one's uplink, at 192.0.2.2; the default route leads there."""
    with own_network() as far:
        with inside(namespace):
            ip("link add up0 type veth peer name far0")
            subprocess.run(
                ["ip", "link", "set", "far0", "netns", f"/proc/{os.getpid()}/fd/{far}"], check=True
            )
            ip("addr add 192.0.2.1/24 dev up0")
            ip("link set up0 up")
            ip("route add default via 192.0.2.2")
        ip("addr add 192.0.2.2/24 dev far0")
        ip("link set far0 up")
        with inside(namespace):
            yield far


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ordinary]:
    with ordinary_user() as user:
        busybox_tree(user.packages.parent / "busybox")
        (user.packages.parent / "resolv.conf").write_text("nameserver 192.0.2.2\n")
        yield user


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest, ordinary: Ordinary) -> str:
    """One of the two, alone in a directory that is to be the user's PATH; its name."""
    path = shutil.which(request.param)
    if path is None:
        pytest.skip(f"not installed: {request.param}")
    home = ordinary.packages.parent / request.param
    home.mkdir(exist_ok=True)
    (home / request.param).unlink(missing_ok=True)
    (home / request.param).symlink_to(path)
    return str(request.param)


class Script:
    """A user's program that is spoken with by lines."""

    def __init__(self, ordinary: Ordinary, text: str, program: str) -> None:
        place = ordinary.packages.parent
        self.process = ordinary.connected(
            "-W",
            "error",
            "-c",
            PRELUDE + text,
            resolver=place / "resolv.conf",
            PATH=str(place / program),
            TREE=str(place / "busybox"),
        )

    def hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            pytest.fail(self.process.stderr.read())
        return line.strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> str:
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return out


@contextlib.contextmanager
def script(ordinary: Ordinary, text: str, program: str) -> Iterator[Script]:
    made = Script(ordinary, text, program)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


@pytest.fixture(autouse=True)
def nothing_left(ordinary: Ordinary) -> Iterator[None]:
    yield
    deadline = time.monotonic() + 10
    while (left := commands()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left
    assert list(ordinary.home.glob(".local/share/pycontainer/containers/*")) == []


def commands() -> dict[int, str]:
    """The user's processes, which are not zombies, and what they are."""
    found: dict[int, str] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            path = Path("/proc", name)
            if path.stat().st_uid in (UID, 0) and f"Uid:\t{UID}\t" in (path / "status").read_text():
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found |= {int(name): command} if command else {}
    return found


def programs() -> list[int]:
    return [pid for pid, text in commands().items() if "network.ns" in text]


def said(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(b"hello\n")
        return connection.makefile().read().strip()


def answering(far: int) -> socket.socket:
    with inside(far):
        listener = socket.create_server(("", 80))

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


def naming(far: int) -> socket.socket:
    """A name server that knows one address for all names."""
    with inside(far):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("", 53))

    def respond() -> None:
        while True:
            query, client = server.recvfrom(512)
            if not query:
                return
            head = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
            data = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\x04\x01\x02\x03\x04"
            server.sendto(head + query[12:] + data, client)

    threading.Thread(target=respond, daemon=True).start()
    return server


def test_containers_reach_what_is_outside(ordinary: Ordinary, outside: int, program: str) -> None:
    listener, server = answering(outside), naming(outside)
    text = """
say(call("192.0.2.2").text.strip())
say("1.2.3.4" in sh("nslookup -type=a example.org").text)
say(call("10.0.2.2").text + call("127.0.0.1").text == "")
names = pc.Names(dns=["192.0.2.2"], extra_hosts={"host": "host-gateway"})
say(sh("cat /etc/hosts /etc/resolv.conf", names=names).text.split()[-4:])
say(call("host", names=names).text.strip())
"""
    with (
        script(ordinary, text, program) as user,
        socket.create_server(("127.0.0.1", 80)),
        socket.create_server(("192.0.2.1", 80)) as host,
    ):
        assert user.hear() == "192.0.2.1"
        assert user.hear() == "True"
        assert user.hear() == "True"  # the host's own localhost is not reached
        assert user.hear() == "['192.0.2.1', 'host', 'nameserver', '192.0.2.2']"
        connection, _ = host.accept()
        connection.sendall(b"the host\n")
        connection.close()
        assert user.hear() == "the host"
        user.end()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    with inside(outside):
        server.sendto(b"", ("127.0.0.1", 53))
    server.close()


def test_ports_are_published(ordinary: Ordinary, outside: int, program: str) -> None:
    text = """
c = serve(ports=["8080:80", "127.0.0.1::80", "5353:53/udp"], hostname="server")
with c:
    say(c.ip_address, *(f"{p.host_address}:{p.host_port}" for p in c.ports))
    with c.connect(80) as made:
        made.sendall(b"hello\\n")
        say(made.makefile().read().strip())
    with socket_inside(c._state(), kind=socket.SOCK_DGRAM) as within:
        within.bind(("", 53))
        say("bound")
        question, sender = within.recvfrom(100)
        within.sendto(b"answer to " + question, sender)
        pause()
    try:
        serve(ports=["8080:80"])
    except errors.PortInUse as error:
        say(error.message)
    c.restart(0, ready=pc.ready.port(80))
    say("again")
    pause()
serve(ports=["8080:80"]).close()
say(pc.Container.list(all=True))
"""
    with script(ordinary, text, program) as user:
        address, everywhere, local, udp = user.hear().split()
        assert (address, everywhere, udp) == ("10.0.2.100", "0.0.0.0:8080", "0.0.0.0:5353")
        assert user.hear() == "server"
        assert said("127.0.0.1", 8080) == said("192.0.2.1", 8080) == "server"
        assert said("127.0.0.1", int(local.rpartition(":")[2])) == "server"
        with inside(outside):
            assert said("192.0.2.1", 8080) == "server"
            with pytest.raises(OSError, match="refused"):
                said("192.0.2.1", int(local.rpartition(":")[2]))
        assert user.hear() == "bound"
        with inside(outside):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with client:
            client.connect(("192.0.2.1", 5353))
            client.settimeout(10)
            client.send(b"question")
            assert client.recv(100) == b"answer to question"
        user.go_on()
        assert "8080" in user.hear()
        assert user.hear() == "again"
        assert said("127.0.0.1", 8080) == "server"
        user.go_on()
        assert user.hear() == "()"
        user.end()


def test_no_frames_made_by_hand_reach_the_programs(
    ordinary: Ordinary, outside: int, program: str
) -> None:
    """They carry packets for 127.0.0.1 to the host's own, and only frames made by hand have such."""
    text = """
frame = "arping -c 1 -w 1 -I eth0 10.0.2.2 2>&1; cat /proc/sys/net/ipv4/ping_group_range"
def tried(**options):
    done = sh(frame, **options).text
    say("not permitted" in done, done.splitlines()[-1].split())
tried()
tried(security=pc.Security(cap_add=["NET_RAW"]))
with serve(name="web", ports=[80]):
    tried(network="container:web")
"""
    with script(ordinary, text, program) as user:
        assert user.hear() == "True ['0', '0']"
        assert user.hear().startswith("False")
        assert user.hear() == "True ['0', '0']"
        user.end()


def test_without_a_way_out_ports_are_published_by_the_one_that_can(ordinary: Ordinary) -> None:
    place = ordinary.packages.parent / "both"
    place.mkdir()
    for name in PROGRAMS:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"not installed: {name}")
        (place / name).symlink_to(path)
    text = """
with serve(ports=["8080:80"], hostname="server"):
    say("up")
    pause()
"""
    with own_network(), script(ordinary, text, "both") as user:  # pasta wants a default route
        assert user.hear() == "up"
        assert said("127.0.0.1", 8080) == "server"
        user.go_on()
        user.end()


def test_what_takes_root_is_refused_with_a_reason(ordinary: Ordinary, outside: int) -> None:
    text = """
try:
    pc.Network.create("shop")
except errors.UnsupportedFeature as error:
    say(error.feature, "|", error.remedy)
for network in ("shop", ["bridge", "shop"], pc.Membership("bridge", aliases=("db",))):
    try:
        serve(network=network)
    except errors.UnsupportedFeature as error:
        say(error.feature, "|", error.remedy)
try:
    serve(ports=["[fd00::1]:80:80"])
except errors.UnsupportedFeature as error:
    say(error.reason)
try:
    serve(ports=["81:80"])
except errors.NetworkError as error:
    say(error)
pc.Network.get("bridge").delete()
"""
    with script(ordinary, text, "pasta") as user:
        for _ in range(4):
            what, remedy = user.hear().split("|")
            assert "ordinary user's container" in what
            assert "container:<name>" in remedy
        assert "IPv4 only" in user.hear()
        assert "ip_unprivileged_port_start" in user.hear()
        user.end()


def test_the_doctor_lists_the_programs(ordinary: Ordinary, program: str) -> None:
    with script(ordinary, "from pycontainer._cli.doctor import doctor; doctor()", program) as user:
        [line] = [line for line in user.end().splitlines() if "networks of ordinary" in line]
    assert line.startswith("ok ")
    assert line.endswith(f"/{program}/{program}")


def test_containers_of_one_network_namespace_find_each_other(
    ordinary: Ordinary, outside: int, program: str
) -> None:
    text = """
with serve(name="web", ports=[80]) as web:
    say(sh("echo hello | nc 127.0.0.1 80", network="container:web").text.strip() == web.id[:12])
"""
    with script(ordinary, text, program) as user:
        assert user.hear() == "True"
        user.end()


DETACHED = """
c = serve(ports=["8080:80"], hostname="server", detach=True)
say(c.id, c._state().monitor)
c.close()
"""


@pytest.mark.parametrize("victim", ["monitor", "guard", "program"])
def test_a_container_stays_connected_whoever_is_killed(
    ordinary: Ordinary, outside: int, program: str, victim: str
) -> None:
    with script(ordinary, DETACHED, program) as user:
        container, monitor = user.hear().split()
        user.end()
    assert said("127.0.0.1", 8080) == "server"
    [connecting] = programs()
    guard = int(Path(f"/proc/{connecting}/stat").read_text().rpartition(")")[2].split()[1])
    time.sleep(1.1)  # whoever is killed within its first second is not started again at once
    victims = {"monitor": int(monitor), "guard": guard, "program": connecting}
    os.kill(victims[victim], signal.SIGKILL)
    text = f"""
c = pc.Container.get("{container}")
say(c._state().monitor)
pause()
say(c.address(80), c.stop(0))
c.start()
say(c.address(80))
pause()
c.delete(force=True)
"""
    with script(ordinary, text, program) as user:
        assert (user.hear() == monitor) == (victim != "monitor")
        assert eventually_said("127.0.0.1", 8080) == "server"
        assert (programs() == [connecting]) == (victim == "monitor")
        user.go_on()
        assert user.hear() == "('127.0.0.1', 8080) 137"
        assert user.hear() == "('127.0.0.1', 8080)"
        assert eventually_said("127.0.0.1", 8080) == "server"
        user.go_on()
        user.end()


def eventually_said(host: str, port: int) -> str:
    deadline = time.monotonic() + 10
    while True:
        try:
            if (text := said(host, port)) or time.monotonic() > deadline:
                return text
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def test_all_goes_with_the_program_that_is_killed(
    ordinary: Ordinary, outside: int, program: str
) -> None:
    text = """
c = serve(ports=["8080:80"])
say(c._state().monitor)
time.sleep(600)
"""
    for victims in ("host", "monitor and host"):
        with script(ordinary, text, program) as user:
            monitor = int(user.hear())
            assert len(programs()) == 1
            if victims != "host":
                os.kill(monitor, signal.SIGKILL)
            user.process.kill()
            user.process.wait(10)
        home = ordinary.home / ".local/share/pycontainer/containers"
        for young in home.iterdir():
            with contextlib.suppress(FileNotFoundError):
                os.utime(young, (0, 0))  # as if it were old: young ones may be in the making
        with script(ordinary, "say(pc.Container.list(all=True))", program) as user:
            assert user.hear() == "()"
            user.end()
        deadline = time.monotonic() + 10
        while programs() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert programs() == []
