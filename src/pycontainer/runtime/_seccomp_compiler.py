"""From a profile to a classic BPF program (seccomp(2), the kernel's `filter.h`).

A program first finds the ABI, then searches the call's number in a balanced tree of ranges with the
same answer, and tests arguments only in the leaves that ask for it.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from pycontainer.errors import SpecError, UnsupportedFeature
from pycontainer.runtime._seccomp_model import (
    ERRNO,
    KILL_PROCESS,
    NATIVE_NAMES,
    PERMISSIVE,
    Comparison,
    Operator,
    Profile,
    Rule,
    action_of,
)
from pycontainer.runtime._syscalls import X32_BIT, numbers

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["Assembler", "compile_filter"]

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_AT_LEAST = 0x05, 0x15, 0x25, 0x35
_LONGEST_PROGRAM = 4096
_LONGEST_JUMP = 255
_LOW = 0xFFFFFFFF

# Where struct seccomp_data has its parts; all known machines are little-endian.
_NUMBER, _ABI, _ARGUMENTS = 0, 4, 16

_AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
_FAMILIES = {
    "x86_64": ("x86_64", "i386", "x32"),
    "i386": ("i386",),
    "aarch64": ("aarch64", "arm"),
    "arm": ("arm",),
}
_MACHINES = {"i686": "i386", "i586": "i386", "armv7l": "arm", "armv8l": "arm", "armv6l": "arm"}
_OPPOSITES: dict[Operator, Operator] = {"!=": "==", "<": ">=", "<=": ">"}
_ENOSYS = 38
# The last number that all ABIs may come to share; x32 and arm have further ones of their own above.
_SHARED_END = 512

Leaf = int | tuple[Rule, ...]
Segment = tuple[int, Leaf]


class Assembler:
    """A program written from its end, so that the target of each jump is known when it is written.

    An instruction is named by its distance from the end. Conditional jumps reach 255 instructions; an
    unconditional one is put between where that is not enough.
    """

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int, int, int]] = []
        self._returns: dict[int, int] = {}

    def load(self, offset: int, then: int) -> int:
        """Load a 32-bit word of the call's data, then go on with an instruction."""
        self._goto(then)
        return self._add(_LOAD, offset)

    def mask(self, bits: int, then: int) -> int:
        """Keep these bits of the loaded word only, then go on with an instruction."""
        self._goto(then)
        return self._add(_AND, bits)

    def answer(self, word: int) -> int:
        """End with an answer; an answer written already is used again where it can be reached."""
        known = self._returns.get(word)
        if known is None or len(self._instructions) - known > _LONGEST_JUMP - 2:
            known = self._returns[word] = self._add(_RETURN, word)
        return known

    def jump(self, operation: int, value: int, yes: int, no: int) -> int:
        """Compare the loaded word and go on with one of two instructions."""
        yes, no = self._reach(yes), self._reach(no)
        following = len(self._instructions) - 1
        return self._add(operation, value, following - yes, following - no)

    def program(self) -> bytes:
        """The finished program.

        Raises:
            SpecError: It is longer than the kernel takes.
        """
        length = len(self._instructions)
        if length > _LONGEST_PROGRAM:
            raise SpecError(
                f"the seccomp profile makes a filter of {length} instructions, "
                f"and the kernel takes {_LONGEST_PROGRAM}",
                remedy="remove rules that test arguments",
            )
        pack = struct.Struct("<HBBI").pack
        return b"".join([pack(*instruction) for instruction in reversed(self._instructions)])

    def _add(self, operation: int, value: int, yes: int = 0, no: int = 0) -> int:
        self._instructions.append((operation, yes, no, value))
        return len(self._instructions) - 1

    def _goto(self, target: int) -> int:
        distance = len(self._instructions) - 1 - target
        return self._add(_JUMP, distance) if distance else target

    def _reach(self, target: int) -> int:
        # One less than the longest: the other target may need an instruction between as well.
        if len(self._instructions) - 1 - target < _LONGEST_JUMP:
            return target
        return self._goto(target)


