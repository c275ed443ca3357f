"""Networks as the host has them: records, bridges, rules, ports, and what becomes of them."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from own_network import ip, own_network
from pycontainer import errors
from pycontainer.content import Store
from pycontainer.network import Attachment, Membership, Network, join, leave, parse_ports

pytestmark = pytest.mark.root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store whose networks are in a network namespace of the test's own."""
    with own_network(), Store.open(tmp_path / "store") as store:
        yield store


def made(store: Store, name: str) -> str:
    """A container's directory, so that its endpoint is not that of a dead one; gives its id."""
    container = name.encode().hex().ljust(64, "0")
    (store.directory("containers") / container).mkdir(parents=True, exist_ok=True)
    return container


def enter(store: Store, network: str, name: str, **wanted: str) -> Attachment:
    membership = Membership(network, **wanted)  # type: ignore[arg-type]
    return join(store, made(store, name), [membership], names=[name])


def rules() -> str:
    command = ["nft", "list", "ruleset"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def forget_containers(store: Store) -> None:
    for home in store.directory("containers").iterdir():
        leave(store, home.name)
        home.rmdir()


# --- records ---------------------------------------------------------------------------------


def test_networks_are_made_found_and_deleted(store: Store) -> None:
    made = Network.create("one", labels={"a": "b"}, store=store)
    assert Network.get("one", store=store) == made == Network.get(made.id[:8], store=store)
    assert Network.list(store=store) == (made,)
    assert Network.list(labels={"a": "c"}, store=store) == ()
    made.delete()
    made.delete()
    with pytest.raises(errors.NetworkNotFound):
        Network.get("one", store=store)


def test_the_default_network_is_made_when_it_is_asked_for(store: Store) -> None:
    assert Network.get("bridge", store=store) == Network.default(store=store)
    assert [network.name for network in Network.list(store=store)] == ["bridge"]
    assert Network.prune(store=store) == ()


def test_a_name_is_taken_once(store: Store) -> None:
    Network.create("one", store=store)
    with pytest.raises(errors.NameInUse):
        Network.create("one", store=store)


@pytest.mark.parametrize("name", ["host", "none", "default", "", "-x", "a/b", "x" * 200])
def test_names_that_are_none(store: Store, name: str) -> None:
    with pytest.raises(errors.NetworkError, match="cannot name a network"):
        Network.create(name, store=store)


def test_subnets_do_not_overlap(store: Store) -> None:
    one = Network.create("one", subnet="10.5.0.0/24", gateway="10.5.0.254", store=store)
    assert one.gateway == "10.5.0.254"
    with pytest.raises(errors.SubnetInUse, match="'one'"):
        Network.create("two", subnet="10.5.0.128/25", store=store)
    ip("link add route0 type bridge")
    ip("link set route0 up")
    ip("addr add 10.6.0.1/16 dev route0")
    with pytest.raises(errors.SubnetInUse, match="this host has a route"):
        Network.create("two", subnet="10.6.1.0/24", store=store)
    chosen = {Network.create(f"n{number}", store=store).subnet for number in range(5)}
    assert len(chosen) == 5


@pytest.mark.parametrize(
    ("subnet", "gateway"),
    [
        ("10.5.0.0/31", None),
        ("10.0.0.0/7", None),
        ("10.5.0.1/24", None),
        ("fd00::/64", None),
        ("10.5.0.0/24", "10.5.0.255"),
        ("10.5.0.0/24", "10.5.1.1"),
        ("10.5.0.0/24", "x"),
    ],
)
def test_subnets_that_are_none(store: Store, subnet: str, gateway: str | None) -> None:
    with pytest.raises(errors.NetworkError):
        Network.create("one", subnet=subnet, gateway=gateway, store=store)


# --- places ----------------------------------------------------------------------------------


def test_a_place_brings_the_bridge_up_and_the_store_takes_it_down(store: Store) -> None:
    network = Network.create("one", subnet="10.5.0.0/24", ipv6="fd00:5::/64", store=store)
    assert network.interface not in ip("link show")
    endpoint = enter(store, "one", "first", aliases=("alias",)).endpoints[0]  # type: ignore[arg-type]
    assert (endpoint.address, endpoint.ipv6_address) == ("10.5.0.2", "fd00:5::2")
    assert endpoint.names == ("first", "alias", "first.one", "alias.one")
    assert network.endpoints == (endpoint,)
    shown = ip(f"addr show {network.interface}")
    assert "inet 10.5.0.1/24" in shown
    assert "inet6 fd00:5::1/64" in shown
    assert network.interface in rules()
    with pytest.raises(errors.NetworkInUse, match="first"):
        network.delete()
    forget_containers(store)
    assert not network.endpoints
    store.close()
    assert network.interface not in ip("link show")
    assert rules() == ""


def test_addresses_are_given_once_and_not_again_at_once(store: Store) -> None:
    Network.create("one", subnet="10.5.0.0/29", store=store)
    given = [enter(store, "one", f"c{number}").endpoints[0].address for number in range(5)]
    assert given == [f"10.5.0.{number}" for number in range(2, 7)]
    with pytest.raises(errors.NoFreeAddress):
        enter(store, "one", "one more")
    leave(store, made(store, "c1"))
    leave(store, made(store, "c0"))
    assert enter(store, "one", "new").endpoints[0].address == "10.5.0.2"


def test_places_of_containers_that_are_gone_are_given_again(store: Store) -> None:
    network = Network.create("one", subnet="10.5.0.0/30", store=store)
    enter(store, "one", "gone")
    (store.directory("containers") / made(store, "gone")).rmdir()
    enter(store, "one", "ended")
    home = store.directory("containers") / made(store, "ended")
    (home / "exit.json").write_text('{"exit_code": 1, "next": 12345.0}')
    with pytest.raises(errors.NoFreeAddress):
        enter(store, "one", "new")
    (home / "exit.json").write_text('{"exit_code": 1}')
    assert enter(store, "one", "new").endpoints[0].address == "10.5.0.2"
    assert [endpoint.names[0] for endpoint in network.endpoints] == ["new"]


def test_an_address_may_be_asked_for(store: Store) -> None:
    Network.create("one", subnet="10.5.0.0/24", ipv6="fd00:5::/64", store=store)
    place = enter(store, "one", "a", address="10.5.0.77", ipv6_address="fd00:5::7").endpoints[0]
    assert (place.address, place.ipv6_address) == ("10.5.0.77", "fd00:5::7")
    for wanted in (
        {"address": "10.5.0.77"},
        {"address": "10.5.0.1"},
        {"ipv6_address": "fd00:5::7"},
    ):
        with pytest.raises(errors.AddressInUse):
            enter(store, "one", "b", **wanted)
    with pytest.raises(errors.NetworkError, match="not an address"):
        enter(store, "one", "b", address="10.5.1.1")
    with pytest.raises(errors.NetworkError, match="already"):
        enter(store, "one", "a")


def test_unknown_networks(store: Store) -> None:
    with pytest.raises(errors.NetworkNotFound, match="nothing"):
        enter(store, "nothing", "a")


def test_two_stores_do_not_share_a_subnet(store: Store, tmp_path: Path) -> None:
    with Store.open(tmp_path / "other") as other:
        Network.create("one", subnet="10.5.0.0/24", store=other)
        free = Network.create("free", store=other)
        Network.create("one", subnet="10.5.0.0/16", store=store)
        enter(store, "one", "a")
        with pytest.raises(errors.SubnetInUse):
            enter(other, "one", "a")
        assert enter(other, "free", "b").endpoints[0].gateway == free.gateway
        forget_containers(other)
    assert "10.5.0.0/16" in rules()


def test_a_chosen_subnet_gives_way(store: Store) -> None:
    """What was free when the network was made may be taken when its bridge is."""
    network = Network.create("one", store=store)
    ip("link add late0 type bridge")
    ip("link set late0 up")
    ip(f"addr add {network.gateway}/22 dev late0")
    other = Network.create("two", store=store)
    assert other.subnet != network.subnet
    assert enter(store, "two", "a").endpoints[0].gateway == other.gateway


def test_rules_that_somebody_flushed_come_back(store: Store) -> None:
    network = Network.create("one", store=store)
    join(
        store, made(store, "a"), [Membership("one")], names=["a"], ports=parse_ports({80: 8080})
    ).close()
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    enter(store, "one", "b")
    assert network.interface in rules()
    assert "tcp . 8080" in rules()


def test_bridges_of_deleted_stores_are_removed(store: Store, tmp_path: Path) -> None:
    other = Store.open(tmp_path / "other")
    other.before_close(lambda store: shutil.rmtree(store.path))
    lost = Network.create("lost", subnet="10.5.0.0/24", store=other)
    enter(other, "lost", "a")
    other.close()
    network = Network.create("one", store=store)
    enter(store, "one", "a")
    assert lost.interface not in ip("link show")
    assert lost.interface not in rules()
    assert network.interface in rules()


def test_forwarding_is_switched_on_for_containers_only(store: Store) -> None:
    ip("link add up0 type bridge")
    ip("link set up0 up")
    ip("addr add 192.0.2.9/24 dev up0")
    ip("route add default via 192.0.2.1")
    switch = Path("/proc/sys/net/ipv4/ip_forward")
    switch.write_text("0")
    Network.create("closed", internal=True, store=store)
    enter(store, "closed", "a")
    assert switch.read_text() == "0\n"
    Network.create("open", store=store)
    enter(store, "open", "b")
    assert switch.read_text() == "1\n"
    assert re.search(r"set uplinks \{[^}]*up0", rules())


# --- ports -----------------------------------------------------------------------------------


def publish(store: Store, name: str, *ports: int | str, network: str = "one") -> Attachment:
    return join(
        store, made(store, name), [Membership(network)], names=[name], ports=parse_ports(ports)
    )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True


def test_ports_are_kept_until_the_keeper_goes(store: Store) -> None:
    Network.create("one", store=store)
    attached = publish(store, "a", "8080:80", "8080:53/udp", "127.0.0.1:8081:81", 82)
    assert [(p.host_address, p.host_port, p.protocol) for p in attached.ports[:3]] == [
        ("0.0.0.0", 8080, "tcp"),
        ("0.0.0.0", 8080, "udp"),
        ("127.0.0.1", 8081, "tcp"),
    ]
    assert attached.ports[3].host_port >= 1024
    assert not is_free(8080)
    with pytest.raises(errors.PortInUse, match="8080"):
        publish(store, "b", "8080:80")
    assert [e.names[0] for e in Network.get("one", store=store).endpoints] == ["a"]
    attached.close()
    assert is_free(8080)


def test_a_port_of_a_range_is_taken(store: Store) -> None:
    Network.create("one", store=store)
    taken = [publish(store, f"c{n}", "8000-8002:80") for n in range(3)]
    assert [attached.ports[0].host_port for attached in taken] == [8000, 8001, 8002]
    with pytest.raises(errors.PortInUse, match="8000-8002"):
        publish(store, "d", "8000-8002:80")
    for attached in taken:
        attached.close()


def test_many_ports_of_one_container(store: Store) -> None:
    Network.create("one", store=store)
    attached = publish(store, "a", "20000-20599:1000-1599")
    assert len(attached.ports) == 600
    assert not is_free(20599)
    attached.close()
    assert is_free(20000)


def test_ports_need_a_way_in(store: Store) -> None:
    Network.create("closed", internal=True, store=store)
    with pytest.raises(errors.NetworkError, match="internal"):
        publish(store, "a", 80, network="closed")
    Network.create("one", store=store)
    with pytest.raises(errors.NetworkError, match="address of this host"):
        publish(store, "a", "192.0.2.77:80:80")
