"""What a seccomp profile says, as values: rules, the conditions they hold under, their actions.

Named tuples, since they take a fifth of the time to define that attrs classes do and every start of a
host program pays for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "ALLOW",
    "EPERM",
    "ERRNO",
    "KILL_PROCESS",
    "KILL_THREAD",
    "LOG",
    "NATIVE_NAMES",
    "PERMISSIVE",
    "TRACE",
    "TRAP",
    "Comparison",
    "Condition",
    "Operator",
    "Profile",
    "Rule",
    "action_of",
    "errno_of",
]

# An action is the word that the filter returns (seccomp(2)): what to do in the upper half, a value
# for it (the errno, the tracer's message) in the lower.
KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000
PERMISSIVE = (ALLOW, LOG, TRACE)
"""Actions that let a call through, or leave it to a tracer."""
EPERM = 1

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "&"]

NATIVE_NAMES = {"x86_64": "amd64", "i386": "x86", "aarch64": "arm64", "arm": "arm"}
"""What profiles call an ABI in the ``arches`` of ``includes`` and ``excludes``."""


def action_of(word: int) -> int:
    """The action in a filter's answer, without its value."""
    return word & 0xFFFF0000


def errno_of(word: int) -> int:
    """The value in a filter's answer."""
    return word & 0xFFFF


class Comparison(NamedTuple):
    """A test on one argument, all 64 bits of it.

    Attributes:
        argument: Which argument, from 0.
        operator: How it is compared; ``&`` compares the bits in `mask` only.
        value: What with.
        mask: The bits that matter to ``&``.
    """

    argument: int
    operator: Operator
    value: int
    mask: int = 0

    def holds(self, argument: int) -> bool:
        """Whether the test is true of an argument's value."""
        match self.operator:
            case "==":
                return argument == self.value
            case "!=":
                return argument != self.value
            case "<":
                return argument < self.value
            case "<=":
                return argument <= self.value
            case ">":
                return argument > self.value
            case ">=":
                return argument >= self.value
            case "&":
                return argument & self.mask == self.value


class Condition(NamedTuple):
    """Where a rule holds: on which machines and kernels, with and without which capabilities.

    Attributes:
        machines: Native names of which the machine must be one; empty for any.
        capabilities: Capabilities that must all be given.
        kernel: The oldest kernel.
        other_machines: Native names of which the machine must be none.
        other_capabilities: Capabilities of which none may be given.
        before_kernel: The first kernel on which the rule no longer holds.
    """

    machines: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    kernel: tuple[int, int] | None = None
    other_machines: tuple[str, ...] = ()
    other_capabilities: tuple[str, ...] = ()
    before_kernel: tuple[int, int] | None = None

    def holds(self, machine: str, capabilities: Collection[str], kernel: tuple[int, int]) -> bool:
        """Whether rules under this condition hold on a machine, by native name, for a container."""
        return (
            (not self.machines or machine in self.machines)
            and all(name in capabilities for name in self.capabilities)
            and (self.kernel is None or kernel >= self.kernel)
            and machine not in self.other_machines
            and not any(name in capabilities for name in self.other_capabilities)
            and (self.before_kernel is None or kernel < self.before_kernel)
        )


class Rule(NamedTuple):
    """What happens to some system calls when all comparisons are true.

    A rule without comparisons overrules those with; among these the first true one decides.

    Attributes:
        names: The system calls.
        action: The word that the filter answers.
        comparisons: Tests on the arguments.
        condition: Where the rule holds.
    """

    names: tuple[str, ...]
    action: int
    comparisons: tuple[Comparison, ...] = ()
    condition: Condition = Condition()


class Profile(NamedTuple):
    """A seccomp profile, independent of the machine.

    Attributes:
        default: What happens to calls that no rule decides, as the word that the filter answers.
        rules: The rules.
        abis: Further ABIs of the machine that may be used beside its native one. Calls by others
            kill the process.
        flags: ``SECCOMP_FILTER_FLAG_*`` bits to install the filter with.
    """

    default: int
    rules: tuple[Rule, ...] = ()
    abis: tuple[str, ...] = ()
    flags: int = 0
