"""Commands that ask for all rights (``RUN --security=insecure``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from pycontainer._linux import capability
from pycontainer.oci.runtime import Capabilities, DeviceRule

if TYPE_CHECKING:
    from pycontainer.oci.runtime import RuntimeSpec

__all__ = ["with_all_rights"]


def with_all_rights(spec: RuntimeSpec) -> RuntimeSpec:
    """A container that has the capabilities of this program, all devices and no system call filter."""
    names = _capabilities()
    active = names if spec.process.user.uid == 0 else ()
    rights = Capabilities(bounding=names, effective=active, permitted=active)
    return spec.evolve(
        process=evolve(spec.process, capabilities=rights),
        resources=evolve(spec.resources, devices=(DeviceRule(allow=True),)),
        seccomp={"defaultAction": "SCMP_ACT_ALLOW"},
        masked_paths=(),
        readonly_paths=(),
    )


def _capabilities() -> tuple[str, ...]:
    """Those of this process (``CapEff`` of proc_pid_status(5)); in a user namespace there are all."""
    status = Path("/proc/self/status").read_text()
    mask = int(status.partition("CapEff:")[2].split()[0], 16)
    names = tuple(name for i, name in enumerate(capability.NAMES) if mask >> i & 1)
    return names or capability.NAMES
