"""System call filters: Docker's default profile, profiles from files, and their compilation.

A profile is compiled in pure Python to the classic BPF program that seccomp(2) takes. Its semantics
are those of runc over libseccomp, with two points worth knowing: calls younger than all that the
profile mentions fail with ENOSYS, as on a kernel that lacks them; and calls by another ABI than the
profile lists kill the process.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pycontainer.errors import SpecError
from pycontainer.runtime import _seccomp_profile as docker
from pycontainer.runtime._seccomp_compiler import compile_filter
from pycontainer.runtime._seccomp_model import (
    ALLOW,
    EPERM,
    ERRNO,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    TRACE,
    TRAP,
    Comparison,
    Condition,
    Operator,
    Profile,
    Rule,
)

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "ABIS",
    "ACTIONS",
    "FLAGS",
    "OPERATORS",
    "Comparison",
    "Condition",
    "Filter",
    "Profile",
    "Rule",
    "compile_filter_of",
    "compile_profile",
    "default_profile",
    "load_profile",
    "parse_profile",
    "profile_of",
]

ACTIONS: Final = {
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_TRAP": TRAP,
}
OPERATORS: Final[dict[str, Operator]] = {
    "SCMP_CMP_EQ": "==",
    "SCMP_CMP_GE": ">=",
    "SCMP_CMP_GT": ">",
    "SCMP_CMP_LE": "<=",
    "SCMP_CMP_LT": "<",
    "SCMP_CMP_MASKED_EQ": "&",
    "SCMP_CMP_NE": "!=",
}
ABIS: Final = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "i386",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}
# Known to libseccomp, of no meaning on the machines that we know.
_OTHER_ARCHITECTURES = """
    LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 NATIVE PARISC PARISC64
    PPC PPC64 PPC64LE RISCV64 S390 S390X SH SHEB
"""
FLAGS: Final = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}
_LARGEST_ERRNO = 4095
_ENOSYS = 38


class Filter(NamedTuple):
    """A compiled profile: the program and the ``SECCOMP_FILTER_FLAG_*`` bits to install it with."""

    program: bytes
    flags: int = 0


def compile_filter_of(
    document: Mapping[str, object] | None, capabilities: Collection[str]
) -> Filter | None:
    """Make the filter that a runtime-spec document asks for by ``linux.seccomp``.

    Args:
        document: That object; without one the filter is Docker's default.
        capabilities: The capabilities of the container's bounding set.

    Returns:
        The filter; None where all calls are allowed, so that none is needed.

    Raises:
        SpecError: It is not a profile, or too long.
    """
    if document is None:
        return _default_filter(frozenset(capabilities))
    profile = parse_profile(document, "linux.seccomp")
    if profile.default == ALLOW and not profile.rules:
        return None
    return Filter(compile_profile(profile, capabilities), profile.flags)


def profile_of(document: Mapping[str, object] | None) -> Profile:
    """The profile that a runtime-spec document asks for by ``linux.seccomp``.

    Raises:
        SpecError: It is not a profile.
    """
    return default_profile() if document is None else parse_profile(document, "linux.seccomp")


@lru_cache(maxsize=32)
def _default_filter(capabilities: frozenset[str]) -> Filter:
    """Kept apart from other profiles: to look a profile up takes longer than to look up names."""
    return Filter(compile_profile(default_profile(), capabilities))


def compile_profile(
    profile: Profile,
    capabilities: Collection[str],
    *,
    machine: str | None = None,
    kernel: tuple[int, int] | None = None,
) -> bytes:
    """Compile a profile for a container. Results are kept, so asking again costs nothing.

    Args:
        profile: What to compile.
        capabilities: The capabilities of the container's bounding set (``CAP_CHOWN``).
        machine: The machine as ``uname -m`` has it; this one when left out.
        kernel: The kernel's version; the running one when left out.

    Returns:
        A program of 8-byte ``struct sock_filter`` instructions, at most 4096.

    Raises:
        SpecError: The program would be longer than the kernel takes.
        UnsupportedFeature: The machine's system call numbers are not known.
    """
    system = os.uname()
    return _compile(
        profile,
        frozenset(capabilities),
        machine or system.machine,
        kernel or _version(system.release, "kernel release"),
    )


@lru_cache(maxsize=32)
def _compile(
    profile: Profile, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]
) -> bytes:
    return compile_filter(profile, capabilities, machine, kernel)


@lru_cache(maxsize=1)
def default_profile() -> Profile:
    """Docker's default profile."""
    rules = [Rule(tuple(docker.ALLOWED.split()), ALLOW)]
    for kernel, names in docker.BY_KERNEL.items():
        rules.append(_allow(names, Condition(kernel=kernel)))
    for machines, names in docker.BY_MACHINE.items():
        rules.append(_allow(names, Condition(machines=machines)))
    for capability, names in docker.BY_CAPABILITY.items():
        rules.append(_allow(names, Condition(capabilities=(capability,))))
    rules.append(Rule(("socket",), ALLOW, (Comparison(0, "<", docker.FIRST_SOCKET_FAMILIES),)))
    for name, values in (("socket", docker.SOCKET_FAMILIES), ("personality", docker.PERSONALITIES)):
        rules += [Rule((name,), ALLOW, (Comparison(0, "==", value),)) for value in values]
    ordinary = Condition(other_capabilities=("CAP_SYS_ADMIN",))
    no_namespace = Comparison(0, "&", 0, mask=docker.NAMESPACE_FLAGS)
    rules.append(Rule(("clone",), ALLOW, (no_namespace,), ordinary))
    # The flags of clone3 are behind a pointer, where no filter sees them; libc falls back on clone.
    rules.append(Rule(("clone3",), ERRNO | _ENOSYS, (), ordinary))
    return Profile(ERRNO | EPERM, tuple(rules), abis=("i386", "x32", "arm"))


