"""Device rules as an eBPF program for the device hook of a v2 control group.

The rules mean what they mean to the v1 `devices` controller, whose vocabulary the runtime
specification took over: they are applied one after the other, a rule for all devices sets the
default and forgets the exceptions, and others make or remove exceptions from it.
"""

from __future__ import annotations

import struct
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
_LOAD_WORD, _MOVE, _AND, _SHIFT_RIGHT = 0x61, 0xBC, 0x54, 0x74
_SET, _EXIT, _JUMP_EQUAL, _JUMP_NOT_EQUAL = 0xB4, 0x95, 0x16, 0x56
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL_ACCESS = 7


def device_program(rules: Sequence[DeviceRule]) -> bytes:
    """The program that lets accesses pass by these rules; without rules all pass.

    Raises:
        SpecError: A rule has an unknown type or access.
    """
    allow, exceptions = _exceptions(rules)
    code = [
        _instruction(_LOAD_WORD, 2, 1, offset=0),  # bpf_cgroup_dev_ctx.access_type
        _instruction(_LOAD_WORD, 4, 1, offset=4),  # .major
        _instruction(_LOAD_WORD, 5, 1, offset=8),  # .minor
        _instruction(_MOVE, 3, 2),
        _instruction(_AND, 2, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, 3, value=16),
    ]
    for key, access in exceptions.items():
        code += _exception(key, access, allow=not allow)
    code += [_instruction(_SET, 0, value=int(allow)), _instruction(_EXIT)]
    return b"".join(code)


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


def _exception(key: _Key, access: int, *, allow: bool) -> list[bytes]:
    """Answer if this exception applies, else fall through to what follows.

    An exception allows what lies in its access entirely, and refuses what touches it.
    """
    kind, major, minor = key
    tests: list[tuple[int, int, int]] = [(_JUMP_NOT_EQUAL, 2, _TYPES[kind])]
    if major is not None:
        tests.append((_JUMP_NOT_EQUAL, 4, major))
    if minor is not None:
        tests.append((_JUMP_NOT_EQUAL, 5, minor))
    code = [_instruction(_SET, 0, value=int(allow)), _instruction(_EXIT)]
    if access != _ALL_ACCESS:
        bits, escape = (~access & _ALL_ACCESS, _JUMP_NOT_EQUAL) if allow else (access, _JUMP_EQUAL)
        code[:0] = [
            _instruction(_MOVE, 1, 3),
            _instruction(_AND, 1, value=bits),
            _instruction(escape, 1, value=0, offset=len(code)),
        ]
    for operation, register, value in reversed(tests):
        code.insert(0, _instruction(operation, register, value=value, offset=len(code)))
    return code


def _instruction(
    operation: int, target: int = 0, source: int = 0, *, value: int = 0, offset: int = 0
) -> bytes:
    return struct.pack("<BBhi", operation, source << 4 | target, offset, value)
