"""Which ports callers may ask for, and how."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from pycontainer import errors
from pycontainer.network import PortRequest, parse_exposed, parse_ports

Short = tuple[int, str, str | None, list[int]]


def short(request: PortRequest) -> Short:
    address = None if request.host_address is None else str(request.host_address)
    return request.container_port, request.protocol, address, list(request.host_ports)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [(80, "tcp", None, [])]),
        ("53/udp", [(53, "udp", None, [])]),
        ("8080:80", [(80, "tcp", None, [8080])]),
        ("127.0.0.1:8080:80/tcp", [(80, "tcp", "127.0.0.1", [8080])]),
        ("127.0.0.1::80", [(80, "tcp", "127.0.0.1", [])]),
        ("0.0.0.0:8080:80", [(80, "tcp", None, [8080])]),
        ("[fd00::1]:8080:80", [(80, "tcp", "fd00::1", [8080])]),
        ("0:80", [(80, "tcp", None, [])]),
        ("8000-8002:80", [(80, "tcp", None, [8000, 8001, 8002])]),
        ("80-81", [(80, "tcp", None, []), (81, "tcp", None, [])]),
        ("8080-8081:80-81", [(80, "tcp", None, [8080]), (81, "tcp", None, [8081])]),
    ],
)
def test_texts_of_docker(text: str, expected: list[Short]) -> None:
    assert [short(request) for request in parse_ports([text])] == expected
    assert parse_ports(text) == parse_ports([text])
    again = parse_ports([request.to_text() for request in parse_ports([text])])
    assert again == parse_ports([text])


def test_ports_that_are_exposed() -> None:
    given: list[int | str] = [80, "53/udp", "8000-8002", "132/sctp", "80/tcp"]
    assert parse_exposed(given) == (
        "80/tcp",
        "53/udp",
        "8000/tcp",
        "8001/tcp",
        "8002/tcp",
        "132/sctp",
    )
    assert parse_exposed("80/tcp") == ("80/tcp",)


@pytest.mark.parametrize("text", ["8080:80", "http", "0-5", "70000", "80/quic", "9-8", ""])
def test_other_texts_expose_nothing(text: str) -> None:
    with pytest.raises(errors.NetworkError, match="port"):
        parse_exposed([text])


def test_numbers_are_the_containers() -> None:
    assert [short(request) for request in parse_ports([80, 443])] == [
        (80, "tcp", None, []),
        (443, "tcp", None, []),
    ]


def test_a_mapping_leads_from_the_container_to_the_host() -> None:
    ports = parse_ports(
        {80: 8080, "53/udp": None, 443: ("127.0.0.1", 8443), 5432: [5432, ("fd00::1", 0)]}
    )
    assert [short(request) for request in ports] == [
        (80, "tcp", None, [8080]),
        (53, "udp", None, []),
        (443, "tcp", "127.0.0.1", [8443]),
        (5432, "tcp", None, [5432]),
        (5432, "tcp", "fd00::1", []),
    ]
    assert isinstance(ports[2].host_address, IPv4Address)
    assert isinstance(ports[4].host_address, IPv6Address)


@pytest.mark.parametrize(
    "text",
    ["", "http", "80/", "70000", "8080:0-80", "81-80", "1.2.3:80:80", "1-3:80-81", "::1:80:80"],
)
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(errors.NetworkError):
        parse_ports([text])


def test_what_the_kernel_cannot_do_is_refused() -> None:
    with pytest.raises(errors.UnsupportedFeature, match="sctp"):
        parse_ports(["80/sctp"])
    with pytest.raises(errors.UnsupportedFeature, match="::1"):
        parse_ports(["[::1]:80:80"])