def _allow(names: str, condition: Condition) -> Rule:
    return Rule(tuple(names.split()), ALLOW, (), condition)


def load_profile(path: str | os.PathLike[str]) -> Profile:
    """Read a profile from a JSON file: Docker's format or the OCI runtime-spec's `seccomp` object.

    Raises:
        SpecError: It is not a profile, or asks for something that is not supported.
        OSError: The file cannot be read.
    """
    try:
        document = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise SpecError(f"the seccomp profile {os.fspath(path)} is not JSON: {error}") from error
    return parse_profile(document)


def parse_profile(document: object, path: str = "") -> Profile:
    """Read a profile from parsed JSON: Docker's format or the OCI runtime-spec's `seccomp` object.

    Args:
        document: The object.
        path: Where it stands in a larger document, for errors.

    Raises:
        SpecError: It is not a profile, or asks for something that is not supported.
    """
    profile = _object(document, path)
    at = f"{path}." if path else ""
    if profile.get("listenerPath"):
        raise SpecError("notification of a listener is not supported", path=f"{at}listenerPath")
    rules: list[Rule] = []
    for i, rule in enumerate(_list(profile, "syscalls", at)):
        rules.append(_rule(_object(rule, f"{at}syscalls[{i}]"), f"{at}syscalls[{i}]."))
    return Profile(
        _action(profile, "defaultAction", "defaultErrnoRet", at),
        tuple(rules),
        abis=_architectures(profile, at),
        flags=_flags(profile, at),
    )


def _rule(rule: Mapping[str, Any], at: str) -> Rule:
    names = [_text(name, f"{at}names[{i}]") for i, name in enumerate(_list(rule, "names", at))]
    if "name" in rule:  # Docker's format before 17.05
        if names:
            raise SpecError("both `name` and `names` are given", path=f"{at}name")
        names = [_text(rule["name"], f"{at}name")]
    if not names:
        raise SpecError("a rule names at least one system call", path=f"{at}names")
    comparisons = [
        _comparison(_object(test, f"{at}args[{i}]"), f"{at}args[{i}].")
        for i, test in enumerate(_list(rule, "args", at))
    ]
    return Rule(
        tuple(names),
        _action(rule, "action", "errnoRet", at),
        tuple(comparisons),
        _condition(rule, at),
    )