def compile_filter(
    profile: Profile, capabilities: Collection[str], machine: str, kernel: tuple[int, int]
) -> bytes:
    """The filter program for a container with these capabilities."""
    native = _MACHINES.get(machine, machine)
    if native not in _FAMILIES:
        raise UnsupportedFeature(
            "seccomp",
            f"the system call numbers of {machine} are not known",
            remedy="run without a seccomp profile",
        )
    abis = [abi for abi in _FAMILIES[native] if abi == native or abi in profile.abis]
    rules: dict[str, list[Rule]] = {}
    for rule in profile.rules:
        # As in runc, a rule that says what the default says anyway does not count.
        if rule.action != profile.default and rule.condition.holds(
            NATIVE_NAMES[native], capabilities, kernel
        ):
            for part in _alternatives(rule):
                for name in part.names:
                    rules.setdefault(name, []).append(part)
    assembler = Assembler()
    entry = assembler.answer(KILL_PROCESS)
    for abi in reversed(abis):
        if abi == "x32":  # has x86_64's identity and is told apart by its numbers
            continue
        segments = _segments(profile, rules, abi)
        if abi == "x86_64":
            above: list[Segment] = [(X32_BIT, KILL_PROCESS), (_LOW, _unknown(profile))]
            if "x32" in abis:
                above = [(n | X32_BIT, leaf) for n, leaf in _segments(profile, rules, "x32")]
            segments = _merge(segments + above)
        target = assembler.load(_NUMBER, _search(assembler, segments, profile.default))
        entry = assembler.jump(_JUMP_EQUAL, _AUDIT[abi], target, entry)
    assembler.load(_ABI, entry)
    return assembler.program()


def _alternatives(rule: Rule) -> list[Rule]:
    """Split a rule that tests an argument twice: runc and crun take its tests as alternatives."""
    tested = [comparison.argument for comparison in rule.comparisons]
    if len(tested) == len(set(tested)):
        return [rule]
    return [Rule(rule.names, rule.action, (comparison,)) for comparison in rule.comparisons]


def _unknown(profile: Profile) -> int:
    """The answer to calls that are younger than the profile.

    Programs expect ENOSYS of a kernel that has no such call, and fall back on an older one; any
    other errno makes them fail.
    """
    if action_of(profile.default) in PERMISSIVE:
        return profile.default
    return ERRNO | _ENOSYS


def _segments(profile: Profile, rules: dict[str, list[Rule]], abi: str) -> list[Segment]:
    """The ranges of an ABI's numbers with the same answer, each by its first number."""
    table = numbers(abi)
    mentioned = {table[name] for rule in profile.rules for name in rule.names if name in table}
    youngest = max((number for number in mentioned if number < _SHARED_END), default=-1)
    leaves: dict[int, Leaf] = {}
    for name, number in table.items():
        if number >= _SHARED_END:  # not younger, only elsewhere
            leaves[number] = profile.default
        if name in rules:
            leaves[number] = _leaf(rules[name])
    unknown = _unknown(profile)
    segments: list[Segment] = [(0, profile.default), (youngest + 1, unknown)]
    for number in sorted(leaves):
        after = profile.default if number < youngest else unknown
        segments += [(number, leaves[number]), (number + 1, after)]
    return _merge(sorted(segments, key=lambda segment: segment[0]))


def _leaf(rules: list[Rule]) -> Leaf:
    for rule in rules:
        if not rule.comparisons:
            return rule.action
    return tuple(rules)


def _merge(segments: list[Segment]) -> list[Segment]:
    """Drop segments that repeat the one before; of two that begin together the latter counts."""
    merged: list[Segment] = []
    for start, leaf in segments:
        if merged and merged[-1][0] == start:
            merged.pop()
        if not merged or merged[-1][1] != leaf:
            merged.append((start, leaf))
    return merged


