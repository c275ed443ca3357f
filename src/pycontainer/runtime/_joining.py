"""Which running containers a document means where it names others, found out as it is launched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycontainer.errors import ContainerStateError
from pycontainer.runtime.state import read_state

if TYPE_CHECKING:
    from pycontainer.oci.runtime import RuntimeSpec

__all__ = ["join_others"]

_FILES = {"mount": "mnt", "network": "net"}  # whose names in /proc/<pid>/ns differ


def join_others(plan: dict[str, Any], spec: RuntimeSpec) -> None:
    """Complete a plan with the first processes of other containers.

    The path of a namespace may be the directory of a container: its namespace then is meant, as it is
    at this moment.

    Raises:
        ContainerStateError: Such a container does not run.
    """
    for namespace in spec.namespaces:
        if not namespace.path:
            continue
        path, owner = namespace.path, [0, 0]
        if Path(path).is_dir():
            owner = _first_process(path)
            path = f"/proc/{owner[0]}/ns/{_FILES.get(namespace.type, namespace.type)}"
        if namespace.type == "user":
            plan["user"]["joined"] = [path, *owner]
            continue
        plan["joined"].append([namespace.type, path, *owner])
    for entry in plan["mounts"]:
        if entry.get("owner"):
            entry["owner"] = _first_process(entry["owner"])


def _first_process(directory: str) -> list[int]:
    state = read_state(Path(directory))
    if state is None or not state.alive:
        raise ContainerStateError(
            f"container {Path(directory).name[:12]}, whose namespaces are to be shared, does not run",
            remedy="start that one first",
        )
    return [state.pid, state.start_time]
