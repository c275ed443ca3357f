"""What the kernel makes of our messages, as its own tools (ip, nft) show it."""

from __future__ import annotations

import errno
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from own_network import inside, own_network
from own_network import ip as iproute
from pycontainer._linux import netlink, nftables, rtnetlink
from pycontainer.network import _ruleset
from pycontainer.network._ruleset import TABLE

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def namespace() -> Iterator[int]:
    with own_network() as new:
        yield new


@pytest.fixture
def filters() -> Iterator[netlink.Socket]:
    with netlink.Socket(netlink.NETFILTER) as opened:
        yield opened


@pytest.fixture
def links() -> Iterator[netlink.Socket]:
    with netlink.Socket(netlink.ROUTE) as opened:
        yield opened


def ip(command: str) -> str:
    if not shutil.which("ip"):
        pytest.skip("needs ip (iproute2)")
    return iproute(command)


def nft_list() -> str:
    if not shutil.which("nft"):
        pytest.skip("needs nft (nftables)")
    command = ["nft", "list", "table", "inet", "pycontainer"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def words(text: str) -> str:
    without_comments = re.sub(r"#.*", "", text)
    return " ".join(without_comments.replace(";", " ").split())


def test_the_table_is_what_its_documentation_says(filters: netlink.Socket) -> None:
    _ruleset.make_table(filters)
    listed = words(nft_list().replace(" policy accept", "").replace("meta nfproto ipv4 ", ""))
    documented = words((_ruleset.__doc__ or "").partition("::")[2])
    for chain in re.findall(r"chain \w+ \{.*?\}", documented):
        chain = chain.replace("hook output priority dstnat", "hook output priority -100")
        assert chain in listed.replace("meta nfproto ipv6 ", ""), chain
    for kind, name, rest in re.findall(r"(set|map) (\w+) \{ (.*?) \}", documented):
        assert f"{kind} {name} {{ {rest} }}" in listed


def test_making_the_table_again_changes_nothing(filters: netlink.Socket) -> None:
    _ruleset.make_table(filters)
    before = nftables.generation(filters), nft_list()
    _ruleset.make_table(filters)
    assert (nftables.generation(filters), nft_list()) == before


def test_many_make_the_table_at_once(namespace: int) -> None:
    failures: list[BaseException] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        try:
            with inside(namespace), netlink.Socket(netlink.NETFILTER) as filters:
                barrier.wait(10)
                _ruleset.make_table(filters)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert nft_list().count("chain forward") == 1
    assert nft_list().count("@internal drop") == 1


def test_the_last_network_takes_the_table_with_it(filters: netlink.Socket) -> None:
    _ruleset.make_table(filters)
    bridge = nftables.Element(_ruleset.interface_name("one"))
    nftables.transact(filters, [TABLE.add_elements("bridges", bridge)])
    _ruleset.remove_unused_table(filters)
    assert TABLE.exists(filters)
    nftables.transact(filters, [TABLE.delete_elements("bridges", bridge)])
    _ruleset.remove_unused_table(filters)
    assert not TABLE.exists(filters)
    _ruleset.remove_unused_table(filters)


def test_a_transaction_is_all_or_nothing(filters: netlink.Socket) -> None:
    _ruleset.make_table(filters)
    one, two = (nftables.Element(_ruleset.interface_name(name)) for name in ("one", "two"))
    with pytest.raises(FileNotFoundError) as caught:
        nftables.transact(
            filters,
            [TABLE.add_elements("bridges", one), TABLE.delete_elements("bridges", two)],
        )
    assert caught.value.filename == "take from the set bridges"
    assert TABLE.elements(filters, "bridges") == []


def test_a_transaction_of_another_generation_is_refused(filters: netlink.Socket) -> None:
    _ruleset.make_table(filters)
    old = nftables.generation(filters) - 1
    one = nftables.Element(_ruleset.interface_name("one"))
    with pytest.raises(OSError, match="restart") as caught:
        nftables.transact(filters, [TABLE.add_elements("bridges", one)], generation=old)
    assert caught.value.errno == errno.ERESTART


def test_elements_are_found_with_data_and_comment(filters: netlink.Socket) -> None:
    _ruleset.make_table(filters)
    key, data = b"\x06\0\0\0\x1f\x90\0\0", bytes((10, 1, 0, 2, 0, 80, 0, 0))
    element = nftables.Element(key, data, comment="of a container")
    nftables.transact(filters, [TABLE.add_elements("ports4", element)])
    assert 'tcp . 8080 comment "of a container" : 10.1.0.2 . 80' in nft_list()
    found = TABLE.find_element(filters, "ports4", nftables.Element(key))
    assert found is not None
    assert (found.data, found.comment) == (data, "of a container")
    other = nftables.Element(b"\x06\0\0\0\x1f\x91\0\0")
    assert TABLE.find_element(filters, "ports4", other) is None


@pytest.mark.parametrize(
    "other", ["10.1.0.0/24", "10.1.0.128/25", "10.1.0.7/32", "10.0.0.0/8"], ids=str
)
def test_the_kernel_refuses_overlapping_ranges(filters: netlink.Socket, other: str) -> None:
    _ruleset.make_table(filters)

    def bounds(subnet: str) -> list[nftables.Element]:
        address, _, prefix = subnet.partition("/")
        first = int.from_bytes(socket.inet_aton(address), "big")
        behind = first + (1 << 32 - int(prefix))
        return [
            nftables.Element(first.to_bytes(4, "big")),
            nftables.Element(behind.to_bytes(4, "big"), end=True),
        ]

    add = TABLE.add_elements
    nftables.transact(filters, [add("subnets4", *bounds("10.1.0.0/24"), exclusive=True)])
    with pytest.raises(FileExistsError):
        nftables.transact(filters, [add("subnets4", *bounds(other), exclusive=True)])
    nftables.transact(filters, [add("subnets4", *bounds("10.1.1.0/24"), exclusive=True)])


def test_bridges_and_pairs(links: netlink.Socket, namespace: int) -> None:
    links.send(
        rtnetlink.add_bridge("br", b"\2\0\0\0\0\1"),
        rtnetlink.set_alias("br", "what for"),
        rtnetlink.set_no_automatic_address("br"),
        rtnetlink.set_link("br", up=True),
    )
    found = rtnetlink.find_link(links, "br")
    assert found is not None
    assert (found.name, found.alias, found.up) == ("br", "what for", True)
    assert [link.name for link in rtnetlink.links(links, kind="bridge")] == ["br"]
    links.send(rtnetlink.add_address(found.index, socket.inet_aton("10.9.0.1"), 24))
    assert "inet 10.9.0.1/24 brd 10.9.0.255" in ip("addr show br")
    assert (socket.inet_aton("10.9.0.0"), 24, found.index) in rtnetlink.routes(links)
    links.send(
        rtnetlink.add_veth("here", found.index, "there", b"\2\0\0\0\0\2", namespace),
        rtnetlink.set_hairpin("here"),
        rtnetlink.set_link("here", up=True),
    )
    shown = ip("-d link show here")
    assert "master br" in shown
    assert "hairpin on" in shown
    assert "02:00:00:00:00:02" in ip("link show there")
    links.send(rtnetlink.delete_link("here"))
    assert rtnetlink.find_link(links, "there") is None


def test_ipv6_addresses_and_default_routes(links: netlink.Socket) -> None:
    links.send(rtnetlink.add_bridge("br", b"\2\0\0\0\0\1"), rtnetlink.set_link("br", up=True))
    found = rtnetlink.find_link(links, "br")
    assert found is not None
    six = socket.inet_pton(socket.AF_INET6, "fd00:1::1")
    links.send(
        rtnetlink.add_address(found.index, six, 64),
        rtnetlink.add_address(found.index, socket.inet_aton("10.9.0.1"), 24),
    )
    links.send(
        rtnetlink.add_route(socket.inet_aton("10.9.0.2")), rtnetlink.add_route(six[:-1] + b"\2")
    )
    assert ip("route show default").startswith("default via 10.9.0.2 dev br")
    assert ip("-6 route show default").startswith("default via fd00:1::2 dev br")
    prefix = socket.inet_pton(socket.AF_INET6, "fd00:1::")
    assert (prefix, 64, found.index) in rtnetlink.routes(links, ipv6=True)


def test_the_first_failure_is_told_with_its_purpose(links: netlink.Socket) -> None:
    links.send(rtnetlink.add_bridge("br", b"\2\0\0\0\0\1"))
    with pytest.raises(FileExistsError) as caught:
        links.send(
            rtnetlink.add_bridge("br", b"\2\0\0\0\0\1"), rtnetlink.set_link("nothing", up=True)
        )
    assert caught.value.filename == "make the bridge br"
    assert rtnetlink.find_link(links, "nothing") is None
