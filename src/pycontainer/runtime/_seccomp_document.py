"""A system call filter as the runtime specification writes it: ``linux.seccomp``, for other runtimes.

Docker's profiles say on which kernels, machines and with which capabilities a rule holds; the
specification has no word for that. Here it is decided, and what holds is written down.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from pycontainer.runtime._seccomp_model import (
    ALLOW,
    ERRNO,
    NATIVE_NAMES,
    TRACE,
    action_of,
    errno_of,
)
from pycontainer.runtime.seccomp import ABIS, ACTIONS, FLAGS, OPERATORS, profile_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pycontainer.runtime._seccomp_model import Comparison, Rule

__all__ = ["seccomp_document"]

_ACTION_NAMES: Final = {word: name for name, word in ACTIONS.items() if name != "SCMP_ACT_KILL"}
_OPERATOR_NAMES: Final = {operator: name for name, operator in OPERATORS.items()}
_ABI_NAMES: Final = {abi: name for name, abi in ABIS.items()}
# Of the ABIs that a profile names, those that a machine has; libseccomp refuses the others.
_ABIS_OF: Final = {"x86_64": ("x86_64", "i386", "x32"), "aarch64": ("aarch64", "arm")}


def seccomp_document(
    given: Mapping[str, object] | None, capabilities: Collection[str]
) -> dict[str, Any] | None:
    """The filter that `compile_filter_of` would compile, written down; None where all is allowed.

    Args:
        given: ``linux.seccomp`` of our document, as for `compile_filter_of`.
        capabilities: The capabilities of the container's bounding set.

    Raises:
        SpecError: It is not a profile.
    """
    profile = profile_of(given)
    if profile.default == ALLOW and not profile.rules:
        return None
    system = os.uname()
    machine = NATIVE_NAMES.get(system.machine, system.machine)
    version = re.match(r"(\d+)\.(\d+)", system.release)
    kernel = (int(version[1]), int(version[2])) if version else (0, 0)
    abis = _ABIS_OF.get(system.machine, ())
    used = [abi for abi in abis if abi == system.machine or abi in profile.abis]
    flags = [name for name, bit in FLAGS.items() if profile.flags & bit]
    return {
        **_action(profile.default, "defaultAction", "defaultErrnoRet"),
        "architectures": [_ABI_NAMES[abi] for abi in used],
        **({"flags": flags} if flags else {}),
        "syscalls": [
            _rule(rule)
            for rule in profile.rules
            if rule.condition.holds(machine, capabilities, kernel)
        ],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    document: dict[str, Any] = {
        "names": list(rule.names),
        **_action(rule.action, "action", "errnoRet"),
    }
    if rule.comparisons:
        document["args"] = [_comparison(test) for test in rule.comparisons]
    return document


def _action(word: int, key: str, value_key: str) -> dict[str, Any]:
    action = action_of(word)
    document: dict[str, Any] = {key: _ACTION_NAMES[action]}
    if action in (ERRNO, TRACE):
        document[value_key] = errno_of(word)
    return document


def _comparison(test: Comparison) -> dict[str, Any]:
    document = {"index": test.argument, "op": _OPERATOR_NAMES[test.operator]}
    if test.operator == "&":
        return {**document, "value": test.mask, "valueTwo": test.value}
    return {**document, "value": test.value}
