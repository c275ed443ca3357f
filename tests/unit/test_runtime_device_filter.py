"""Device rules as an eBPF program and as writes to the v1 controller."""

from __future__ import annotations

import pytest

from bpf_interpreters import DeviceFilter
from pycontainer.errors import SpecError
from pycontainer.oci.runtime import DeviceRule
from pycontainer.runtime._device_filter import DEFAULT_DEVICE_RULES, device_program, v1_writes


def test_docker_default() -> None:
    program = DeviceFilter.load(device_program(DEFAULT_DEVICE_RULES))
    allowed = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 0), (136, 77)]
    for major, minor in allowed:
        for access in ("r", "w", "rw", "m", "rwm"):
            assert program.permits("c", major, minor, access), (major, minor, access)
    for kind, major, minor in [("c", 1, 1), ("c", 1, 11), ("c", 10, 200), ("b", 8, 0), ("b", 1, 3)]:
        assert program.permits(kind, major, minor, "m")  # to make a node is harmless
        for access in ("r", "w", "rw", "rm", "rwm"):
            assert not program.permits(kind, major, minor, access), (kind, major, minor)


def test_later_rules_change_earlier_ones() -> None:
    rules = [
        DeviceRule(allow=False),
        DeviceRule(allow=True, type="b", major=8, access="rw"),
        DeviceRule(allow=False, type="b", major=8, access="w"),
    ]
    program = DeviceFilter.load(device_program(rules))
    assert program.permits("b", 8, 1, "r")
    assert not program.permits("b", 8, 1, "w")
    everything = DeviceFilter.load(device_program([*rules, DeviceRule(allow=True)]))
    assert everything.permits("b", 8, 1, "rwm")


def test_refusals_from_a_permissive_default() -> None:
    program = DeviceFilter.load(
        device_program([DeviceRule(allow=False, type="c", major=1, minor=1, access="w")])
    )
    assert program.permits("c", 1, 1, "r")
    assert not program.permits("c", 1, 1, "rw")
    assert program.permits("b", 1, 1, "rw")


def test_no_rules_let_all_pass() -> None:
    assert DeviceFilter.load(device_program([])).permits("b", 8, 0, "rwm")


def test_wildcards_in_both_notations() -> None:
    none, minus = (
        device_program([DeviceRule(allow=False), DeviceRule(True, "c", major, major, "r")])
        for major in (None, -1)
    )
    assert none == minus


def test_v1_writes() -> None:
    rules = [
        DeviceRule(allow=False),
        DeviceRule(allow=True, type="c", access="m"),
        DeviceRule(allow=True, type="c", major=136),
        DeviceRule(allow=False, type="b", major=8, minor=1, access="w"),
    ]
    assert v1_writes(rules) == [
        ("devices.deny", "a"),
        ("devices.allow", "c *:* m"),
        ("devices.allow", "c 136:* rwm"),
        ("devices.deny", "b 8:1 w"),
    ]


@pytest.mark.parametrize(
    ("rule", "member"),
    [
        (DeviceRule(allow=True, type="p"), "type"),
        (DeviceRule(allow=True, type="c", access=""), "access"),
        (DeviceRule(allow=True, type="c", access="rx"), "access"),
        (DeviceRule(allow=True, type="c", major=2**31), "major"),
        (DeviceRule(allow=True, type="c", minor=-2), "minor"),
    ],
)
def test_bad_rules(rule: DeviceRule, member: str) -> None:
    for make in (device_program, v1_writes):
        with pytest.raises(SpecError) as caught:
            make([DeviceRule(allow=False), rule])
        assert caught.value.path == f"linux.resources.devices[1].{member}"
