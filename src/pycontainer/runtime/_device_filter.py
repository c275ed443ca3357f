"""Device rules as an eBPF program for the device hook of a v2 control group.

The rules mean what they mean to the v1 `devices` controller, whose vocabulary the runtime
specification took over: they are applied one after the other, a rule for all devices sets the
default and forgets the exceptions, and others make or remove exceptions from it.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from pycontainer.errors import SpecError
from pycontainer.oci.runtime import DeviceRule

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFAULT_DEVICE_RULES", "device_program", "v1_writes"]

DEFAULT_DEVICE_RULES = (
    DeviceRule(allow=False),
    # Making a node gives no access to the device behind it.
    DeviceRule(allow=True, type="c", access="m"),
    DeviceRule(allow=True, type="b", access="m"),
    *(
        DeviceRule(allow=True, type="c", major=major, minor=minor)
        for major, minor in (
            (1, 3),  # null
            (1, 5),  # zero
            (1, 7),  # full
            (1, 8),  # random
            (1, 9),  # urandom
            (5, 0),  # tty
            (5, 1),  # console
            (5, 2),  # ptmx
            (136, None),  # the terminals of devpts
        )
    ),
)
"""What Docker lets containers do with devices."""

_Key = tuple[str, int | None, int | None]

# Registers: 1 is the context at entry and scratch later, 2 the type, 3 the access, 4 and 5 the numbers.
_LOAD_WORD, _MOVE, _AND, _SHIFT_RIGHT, _SET = 0x61, 0xBC, 0x54, 0x74, 0xB4
_EXIT, _JUMP, _JUMP_EQUAL, _JUMP_NOT_EQUAL = 0x95, 0x05, 0x16, 0x56
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL_ACCESS = 7


def device_program(rules: Sequence[DeviceRule]) -> bytes:
    """The program that lets accesses pass by these rules; without rules all pass.

    Results are kept, so asking again costs nothing.

    Raises:
        SpecError: A rule has an unknown type or access.
    """
    return _compile(tuple(rules))


@lru_cache(maxsize=32)
def _compile(rules: tuple[DeviceRule, ...]) -> bytes:
    allow, exceptions = _exceptions(rules)
    code = _Code()
    code.add(_LOAD_WORD, 2, source=1, offset=0)  # bpf_cgroup_dev_ctx.access_type
    code.add(_LOAD_WORD, 4, source=1, offset=4)  # .major
    code.add(_LOAD_WORD, 5, source=1, offset=8)  # .minor
    code.add(_MOVE, 3, source=2)
    code.add(_AND, 2, value=0xFFFF)
    code.add(_SHIFT_RIGHT, 3, value=16)
    # Each test is made once for all exceptions that need it: the verifier's time, most of what a
    # filter costs, grows with the instructions on all ways through the program.
    for kind, number in _TYPES.items():
        if any(key[0] == kind for key in exceptions):
            code.add(_JUMP_NOT_EQUAL, 2, value=number, to=f"behind {kind}")
            _test_type(code, kind, exceptions, allow=not allow)
            code.label(f"behind {kind}")
    code.label("default")
    code.add(_SET, 0, value=int(allow))
    code.add(_EXIT)
    code.label("excepted")
    code.add(_SET, 0, value=int(not allow))
    code.add(_EXIT)
    return code.program()


def v1_writes(rules: Sequence[DeviceRule]) -> list[tuple[str, str]]:
    """The same for the v1 controller: file names and what to write there, in order."""
    writes = []
    for i, rule in enumerate(rules):
        _check(rule, i)
        major, minor = ("*" if _any(n) else str(n) for n in (rule.major, rule.minor))
        text = "a" if rule.type == "a" else f"{rule.type} {major}:{minor} {rule.access}"
        writes.append(("devices.allow" if rule.allow else "devices.deny", text))
    return writes


def _exceptions(rules: Sequence[DeviceRule]) -> tuple[bool, dict[_Key, int]]:
    """The default after all rules, and the accesses that are excepted from it."""
    allow, exceptions = True, dict[_Key, int]()
    for i, rule in enumerate(rules):
        access = _check(rule, i)
        if rule.type == "a":
            allow = rule.allow
            exceptions.clear()
            continue
        key = (
            rule.type,
            None if _any(rule.major) else rule.major,
            None if _any(rule.minor) else rule.minor,
        )
        if rule.allow != allow:
            exceptions[key] = exceptions.get(key, 0) | access
        elif key in exceptions:
            exceptions[key] &= ~access
            if not exceptions[key]:
                del exceptions[key]
    return allow, exceptions


def _any(number: int | None) -> bool:
    return number is None or number == -1  # runc writes -1


def _check(rule: DeviceRule, index: int) -> int:
    """The bits of a rule's access, if the rule makes sense."""
    at = f"linux.resources.devices[{index}]"
    if rule.type != "a" and rule.type not in _TYPES:
        raise SpecError(f"{rule.type!r} is not a type of device rules (a, b, c)", path=f"{at}.type")
    if not rule.access or set(rule.access) - set(_ACCESS):
        raise SpecError(f"{rule.access!r} is not an access (some of r, w, m)", path=f"{at}.access")
    for name, number in (("major", rule.major), ("minor", rule.minor)):
        if number is not None and not -1 <= number < 2**31:
            raise SpecError(f"{number} is not a device number", path=f"{at}.{name}")
    return sum(_ACCESS[letter] for letter in set(rule.access))


