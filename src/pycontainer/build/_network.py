"""The files by which a command finds other hosts; mounted, so that they stay out of the layer."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pycontainer.build._destination import resolve
from pycontainer.oci.runtime import Mount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.snapshots import TreeView

__all__ = ["network_files"]

_RESOLV_CONF: Final = Path("/etc/resolv.conf")
_HOSTS: Final = """\
127.0.0.1\tlocalhost {name}
::1\tlocalhost ip6-localhost ip6-loopback
"""


def network_files(
    directory: Path, tree: TreeView, network: Literal["none", "host"], hostname: str
) -> Sequence[Mount]:
    """Write ``/etc/hostname``, ``/etc/hosts`` and ``/etc/resolv.conf`` of a container.

    Args:
        directory: Where to.
        tree: The image's files: what stands there may be a symlink, ``resolv.conf`` often a dangling one.
        network: Whether the host's name servers can be reached.
        hostname: The container's name.
    """
    resolv_conf = b""
    if network == "host":
        with contextlib.suppress(FileNotFoundError):  # a machine without name servers
            resolv_conf = _RESOLV_CONF.read_bytes()
    contents = {
        "hostname": f"{hostname}\n".encode(),
        "hosts": _HOSTS.format(name=hostname).encode(),
        "resolv.conf": resolv_conf,
    }
    mounts = []
    for name, content in contents.items():
        path = directory / name
        path.write_bytes(content)
        path.chmod(0o644)
        place = resolve(tree, f"/etc/{name}")
        mounts.append(Mount(place, "bind", str(path), ("bind", "ro")))
    return mounts
