"""What other runtimes are told: system call filters in the specification's words."""

from __future__ import annotations

from typing import Any

import pytest

from pycontainer.runtime._defaults import CAPABILITIES
from pycontainer.runtime._seccomp_document import seccomp_document
from pycontainer.runtime.seccomp import compile_filter_of

CONDITIONAL = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        {"names": ["chroot"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
        {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_KILL"]}},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [
                {"index": 0, "value": 0xFF, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"},
                {"index": 1, "value": 3, "op": "SCMP_CMP_LE"},
            ],
        },
    ],
}


@pytest.mark.parametrize("capabilities", [CAPABILITIES, (*CAPABILITIES, "CAP_SYS_ADMIN"), ()])
@pytest.mark.parametrize("profile", [None, CONDITIONAL])
def test_a_filter_says_the_same_in_the_specifications_words(
    profile: dict[str, Any] | None, capabilities: tuple[str, ...]
) -> None:
    document = seccomp_document(profile, capabilities)
    assert document is not None
    assert {"includes", "excludes"}.isdisjoint(key for rule in document["syscalls"] for key in rule)
    assert compile_filter_of(document, ()) == compile_filter_of(profile, capabilities)


def test_no_filter_is_written_where_all_is_allowed() -> None:
    assert seccomp_document({"defaultAction": "SCMP_ACT_ALLOW"}, ()) is None
