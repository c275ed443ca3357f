"""runc: bundles as it proposes them, and containers that run in the background."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers.program import call
from pycontainer.runtime import seccomp
from pycontainer.runtime._seccomp_model import ALLOW

__all__ = ["runc_bundle", "runc_container"]

_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}


def runc_bundle(
    directory: Path,
    rootfs: Path,
    command: Sequence[str],
    *,
    filtered: bool = False,
    read_only: bool = False,
) -> Path:
    """Return a bundle as `runc spec` makes it, with this root and command and no terminal.

    Args:
        directory: Where to make it.
        rootfs: The root file system.
        command: What it executes.
        read_only: Leave the root read-only, as it proposes.
        filtered: Add a seccomp filter that allows the calls which ours allows.
    """
    directory.mkdir()
    call("runc", "spec", "--bundle", directory)
    config = directory / "config.json"
    spec = json.loads(config.read_text())
    spec["root"] = {"path": str(rootfs), "readonly": read_only}
    spec["process"] |= {"terminal": False, "args": list(command)}
    if filtered:
        spec["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": _ARCHITECTURES[platform.machine()],
            "syscalls": [{"names": _allowed_calls(), "action": "SCMP_ACT_ALLOW"}],
        }
    config.write_text(json.dumps(spec))
    return directory


def _allowed_calls() -> list[str]:
    rules = seccomp.default_profile().rules
    allowed = (r for r in rules if r.action == ALLOW and not r.condition.capabilities)
    return sorted({name for rule in allowed for name in rule.names})


@contextlib.contextmanager
def runc_container(bundle: Path) -> Iterator[str]:
    """Run a bundle in the background; gives the container's name."""
    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    with open(os.devnull, "r+b") as null:
        command = ["runc", "run", "--detach", "--bundle", str(bundle), name]
        subprocess.run(command, stdin=null, stdout=null, stderr=null, check=True)
    try:
        yield name
    finally:
        call("runc", "delete", "--force", name)
