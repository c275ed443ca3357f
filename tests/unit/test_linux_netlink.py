"""Netlink messages, byte for byte against the layouts and numbers of the kernel's headers."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from pycontainer._linux import netlink, nftables, rtnetlink

HEADER = 16  # struct nlmsghdr
GENERIC = 4  # struct nfgenmsg


def hexadecimal(text: str) -> bytes:
    return bytes.fromhex(text)


def test_attributes_are_padded_to_four_bytes() -> None:
    assert netlink.text(3, "lo") == hexadecimal("0700 0300 6c6f00 00")
    assert netlink.u8(4, 1) == hexadecimal("0500 0400 01 000000")
    assert netlink.u32(10, 7) == struct.pack("=HHI", 8, 10, 7)
    assert netlink.network_order(2, 0x20) == struct.pack("=HH", 8, 2) + b"\0\0\0\x20"


def test_nested_attributes_are_marked_and_found_again() -> None:
    made = netlink.nested(18, netlink.text(1, "veth"), netlink.u8(9, 3))
    assert struct.unpack_from("=HH", made) == (len(made), 18 | 0x8000)
    outer = netlink.attributes(made)
    assert netlink.attributes(outer[18]) == {1: b"veth\0", 9: b"\3"}


@pytest.mark.parametrize("damaged", [b"\1", b"\0\0\0\0rest", b"\xff\xff\1\0ab"])
def test_damaged_attributes_end_the_list(damaged: bytes) -> None:
    assert netlink.attributes(netlink.u8(1, 1) + damaged)[1] in (b"\1", b"ab")


def test_a_message_has_its_header_in_front() -> None:
    encoded = netlink.Message(16, netlink.CREATE, b"12345", "test").encode(77, 4)
    assert struct.unpack_from("=IHHII", encoded) == (21, 16, 0x400 | 1 | 4, 77, 0)
    assert encoded[HEADER:] == b"12345\0\0\0"


def test_address_message() -> None:
    message = rtnetlink.add_address(5, socket.inet_aton("10.1.2.3"), 22)
    # struct ifaddrmsg: AF_INET, /22, IFA_F_PERMANENT | IFA_F_NODAD, RT_SCOPE_UNIVERSE, index
    assert message.kind == 20
    assert message.body[:8] == struct.pack("=BBBBI", 2, 22, 0x82, 0, 5)
    assert netlink.attributes(message.body[8:]) == {
        2: socket.inet_aton("10.1.2.3"),
        1: socket.inet_aton("10.1.2.3"),
        4: socket.inet_aton("10.1.3.255"),
    }


def test_ipv6_addresses_have_no_broadcast() -> None:
    address = socket.inet_pton(socket.AF_INET6, "fd00::1")
    body = rtnetlink.add_address(5, address, 64).body
    assert body[:2] == bytes((socket.AF_INET6, 64))
    assert set(netlink.attributes(body[8:])) == {1, 2}


def test_default_route_message() -> None:
    message = rtnetlink.add_route(socket.inet_aton("10.1.0.1"))
    # struct rtmsg: family, 0/0, tos, RT_TABLE_MAIN, RTPROT_BOOT, universe, RTN_UNICAST, flags
    assert message.kind == 24
    assert message.body == struct.pack("=8BI", 2, 0, 0, 0, 254, 3, 0, 1, 0) + netlink.attribute(
        5, socket.inet_aton("10.1.0.1")
    )


def test_veth_message_names_both_ends() -> None:
    message = rtnetlink.add_veth("here", 9, "eth0", b"\2abcde", 33)
    found = netlink.attributes(message.body[16:])
    assert found[3] == b"here\0"
    assert struct.unpack("=I", found[10]) == (9,)
    info = netlink.attributes(found[18])
    assert info[1] == b"veth\0"
    peer = netlink.attributes(netlink.attributes(info[2])[1][16:])
    assert peer[3] == b"eth0\0"
    assert peer[1] == b"\2abcde"
    assert struct.unpack("=I", peer[28]) == (33,)


def test_set_element_message() -> None:
    table = nftables.Table("t")
    message = table.add_elements("ports", nftables.Element(b"key4", b"data", comment="c"))
    # NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM; struct nfgenmsg of NFPROTO_INET
    assert message.kind == 10 << 8 | 12
    assert message.body[:GENERIC] == hexadecimal("01 00 0000")
    found = netlink.attributes(message.body[GENERIC:])
    assert (found[1], found[2]) == (b"t\0", b"ports\0")
    element = netlink.attributes(netlink.attributes(found[3])[1])
    assert netlink.attributes(element[1])[1] == b"key4"
    assert netlink.attributes(element[2])[1] == b"data"
    assert element[6] == b"\0\2c\0"


def test_what_deletes_an_element_names_its_key_only() -> None:
    table = nftables.Table("t")
    message = table.delete_elements("ranges", nftables.Element(b"key4", b"data", end=True))
    listed = netlink.attributes(message.body[GENERIC:])[3]
    element = netlink.attributes(netlink.attributes(listed)[1])
    assert set(element) == {1, 3}
    assert element[3] == b"\0\0\0\1"  # NFT_SET_ELEM_INTERVAL_END


def test_concatenations_pad_each_part_but_a_single_type_is_not_padded() -> None:
    table = nftables.Table("t")
    wanted = {
        ("inet_service",): (13, 2),
        ("inet_proto", "inet_service"): (12 << 6 | 13, 8),
        ("ipv6_addr", "inet_proto", "inet_service"): (8 << 12 | 12 << 6 | 13, 24),
    }
    for key, (kind, size) in wanted.items():
        found = netlink.attributes(table.add_set("s", 1, key).body[GENERIC:])
        assert (int.from_bytes(found[4], "big"), int.from_bytes(found[5], "big")) == (kind, size)


def test_errors_carry_the_purpose_and_the_kernels_words() -> None:
    answer = (
        struct.pack("=i", -errno.EEXIST) + bytes(16) + netlink.text(1, "there is one of that name")
    )
    failed = netlink._failure(0x100 | 0x200, answer, "make the bridge x")
    assert isinstance(failed, FileExistsError)
    assert failed.filename == "make the bridge x"
    assert failed.strerror == f"{os.strerror(errno.EEXIST)} (there is one of that name)"


def test_an_uncapped_error_repeats_the_request_before_the_words() -> None:
    request = netlink.Message(16, 0, b"abcdef", "").encode(1, 0)
    answer = struct.pack("=i", -errno.EINVAL) + request + netlink.text(1, "no")
    failed = netlink._failure(0x200, answer, "try")
    assert failed is not None
    assert str(failed.strerror).endswith("(no)")
    assert netlink._failure(0, bytes(4) + request, "try") is None
