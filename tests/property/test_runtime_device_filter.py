"""A device program decides as the kernel's v1 controller does on the same rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bpf_interpreters import DeviceFilter
from pycontainer.oci.runtime import DeviceRule
from pycontainer.runtime._device_filter import device_program

numbers = st.sampled_from([None, -1, 0, 1, 5, 136, 2**31 - 1])
accesses = st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])
rules = st.builds(DeviceRule, st.booleans(), st.sampled_from("abc"), numbers, numbers, accesses)


class V1Controller:
    """security/device_cgroup.c told again: a default, and a list of exceptions from it."""

    def __init__(self) -> None:
        self.allow = True
        self.exceptions: list[tuple[str, int | None, int | None, set[str]]] = []

    def apply(self, rule: DeviceRule) -> None:
        if rule.type == "a":
            self.allow, self.exceptions = rule.allow, []
            return
        place = tuple(None if n in (None, -1) else n for n in (rule.major, rule.minor))
        same = [e for e in self.exceptions if e[:3] == (rule.type, *place)]
        if rule.allow == self.allow:
            for exception in same:
                exception[3].difference_update(rule.access)
        elif same:
            same[0][3].update(rule.access)
        else:
            self.exceptions.append((rule.type, place[0], place[1], set(rule.access)))

    def permits(self, kind: str, major: int, minor: int, access: str) -> bool:
        matching = [
            excepted
            for type_, its_major, its_minor, excepted in self.exceptions
            if type_ == kind and its_major in (None, major) and its_minor in (None, minor)
        ]
        if self.allow:
            return not any(excepted & set(access) for excepted in matching)
        return any(excepted >= set(access) for excepted in matching)


@given(
    st.lists(rules, max_size=8),
    st.lists(
        st.tuples(
            st.sampled_from("bc"),
            st.sampled_from([0, 1, 5, 136, 2**31 - 1]),
            st.sampled_from([0, 1, 5, 136]),
            accesses,
        ),
        min_size=1,
        max_size=30,
    ),
)
def test_same_as_v1(given_rules: list[DeviceRule], asked: list[tuple[str, int, int, str]]) -> None:
    controller = V1Controller()
    for rule in given_rules:
        controller.apply(rule)
    program = DeviceFilter.load(device_program(given_rules))
    for kind, major, minor, access in asked:
        expected = controller.permits(kind, major, minor, access)
        assert program.permits(kind, major, minor, access) == expected