def _test_type(code: _Code, kind: str, exceptions: dict[_Key, int], *, allow: bool) -> None:
    """Look for exceptions among those of one type; by those for any major first."""
    majors = dict.fromkeys(major for type_, major, _ in exceptions if type_ == kind)
    for major in sorted(majors, key=lambda major: -1 if major is None else major):
        behind = f"behind {kind} {major}"
        if major is not None:
            code.add(_JUMP_NOT_EQUAL, 4, value=major, to=behind)
        for key, access in exceptions.items():
            if key[:2] == (kind, major):
                _test_access(code, key, access, allow=allow)
        if major is not None:
            code.add(_JUMP, to="default")
        code.label(behind)


def _test_access(code: _Code, key: _Key, access: int, *, allow: bool) -> None:
    """See whether an exception applies, whose type and major are known to.

    An exception that allows does so to what lies in its access entirely, one that refuses to what
    touches it.
    """
    minor = key[2]
    if access == _ALL_ACCESS and minor is not None:
        code.add(_JUMP_EQUAL, 5, value=minor, to="excepted")
        return
    behind = f"behind {key}"
    if minor is not None:
        code.add(_JUMP_NOT_EQUAL, 5, value=minor, to=behind)
    if access == _ALL_ACCESS:
        code.add(_JUMP, to="excepted")
    else:
        code.add(_MOVE, 1, source=3)
        code.add(_AND, 1, value=~access & _ALL_ACCESS if allow else access)
        code.add(_JUMP_EQUAL if allow else _JUMP_NOT_EQUAL, 1, value=0, to="excepted")
    code.label(behind)


class _Code:
    """Instructions with jumps to labels further on. Those that nothing leads to are left out.

    The verifier refuses programs with unreachable instructions.
    """

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int, int, int, str]] = []
        self._labels: dict[str, int] = {}
        self._wanted: set[str] = set()
        self._reachable = True

    def label(self, name: str) -> None:
        """Name the place of the next instruction."""
        self._labels[name] = len(self._instructions)
        self._reachable |= name in self._wanted

    def add(
        self,
        operation: int,
        target: int = 0,
        *,
        source: int = 0,
        offset: int = 0,
        value: int = 0,
        to: str = "",
    ) -> None:
        """Append an instruction; one that jumps does so `to` a label."""
        if not self._reachable:
            return
        self._instructions.append((operation, source << 4 | target, offset, value, to))
        self._wanted.add(to)
        self._reachable = operation not in (_JUMP, _EXIT)

    def program(self) -> bytes:
        """The finished program."""
        packed = []
        for at, (operation, registers, offset, value, to) in enumerate(self._instructions):
            jump = self._labels[to] - at - 1 if to else offset
            packed.append(struct.pack("<BBhi", operation, registers, jump, value))
        return b"".join(packed)