def _search(assembler: Assembler, segments: Sequence[Segment], default: int) -> int:
    """Search the loaded word among segments."""
    if len(segments) == 1:
        leaf = segments[0][1]
        return assembler.answer(leaf) if isinstance(leaf, int) else _test(assembler, leaf, default)
    middle = len(segments) // 2
    yes = _search(assembler, segments[middle:], default)
    no = _search(assembler, segments[:middle], default)
    return assembler.jump(_JUMP_AT_LEAST, segments[middle][0], yes, no)


def _test(assembler: Assembler, rules: tuple[Rule, ...], default: int) -> int:
    """Answer by the first rule whose comparisons are true."""
    ranges = _ranges(rules, default)
    if ranges is not None:
        return _test_ranges(assembler, rules[0].comparisons[0].argument, ranges)
    entry = assembler.answer(default)
    for rule in reversed(rules):
        target = assembler.answer(rule.action)
        for comparison in reversed(rule.comparisons):
            target = _compare(assembler, comparison, target, entry)
        entry = target
    return entry


@lru_cache(maxsize=64)
def _ranges(rules: tuple[Rule, ...], default: int) -> list[Segment] | None:
    """The answers as ranges of one argument's values, if that is all that the rules test."""
    comparisons = [rule.comparisons[0] for rule in rules]
    if any(
        len(rule.comparisons) > 1
        or test.argument != comparisons[0].argument
        or test.operator == "&"
        for rule, test in zip(rules, comparisons, strict=True)
    ):
        return None
    edges = {0, _LOW + 1}
    for test in comparisons:
        edges |= {test.value, test.value + 1}
    if max(edges) > _LOW + 1:
        return None
    answers: list[Segment] = []
    for edge in sorted(edges):
        true = [
            rule.action for rule, test in zip(rules, comparisons, strict=True) if test.holds(edge)
        ]
        answers.append((edge, true[0] if true else default))
    return answers


def _test_ranges(assembler: Assembler, argument: int, ranges: list[Segment]) -> int:
    """Search an argument among ranges that begin within its lower word; the last is all above."""
    low = _ARGUMENTS + 8 * argument
    above = _search(assembler, ranges[-1:], 0)
    within = assembler.load(low, _search(assembler, _merge(ranges[:-1]), 0))
    return assembler.load(low + 4, assembler.jump(_JUMP_EQUAL, 0, within, above))


def _compare(assembler: Assembler, comparison: Comparison, yes: int, no: int) -> int:
    """Compare a 64-bit argument in two words, the upper first."""
    if comparison.operator in _OPPOSITES:
        positive = _OPPOSITES[comparison.operator]
        comparison = Comparison(comparison.argument, positive, comparison.value)
        yes, no = no, yes
    low = _ARGUMENTS + 8 * comparison.argument
    upper, lower = comparison.value >> 32, comparison.value & _LOW
    if comparison.operator == "&":
        then = assembler.jump(_JUMP_EQUAL, lower, yes, no)
        then = assembler.load(low, assembler.mask(comparison.mask & _LOW, then))
        then = assembler.jump(_JUMP_EQUAL, upper, then, no)
        return assembler.load(low + 4, assembler.mask(comparison.mask >> 32, then))
    if comparison.operator == "==":
        then = assembler.load(low, assembler.jump(_JUMP_EQUAL, lower, yes, no))
        then = assembler.jump(_JUMP_EQUAL, upper, then, no)
    else:
        last = _JUMP_GREATER if comparison.operator == ">" else _JUMP_AT_LEAST
        then = assembler.load(low, assembler.jump(last, lower, yes, no))
        then = assembler.jump(_JUMP_EQUAL, upper, then, no)
        then = assembler.jump(_JUMP_GREATER, upper, yes, then)
    return assembler.load(low + 4, then)