def _action(holder: Mapping[str, Any], key: str, value_key: str, at: str) -> int:
    name = holder.get(key)
    action = ACTIONS.get(name) if isinstance(name, str) else None
    if action is None:
        raise SpecError(
            f"{name!r} is not an action that is supported ({', '.join(ACTIONS)})", path=at + key
        )
    value = holder.get(value_key)
    if value is None:
        return action | EPERM if action in (ERRNO, TRACE) else action
    if action not in (ERRNO, TRACE):
        raise SpecError(f"{name} takes no value", path=at + value_key)
    largest = _LARGEST_ERRNO if action == ERRNO else 0xFFFF
    return action | _integer(value, at + value_key, largest)


def _comparison(test: Mapping[str, Any], at: str) -> Comparison:
    operator = OPERATORS.get(str(test.get("op")))
    if operator is None:
        raise SpecError(
            f"{test.get('op')!r} is not a comparison ({', '.join(OPERATORS)})", path=f"{at}op"
        )
    argument = _integer(test.get("index"), f"{at}index", 5)
    value = _integer(test.get("value"), f"{at}value", 2**64 - 1)
    second = _integer(test.get("valueTwo") or 0, f"{at}valueTwo", 2**64 - 1)
    if operator == "&":
        return Comparison(argument, operator, second, mask=value)
    return Comparison(argument, operator, value)


def _condition(rule: Mapping[str, Any], at: str) -> Condition:
    included, excluded = [
        _object(rule.get(key) or {}, at + key) for key in ("includes", "excludes")
    ]
    return Condition(
        _texts(included, "arches", f"{at}includes."),
        _texts(included, "caps", f"{at}includes."),
        _kernel(included, f"{at}includes."),
        _texts(excluded, "arches", f"{at}excludes."),
        _texts(excluded, "caps", f"{at}excludes."),
        _kernel(excluded, f"{at}excludes."),
    )


def _kernel(holder: Mapping[str, Any], at: str) -> tuple[int, int] | None:
    version = holder.get("minKernel")
    return _version(_text(version, f"{at}minKernel"), f"{at}minKernel") if version else None


def _version(text: str, path: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        raise SpecError(f"{text!r} is not a kernel version such as 4.8", path=path)
    return int(match[1]), int(match[2])


def _architectures(profile: Mapping[str, Any], at: str) -> tuple[str, ...]:
    named = {
        f"{at}architectures[{i}]": name
        for i, name in enumerate(_list(profile, "architectures", at))
    }
    for i, entry in enumerate(_list(profile, "archMap", at)):
        family = _object(entry, f"{at}archMap[{i}]")
        named[f"{at}archMap[{i}].architecture"] = family.get("architecture")
        for j, name in enumerate(_list(family, "subArchitectures", f"{at}archMap[{i}].")):
            named[f"{at}archMap[{i}].subArchitectures[{j}]"] = name
    abis = []
    for where, name in named.items():
        if name in ABIS:
            abis.append(ABIS[name])
        elif str(name).removeprefix("SCMP_ARCH_") not in _OTHER_ARCHITECTURES.split():
            raise SpecError(f"{name!r} is not an architecture of libseccomp", path=where)
    return tuple(dict.fromkeys(abis))


def _flags(profile: Mapping[str, Any], at: str) -> int:
    bits = 0
    for i, name in enumerate(_texts(profile, "flags", at)):
        if name not in FLAGS:
            raise SpecError(f"the flag {name} is not supported", path=f"{at}flags[{i}]")
        bits |= FLAGS[name]
    return bits


def _object(value: object, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SpecError(f"an object is expected, not {value!r:.40}", path=path)
    return value


def _list(holder: Mapping[str, Any], key: str, at: str) -> list[Any]:
    value = holder.get(key)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise SpecError(f"a list is expected, not {value!r:.40}", path=at + key)
    return list(value)


def _texts(holder: Mapping[str, Any], key: str, at: str) -> tuple[str, ...]:
    return tuple(_text(v, f"{at}{key}[{i}]") for i, v in enumerate(_list(holder, key, at)))


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise SpecError(f"a string is expected, not {value!r:.40}", path=path)
    return value


def _integer(value: object, path: str, largest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
        raise SpecError(f"an integer from 0 to {largest} is expected, not {value!r:.40}", path=path)
    return value
